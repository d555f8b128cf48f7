"""Tensors of the Open Inference Protocol: texts that come in, and strings and probabilities that go out.

A tensor's elements stand in the JSON, or as bytes behind it: of strings the length in four bytes and then the UTF-8, of
FP32 four bytes each, all little-endian and in row-major order.

Source: the REST specification of the protocol's version 2, and Triton's binary tensor data extension.
"""

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

from pydantic import Field

from service.doors.door import Content, DoorRequest
from service.tasks.errors import Fault, InvalidContent

BINARY_SIZE = "binary_data_size"
"""The parameter of a tensor whose elements stand behind the JSON: their bytes."""

_LENGTH = struct.Struct("<I")


class InputTensor(DoorRequest):
    """A tensor of texts."""

    name: str = Field(description="text, or text_pair for the second texts of pairs. A lone tensor may have any name.")
    shape: list[Annotated[int, Field(ge=0, lt=2**63)]] = Field(description="[n] or [n, 1], for n texts.")
    datatype: str = Field(description="BYTES.")
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="binary_data_size: bytes of the texts behind the JSON. Others change nothing."
    )
    data: list[Any] | None = Field(None, description="The texts, flat or nested; missing with binary_data_size.")


@dataclass(frozen=True, slots=True)
class OutputTensor:
    """A tensor of an answer.

    Attributes:
        name: Its name.
        shape: Its shape.
        data: Its elements in row-major order, all strings or all numbers.
    """

    name: str
    shape: tuple[int, ...]
    data: Sequence[str] | Sequence[float]

    @property
    def datatype(self) -> str:
        """BYTES for strings, FP32 for numbers."""
        return "BYTES" if any(isinstance(each, str) for each in self.data) else "FP32"

    def written(self, *, binary: bool) -> tuple[Content, bytes]:
        """The JSON of the tensor, and the bytes behind the JSON; none of a tensor whose elements stand in the JSON."""
        content: Content = {"name": self.name, "shape": list(self.shape), "datatype": self.datatype}
        if not binary:
            return {**content, "data": list(self.data)}, b""
        data = b"".join(_packed(each) for each in self.data)
        return {**content, "parameters": {BINARY_SIZE: len(data)}}, data


def _packed(element: str | float) -> bytes:
    if isinstance(element, str):
        encoded = element.encode()
        return _LENGTH.pack(len(encoded)) + encoded
    return struct.pack("<f", element)


def texts_of(tensors: Sequence[InputTensor], behind: bytes) -> list[list[str]]:
    """The texts of each tensor.

    Args:
        tensors: The tensors.
        behind: The bytes behind the JSON.

    Raises:
        InvalidContent: A tensor does not hold texts, or not as many as its shape says.
    """
    found, at = [], 0
    for i, tensor in enumerate(tensors):
        if tensor.datatype != "BYTES":
            _refuse(f"texts are BYTES here, not {tensor.datatype[:20]}", i, "datatype")
        if len(tensor.shape) not in {1, 2} or tensor.shape[1:] not in ([], [1]):
            _refuse("the shape of n texts is [n] or [n, 1]", i, "shape")
        size = tensor.parameters.get(BINARY_SIZE)
        if size is None:
            texts = list(_strings(tensor.data, i))
        elif tensor.data is not None:
            _refuse(f"give the texts as data, or as bytes behind the JSON with {BINARY_SIZE}, not both", i, "data")
        elif not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(behind) - at:
            detail = f"{BINARY_SIZE} is at most the number of bytes behind the JSON that are left: {len(behind) - at}"
            _refuse(detail, i, "parameters", BINARY_SIZE)
        else:
            texts = list(_unpacked(behind[at : at + size], i))
            at += size
        if len(texts) != math.prod(tensor.shape):
            _refuse(f"the shape is that of {math.prod(tensor.shape)} texts, and there are {len(texts)}", i, "shape")
        found.append(texts)
    if at != len(behind):
        detail = f"{len(behind) - at} bytes behind the JSON belong to no tensor: give each its {BINARY_SIZE}"
        raise InvalidContent("invalid_request", [Fault(("inputs",), detail)])
    return found


def _strings(data: Any, *path: int) -> Iterator[str]:
    """The strings of a flat or nested list."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, list) and len(path) <= 2:
        for i, each in enumerate(data):
            yield from _strings(each, *path, i)
    else:
        detail = "give the texts as a list of strings" if len(path) == 1 else "a text is a string"
        _refuse(detail, path[0], "data", *path[1:])


def _unpacked(data: bytes, tensor: int) -> Iterator[str]:
    """The strings of a binary tensor."""
    at, number = 0, 0
    while at < len(data):
        if len(data) - at < _LENGTH.size:
            _refuse("the tensor's bytes end within the length of a text", tensor)
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if length > len(data) - at:
            _refuse(f"text {number} has {length} bytes by its length, and {len(data) - at} are left", tensor)
        try:
            yield data[at : at + length].decode()
        except UnicodeDecodeError:
            _refuse(f"text {number} is not UTF-8: send UTF-8 only", tensor)
        at, number = at + length, number + 1


def _refuse(detail: str, *path: str | int) -> NoReturn:
    raise InvalidContent("invalid_request", [Fault(("inputs", *path), detail)])
