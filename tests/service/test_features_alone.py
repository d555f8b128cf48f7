"""Features and answers depend on the text alone: the same bits in any batch, beside any tenant, in every process."""

import hashlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metalearn.encoder.batches import plan_batches
from metalearn.encoder.encoder import Encoder, FeatureRuntime, TorchRuntime, build_encoder
from metalearn.encoder.stages import encoder_stages
from metalearn.encoder.tokenizing import TokenizedText
from metalearn.tokens.features import word_features
from metalearn.tokens.words import joined
from metalearn.types import TextInput
from service.engine.runtime import OnnxFeatures
from tests.conftest import SUPPORT, MakeOtherEncoder, StartService
from tests.other_encoders import LAYERED
from tests.service.conftest import OTHER_SUPPORT, TEXTS, adapt, predict
from tests.service.test_runtime import tuned_encoder

WORDS = st.lists(st.sampled_from(["why", "was", "my", "card", "charged", "an", "extra", "fee", "日本語"]), min_size=1)
TEXT = st.builds(lambda one: TextInput(" ".join(one)), WORDS)
PAIR = st.builds(lambda one, other: TextInput(" ".join(one), " ".join(other)), WORDS, WORDS)
RUNTIMES = ("torch", "float32", "int8")
CPU = torch.device("cpu")


@cache
def made(folder: Path, kind: str) -> tuple[Encoder, FeatureRuntime]:
    encoder = tuned_encoder(folder)
    return encoder, TorchRuntime(encoder) if kind == "torch" else OnnxFeatures(encoder, kind)  # type: ignore[arg-type]


def encoded(runtime: Callable[[Sequence[TokenizedText]], torch.Tensor], texts: list[TokenizedText]) -> torch.Tensor:
    """Features of all, in the batches that serving plans."""
    rows = [(i, row) for plan in plan_batches([len(t.ids) for t in texts], 512)
            for i, row in zip(plan, runtime([texts[i] for i in plan]), strict=True)]  # fmt: skip
    return torch.stack([row for _, row in sorted(rows, key=lambda each: each[0])])


def bits(features: torch.Tensor) -> bytes:
    return features.contiguous().numpy().tobytes()


@pytest.mark.parametrize("kind", RUNTIMES)
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(inputs=st.lists(TEXT | PAIR, min_size=1, max_size=12), neighbours=st.lists(TEXT | PAIR, max_size=12))
def test_neighbours_change_no_bit(
    tiny_encoder: Path, kind: str, inputs: list[TextInput], neighbours: list[TextInput]
) -> None:
    encoder, runtime = made(tiny_encoder, kind)
    texts, others = encoder.tokenize(inputs), encoder.tokenize(neighbours)
    alone = torch.cat([runtime([text]) for text in texts])
    assert bits(encoded(runtime, texts)) == bits(alone)
    assert bits(encoded(runtime, [*others, *texts])[len(others) :]) == bits(alone)


@pytest.mark.parametrize("kind", RUNTIMES)
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(sentences=st.lists(WORDS, min_size=1, max_size=8), neighbours=st.lists(TEXT, max_size=8))
def test_neighbours_change_no_bit_of_a_word(
    tiny_encoder: Path, kind: str, sentences: list[list[str]], neighbours: list[TextInput]
) -> None:
    encoder, runtime = made(tiny_encoder, kind)
    texts = encoder.tokenize([TextInput(text, None, words) for text, words in map(joined, sentences)])

    def of_words(batch: list[TokenizedText]) -> list[bytes]:
        found = [b""] * len(batch)
        for rows in plan_batches([len(text.ids) for text in batch], 512):
            for row, states in zip(rows, runtime.token_states([batch[row] for row in rows]), strict=True):
                found[row] = bits(word_features(states, batch[row].words or ()))
        return found

    alone = [of_words([text])[0] for text in texts]
    assert of_words([*encoder.tokenize(neighbours), *texts])[len(neighbours) :] == alone


@pytest.mark.parametrize("name", LAYERED)
def test_neighbours_change_no_bit_of_another_architecture(make_other_encoder: MakeOtherEncoder, name: str) -> None:
    encoder = build_encoder(make_other_encoder(name), encoder_stages(max_tokens=64), CPU)
    moved = {name: weight * 1.05 for name, weight in encoder.upper_weights(1).items()}
    runtime = TorchRuntime(encoder.with_weights(moved))
    # Texts of one width, with and without padding: a batch without padding may take another way
    inputs = [
        TextInput("a card"),
        TextInput("a fee"),
        TextInput("cards a"),
        TextInput("why", "my fee"),
        *map(TextInput, TEXTS),
    ]
    texts = encoder.tokenize(inputs)
    alone = torch.cat([runtime([text]) for text in texts])
    assert bits(encoded(runtime, texts)) == bits(alone)
    assert bits(encoded(runtime, texts[::-1])) == bits(alone.flip(0))


_PROGRAM = """
import hashlib, sys
import torch
torch.set_num_threads(1)
from pathlib import Path
from metalearn.types import TextInput
from tests.service.test_features_alone import made, encoded, bits
digests = []
for kind in ("torch", "float32", "int8"):
    encoder, runtime = made(Path(sys.argv[1]), kind)
    texts = [TextInput("why was my card charged"), TextInput("an extra fee", "a fee"), TextInput("card " * 30)]
    digests.append(hashlib.sha256(bits(encoded(runtime, encoder.tokenize(texts)))).hexdigest())
print(*digests)
"""


@pytest.mark.slow
def test_two_processes_have_the_same_bits(tiny_encoder: Path) -> None:
    asked = [sys.executable, "-c", _PROGRAM, str(tiny_encoder)]
    elsewhere = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    texts = [TextInput("why was my card charged"), TextInput("an extra fee", "a fee"), TextInput("card " * 30)]
    here = []
    for kind in RUNTIMES:
        encoder, runtime = made(tiny_encoder, kind)
        here.append(hashlib.sha256(bits(encoded(runtime, encoder.tokenize(texts)))).hexdigest())
    assert elsewhere == " ".join(here) + "\n"


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
@pytest.mark.parametrize("learner", ["protomaml", "matching"])
def test_adapting_and_predicting_again_gives_the_same_bits(
    start_service: StartService, tmp_path: Path, runtime: str, learner: str
) -> None:
    first = start_service(runtime=runtime)
    made_first = adapt(first, learner=learner)
    alone = [predict(first, queries=[text])["predictions"][0]["scores"] for text in TEXTS]
    assert [each["scores"] for each in predict(first)["predictions"]] == alone
    # Beside another task's texts and examples, some of them in the cache, in another server
    second = start_service(runtime=runtime, store=f"sqlite:{tmp_path / 'second.db'}")
    adapt(second, "other", [*OTHER_SUPPORT, *SUPPORT[:3]], learner=learner)
    made_second = adapt(second, learner=learner)
    assert made_second["losses"] == made_first["losses"]
    assert [each["scores"] for each in predict(second, queries=[*TEXTS, "another"])["predictions"]][:-1] == alone
    body = {"support": SUPPORT, "queries": TEXTS, "learner": learner}
    answer = second.post("/v1/classify", json=body).json()
    assert [each["scores"] for each in answer["predictions"]] == alone
