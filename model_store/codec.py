"""Adapter <-> bytes, and support set <-> bytes. No pickle: loading runs no code.

An encoded adapter is ``MAGIC | SHA-256 of all that follows | header length (4 bytes, big-endian) | header (JSON) |
safetensors``. The header names tenant, task, version and checkpoint, and decoding compares them with what was asked
for: a store or a connection that hands out somebody else's bytes is found out here.
"""

import hashlib
import json
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from metalearn.decision import Decision
from metalearn.errors import InvalidSupportSet, UnknownLearner
from metalearn.fast_weights import is_finite
from metalearn.tokens.examples import tagged_example
from metalearn.tokens.words import LabelledSpan, Words
from metalearn.types import Adapter, Example, Objective, SupportSet, TextInput
from model_store.errors import AdapterCorrupt, StaleAdapter
from model_store.records import StoredSupport
from model_store.weight_shapes import ShapesOfLearner

MAGIC = b"HANDFUL\x01"
ExampleSource = Literal["adapt", "examples", "feedback"]
"""The call that brought an example."""

ExampleState = Literal["adapted", "pending", "outweighed"]
"""Whether a version was adapted on an example, or only keeps it."""

_DIGEST_BYTES = 32
_HEADER_LENGTH = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class AdapterKey:
    """Which adapter some bytes are.

    Attributes:
        tenant: Its owner.
        task: Its task.
        version: Its version.
        adapter_id: Unique to the commit.
    """

    tenant: str
    task: str
    version: int
    adapter_id: str


class _Header(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    tenant: str
    task: str
    version: int
    adapter_id: str
    checkpoint: str
    learner: str = "protomaml"
    labels: list[str]
    pairs: bool | None = None
    # Left out where it is the default, so that stored adapters stay the same bytes
    objective: Objective = Field("classification", exclude_if=lambda objective: objective == "classification")
    out_of_scope: bool = Field(False, exclude_if=lambda found: not found)
    decision: Decision | None = Field(None, exclude_if=lambda decision: decision is None)


class ExampleRow(BaseModel):
    """An example as it is stored: a row of its own, in JSON.

    Attributes:
        id: Names the example within its support set.
        label: Its class; None where it is out of scope, empty in tasks of several labels or of scores.
        labels: Its classes in a multi-label task.
        score: Its score in a regression.
        spans: The labelled parts of its text in a token classification.
        words: The characters of each word, where they are not those of ``split_words``.
        text: The text.
        text_pair: The second text of a pair.
        source: The call that brought it.
        state: ``adapted``, or set aside: ``pending`` or ``outweighed``.
        weight: How much it counts.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    id: str
    label: str | None = Field("", exclude_if=lambda label: label == "")
    labels: tuple[str, ...] | None = Field(None, exclude_if=lambda labels: labels is None)
    score: float | None = Field(None, exclude_if=lambda score: score is None)
    spans: tuple[LabelledSpan, ...] | None = Field(None, exclude_if=lambda spans: spans is None)
    words: Words | None = Field(None, exclude_if=lambda words: words is None)
    text: str
    text_pair: str | None = Field(None, exclude_if=lambda text: text is None)
    source: ExampleSource = "adapt"
    # Left out where it is the default, so that stored rows stay the same bytes
    state: ExampleState = Field("adapted", exclude_if=lambda state: state == "adapted")
    weight: float = Field(1.0, ge=0, allow_inf_nan=False, exclude_if=lambda weight: weight == 1)

    @property
    def example(self) -> Example:
        """The example that the learning core adapts on."""
        if self.spans is not None:
            return tagged_example(self.text, self.spans, self.words, id_=self.id, weight=self.weight)
        return Example(TextInput(self.text, self.text_pair), self.label, self.id, self.weight, self.labels, self.score)


class _Rest(BaseModel):
    """The part of a stored support set beside its rows."""

    model_config = ConfigDict(strict=True, extra="forbid")

    descriptions: dict[str, str]
    digest: str
    """A digest of the rows and the descriptions, so that damage is found."""


class _FormerSupport(BaseModel):
    """A support set as releases before 0.3 stored it: in one piece, compressed."""

    model_config = ConfigDict(strict=True, extra="forbid")

    examples: list[tuple[str, str, str, str | None]]
    """Id, label, text, second text."""
    descriptions: dict[str, str]


def encode_adapter(adapter: Adapter, key: AdapterKey) -> bytes:
    """Bytes that decode to the same adapter, for this key alone."""
    fields = _Header(
        **asdict(key),
        checkpoint=adapter.checkpoint,
        learner=adapter.learner,
        labels=list(adapter.labels),
        pairs=adapter.pairs,
        objective=adapter.objective,
        out_of_scope=adapter.out_of_scope,
        decision=adapter.decision,
    )
    return _sealed(fields, safetensors.torch.save({n: _packed(weight) for n, weight in adapter.fast_weights.items()}))


def split_adapter(data: bytes, key: AdapterKey) -> tuple[bytes, bytes]:
    """The header of stored bytes without the key, in JSON, and the weights in safetensors.

    Raises:
        AdapterCorrupt: The bytes are damaged, cut, of another format, or another adapter's.
    """
    header, tensors = _opened(data, key)
    return header.model_dump_json(exclude=set(asdict(key))).encode(), tensors


def joined_adapter(header: bytes, tensors: bytes, key: AdapterKey) -> bytes:
    """The bytes for this key of what ``split_adapter`` has split; ``decode_adapter`` checks the weights.

    Raises:
        AdapterCorrupt: The header is malformed.
    """
    try:
        fields = json.loads(header)
        return _sealed(_Header.model_validate_json(json.dumps({**fields, **asdict(key)})), tensors)
    except (ValueError, TypeError, RecursionError) as error:
        raise AdapterCorrupt(f"the header of the adapter is malformed: {error}") from error


def _sealed(header: _Header, tensors: bytes) -> bytes:
    encoded = header.model_dump_json().encode()
    content = _HEADER_LENGTH.pack(len(encoded)) + encoded + tensors
    return MAGIC + hashlib.sha256(content).digest() + content


def _opened(data: bytes, key: AdapterKey) -> tuple[_Header, bytes]:
    """The header of stored bytes, which has to be that of the key, and the weights in safetensors."""
    content = data[len(MAGIC) + _DIGEST_BYTES :]
    if data[: len(MAGIC)] != MAGIC or len(content) < _HEADER_LENGTH.size:
        raise AdapterCorrupt("not an adapter of this format")
    if hashlib.sha256(content).digest() != data[len(MAGIC) : len(MAGIC) + _DIGEST_BYTES]:
        raise AdapterCorrupt("the checksum does not match: the bytes were damaged")
    (header_length,) = _HEADER_LENGTH.unpack_from(content)
    try:
        header = _Header.model_validate_json(content[_HEADER_LENGTH.size : _HEADER_LENGTH.size + header_length])
    except ValidationError as error:
        raise AdapterCorrupt(f"malformed: {error}") from error
    found = AdapterKey(header.tenant, header.task, header.version, header.adapter_id)
    if found != key:
        raise AdapterCorrupt(f"asked for {key}, found {found}")
    return header, content[_HEADER_LENGTH.size + header_length :]


def decode_adapter(
    data: bytes,
    key: AdapterKey,
    *,
    shapes: Mapping[str, ShapesOfLearner],
    device: torch.device | None = None,
) -> Adapter:
    """The adapter in ``data``.

    Args:
        data: The bytes of a store.
        key: Which adapter was asked for.
        shapes: Fingerprint of each loaded checkpoint -> what the fast weights of its learners look like.
        device: Where the weights go; the CPU by default.

    Raises:
        AdapterCorrupt: The bytes are damaged, cut, of another format, or another adapter's.
        StaleAdapter: Made from a checkpoint that is not loaded.
    """
    header, tensors = _opened(data, key)
    try:
        weights = safetensors.torch.load(tensors)
    except safetensors.SafetensorError as error:
        raise AdapterCorrupt(f"malformed: {error}") from error
    if header.checkpoint not in shapes:
        raise StaleAdapter(header.checkpoint, shapes.keys(), task=key.task, version=key.version)
    labels = tuple(header.labels)
    weights = {name: _widened(weight) if weight.dtype == torch.float16 else weight for name, weight in weights.items()}
    adapter = Adapter(
        weights,
        labels,
        header.checkpoint,
        header.learner,
        header.pairs,
        header.objective,
        header.out_of_scope,
        header.decision,
    )
    _check_weights(adapter, shapes[header.checkpoint])
    if device is None:
        return adapter
    return replace(adapter, fast_weights={name: weight.to(device) for name, weight in weights.items()})


def _widened(weight: Tensor) -> Tensor:
    """In single precision, in numpy's memory: the aligned blocks that torch takes leave holes when many come and go, by
    which a cache of 256 MiB took 650 (see docs/log.md).
    """
    return torch.from_numpy(weight.numpy().astype("float32"))


def _packed(weight: Tensor) -> Tensor:
    """In half precision where that loses nothing; a copy, since safetensors refuses tensors that share memory, as
    weights that were never moved may do.
    """
    weight = weight.detach().cpu()
    half = weight.half()
    return (half if torch.equal(half.float(), weight) else weight).clone(memory_format=torch.contiguous_format)


def _check_weights(adapter: Adapter, shapes: ShapesOfLearner) -> None:
    weights, outputs, learner = adapter.fast_weights, adapter.n_outputs, adapter.learner
    try:
        expected = shapes(learner)
    except UnknownLearner as error:
        raise AdapterCorrupt(str(error)) from error
    found = {name: tuple(weight.shape) for name, weight in weights.items()}
    if not expected.fit(found, outputs):
        raise AdapterCorrupt(f"with {outputs} labels the learner {learner} makes no weights of the shapes {found}")
    if any(weight.dtype != torch.float32 for weight in weights.values()) or not bool(is_finite(weights)):
        raise AdapterCorrupt("the weights are not finite float32 numbers")


def _words_given(example: Example) -> Words | None:
    """The words of an example where its text and its spans do not say them."""
    if example.spans is None:
        return None
    words = example.input.words
    return None if words == tagged_example(example.input.text, example.spans, None).input.words else words


def rows_of(examples: Iterable[Example], source: ExampleSource = "adapt") -> list[ExampleRow]:
    """The rows of examples that a call brought."""
    return [
        ExampleRow(
            id=e.id,
            label=e.label,
            labels=e.labels,
            score=e.score,
            spans=e.spans,
            words=_words_given(e),
            text=e.input.text,
            text_pair=e.input.text_pair,
            source=source,
            weight=e.weight,
        )
        for e in examples
    ]


def encode_rows(rows: Sequence[ExampleRow], descriptions: Mapping[str, str]) -> StoredSupport:
    """The support set with these examples and descriptions, as it is stored."""
    encoded = tuple(row.model_dump_json().encode() for row in rows)
    rest = _Rest(descriptions=dict(descriptions), digest=_digest(encoded, descriptions))
    return StoredSupport(encoded, rest.model_dump_json().encode())


def encode_support(support: SupportSet) -> StoredSupport:
    """A support set as it is stored."""
    return encode_rows(rows_of(support.examples), support.descriptions)


def decode_rows(stored: StoredSupport) -> tuple[list[ExampleRow], Mapping[str, str]]:
    """The examples and the descriptions of a stored support set.

    Raises:
        AdapterCorrupt: The bytes are damaged.
    """
    try:
        if not stored.examples and not stored.rest.startswith(b"{"):
            former = _FormerSupport.model_validate_json(zlib.decompress(stored.rest))
            rows = [ExampleRow(id=i, label=label, text=t, text_pair=p) for i, label, t, p in former.examples]
            return rows, former.descriptions
        rest = _Rest.model_validate_json(stored.rest)
        if rest.digest != _digest(stored.examples, rest.descriptions):
            raise AdapterCorrupt("the stored support set is damaged: its digest does not match")
        return [ExampleRow.model_validate_json(row) for row in stored.examples], rest.descriptions
    except (zlib.error, ValidationError) as error:
        raise AdapterCorrupt(f"the stored support set is damaged: {error}") from error


def decode_support(stored: StoredSupport) -> SupportSet:
    """The support set in stored bytes, of a task with one label a text.

    Raises:
        AdapterCorrupt: The bytes are damaged.
    """
    rows, descriptions = decode_rows(stored)
    try:
        return SupportSet(tuple(row.example for row in rows), descriptions)
    except InvalidSupportSet as error:
        raise AdapterCorrupt(f"the stored support set is damaged: {error}") from error


def _digest(rows: Sequence[bytes], descriptions: Mapping[str, str]) -> str:
    content = hashlib.sha256(json.dumps(sorted(descriptions.items())).encode())
    for row in rows:
        content.update(b"\n" + row)
    return content.hexdigest()
