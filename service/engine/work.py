"""Work that waits for the compute thread, and the way of its results to the event loop."""

import asyncio
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from jaxtyping import Float
from torch import Tensor

from metalearn.encoder.tokenizing import TokenizedText
from metalearn.types import Adapter

Result = TypeVar("Result")


class Work(Generic[Result]):
    """A computation for one request. It is made on the event loop, and resolved or failed from any thread.

    Attributes:
        tokens: Tokens still to be computed.
        charge: Tokens that it takes of the queue's room: all of its tokens, or fewer where they would fill the queue.
        queue_s: Time from admission to the first computation, once that began.
    """

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.charge = tokens
        self.queue_s = 0.0
        self._admitted_at = time.perf_counter()
        self._started = False
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[Result] = self._loop.create_future()

    async def result(self) -> Result:
        """Waits for the result; a cancelled wait cancels the work."""
        return await self._future

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the result any more."""
        return self._future.cancelled()

    def start(self) -> bool:
        """Notes that computation begins; False if it had begun before."""
        if self._started:
            return False
        self._started = True
        self.queue_s = time.perf_counter() - self._admitted_at
        return True

    def resolve(self, value: Result) -> None:
        """Resolves the work with its result."""
        self._settle(lambda: self._future.set_result(value))

    def fail(self, error: BaseException) -> None:
        """Fails the work with an error, which the waiting request answers with."""
        self._settle(lambda: self._future.set_exception(error))

    def _settle(self, settle: Callable[[], None]) -> None:
        def on_loop() -> None:
            if not self._future.done():
                settle()

        try:
            # A future belongs to its loop's thread
            self._loop.call_soon_threadsafe(on_loop)
        except RuntimeError:  # the loop is closed: nobody waits
            return


class SlicedWork(Work[Result]):
    """Work in slices, so that predictions need not wait for all of it.

    Attributes:
        slices: Does one slice per ``next``, yields the slice's number of tokens, and returns the result.
        background: Whether no request waits for it, so that it gives way to all other work.
    """

    def __init__(self, tokens: int, slices: Generator[int, None, Result], *, background: bool = False) -> None:
        super().__init__(tokens)
        self.slices = slices
        self.background = background


@dataclass(frozen=True, slots=True)
class Predictions:
    """Class probabilities of each query.

    Attributes:
        probabilities: One row per query, in the order of the adapter's labels.
        queue_s: Time waited.
        encode_s: Time from the first computation to the last.
        sampled: Features of some queries, on the CPU.
    """

    probabilities: list[Sequence[float]]
    queue_s: float
    encode_s: float
    sampled: Sequence[Float[Tensor, " dim"]] = ()


class PredictWork(Work[list[Sequence[float]]]):
    """Queries of one request for one adapter; results in the order of the queries.

    Attributes:
        tenant: The tenant of the queries.
        adapter: The adapter that answers the queries.
        rows: The queries, shortest first, so that a batch has little padding.
        sampled: Features of some queries, on the CPU.
    """

    def __init__(self, tenant: str, adapter: Adapter, texts: Sequence[TokenizedText], *, sampled: int = 0) -> None:
        super().__init__(sum(len(text.ids) for text in texts))
        self.tenant = tenant
        self.adapter = adapter
        self._texts = texts
        self._order = sorted(range(len(texts)), key=lambda i: len(texts[i].ids))
        self._next = 0
        # Evenly spaced, since a file's neighbours are often alike
        self._wanted = frozenset(range(0, len(texts), -(-len(texts) // sampled))) if sampled and texts else frozenset()
        self.sampled: list[Tensor] = []
        self._probabilities: list[Sequence[float]] = [[] for _ in texts]

    def take(self, tokens: int, max_tokens: int) -> list[int]:
        """Indices of the next texts that still fit a batch of ``tokens`` tokens.

        At least one text is taken, however long.
        """
        taken: list[int] = []
        while self._next < len(self._order):
            index = self._order[self._next]
            tokens += len(self._texts[index].ids)
            if tokens > max_tokens and tokens > len(self._texts[index].ids):
                break
            taken.append(index)
            self._next += 1
        return taken

    def text(self, index: int) -> TokenizedText:
        """A query."""
        return self._texts[index]

    def sample(self, indices: Sequence[int], features: Float[Tensor, "some dim"]) -> None:
        """Keeps the features of those of some queries that are in the sample."""
        rows = [row for row, index in enumerate(indices) if index in self._wanted]
        if rows:
            # In half precision and copied, since a view would keep its whole batch in memory
            self.sampled += list(features[rows].half().cpu())

    def answer(self, index: int, probabilities: Sequence[float]) -> None:
        """Notes the class probabilities of a query."""
        self._probabilities[index] = probabilities

    @property
    def answered(self) -> bool:
        """Whether every query has its answer."""
        return self._next == len(self._order)

    def finish(self) -> None:
        """Resolves with the answers."""
        self.resolve(self._probabilities)
