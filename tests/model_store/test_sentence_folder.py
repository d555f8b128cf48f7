"""Heads and folders for other programs: they give the server's answers without us."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from pydantic import SecretStr
from sklearn.linear_model import LogisticRegression

from metalearn.encoder.bert import BertTransformer
from metalearn.encoder.encoder import build_encoder
from metalearn.encoder.stages import encoder_stages
from metalearn.model_spec import ModelSpec
from metalearn.types import TextInput
from model_store.checkpoint import Checkpoint, checkpoint_with
from model_store.errors import NotExportable
from model_store.head_graph import head_graph
from model_store.sentence_folder import write_sentence_folder
from model_store.task_file import TaskFile, unpack_task
from service.settings import Settings
from tests.conftest import SUPPORT, MakeCheckpoint, running_service
from tests.service.conftest import adapt, predict
from tests.waiting import LIMIT_S

QUERIES = [
    "Where is my card?",
    "a fee of 3 %",
    "\uff26\uff35\uff2c\uff2c width \ufb01",
    "卡在哪里",
    "naïve é̂ [SEP] card",
    "  two  words ",
]
FOUR, TWO = {"labels": {"refund": "asks for money back"}}, {"support": SUPPORT[:4]}


@pytest.fixture(scope="module")
def tuned_checkpoint(make_checkpoint: MakeCheckpoint) -> Path:
    """A checkpoint with meta-trained layers of its own."""
    return make_checkpoint(ModelSpec(tuned_layers=1))


@pytest.fixture(scope="module")
def service(tuned_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service that computes in float32."""
    store = SecretStr(f"sqlite:{tmp_path_factory.mktemp('folder') / 'service.db'}")
    settings = Settings(checkpoint=str(tuned_checkpoint), store=store, device="cpu", threads=1, precision="float32")
    with running_service(settings) as client:
        yield client


Exported = Callable[..., tuple[TaskFile, np.ndarray[Any, Any]]]


@pytest.fixture
def exported(service: httpx.Client) -> Exported:
    """Adapts and exports a task; gives the file, and the server's probabilities for ``QUERIES``."""

    def make(**fields: Any) -> tuple[TaskFile, np.ndarray[Any, Any]]:
        labels = adapt(service, "bank", **fields)["labels"]
        file = unpack_task(service.get("/v1/tasks/bank/export").content)
        answers = predict(service, "bank", QUERIES)["predictions"]
        return file, np.array([[answer["scores"][label] for label in labels] for answer in answers])

    return make


@pytest.mark.parametrize("fields", [FOUR, TWO, {"learner": "ridge"}, {"learner": "prototypical", "steps": 0}])
def test_a_head_as_a_graph_gives_the_servers_probabilities(
    exported: Exported, tuned_checkpoint: Path, fields: dict[str, Any]
) -> None:
    file, expected = exported(**fields)
    encoder = Checkpoint(tuned_checkpoint, torch.device("cpu")).encoder
    features = encoder.encode_batch(encoder.tokenize([TextInput(text) for text in QUERIES])).numpy()
    graph = head_graph(file)
    assert graph == head_graph(file)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    probabilities, logits = session.run(["probabilities", "logits"], {"features": features})
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), expected, atol=1e-5)
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["labels"]) == list(file.record.labels)
    assert (facts["task"], facts["checkpoint"]) == ("bank", "tiny-protomaml-head-tuned")
    assert onnx.load_from_string(graph).opset_import[0].version == 17


@pytest.mark.parametrize("fields", [FOUR, TWO])
def test_a_folder_has_the_encoder_with_its_tuned_layers_and_the_head(
    exported: Exported, tuned_checkpoint: Path, tmp_path: Path, fields: dict[str, Any]
) -> None:
    file, expected = exported(**fields)
    folder = tmp_path / "new" / "folder"
    write_sentence_folder(file, tuned_checkpoint, folder)
    own = Checkpoint(tuned_checkpoint, torch.device("cpu")).encoder
    read = build_encoder(folder, encoder_stages(max_tokens=64), torch.device("cpu"))
    texts = [TextInput(text) for text in QUERIES]
    assert [text.ids for text in read.tokenize(texts)] == [text.ids for text in own.tokenize(texts)]
    features = read.encode_batch(read.tokenize(texts))
    assert torch.equal(features, own.encode_batch(own.tokenize(texts)))
    # The lines of the README, on these features
    head = np.load(folder / "head.npz", allow_pickle=False)
    classifier = LogisticRegression()
    classifier.classes_, classifier.coef_, classifier.intercept_ = head["classes"], head["coef"], head["intercept"]
    classifier.n_features_in_ = head["coef"].shape[1]
    np.testing.assert_allclose(classifier.predict_proba(features.numpy()), expected, atol=1e-5)
    assert list(classifier.predict(features.numpy())) == [file.record.labels[i] for i in expected.argmax(axis=1)]
    numbers = json.loads((folder / "head.json").read_text())
    logits = features.numpy() @ np.array(numbers["coef"]).T + np.array(numbers["intercept"])
    np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), expected, atol=1e-5)
    assert "tiny-protomaml-head-tuned" in (folder / "README.md").read_text()
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]
    with pytest.raises(NotExportable, match="exists"):
        write_sentence_folder(file, tuned_checkpoint, folder)


@pytest.mark.slow
@pytest.mark.parametrize("fields", [FOUR, TWO])
def test_the_lines_of_the_readme_run_without_us(
    exported: Exported, tuned_checkpoint: Path, tmp_path: Path, fields: dict[str, Any]
) -> None:
    file, expected = exported(**fields)
    folder = tmp_path / "folder"
    write_sentence_folder(file, tuned_checkpoint, folder)
    found = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert found is not None
    lines = found[1].replace('["a text"]', f"{QUERIES!r}").replace("print(", "print((").replace("\n\n", "\n")
    lines = lines.rstrip()[: -len(")")] + ").tolist())" if lines.rstrip().endswith(")") else lines
    code = f"import sys\n{lines}\nassert not {{'handful', 'metalearn', 'model_store'}} & set(sys.modules)\n"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={"HF_HUB_OFFLINE": "1", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout.splitlines()[-1]), expected, atol=1e-3)


def test_tasks_that_other_programs_cannot_have_are_refused_in_words(
    exported: Exported, tuned_checkpoint: Path, tmp_path: Path, service: httpx.Client
) -> None:
    file, _ = exported(learner="matching")
    for write in (head_graph, lambda found: write_sentence_folder(found, tuned_checkpoint, tmp_path / "folder")):
        with pytest.raises(NotExportable, match=r"learner 'matching'.*protomaml or ridge"):
            write(file)
    adapt(service, "pairs", [{**example, "text_pair": f"{i}"} for i, example in enumerate(SUPPORT)])
    pairs = unpack_task(service.get("/v1/tasks/pairs/export").content)
    assert head_graph(pairs)
    with pytest.raises(NotExportable, match="pairs"):
        write_sentence_folder(pairs, tuned_checkpoint, tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []


def test_a_class_without_a_label_is_refused_in_words(exported: Exported) -> None:
    file, _ = exported()
    header = json.loads(file.adapter)
    unnamed = replace(file, adapter=json.dumps({**header, "labels": header["labels"][:-1]}).encode())
    with pytest.raises(NotExportable, match="3 rows for 2 labels"):
        head_graph(unnamed)


def test_weights_below_the_head_are_refused_in_words(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(ModelSpec(placement="modulations", fast_layers=1))
    store = SecretStr(f"sqlite:{tmp_path / 'deep.db'}")
    with running_service(Settings(checkpoint=str(checkpoint), store=store, device="cpu", threads=1)) as client:
        adapt(client)
        file = unpack_task(client.get("/v1/tasks/bank/export").content)
    with pytest.raises(NotExportable, match="placement 'head'"):
        head_graph(file)


def test_a_checkpoint_is_found_by_its_fingerprint(tiny_checkpoint: Path, tuned_checkpoint: Path) -> None:
    fingerprint = Checkpoint(tuned_checkpoint, torch.device("cpu")).fingerprint
    folders = [tiny_checkpoint, tuned_checkpoint]
    assert checkpoint_with(fingerprint, folders, shipped=True) == tuned_checkpoint
    assert checkpoint_with(fingerprint, folders[:1], shipped=True) is None


def test_an_encoders_weights_go_to_its_files_names_and_back(tiny_encoder: Path) -> None:
    bert = BertTransformer.load(tiny_encoder)
    words = {"words.weight": bert.weights["words.weight"]}
    again = BertTransformer.of(bert.config, bert.file_tensors(), words, tiny_encoder)
    assert again.weights.keys() == bert.weights.keys()
    assert all(torch.equal(again.weights[name], weight) for name, weight in bert.weights.items())
