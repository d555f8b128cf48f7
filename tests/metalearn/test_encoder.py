"""Texts to features: pooling, padding, truncation, threads, batches, devices and where encoders are found."""

import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metalearn.encoder import Encoder, EncoderSettings, locate_encoder, plan_batches, select_device
from metalearn.errors import DeviceUnavailable, EncoderUnavailable
from metalearn.types import TextInput
from tests.conftest import STOCK_ENCODER
from tests.metalearn.conftest import CPU

INPUTS = [
    TextInput("card"),
    TextInput("I am still waiting on my card, and nobody answers my letters?"),
    TextInput("Where is my card", "The parcel was lost on its way to the customer"),
    TextInput("Warum wurde mir eine Gebühr berechnet?"),
    TextInput("", "a pair without a first text"),
    TextInput(""),
    TextInput("short", "pair"),
]


@pytest.mark.parametrize(
    ("which", "normalize"), [("tiny_encoder", True), ("tiny_encoder", False), ("stock_folder", True)]
)
def test_features_are_the_mean_of_transformers_hidden_states(
    which: str, normalize: bool, request: pytest.FixtureRequest
) -> None:
    from transformers import BertModel, PreTrainedTokenizerFast

    folder: Path = request.getfixturevalue(which)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        pad_token="[PAD]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    model = BertModel.from_pretrained(folder, add_pooling_layer=False, attn_implementation="eager").eval()
    expected = []
    for each in INPUTS:  # one by one, so that the reference knows no padding
        fields = tokenizer(each.text, each.text_pair, truncation=True, max_length=64, return_tensors="pt")
        with torch.no_grad():
            expected.append(model(**fields).last_hidden_state[0].double().mean(dim=0))
    want = torch.stack(expected)
    if normalize:
        want = want / want.norm(dim=1, keepdim=True)

    encoder = Encoder(folder, EncoderSettings(max_tokens=64, normalize=normalize), CPU)
    features = encoder.encode_batch(encoder.tokenize(INPUTS))
    assert features.dtype == torch.float32
    assert features.shape == (len(INPUTS), encoder.dim)
    torch.testing.assert_close(features.double(), want, atol=1e-5, rtol=0)


def test_a_row_does_not_depend_on_the_rows_beside_it(encoder: Encoder) -> None:
    texts = encoder.tokenize(INPUTS)
    together = encoder.encode_batch(texts)
    alone = torch.cat([encoder.encode_batch([text]) for text in texts])
    backwards = encoder.encode_batch(texts[::-1]).flip(0)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(together, backwards, atol=1e-5, rtol=0)
    assert float((alone[0] - alone[1]).abs().max()) > 1e-2, "the texts have to differ for this to say anything"


def test_the_same_batch_gives_the_same_bits(tiny_encoder: Path, encoder: Encoder) -> None:
    texts = encoder.tokenize(INPUTS)
    first = encoder.encode_batch(texts)
    assert torch.equal(first, encoder.encode_batch(texts))
    again = Encoder(tiny_encoder, EncoderSettings(max_tokens=64), CPU)
    assert torch.equal(first, again.encode_batch(again.tokenize(INPUTS)))


def test_features_may_be_used_by_autograd_later(encoder: Encoder) -> None:
    features = encoder.encode_batch(encoder.tokenize(INPUTS[:2]))
    assert not features.requires_grad
    assert not features.is_inference()
    weight = torch.ones(encoder.dim, requires_grad=True)
    (features @ weight).sum().backward()
    torch.testing.assert_close(weight.grad, features.sum(dim=0))


@pytest.mark.parametrize("max_tokens", [8, 16, 64])
def test_a_text_is_cut_at_max_tokens_and_says_so(tiny_encoder: Path, max_tokens: int) -> None:
    encoder = Encoder(tiny_encoder, EncoderSettings(max_tokens=max_tokens), CPU)
    fits, cut = (" ".join(["card"] * (max_tokens - 2 + extra)) for extra in (0, 1))
    whole, short, pair = encoder.tokenize([TextInput(fits), TextInput(cut), TextInput(fits, fits)])
    assert (len(whole.ids), whole.truncated) == (max_tokens, False)
    assert (len(short.ids), short.truncated) == (max_tokens, True)
    assert (len(pair.ids), pair.truncated) == (max_tokens, True)
    assert set(pair.type_ids) == {0, 1}, "neither side of a pair may be cut away whole"
    assert short.ids == whole.ids


def test_a_token_count_that_fits_in_a_pair_is_not_called_cut(tiny_encoder: Path) -> None:
    encoder = Encoder(tiny_encoder, EncoderSettings(max_tokens=8), CPU)
    fits, cut = encoder.tokenize(
        [TextInput("card card", "card card card"), TextInput("card card card", "card card card")]
    )
    assert (len(fits.ids), fits.truncated) == (8, False)
    assert (len(cut.ids), cut.truncated) == (8, True)


def test_a_pair_is_not_the_two_texts_in_one(encoder: Encoder) -> None:
    pair, one = encoder.tokenize([TextInput("where is", "my card"), TextInput("where is my card")])
    assert pair.ids != one.ids
    assert pair.type_ids == [0, 0, 0, 0, 1, 1, 1]
    assert one.type_ids == [0] * 6


def test_eight_threads_tokenize_as_one_does(encoder: Encoder) -> None:
    draw = torch.Generator().manual_seed(1)
    words = ["card", "fee", "virtual", "arrival", "Gebühr", "statement", "waiting", "charge", "日本", "🙂"]

    def text() -> str:
        length = int(torch.randint(1, 120, (), generator=draw))
        return " ".join(words[int(i)] for i in torch.randint(len(words), (length,), generator=draw))

    jobs = [[TextInput(text(), text() if i % 3 == 0 else None) for i in range(7)] for _ in range(32)]
    expected = [encoder.tokenize(job) for job in jobs]
    assert any(each.truncated for job in expected for each in job)
    assert any(not each.truncated for job in expected for each in job)
    together = Barrier(8)

    def work(_: int) -> list[list[Any]]:
        together.wait()
        return [encoder.tokenize(job) for job in jobs]

    with ThreadPoolExecutor(8) as threads:
        for found in threads.map(work, range(8)):
            assert found == expected


def test_a_missing_or_foreign_tokenizer_is_named(spoiled: Path) -> None:
    (spoiled / "tokenizer.json").write_text(json.dumps({"no": "tokenizer"}))
    with pytest.raises(EncoderUnavailable, match=r"tokenizer\.json"):
        Encoder(spoiled, EncoderSettings(max_tokens=64), CPU)
    (spoiled / "tokenizer.json").unlink()
    with pytest.raises(EncoderUnavailable, match=r"tokenizer\.json"):
        Encoder(spoiled, EncoderSettings(max_tokens=64), CPU)


def test_more_tokens_than_positions_are_refused(tiny_encoder: Path) -> None:
    assert Encoder(tiny_encoder, EncoderSettings(max_tokens=128), CPU).dim == 32
    with pytest.raises(EncoderUnavailable, match=r"max_tokens is 129.*reads 128"):
        Encoder(tiny_encoder, EncoderSettings(max_tokens=129), CPU)


# ---- batches -------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(lengths=st.lists(st.integers(1, 300), max_size=60), bound=st.integers(1, 2000))
def test_a_plan_has_every_row_once_and_keeps_the_bound(lengths: list[int], bound: int) -> None:
    plan = plan_batches(lengths, bound)
    assert sorted(index for batch in plan for index in batch) == list(range(len(lengths)))
    for batch in plan:
        assert batch
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= bound
    for batch, following in itertools.pairwise(plan):
        assert max(lengths[i] for i in batch) <= min(lengths[i] for i in following), "rows go together by length"
        assert (len(batch) + 1) * lengths[following[0]] > bound, "a row that still fits is not put off"
    assert plan_batches(list(lengths), bound) == plan


def test_a_plan_of_nothing_is_empty() -> None:
    assert plan_batches([], 100) == []


# ---- devices -------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a CPU only."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.usefixtures("no_accelerator")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_a_device_that_is_not_there_is_refused_by_name(name: str) -> None:
    with pytest.raises(DeviceUnavailable, match=repr(name)):
        select_device(name)


@pytest.mark.usefixtures("no_accelerator")
@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_without_an_accelerator_the_cpu_is_chosen(name: str) -> None:
    assert select_device(name) == torch.device("cpu")


def test_a_device_number_beyond_those_that_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert select_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(DeviceUnavailable, match="'cuda:7'"):
        select_device("cuda:7")


# ---- where encoders are --------------------------------------------------------------------------------------------


def test_an_encoder_in_a_package_is_found_without_importing_it() -> None:
    folder = locate_encoder(STOCK_ENCODER, Path())
    assert (folder / "model.safetensors").is_file()


def test_an_encoder_in_a_folder_is_found_from_its_base(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "encoder").mkdir()
    assert locate_encoder("../encoder", tmp_path / "base").samefile(tmp_path / "encoder")
    assert locate_encoder(str(tmp_path / "encoder"), tmp_path / "base").samefile(tmp_path / "encoder")
    with pytest.raises(EncoderUnavailable, match="nowhere"):
        locate_encoder("nowhere", tmp_path / "base")


@pytest.mark.parametrize("name", ["handful_no_such_package", "handful_no_such_package.inner", "json.decoder", ""])
def test_a_package_that_is_not_there_is_refused_by_name(name: str) -> None:
    with pytest.raises(EncoderUnavailable, match=repr(name)):
        locate_encoder(f"package:{name}", Path())


def test_a_package_without_a_model_is_refused() -> None:
    with pytest.raises(EncoderUnavailable, match="model"):
        locate_encoder("package:json", Path())


def test_an_encoder_on_the_hub_is_fetched_at_its_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []

    def fetch(repository: str, *, revision: str | None, **_: object) -> str:
        asked.append((repository, revision))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert locate_encoder("hub:owner/name@abc", Path()) == tmp_path
    assert locate_encoder("hub:owner/name", Path()) == tmp_path
    assert asked == [("owner/name", "abc"), ("owner/name", None)]


def test_a_hub_that_does_not_answer_is_reported_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*_: object, **__: object) -> str:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    with pytest.raises(EncoderUnavailable, match=r"'owner/name'.*no route to host"):
        locate_encoder("hub:owner/name@abc", Path())
