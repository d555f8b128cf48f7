"""Features by torch other than as the encoder computes them by itself: in bfloat16, and by CUDA graphs."""

import bisect
import logging
from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.encoder.encoder import Encoder, NormsOfRows, second_tokens
from metalearn.encoder.pooling import PaddedBatch
from metalearn.encoder.tokenizing import TokenizedText

log = logging.getLogger("handful")

_WIDTHS = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_MOST_TOKENS = 4096
"""Of a batch that is replayed: a larger one keeps a GPU busy for longer than its kernels take to be launched."""


class TorchFeatures:
    """Features by torch, in bfloat16 where that is wanted. Belongs to the compute thread.

    On a GPU, batches of few tokens take longer to be launched, kernel by kernel, than to be computed. So they are
    padded to one of some shapes, for each of which a CUDA graph is recorded when it first comes, and replayed at once.
    """

    def __init__(self, encoder: Encoder, precision: Literal["float32", "bfloat16"], *, graphs: bool = False) -> None:
        """Rounds the weights, where they are to be.

        Args:
            encoder: What it computes.
            precision: What the layers compute in.
            graphs: Whether to record CUDA graphs; the encoder is on a GPU then.
        """
        self.name = "torch" if precision == "float32" else f"torch-{precision}"
        self.norms: Sequence[str] = ()  # of modulated texts the encoder itself computes features
        self._encoder = encoder if precision == "float32" else encoder.in_bfloat16()
        self._graphs: dict[tuple[int, int, bool], _RecordedBatch] | None = {} if graphs else None
        self._pool = torch.cuda.graph_pool_handle() if graphs else None

    def __call__(
        self, texts: Sequence[TokenizedText], norms_of_rows: NormsOfRows | None = None
    ) -> Float[Tensor, "texts dim"]:
        """See ``Encoder.encode_batch``."""
        shape = fixed_shape(len(texts), max(len(text.ids) for text in texts))
        if self._graphs is None or shape is None:
            return self._encoder.padded_features(self._encoder.padded(texts))
        kind = (*shape, any(text.second_from is not None for text in texts))
        try:
            if kind not in self._graphs:
                self._graphs[kind] = _RecordedBatch(self._encoder, *kind, pool=self._pool)
        except RuntimeError as error:  # among them that memory is short
            log.warning("CUDA graphs are given up: %s", error)
            self._graphs = None
            return self(texts)
        return self._graphs[kind](texts)

    def token_states(self, texts: Sequence[TokenizedText]) -> Float[Tensor, "texts tokens dim"]:
        """See ``Encoder.token_states``."""
        return self._encoder.token_states(texts)


def fixed_shape(rows: int, width: int) -> tuple[int, int] | None:
    """Rows and width that a batch is padded to; None where it is too large for that."""
    wider = bisect.bisect_left(_WIDTHS, width)
    if wider == len(_WIDTHS):
        return None
    shape = 1 << (rows - 1).bit_length(), _WIDTHS[wider]
    return shape if shape[0] * shape[1] <= _MOST_TOKENS else None


class FixedBatch:
    """A batch whose place on the device never changes."""

    def __init__(self, device: torch.device, rows: int, width: int, has_pairs: bool) -> None:
        """Takes the place, for texts of which some are pairs or none is; loads nothing."""
        on_gpu = device.type == "cuda"
        self._has_pairs = has_pairs
        self._host = torch.zeros(4, rows, width, dtype=torch.int32, pin_memory=on_gpu)
        self._device = self._host.to(device)
        self._copied = torch.cuda.Event() if on_gpu else None  # type: ignore[no-untyped-call]
        self.load([])

    def load(self, texts: Sequence[TokenizedText]) -> None:
        """Puts texts in place; the device copies them when it comes to it."""
        if self._copied is not None:
            self._copied.synchronize()  # the texts before may still be on their way
        ids, types, second, attended = self._host.zero_().numpy()
        attended[:, 0] = 1  # rows without a text stay finite
        for row, text in enumerate(texts):
            length = len(text.ids)
            ids[row, :length], types[row, :length], attended[row, :length] = text.ids, text.type_ids, 1
            second[row, :length] = second_tokens(text)
        self._device.copy_(self._host, non_blocking=True)
        if self._copied is not None:
            self._copied.record(torch.cuda.current_stream(self._device.device))

    def features(self, encoder: Encoder) -> Float[Tensor, "texts dim"]:
        """Of all rows, those without a text among them."""
        ids, types, second, attended = self._device
        return encoder.padded_features(PaddedBatch(ids, types, second.bool(), attended.bool(), self._has_pairs))


class _RecordedBatch:
    """One shape's CUDA graph. Not run on a GPU so far."""

    def __init__(self, encoder: Encoder, rows: int, width: int, has_pairs: bool, *, pool: Any) -> None:
        with torch.cuda.device(encoder.device):
            self._batch = FixedBatch(encoder.device, rows, width, has_pairs)
            own, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
            aside.wait_stream(own)
            with torch.cuda.stream(aside):  # what libraries do but once must not be recorded
                for _ in range(2):
                    self._batch.features(encoder)
            own.wait_stream(aside)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
                self._features = self._batch.features(encoder)

    def __call__(self, texts: Sequence[TokenizedText]) -> Float[Tensor, "texts dim"]:
        self._batch.load(texts)
        self._graph.replay()
        return self._features[: len(texts)].clone()  # the next replay writes to the same place
