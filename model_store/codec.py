"""Adapter <-> bytes, and support set <-> bytes. No pickle: loading runs no code.

An encoded adapter is ``MAGIC | SHA-256 of all that follows | header length (4 bytes, big-endian) | header (JSON) |
safetensors``. The header names tenant, task, version and checkpoint, and decoding compares them with what was asked
for: a store or a connection that hands out somebody else's bytes is found out here.
"""

import hashlib
import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from metalearn.errors import InvalidSupportSet, UnknownLearner
from metalearn.fast_weights import is_finite
from metalearn.types import Adapter, Example, FastWeights, Objective, SupportSet, TextInput
from model_store.errors import AdapterCorrupt, StaleAdapter
from model_store.weight_shapes import ShapesOfLearner

MAGIC = b"HANDFUL\x01"
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


class _Support(BaseModel):
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
    )
    header = fields.model_dump_json().encode()
    tensors = safetensors.torch.save({name: _packed(weight) for name, weight in adapter.fast_weights.items()})
    content = _HEADER_LENGTH.pack(len(header)) + header + tensors
    return MAGIC + hashlib.sha256(content).digest() + content


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
    content = data[len(MAGIC) + _DIGEST_BYTES :]
    if data[: len(MAGIC)] != MAGIC or len(content) < _HEADER_LENGTH.size:
        raise AdapterCorrupt("not an adapter of this format")
    if hashlib.sha256(content).digest() != data[len(MAGIC) : len(MAGIC) + _DIGEST_BYTES]:
        raise AdapterCorrupt("the checksum does not match: the bytes were damaged")
    (header_length,) = _HEADER_LENGTH.unpack_from(content)
    try:
        header = _Header.model_validate_json(content[_HEADER_LENGTH.size : _HEADER_LENGTH.size + header_length])
        weights = safetensors.torch.load(content[_HEADER_LENGTH.size + header_length :])
    except (ValidationError, safetensors.SafetensorError) as error:
        raise AdapterCorrupt(f"malformed: {error}") from error
    found = AdapterKey(header.tenant, header.task, header.version, header.adapter_id)
    if found != key:
        raise AdapterCorrupt(f"asked for {key}, found {found}")
    if header.checkpoint not in shapes:
        raise StaleAdapter(header.checkpoint, shapes.keys(), task=key.task, version=key.version)
    labels = tuple(header.labels)
    weights = {name: _widened(weight) if weight.dtype == torch.float16 else weight for name, weight in weights.items()}
    _check_weights(weights, len(labels) or 1, header.learner, shapes[header.checkpoint])
    if device is not None:
        weights = {name: weight.to(device) for name, weight in weights.items()}
    return Adapter(weights, labels, header.checkpoint, header.learner, header.pairs, header.objective)


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


def _check_weights(weights: FastWeights, n_labels: int, learner: str, shapes: ShapesOfLearner) -> None:
    try:
        expected = shapes(learner)
    except UnknownLearner as error:
        raise AdapterCorrupt(str(error)) from error
    found = {name: tuple(weight.shape) for name, weight in weights.items()}
    if not expected.fit(found, n_labels):
        raise AdapterCorrupt(f"with {n_labels} labels the learner {learner} makes no weights of the shapes {found}")
    if any(weight.dtype != torch.float32 for weight in weights.values()) or not bool(is_finite(weights)):
        raise AdapterCorrupt("the weights are not finite float32 numbers")


def encode_support(support: SupportSet) -> bytes:
    """The support set as compressed JSON."""
    fields = _Support(
        examples=[(e.id, e.label, e.input.text, e.input.text_pair) for e in support.examples],
        descriptions=dict(support.descriptions),
    )
    return zlib.compress(fields.model_dump_json().encode())


def support_digests(support: SupportSet) -> tuple[str, ...]:
    """SHA-256 of each example (text, second text, label), then of each description (label, description).

    Half of each digest is kept, 32 hexadecimal digits: a record holds one for every example.
    """
    examples = [(e.input.text, e.input.text_pair, e.label) for e in support.examples]
    contents = [*examples, *sorted(support.descriptions.items())]
    return tuple(hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32] for content in contents)


def decode_support(data: bytes) -> SupportSet:
    """The support set in ``data``.

    Raises:
        AdapterCorrupt: The bytes are damaged.
    """
    try:
        fields = _Support.model_validate_json(zlib.decompress(data))
        return SupportSet(
            tuple(Example(TextInput(text, pair), label, name) for name, label, text, pair in fields.examples),
            fields.descriptions,
        )
    except (zlib.error, ValidationError, InvalidSupportSet) as error:
        raise AdapterCorrupt(f"the stored support set is damaged: {error}") from error
