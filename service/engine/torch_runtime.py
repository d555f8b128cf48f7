"""A torch runtime with options that the encoder itself lacks: bfloat16 and CUDA graphs."""

import bisect
import logging
from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.encoder.encoder import Encoder, NormsOfRows, asked_tokens
from metalearn.encoder.pooling import PaddedBatch
from metalearn.encoder.tokenizing import TokenizedText

log = logging.getLogger("handful")

_WIDTHS = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_MOST_TOKENS = 4096
"""Most tokens of a replayed batch. A larger batch keeps a GPU busy for longer than its kernels take to launch."""


class TorchFeatures:
    """A runtime that computes features by torch, in bfloat16 if wanted. Belongs to the compute thread.

    On a GPU, a batch of few tokens takes longer to launch, kernel by kernel, than to compute. So it is padded to one of
    a few shapes. A CUDA graph is recorded for each shape when it first occurs, and replayed from then on.
    """

    def __init__(self, encoder: Encoder, precision: Literal["float32", "bfloat16"], *, graphs: bool = False) -> None:
        """Prepares the runtime, and rounds the weights for bfloat16.

        Args:
            encoder: The encoder.
            precision: The number format of the layers.
            graphs: Whether to record CUDA graphs; the encoder is on a GPU then.
        """
        self.name = "torch" if precision == "float32" else f"torch-{precision}"
        self.norms: Sequence[str] = ()  # features of modulated texts are computed by the encoder itself
        self._encoder = encoder if precision == "float32" else encoder.in_bfloat16()
        self._graphs: dict[tuple[int, int], _RecordedBatch] | None = {} if graphs else None
        self._pool = torch.cuda.graph_pool_handle() if graphs else None

    def __call__(
        self, texts: Sequence[TokenizedText], norms_of_rows: NormsOfRows | None = None
    ) -> Float[Tensor, "texts dim"]:
        """See ``Encoder.encode_batch``."""
        shape = fixed_shape(len(texts), max(len(text.ids) for text in texts))
        if self._graphs is None or shape is None:
            return self._encoder.padded_features(self._encoder.padded(texts))
        try:
            if shape not in self._graphs:
                self._graphs[shape] = _RecordedBatch(self._encoder, *shape, pool=self._pool)
        except RuntimeError as error:  # among them a lack of memory
            log.warning("CUDA graphs are given up: %s", error)
            self._graphs = None
            return self(texts)
        return self._graphs[shape](texts)

    def token_states(self, texts: Sequence[TokenizedText]) -> Float[Tensor, "texts tokens dim"]:
        """See ``Encoder.token_states``."""
        return self._encoder.token_states(texts)


def fixed_shape(rows: int, width: int) -> tuple[int, int] | None:
    """The rows and the width that a batch is padded to; None for a batch that is too large."""
    wider = bisect.bisect_left(_WIDTHS, width)
    if wider == len(_WIDTHS):
        return None
    shape = 1 << (rows - 1).bit_length(), _WIDTHS[wider]
    return shape if shape[0] * shape[1] <= _MOST_TOKENS else None


class FixedBatch:
    """A batch whose memory on the device never changes."""

    def __init__(self, device: torch.device, rows: int, width: int) -> None:
        """Allocates the memory; loads nothing."""
        on_gpu = device.type == "cuda"
        self._host = torch.zeros(4, rows, width, dtype=torch.int32, pin_memory=on_gpu)
        self._device = self._host.to(device)
        self._copied = torch.cuda.Event() if on_gpu else None  # type: ignore[no-untyped-call]
        self.load([])

    def load(self, texts: Sequence[TokenizedText]) -> None:
        """Loads texts; the device copies them asynchronously."""
        if self._copied is not None:
            self._copied.synchronize()  # the copy of the former texts may still be under way
        ids, types, attended, asked = self._host.zero_().numpy()
        attended[:, 0] = asked[:, 0] = 1  # rows without a text stay finite
        for row, text in enumerate(texts):
            length = len(text.ids)
            ids[row, :length], types[row, :length], attended[row, :length] = text.ids, text.type_ids, 1
            asked[row, :length] = asked_tokens(text)
        self._device.copy_(self._host, non_blocking=True)
        if self._copied is not None:
            self._copied.record(torch.cuda.current_stream(self._device.device))

    def features(self, encoder: Encoder) -> Float[Tensor, "texts dim"]:
        """The features of all rows, also of rows without a text."""
        ids, types, attended, asked = self._device
        return encoder.padded_features(PaddedBatch(ids, types, attended.bool(), asked.bool()))


class _RecordedBatch:
    """The CUDA graph of one shape. Not run on a GPU so far."""

    def __init__(self, encoder: Encoder, rows: int, width: int, *, pool: Any) -> None:
        with torch.cuda.device(encoder.device):
            self._batch = FixedBatch(encoder.device, rows, width)
            own, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
            aside.wait_stream(own)
            with torch.cuda.stream(aside):  # work that libraries do only once must not be recorded
                for _ in range(2):
                    self._batch.features(encoder)
            own.wait_stream(aside)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
                self._features = self._batch.features(encoder)

    def __call__(self, texts: Sequence[TokenizedText]) -> Float[Tensor, "texts dim"]:
        self._batch.load(texts)
        self._graph.replay()
        return self._features[: len(texts)].clone()  # the next replay overwrites the output
