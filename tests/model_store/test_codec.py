"""Bytes decode to the adapter that was written, for the task it was written for, or not at all."""

import ast
import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

import model_store
from metalearn.body import MlpBody
from metalearn.decision import Decision
from metalearn.errors import UnknownLearner
from metalearn.fast_weights import HEAD_BIAS, HEAD_WEIGHT, rounded_head
from metalearn.inner_loop import collect
from metalearn.learners import make_learner
from metalearn.meta_model import MetaModel
from metalearn.placement import HeadOnly
from metalearn.prepared import PreparedSet
from metalearn.tokens.examples import tagged_example
from metalearn.tokens.words import LabelledSpan, joined
from metalearn.types import Adapter, Example, SupportSet, TextInput
from model_store.codec import (
    MAGIC,
    AdapterKey,
    decode_adapter,
    decode_rows,
    decode_support,
    encode_adapter,
    encode_rows,
    encode_support,
    rows_of,
)
from model_store.errors import AdapterCorrupt, StaleAdapter
from model_store.records import StoredSupport
from model_store.weight_shapes import AxisLength, FastWeightShapes

KEY = AdapterKey("acme", "bank", 3, "0f" * 16)
PRINT = "97b2cd13" * 8
DIM = 4


def _adapter(labels: tuple[str, ...] = ("card_arrival", "überfällig"), dim: int = DIM, seed: int = 0) -> Adapter:
    draw = torch.Generator().manual_seed(seed)
    weights = {
        HEAD_WEIGHT: torch.randn(len(labels), dim, generator=draw),
        HEAD_BIAS: torch.randn(len(labels), generator=draw),
    }
    return Adapter(weights, labels, PRINT)


def _shapes(dim: int = DIM) -> Callable[[str], FastWeightShapes]:
    """The shapes of a model with these learners: heads, keys with a row per text, heads with a weight below."""
    per_class, per_text, fixed = AxisLength(0, 1, 0), AxisLength(0, 0, 1), AxisLength(dim, 0, 0)
    head = {HEAD_WEIGHT: (per_class, fixed), HEAD_BIAS: (per_class,)}
    learners = {
        "protomaml": FastWeightShapes(head),
        "matching": FastWeightShapes({"keys": (per_text, fixed), "membership": (per_text, per_class)}),
        "deep": FastWeightShapes({**head, "layers.1.output.bias": (fixed,), "scale": ()}),
    }

    def shapes(learner: str) -> FastWeightShapes:
        if learner not in learners:
            raise UnknownLearner(f"there is no learner {learner!r}")
        return learners[learner]

    return shapes


def _decode(data: bytes, key: AdapterKey = KEY, checkpoint: str = PRINT, dim: int = DIM) -> Adapter:
    return decode_adapter(data, key, shapes={checkpoint: _shapes(dim)})


def _assert_same(one: Adapter, other: Adapter) -> None:
    assert (one.labels, one.checkpoint, one.learner) == (other.labels, other.checkpoint, other.learner)
    assert one.fast_weights.keys() == other.fast_weights.keys()
    for name, weight in one.fast_weights.items():
        assert weight.dtype == other.fast_weights[name].dtype
        assert torch.equal(weight, other.fast_weights[name])


# ---- there and back ------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    labels=st.lists(st.text(max_size=20), min_size=1, max_size=20, unique=True),
    dim=st.integers(1, 64),
    version=st.integers(1, 2**40),
    names=st.tuples(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20)),
    seed=st.integers(0, 1000),
)
def test_an_adapter_comes_back_as_it_was(
    labels: list[str], dim: int, version: int, names: tuple[str, str, str], seed: int
) -> None:
    adapter = _adapter(tuple(labels), dim, seed)
    key = AdapterKey(names[0], names[1], version, names[2])
    data = encode_adapter(adapter, key)
    _assert_same(_decode(data, key, dim=dim), adapter)
    assert encode_adapter(_decode(data, key, dim=dim), key) == data


def test_the_largest_and_smallest_numbers_come_back() -> None:
    limits = torch.finfo(torch.float32)
    weight = torch.tensor([[limits.max, limits.min, limits.tiny, -0.0], [1e-45, 1 / 3, 0.1, 1.0]])
    adapter = Adapter({HEAD_WEIGHT: weight, HEAD_BIAS: torch.tensor([-0.0, limits.max])}, ("a", "b"), PRINT)
    found = _decode(encode_adapter(adapter, KEY))
    _assert_same(found, adapter)
    assert torch.signbit(found.fast_weights[HEAD_WEIGHT])[0, 3]


def test_the_same_adapter_and_key_give_the_same_bytes() -> None:
    adapter = _adapter()
    data = encode_adapter(adapter, KEY)
    assert encode_adapter(_adapter(), KEY) == data
    reordered = Adapter(dict(reversed(list(adapter.fast_weights.items()))), adapter.labels, PRINT)
    assert encode_adapter(reordered, KEY) == data
    assert encode_adapter(adapter, AdapterKey("acme", "bank", 4, KEY.adapter_id)) != data


def test_weights_that_are_views_are_written_as_they_read() -> None:
    block = torch.randn(DIM + 1, 2, generator=torch.Generator().manual_seed(0))
    adapter = Adapter({HEAD_WEIGHT: block[:DIM].T, HEAD_BIAS: block[DIM]}, ("a", "b"), PRINT)
    _assert_same(_decode(encode_adapter(adapter, KEY)), adapter)


def test_weights_go_to_the_device_that_is_asked_for() -> None:
    data = encode_adapter(_adapter(), KEY)
    found = decode_adapter(data, KEY, shapes={PRINT: _shapes()}, device=torch.device("meta"))
    assert {weight.device.type for weight in found.fast_weights.values()} == {"meta"}


MATCHING = {"keys": torch.randn(7, DIM), "membership": torch.rand(7, 2)}
BELOW = {**_adapter().fast_weights, "layers.1.output.bias": torch.randn(DIM), "scale": torch.tensor(3.0)}


@pytest.mark.parametrize(("learner", "weights"), [("matching", MATCHING), ("deep", BELOW)])
def test_an_adapter_of_any_learner_comes_back_as_it_was(learner: str, weights: dict[str, torch.Tensor]) -> None:
    adapter = Adapter(weights, ("a", "b"), PRINT, learner)
    found = _decode(encode_adapter(adapter, KEY))
    _assert_same(found, adapter)
    assert found.learner == learner


def test_weights_that_share_memory_are_written_each_for_itself() -> None:
    row = torch.randn(DIM)
    block = torch.randn(3, DIM)
    weights = {
        HEAD_WEIGHT: row.expand(2, -1),
        HEAD_BIAS: block[0, :2],
        "layers.1.output.bias": row,
        "scale": block[0, 0],
    }
    adapter = Adapter(weights, ("a", "b"), PRINT, "deep")
    _assert_same(_decode(encode_adapter(adapter, KEY)), adapter)


def test_an_adapter_that_names_no_learner_is_of_the_first_one() -> None:
    # What was stored before there were others
    assert "learner" not in _header()
    assert _decode(_sealed(_header(), _tensors())).learner == "protomaml"


@pytest.mark.parametrize("pairs", [True, False, None])
def test_an_adapter_stores_whether_its_texts_are_pairs(pairs: bool | None) -> None:
    assert _decode(encode_adapter(replace(_adapter(), pairs=pairs), KEY)).pairs is pairs
    # Older records do not have it
    assert _decode(_sealed(_header(), _tensors())).pairs is None


# ---- half precision --------------------------------------------------------------------------------------------------


def _stored_types(data: bytes) -> dict[str, str]:
    """Names of the tensors in these bytes -> their types, read from safetensors' own header."""
    start = len(MAGIC) + 32
    (length,) = struct.unpack_from(">I", data, start)
    tensors = data[start + 4 + length :]
    (inner,) = struct.unpack_from("<Q", tensors)
    return {name: tensor["dtype"] for name, tensor in json.loads(tensors[8 : 8 + inner]).items()}


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(
        st.lists(
            st.floats(width=32, allow_nan=False, allow_infinity=False)
            | st.floats(width=16, allow_nan=False, allow_infinity=False),
            min_size=DIM,
            max_size=DIM,
        ),
        min_size=2,
        max_size=2,
    ),
    bias=st.lists(st.floats(width=16, allow_nan=False, allow_infinity=False), min_size=2, max_size=2),
)
def test_whatever_precision_a_head_needs_it_comes_back_as_it_was(rows: list[list[float]], bias: list[float]) -> None:
    weight = torch.tensor(rows)
    adapter = Adapter({HEAD_WEIGHT: weight, HEAD_BIAS: torch.tensor(bias)}, ("a", "b"), PRINT)
    data = encode_adapter(adapter, KEY)
    found = _decode(data)
    _assert_same(found, adapter)
    for name, own in adapter.fast_weights.items():
        assert torch.equal(torch.signbit(found.fast_weights[name]), torch.signbit(own)), "zeros keep their sign"
    fits = bool((weight.half().float() == weight).all())
    assert _stored_types(data) == {HEAD_WEIGHT: "F16" if fits else "F32", HEAD_BIAS: "F16"}
    assert encode_adapter(found, KEY) == data


def test_each_tensor_is_stored_in_half_precision_where_that_loses_nothing() -> None:
    plain = {name: weight.clone() for name, weight in BELOW.items()}
    rounded = rounded_head(plain)
    whole, packed = (encode_adapter(Adapter(weights, ("a", "b"), PRINT, "deep"), KEY) for weights in (plain, rounded))
    assert _stored_types(whole) == dict.fromkeys(plain, "F32") | {"scale": "F16"}
    assert _stored_types(packed) == dict.fromkeys(plain, "F16") | {"layers.1.output.bias": "F32"}
    assert len(packed) < len(whole)


def test_an_adapter_in_half_precision_has_half_the_bytes() -> None:
    labels = tuple(f"class {i}" for i in range(10))
    adapter = _adapter(labels, dim=384)
    rounded = Adapter(rounded_head(adapter.fast_weights), labels, PRINT)
    whole, packed = len(encode_adapter(adapter, KEY)), len(encode_adapter(rounded, KEY))
    assert whole - packed == pytest.approx(10 * 385 * 2, abs=64)


def test_a_number_beyond_half_precision_is_kept_through_rounding_and_storing() -> None:
    weights = {HEAD_WEIGHT: torch.tensor([[1e6, 1 / 3, 0, 0]] * 2), HEAD_BIAS: torch.tensor([1 / 3, 2.0])}
    adapter = Adapter(rounded_head(weights), ("a", "b"), PRINT)
    data = encode_adapter(adapter, KEY)
    assert _stored_types(data) == {HEAD_WEIGHT: "F32", HEAD_BIAS: "F16"}
    assert torch.equal(_decode(data).fast_weights[HEAD_WEIGHT], weights[HEAD_WEIGHT])


@pytest.mark.parametrize("dim", [384, 768])
def test_ten_classes_take_less_than_20_kilobytes(dim: int) -> None:
    labels = (
        "activate_my_card",
        "balance_not_updated_after_bank_transfer",
        "beneficiary_not_allowed",
        "card_arrival",
        "declined_cash_withdrawal",
        "getting_virtual_card",
        "extra_charge_on_statement",
        "receiving_money",
        "reverted_card_payment?",
        "überweisung_verspätet 日本 🙂",
    )
    # As the service makes it: features of this width, of which the learner makes a head
    model = MetaModel(MlpBody((dim,)), HeadOnly(), make_learner("protomaml"))
    draw = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(50, dim, generator=draw), dim=1)
    support = PreparedSet(features, torch.arange(50) % 10, torch.ones(50), 10)
    slow = model.initial_slow_weights(steps=5)
    head = collect(model.adapt(slow, support, model.start(slow, support), steps=5)).fast_weights
    adapter = Adapter(rounded_head(head), labels, PRINT)
    data = encode_adapter(adapter, KEY)
    assert 2 * 10 * (dim + 1) < len(data) < 20_000
    _assert_same(_decode(data, dim=dim), adapter)


# ---- damage --------------------------------------------------------------------------------------------------------


def test_every_flipped_bit_is_found() -> None:
    data = encode_adapter(_adapter(), KEY)
    assert len(data) < 1000, "short enough to try them all"
    for position in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises((AdapterCorrupt, StaleAdapter)):
            _decode(bytes(damaged))


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_damage_of_a_large_adapter_is_found_wherever_it_is(data: st.DataObject) -> None:
    encoded = encode_adapter(_adapter(tuple(f"class {n}" for n in range(77)), 384), KEY)
    damaged = bytearray(encoded)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    if bytes(damaged) != encoded:
        with pytest.raises((AdapterCorrupt, StaleAdapter)):
            _decode(bytes(damaged), dim=384)


def test_bytes_cut_at_any_length_are_refused() -> None:
    data = encode_adapter(_adapter(), KEY)
    for length in range(len(data)):
        with pytest.raises(AdapterCorrupt):
            _decode(data[:length])
    for more in (b"\x00", b"x" * 100, data):
        with pytest.raises(AdapterCorrupt):
            _decode(data + more)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=200), st.booleans())
def test_foreign_bytes_are_refused(data: bytes, marked: bool) -> None:
    with pytest.raises(AdapterCorrupt):
        _decode(MAGIC + data if marked else data)


# ---- somebody else's -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        AdapterKey("acme2", "bank", 3, KEY.adapter_id),
        AdapterKey("acme", "travel", 3, KEY.adapter_id),
        AdapterKey("acme", "bank", 4, KEY.adapter_id),
        AdapterKey("acme", "bank", 3, "f0" * 16),
        AdapterKey("bank", "acme", 3, KEY.adapter_id),
    ],
    ids=["tenant", "task", "version", "adapter_id", "exchanged"],
)
def test_another_adapter_than_the_one_asked_for_is_refused(other: AdapterKey) -> None:
    with pytest.raises(AdapterCorrupt, match="asked for"):
        _decode(encode_adapter(_adapter(), KEY), other)


def test_an_adapter_of_another_checkpoint_is_stale_and_names_it() -> None:
    with pytest.raises(StaleAdapter, match=PRINT[:12]) as caught:
        _decode(encode_adapter(_adapter(), KEY), checkpoint="another")
    assert caught.value.made_from == PRINT


def test_another_tenants_adapter_of_another_checkpoint_is_not_called_stale() -> None:
    with pytest.raises(AdapterCorrupt):
        _decode(encode_adapter(_adapter(), KEY), AdapterKey("acme2", "bank", 3, KEY.adapter_id), checkpoint="another")


# ---- well sealed, but wrong inside ---------------------------------------------------------------------------------


def _sealed(header: object, tensors: bytes, header_length: int | None = None) -> bytes:
    """Bytes with a checksum that is right."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    content = struct.pack(">I", len(head) if header_length is None else header_length) + head + tensors
    return MAGIC + hashlib.sha256(content).digest() + content


def _header(**changes: object) -> dict[str, object]:
    return {
        "tenant": KEY.tenant,
        "task": KEY.task,
        "version": KEY.version,
        "adapter_id": KEY.adapter_id,
        "checkpoint": PRINT,
        "labels": ["a", "b"],
        **changes,
    }


def _tensors(**changes: object) -> bytes:
    weights: dict[str, object] = {"weight": torch.ones(2, DIM), "bias": torch.zeros(2), **changes}
    return safetensors.torch.save({f"head.{name}": w for name, w in weights.items() if isinstance(w, torch.Tensor)})


def test_what_the_next_tests_spoil_is_right_before() -> None:
    _assert_same(
        _decode(_sealed(_header(), _tensors())),
        Adapter({HEAD_WEIGHT: torch.ones(2, DIM), HEAD_BIAS: torch.zeros(2)}, ("a", "b"), PRINT),
    )


def _with(at: tuple[int, ...], shape: tuple[int, ...], value: float) -> torch.Tensor:
    tensor = torch.ones(shape)
    tensor[at] = value
    return tensor


@pytest.mark.parametrize(
    "tensors",
    [
        _tensors(weight=_with((1, 3), (2, DIM), float("nan"))),
        _tensors(weight=_with((0, 0), (2, DIM), float("inf"))),
        _tensors(bias=_with((1,), (2,), float("-inf"))),
        _tensors(bias=_with((0,), (2,), float("nan"))),
        _tensors(weight=torch.ones(2, DIM, dtype=torch.float64)),
        _tensors(bias=torch.zeros(2, dtype=torch.bfloat16)),
        _tensors(bias=torch.tensor([float("nan"), 0.0], dtype=torch.float16)),
        _tensors(weight=_with((0, 0), (2, DIM), float("inf")).half()),
        _tensors(bias=torch.zeros(2, dtype=torch.int32)),
        _tensors(weight=torch.ones(2, DIM + 1)),
        _tensors(weight=torch.ones(DIM, 2)),
        _tensors(weight=torch.ones(3, DIM), bias=torch.zeros(3)),
        _tensors(weight=torch.ones(1, DIM), bias=torch.zeros(1)),
        _tensors(bias=torch.zeros(2, 1)),
        _tensors(bias=torch.zeros(3)),
        _tensors(bias=None),
        _tensors(weight=None, bias=None),
        _tensors(more=torch.zeros(2)),
        safetensors.torch.save({"weight": torch.ones(2, DIM), "bias": torch.zeros(2)}),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_spite_of_a_right_checksum(tensors: bytes) -> None:
    with pytest.raises(AdapterCorrupt):
        _decode(_sealed(_header(), tensors))


def _changed(weights: dict[str, torch.Tensor], **changes: torch.Tensor | None) -> bytes:
    named = {**weights, **{name.replace("__", "."): weight for name, weight in changes.items()}}
    return safetensors.torch.save({name: weight.contiguous() for name, weight in named.items() if weight is not None})


@pytest.mark.parametrize(
    ("learner", "tensors"),
    [
        ("matching", _changed(MATCHING, keys=None)),
        ("matching", _changed(MATCHING, more=torch.ones(7))),
        ("matching", _changed(MATCHING, keys=torch.ones(6, DIM))),
        ("matching", _changed(MATCHING, keys=torch.ones(7, DIM + 1))),
        ("matching", _changed(MATCHING, membership=torch.ones(7, 3))),
        ("matching", _changed(MATCHING, membership=torch.ones(2, 7))),
        ("matching", _changed(MATCHING, keys=torch.ones(1, DIM), membership=torch.ones(1, 2))),
        ("matching", _changed(MATCHING, keys=torch.ones(0, DIM), membership=torch.ones(0, 2))),
        ("matching", _changed(MATCHING, keys=torch.ones(7, DIM, 1))),
        ("matching", _changed(MATCHING, keys=torch.full((7, DIM), torch.nan))),
        ("matching", _changed(MATCHING, keys=MATCHING["keys"].double())),
        ("matching", _tensors()),
        ("deep", _tensors()),
        ("deep", _changed(BELOW, scale=torch.ones(1))),
        ("deep", _changed(BELOW, layers__1__output__bias=torch.ones(DIM + 1))),
        ("deep", _changed(BELOW, layers__0__output__bias=torch.ones(DIM))),
        ("protomaml", _changed(MATCHING)),
        ("unheard-of", _tensors()),
        ("", _tensors()),
    ],
)
def test_weights_that_their_learner_does_not_make_are_refused(learner: str, tensors: bytes) -> None:
    with pytest.raises(AdapterCorrupt):
        _decode(_sealed(_header(learner=learner), tensors))


def test_what_the_test_before_spoils_is_right_before() -> None:
    for learner, weights in (("matching", MATCHING), ("deep", BELOW)):
        assert _decode(_sealed(_header(learner=learner), _changed(weights))).learner == learner


@pytest.mark.parametrize(
    "data",
    [
        _sealed(b"{", _tensors()),
        _sealed(b"\xff\xfe", _tensors()),
        _sealed(b"[" * 200_000, _tensors()),
        _sealed([], _tensors()),
        _sealed(None, _tensors()),
        _sealed({}, _tensors()),
        _sealed({name: value for name, value in _header().items() if name != "labels"}, _tensors()),
        _sealed({name: value for name, value in _header().items() if name != "checkpoint"}, _tensors()),
        _sealed(_header(labels=None), _tensors()),
        _sealed(_header(labels=7), _tensors()),
        _sealed(_header(labels=[1, 2]), _tensors()),
        _sealed(_header(labels=["a", ["b"]]), _tensors()),
        _sealed(_header(labels="ab"), _tensors()),
        _sealed(_header(labels={"a": 1, "b": 2}), _tensors()),
        _sealed(_header(checkpoint=None), _tensors()),
        _sealed(_header(learner=None), _tensors()),
        _sealed(_header(tenant=["acme"]), _tensors()),
        _sealed(_header(version="3"), _tensors()),
        _sealed(_header(), b""),
        _sealed(_header(), b"no tensors at all"),
        _sealed(_header(), _tensors()[:-1]),
        _sealed(_header(), _tensors(), header_length=2**32 - 1),
        _sealed(_header(), _tensors(), header_length=0),
    ],
    ids=[
        "no json",
        "no utf-8",
        "deep json",
        "a list",
        "null",
        "empty",
        "without labels",
        "without checkpoint",
        "labels null",
        "labels a number",
        "labels numbers",
        "labels nested",
        "labels a text",
        "labels an object",
        "checkpoint null",
        "learner null",
        "tenant a list",
        "version a text",
        "without tensors",
        "foreign tensors",
        "cut tensors",
        "header too long",
        "header of nothing",
    ],
)
def test_a_malformed_inside_is_corrupt_and_nothing_else(data: bytes) -> None:
    with pytest.raises(AdapterCorrupt):
        _decode(data)


# ---- support sets --------------------------------------------------------------------------------------------------

TEXT = st.text(max_size=30)


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.tuples(TEXT, st.none() | TEXT, st.sampled_from(["a", "b", "ü 日本"])), max_size=15),
    descriptions=st.dictionaries(TEXT, TEXT, min_size=2, max_size=4),
    named=st.booleans(),
)
def test_a_support_set_comes_back_as_it_was(
    rows: list[tuple[str, str | None, str]], descriptions: dict[str, str], named: bool
) -> None:
    support = SupportSet(
        tuple(
            Example(TextInput(text, pair), label, f"id-{n}" if named else "")
            for n, (text, pair, label) in enumerate(rows)
        ),
        descriptions,
    )
    data = encode_support(support)
    found = decode_support(data)
    assert found.examples == support.examples
    assert dict(found.descriptions) == descriptions
    assert found.labels == support.labels
    assert encode_support(found) == data


SUPPORT = SupportSet((Example(TextInput("my card is late", "pair"), "a", "1"), Example(TextInput("a fee?"), "b", "2")))


FORMER = zlib.compress(
    b'{"examples": [["1", "a", "my card is late", "pair"], ["2", "b", "a fee?", null]], "descriptions": {}}'
)
"""``SUPPORT`` as releases before 0.3 stored it."""


def _damaged(data: bytes) -> Iterator[bytes]:
    """The bytes with each bit flipped in turn, and cut at each length."""
    for position in range(len(data) * 8):
        yield data[: position // 8] + bytes([data[position // 8] ^ 1 << position % 8]) + data[position // 8 + 1 :]
    yield from (data[:length] for length in range(len(data)))


def test_a_damaged_support_set_is_found() -> None:
    data = encode_support(SUPPORT)
    first, second = data.examples
    damaged = [StoredSupport((row, second), data.rest) for row in _damaged(first)]
    damaged += [StoredSupport(data.examples, rest) for rest in _damaged(data.rest)]
    damaged += [StoredSupport(rows, data.rest) for rows in ((), (first,), (second, first), (first, second, second))]
    for each in damaged:
        with pytest.raises(AdapterCorrupt):
            decode_support(each)


def test_a_support_set_of_an_earlier_release_comes_back_as_it_was() -> None:
    assert decode_support(StoredSupport((), FORMER)) == SUPPORT
    for each in _damaged(FORMER):
        try:
            found = decode_support(StoredSupport((), each))
        except AdapterCorrupt:
            continue
        assert found == SUPPORT, "a bit that pads the last byte may be lost, but no other"
        assert len(each) == len(FORMER)


def test_tagged_examples_come_back_as_they_were() -> None:
    text, words = joined(["fly-to", "New York"])
    span = LabelledSpan(7, 15, "city")
    of_tokens = tagged_example(text, (span,), words, id_="1", weight=2.0)
    of_text = tagged_example(text, (span,), None, id_="2")
    assert of_tokens.input.words != of_text.input.words
    stored = encode_rows(rows_of([of_tokens, of_text, tagged_example("none", (), None, id_="3")]), {})
    rows, _ = decode_rows(stored)
    assert [row.example for row in rows] == [of_tokens, of_text, tagged_example("none", (), None, id_="3")]
    assert [row.words is None for row in rows] == [False, True, True]
    assert encode_rows(rows, {}) == stored


def test_a_row_without_spans_has_the_bytes_that_it_had() -> None:
    (row, _) = encode_support(SUPPORT).examples
    former = b'{"id":"1","label":"a","text":"my card is late","text_pair":"pair","source":"adapt"}'
    assert row == former


def test_a_decision_of_an_earlier_release_is_read() -> None:
    former = TypeAdapter(Decision).validate_json(
        b'{"thresholds":[0.25],"learned":true,"half_width":null,"ordered":false}'
    )
    assert former == Decision((0.25,), learned=True)


def test_equal_examples_are_equal_rows() -> None:
    one = encode_support(SUPPORT)
    other = encode_support(SupportSet(SUPPORT.examples[::-1], {"a": "described"}))
    assert one.examples == other.examples[::-1]
    assert json.loads(one.examples[0]) == {
        "id": "1",
        "label": "a",
        "text": "my card is late",
        "text_pair": "pair",
        "source": "adapt",
    }


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"\xff",
        b"[]",
        b"{}",
        b'{"examples": [], "descriptions": {}}',
        b'{"examples": [["1", "a"]], "descriptions": {}}',
        b'{"examples": [["1", "a", "text", null]], "descriptions": null}',
    ],
)
def test_a_malformed_support_set_is_corrupt_and_nothing_else(content: bytes) -> None:
    with pytest.raises(AdapterCorrupt):
        decode_support(StoredSupport((), zlib.compress(content)))
    with pytest.raises(AdapterCorrupt):
        decode_support(StoredSupport((content,), encode_support(SUPPORT).rest))
    with pytest.raises(AdapterCorrupt):
        decode_support(StoredSupport((), content))


# ---- no code runs --------------------------------------------------------------------------------------------------

FORBIDDEN = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}


def test_nothing_that_lasts_is_read_with_pickle() -> None:
    files = sorted(Path(model_store.__file__).parent.rglob("*.py"))
    assert len(files) > 5
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                assert not {alias.name.split(".")[0] for alias in node.names} & FORBIDDEN, file
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in FORBIDDEN, file
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch":
                assert node.attr not in {"load", "save", "package"}, file


def test_bytes_that_are_a_pickle_run_nothing(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    # what pickle.dumps gives for an object whose __reduce__ opens a file: written out, so that no test imports it
    attack = b"cbuiltins\nopen\n(V" + str(witness).encode() + b"\nVw\ntR."
    decoders: list[Callable[[bytes], object]] = [
        _decode,
        lambda data: _decode(_sealed(_header(), data)),
        lambda data: _decode(_sealed(data, _tensors())),
        lambda data: decode_support(StoredSupport((), data)),
        lambda data: decode_support(StoredSupport((data,), data)),
    ]
    for decode in decoders:
        with pytest.raises(Exception):  # noqa: B017 - which one is the other tests' concern
            decode(attack)
    assert not witness.exists()
