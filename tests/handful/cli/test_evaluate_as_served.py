"""``handful evaluate`` measures the answers of HTTP, on the same episodes and the same runtime."""

from pathlib import Path
from typing import Literal

import httpx
import pytest
import torch
from pydantic import SecretStr

from metalearn.evaluation.evaluate import Evaluator
from metalearn.options import AdaptOptions
from metalearn.types import Episode, LabelledTexts, TextInput
from metatrain.sweeps import make_evaluator
from service.app import load_models
from service.engine import runtime
from service.settings import Settings
from tests.conftest import SUPPORT, running_service

LABELS = ("card_arrival", "extra_charge_on_statement", "getting_virtual_card")
"""The labels, in the order of a head's rows."""


def episode(seed: int) -> Episode:
    """An episode of the examples in a random order; its queries are the examples' texts with further words."""
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(SUPPORT), generator=draw).tolist()
    classes = tuple(LABELS.index(SUPPORT[i]["label"]) for i in order)
    texts = tuple(TextInput(SUPPORT[i]["text"]) for i in order)
    asked = tuple(TextInput(f"{text.text}{' please tell me soon' * (i * seed)}") for i, text in enumerate(texts))
    return Episode(
        f"task-{seed}", "intent", "classification", LABELS, LabelledTexts(texts, classes), LabelledTexts(asked, classes)
    )


def served(client: httpx.Client, given: Episode, *, use_label_text: bool) -> torch.Tensor:
    """Probabilities of the queries, through HTTP."""
    body = {
        "support": [
            {"text": text.text, "label": given.labels[target]}  # type: ignore[index]
            for text, target in zip(given.support.inputs, given.support.targets, strict=True)
        ],
        "queries": [text.text for text in given.query.inputs],
        "use_label_text": use_label_text,
        "steps": 7,
    }
    response = client.post("/v1/classify", json=body)
    assert response.status_code == 200, response.text
    return torch.tensor([[p["scores"][label] for label in LABELS] for p in response.json()["predictions"]])


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_an_evaluation_measures_what_is_served(
    tiny_checkpoint: Path, tmp_path: Path, precision: Literal["float32", "int8"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(runtime._FURTHEST, "int8", 1.0)  # a random encoder has less room for rounding
    settings = Settings(
        checkpoint=str(tiny_checkpoint),
        store=SecretStr(f"sqlite:{tmp_path / 'tasks.db'}"),
        device="cpu",
        precision=precision,
        threads=1,
    )
    evaluator: Evaluator = make_evaluator(load_models(settings), None)
    with running_service(settings) as client:
        for seed in range(3):
            for use_label_text in (False, True):
                given, how = episode(seed), AdaptOptions(7, use_label_text=use_label_text)
                expected = served(client, given, use_label_text=use_label_text)
                found = evaluator.outputs_of(given, how).softmax(dim=1)
                torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
                hits = expected.argmax(dim=1) == torch.tensor(given.query.targets)
                assert evaluator.evaluate_episode(given, how).accuracy == pytest.approx(float(hits.float().mean()))
