"""Adapter <-> bytes, and support set <-> bytes. No pickle: loading runs no code.

An encoded adapter is ``MAGIC | SHA-256 of all that follows | header length (4 bytes, big-endian) | header (JSON) |
safetensors``. The header names tenant, task, version and checkpoint, and decoding compares them with what was asked
for: a store or a connection that hands out somebody else's bytes is found out here.
"""

import hashlib
import json
import struct
import zlib
from dataclasses import dataclass

import safetensors.torch
import torch

from metalearn.fast_weights import HEAD_BIAS, HEAD_WEIGHT, is_finite
from metalearn.types import Adapter, Example, SupportSet, TextInput
from model_store.errors import AdapterCorrupt, StaleAdapter

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


def encode_adapter(adapter: Adapter, key: AdapterKey) -> bytes:
    """Bytes that decode to the same adapter, for this key alone."""
    header = json.dumps(
        {
            "tenant": key.tenant,
            "task": key.task,
            "version": key.version,
            "adapter_id": key.adapter_id,
            "checkpoint": adapter.checkpoint,
            "labels": list(adapter.labels),
        },
        separators=(",", ":"),
    ).encode()
    tensors = safetensors.torch.save({name: w.contiguous().cpu() for name, w in adapter.fast_weights.items()})
    content = _HEADER_LENGTH.pack(len(header)) + header + tensors
    return MAGIC + hashlib.sha256(content).digest() + content


def decode_adapter(
    data: bytes, key: AdapterKey, *, checkpoint: str, dim: int, device: torch.device | None = None
) -> Adapter:
    """The adapter in ``data``.

    Args:
        data: What a store returned.
        key: Which adapter was asked for.
        checkpoint: Fingerprint of the loaded checkpoint.
        dim: Width of its features.
        device: Where the weights go; the CPU by default.

    Raises:
        AdapterCorrupt: The bytes are damaged, cut, of another format, or another adapter's.
        StaleAdapter: Made from another checkpoint.
    """
    content = data[len(MAGIC) + _DIGEST_BYTES :]
    if data[: len(MAGIC)] != MAGIC or len(content) < _HEADER_LENGTH.size:
        raise AdapterCorrupt("not an adapter of this format")
    if hashlib.sha256(content).digest() != data[len(MAGIC) : len(MAGIC) + _DIGEST_BYTES]:
        raise AdapterCorrupt("the checksum does not match: the bytes were damaged")
    (header_length,) = _HEADER_LENGTH.unpack_from(content)
    header = json.loads(content[_HEADER_LENGTH.size : _HEADER_LENGTH.size + header_length])
    found = AdapterKey(header["tenant"], header["task"], header["version"], header["adapter_id"])
    if found != key:
        raise AdapterCorrupt(f"asked for {key}, found {found}")
    if header["checkpoint"] != checkpoint:
        raise StaleAdapter(header["checkpoint"], checkpoint)
    weights = safetensors.torch.load(content[_HEADER_LENGTH.size + header_length :])
    labels = tuple(header["labels"])
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    if shapes != {HEAD_WEIGHT: (len(labels), dim), HEAD_BIAS: (len(labels),)}:
        raise AdapterCorrupt(f"{len(labels)} labels and features of width {dim} do not fit the weights {shapes}")
    if any(weight.dtype != torch.float32 for weight in weights.values()) or not bool(is_finite(weights)):
        raise AdapterCorrupt("the weights are not finite float32 numbers")
    if device is not None:
        weights = {name: weight.to(device) for name, weight in weights.items()}
    return Adapter(weights, labels, checkpoint)


def encode_support(support: SupportSet) -> bytes:
    """The support set as compressed JSON."""
    examples = [[e.id, e.label, e.input.text, e.input.text_pair] for e in support.examples]
    return zlib.compress(json.dumps({"examples": examples, "descriptions": dict(support.descriptions)}).encode())


def decode_support(data: bytes) -> SupportSet:
    """The support set in ``data``.

    Raises:
        AdapterCorrupt: The bytes are damaged.
    """
    try:
        fields = json.loads(zlib.decompress(data))
    except (zlib.error, ValueError) as error:
        raise AdapterCorrupt(f"the stored support set is damaged: {error}") from error
    return SupportSet(
        tuple(Example(TextInput(text, pair), label, id_) for id_, label, text, pair in fields["examples"]),
        fields["descriptions"],
    )
