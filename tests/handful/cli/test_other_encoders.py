"""Checkpoints on encoders of other architectures than BERT: made, served and meta-trained."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from handful.cli.checkpoint import create, created
from handful.cli.encoder_line import encoder_line
from metalearn.encoder.encoder import build_encoder
from metalearn.encoder.stages import PoolingStage, encoder_stages
from metatrain.options import ModelOptions, TrainingOptions
from metatrain.run_model import stages_of_run
from model_store.checkpoint import Checkpoint, read_manifest
from model_store.errors import CheckpointInvalid
from service.engine.runtime import start_runtime
from service.settings import Precision, RuntimeName, SettingsInvalid
from tests.conftest import MakeOtherEncoder, StartService
from tests.handful.cli.test_metatrain import command, run, write_tasks
from tests.service.conftest import TEXTS, adapt, predict


def checkpoint(folder: Path, encoder: Path, **options: object) -> str:
    created(ModelOptions(encoder=str(encoder), max_tokens=64, **options), folder)  # type: ignore[arg-type]
    return str(folder)


def test_an_encoder_is_found_from_the_working_folder(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_encoder.parent)
    create(tmp_path / "made", encoder=tiny_encoder.name, max_tokens=64)
    assert read_manifest(tmp_path / "made").encoder.source == str(tiny_encoder)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("xlm-roberta", "distilbert", "modernbert", "albert")]


@pytest.mark.parametrize("name", ["roberta", *SLOW])
def test_a_checkpoint_adapts_and_predicts(
    make_other_encoder: MakeOtherEncoder,
    start_service: StartService,
    tmp_path: Path,
    name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = checkpoint(tmp_path / "made", make_other_encoder(name))
    # Without its graph, as a checkpoint of an encoder that cannot be exported
    without = write_without_graph(Path(made), tmp_path / "without")
    for folder, runtime in ((made, "onnxruntime"), (without, "torch")):
        with caplog.at_level(logging.INFO, "handful"):
            client = start_service(checkpoint=folder, store=f"sqlite:{tmp_path / runtime}")
        assert client.get("/v1/checkpoint").json()["runtime"] == runtime
        assert f'runtime="{runtime}"' in client.get("/metrics").text
        adapt(client)
        alone = [predict(client, queries=[text])["predictions"][0]["scores"] for text in TEXTS]
        assert [each["scores"] for each in predict(client)["predictions"]] == alone
    assert caplog.text.count(f"an encoder of the architecture {name} is computed by torch") == 1


def write_without_graph(folder: Path, out: Path) -> str:
    """A copy of a checkpoint without a graph, whose manifest has no such field, as those of earlier releases."""
    shutil.copytree(folder, out)
    (out / "graph.onnx").unlink()
    manifest = read_manifest(out)
    encoder = manifest.encoder.model_copy(update={"graph": None})
    content = manifest.model_copy(update={"encoder": encoder}).sealed().to_json()
    assert b"graph" not in content
    (out / "manifest.json").write_bytes(content)
    return str(out)


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x")])
def test_an_altered_graph_is_refused(
    make_other_encoder: MakeOtherEncoder, tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    made = checkpoint(tmp_path / "made", make_other_encoder("roberta"))
    spoil(Path(made) / "graph.onnx")
    with pytest.raises(CheckpointInvalid, match=r"graph\.onnx"):
        Checkpoint(Path(made), torch.device("cpu"))


def test_one_line_says_what_was_found(
    make_other_encoder: MakeOtherEncoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = shutil.copytree(make_other_encoder("roberta"), tmp_path / "encoder")
    prompts = {"prompts": {"query": "query: ", "passage": "passage: "}}
    (encoder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    manifest = created(ModelOptions(encoder=str(encoder), max_tokens=64, pooling="last"), tmp_path / "plain")
    assert manifest.encoder.stages.pooling == PoolingStage(mode="last")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("roberta")]
    assert line == (
        "roberta of width 32, 2 layers, 600 tokens of vocabulary, 41,600 parameters; texts of up to 64 tokens; "
        "pooling last, to unit length; no prompt (its files have some for query, passage); "
        "ONNX Runtime serves it on a CPU, by the graph exported here"
    )
    without = manifest.model_copy(update={"encoder": manifest.encoder.model_copy(update={"graph": None})})
    assert encoder_line(without, encoder).endswith("; torch serves it")


def test_how_texts_are_read_is_stored(tiny_encoder: Path, tmp_path: Path) -> None:
    options = ModelOptions(encoder=str(tiny_encoder), max_tokens=64, prompt="query: ", pooling="first", normalize=False)
    assert created(options, tmp_path / "made").encoder.graph is None  # BERT's graph is written out
    loaded = Checkpoint(tmp_path / "made", torch.device("cpu"))
    assert loaded.encoder.stages == encoder_stages(max_tokens=64, prompt="query: ", mode="first", normalize=False)
    # A run that starts from it reads texts as it does, but for what is asked for
    asked = TrainingOptions(tasks=["tasks"], max_tokens=32, pooling="last")
    expected = encoder_stages(max_tokens=32, prompt="query: ", mode="last", normalize=False)
    assert stages_of_run(asked, tiny_encoder, loaded.manifest) == expected
    assert stages_of_run(asked, tiny_encoder, None) == encoder_stages(max_tokens=32, mode="last")


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
        ("onnxruntime", "auto", r"no graph of its encoder \(roberta\) for ONNX Runtime: take --runtime torch"),
        ("auto", "int8", r"no graph of its encoder \(roberta\) for ONNX Runtime: take --precision float32"),
    ],
)
def test_onnx_runtime_is_refused_without_a_graph(
    make_other_encoder: MakeOtherEncoder, wanted: RuntimeName, precision: Precision, message: str
) -> None:
    encoder = build_encoder(make_other_encoder("roberta"), encoder_stages(max_tokens=64), torch.device("cpu"))
    with pytest.raises(SettingsInvalid, match=message):
        start_runtime(encoder, wanted, precision)


def test_a_run_tunes_a_layer(make_other_encoder: MakeOtherEncoder, start_service: StartService, tmp_path: Path) -> None:
    write_tasks(tmp_path / "train", 3, seed=0)
    run(command(tmp_path, make_other_encoder("roberta"), tmp_path / "run", "--steps", "2"))
    client = start_service(checkpoint=str(tmp_path / "run"))
    adapt(client)
    assert predict(client)["predictions"]
