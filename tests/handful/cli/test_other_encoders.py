"""Checkpoints on encoders of other architectures than BERT: made, served and meta-trained."""

import logging
from pathlib import Path

import pytest
import torch

from handful.cli.checkpoint import created
from metalearn.encoder.encoder import build_encoder
from metalearn.encoder.stages import encoder_stages
from metatrain.options import ModelOptions
from service.engine.runtime import start_runtime
from service.settings import Precision, RuntimeName, SettingsInvalid
from tests.conftest import MakeOtherEncoder, StartService
from tests.handful.cli.test_metatrain import command, run, write_tasks
from tests.service.conftest import TEXTS, adapt, predict


def checkpoint(folder: Path, encoder: Path, **options: object) -> str:
    created(ModelOptions(encoder=str(encoder), max_tokens=64, **options), folder)  # type: ignore[arg-type]
    return str(folder)


@pytest.mark.parametrize("name", ["roberta", "xlm-roberta", "distilbert", "modernbert", "albert"])
def test_a_checkpoint_adapts_and_predicts_by_torch(
    make_other_encoder: MakeOtherEncoder,
    start_service: StartService,
    tmp_path: Path,
    name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "handful"):
        client = start_service(checkpoint=checkpoint(tmp_path / "made", make_other_encoder(name)), precision="auto")
    assert f"an encoder of the architecture {name} is computed by torch" in caplog.text
    assert client.get("/v1/checkpoint").json()["runtime"] == "torch"
    assert 'runtime="torch"' in client.get("/metrics").text
    adapt(client)
    alone = [predict(client, queries=[text])["predictions"][0]["scores"] for text in TEXTS]
    assert [each["scores"] for each in predict(client)["predictions"]] == alone


def test_tasks_with_modulations_of_their_own_share_batches(
    make_other_encoder: MakeOtherEncoder, start_service: StartService, tmp_path: Path
) -> None:
    made = checkpoint(tmp_path / "made", make_other_encoder("roberta"), placement="modulations", fast_layers=1)
    client = start_service(checkpoint=made)
    adapt(client)
    assert predict(client, queries=["Where do I find a virtual card?"])["predictions"][0]["scores"]


@pytest.mark.parametrize(
    ("wanted", "precision", "message"),
    [
        ("onnxruntime", "auto", "ONNX Runtime does not compute .* roberta, only of bert: take --runtime torch"),
        ("auto", "int8", "ONNX Runtime does not compute .* roberta, only of bert: take --precision float32"),
    ],
)
def test_onnx_runtime_is_refused(
    make_other_encoder: MakeOtherEncoder, wanted: RuntimeName, precision: Precision, message: str
) -> None:
    encoder = build_encoder(make_other_encoder("roberta"), encoder_stages(max_tokens=64), torch.device("cpu"))
    with pytest.raises(SettingsInvalid, match=message):
        start_runtime(encoder, wanted, precision)


def test_a_run_tunes_a_layer_beside_the_frozen_view(
    make_other_encoder: MakeOtherEncoder, start_service: StartService, tmp_path: Path
) -> None:
    write_tasks(tmp_path / "train", 3, seed=0)
    run(command(tmp_path, make_other_encoder("roberta"), tmp_path / "run", "--steps", "2", "--frozen-view"))
    client = start_service(checkpoint=str(tmp_path / "run"))
    adapt(client)
    assert predict(client)["predictions"]
