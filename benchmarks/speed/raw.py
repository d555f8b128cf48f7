"""The limit: tokenizing and encoding in a plain loop, nothing else."""

import statistics
import time
from collections.abc import Callable, Sequence
from itertools import islice

from metalearn.encoder.encoder import Encoder, TokenizedText
from metalearn.types import TextInput
from service.engine.runtime import OnnxFeatures

BATCH_SIZES = (1, 8, 16, 32, 64)


class RawLoop:
    """An encoder's features, computed by ONNX Runtime in int8 with its own defaults, or by torch."""

    def __init__(self, encoder: Encoder, runtime: str) -> None:
        """Loads the graph.

        Args:
            encoder: On a CPU; computes with torch.
            runtime: ``onnxruntime`` or ``torch``.
        """
        self._encoder = encoder
        self._forward: Callable[[Sequence[TokenizedText]], object] = (
            OnnxFeatures(encoder, "int8", spins_between=True) if runtime == "onnxruntime" else encoder.encode_batch
        )

    def texts_per_s(self, texts: Sequence[TextInput], batch_size: int, seconds: float) -> float:
        """Texts a second, in the order that they come in, over and over for about ``seconds``."""
        done, place, began = 0, 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            batch = texts[place : place + batch_size]
            place = (place + batch_size) % len(texts)
            self._forward(self._encoder.tokenize(batch))
            done += len(batch)
        return done / (time.perf_counter() - began)

    def best_batch_size(self, texts: Sequence[TextInput], seconds: float) -> int:
        """The batch size with the most texts a second."""
        return max(BATCH_SIZES, key=lambda size: self.texts_per_s(texts, size, seconds))

    def median_s(self, texts: Sequence[TextInput], *, batch_size: int, batches: int) -> float:
        """Median time of a batch."""
        times = []
        starts = islice(range(0, len(texts) - batch_size + 1, batch_size), batches)
        for start in starts:
            began = time.perf_counter()
            self._forward(self._encoder.tokenize(texts[start : start + batch_size]))
            times.append(time.perf_counter() - began)
        return statistics.median(times)

    def whole_s(self, texts: Sequence[TextInput]) -> float:
        """Time of a pass over all of them, at the best of some batch sizes, shortest texts first."""
        by_length = sorted(texts, key=lambda text: len(text.text))
        times = []
        for size in (*BATCH_SIZES[1:], len(texts)):
            began = time.perf_counter()
            for start in range(0, len(texts), size):
                self._forward(self._encoder.tokenize(by_length[start : start + size]))
            times.append(time.perf_counter() - began)
        return min(times)
