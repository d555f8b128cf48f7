"""The one thread that owns the device."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from metalearn.types import Adapter
from model_store.learner_models import Models
from service.engine.errors import ComputeStopped, QueueFull
from service.engine.forward import classified
from service.engine.work import PredictWork, SlicedWork, Work
from service.metrics import Metrics

log = logging.getLogger("handful")

_SLICE_BUDGET_S = 0.005
"""Seconds of adapting after which waiting predictions have their turn; a slice is not cut short."""

_LONGEST_PAUSE_S = 0.05
"""Seconds for which a steady stream of predictions may keep adaptations waiting."""

_LONGEST_BACKGROUND_PAUSE_S = 1.0
"""Seconds for which a steady stream of other work may keep work in the background waiting."""


class ComputeThread:
    """Runs predictions in batches that mix tenants, and adaptations slice by slice in between.

    A batch has the queries of one checkpoint: of the one whose request is first in the queue.

    Predictions go first. Adaptations have the remaining time, and a slice now and then where none remains. Work in the
    background has the time that both leave, slice by slice, and takes no room of the queue.
    Predictions are served round robin: a request that does not fit into one batch goes to the end of the queue after
    its turn, so that it delays another by one batch and not by all of its own.
    """

    def __init__(
        self, models_of: Callable[[Adapter], Models], metrics: Metrics, *, max_queue_tokens: int, max_batch_tokens: int
    ) -> None:
        """Starts the thread.

        Args:
            models_of: Finds the models of the checkpoint that made an adapter.
            metrics: The metrics of the app.
            max_queue_tokens: Most tokens that may wait.
            max_batch_tokens: The bound on rows times width of a padded batch.
        """
        self._models_of = models_of
        self._metrics = metrics
        self._max_queue_tokens = max_queue_tokens
        self._max_batch_tokens = max_batch_tokens
        self._predictions: deque[PredictWork] = deque()
        self._sliced: deque[SlicedWork[Any]] = deque()
        self._background: deque[SlicedWork[Any]] = deque()
        self._queued_tokens = 0
        self._stopping = False
        self._sliced_at = self._background_at = time.perf_counter()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="handful-compute", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether work is still computed."""
        return self._thread.is_alive() and not self._stopping

    def submit(self, work: PredictWork | SlicedWork[Any]) -> None:
        """Queues work, or refuses it at once.

        Raises:
            QueueFull: The queue has no room for it. No work counts for more than 50 % of the queue, so that a large
                request can get in, and then leaves room for others.
            ComputeStopped: The thread has ended.
        """
        with self._changed:
            if not self.alive:
                raise ComputeStopped
            queue = self._queue_of(work)
            # No request may be refused because of work in the background
            in_background = queue is self._background
            work.charge = 0 if in_background else min(work.tokens, max(1, self._max_queue_tokens // 2))
            if work.charge and self._queued_tokens and self._queued_tokens + work.charge > self._max_queue_tokens:
                raise QueueFull
            self._count(work.charge)
            queue.append(work)
            self._changed.notify()

    def close(self) -> None:
        """Ends the thread; what is still queued fails."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    while not (self._predictions or self._sliced or self._background or self._stopping):
                        self._changed.wait()
                    if self._stopping:
                        return
                if self._predictions:
                    self._predict_batch()
                if self._sliced and (not self._predictions or _is_past(self._sliced_at + _LONGEST_PAUSE_S)):
                    self._run_slices(self._sliced, _SLICE_BUDGET_S)
                    self._sliced_at = time.perf_counter()
                others = self._predictions or self._sliced
                if self._background and (not others or _is_past(self._background_at + _LONGEST_BACKGROUND_PAUSE_S)):
                    self._run_slices(self._background, 0.0)
                    self._background_at = time.perf_counter()
        except BaseException:
            log.exception("the compute thread died")
        finally:
            with self._changed:
                self._stopping = True
                queues = self._predictions, self._sliced, self._background
                abandoned: list[Work[Any]] = [work for queue in queues for work in queue]
                for queue in queues:
                    queue.clear()
            for work in abandoned:
                self._done(work)
                work.fail(ComputeStopped())

    # ---- predictions -------------------------------------------------------------------------------------------

    def _predict_batch(self) -> None:
        batch = self._take_batch()
        try:
            self._compute(batch)
        except Exception as error:
            if len(batch) == 1:
                self._fail(batch[0][0], error)
            else:
                # The failure of one request must not fail its neighbours, so each is tried alone
                for work, indices in batch:
                    try:
                        self._compute([(work, indices)])
                    except Exception as own_error:
                        self._fail(work, own_error)
        for work, _ in batch:
            if work in self._predictions and work.answered:
                # Its tokens are released before its answer, since the caller may ask again at once
                self._remove(work)
                work.finish()

    def _take_batch(self) -> list[tuple[PredictWork, list[int]]]:
        batch: list[tuple[PredictWork, list[int]]] = []
        tokens = 0
        for work in list(self._predictions):
            if work.cancelled:
                self._remove(work)
                continue
            if batch and work.adapter.checkpoint != batch[0][0].adapter.checkpoint:
                continue
            taken = work.take(tokens, self._max_batch_tokens)
            if not taken:
                break
            if work.start():
                self._metrics.queue_wait.observe(work.queue_s)
            batch.append((work, taken))
            tokens += sum(len(work.text(i).ids) for i in taken)
        with self._changed:
            for work, _ in batch:
                self._predictions.remove(work)
                self._predictions.append(work)
        return batch

    def _compute(self, batch: list[tuple[PredictWork, list[int]]]) -> None:
        if not batch:
            return
        texts = [work.text(i) for work, indices in batch for i in indices]
        adapters = [work.adapter for work, indices in batch for _ in indices]
        models = self._models_of(adapters[0])
        rows, features = classified(models, texts, adapters, self._max_batch_tokens)
        probabilities, row = iter(rows), 0
        for work, indices in batch:
            work.sample(indices, features[row : row + len(indices)])
            row += len(indices)
            for index in indices:
                work.answer(index, next(probabilities))
            self._computed(work, sum(len(work.text(i).ids) for i in indices))
        self._metrics.predict_queries.inc(len(texts))
        self._metrics.batch_queries.observe(len(texts))
        self._metrics.batch_tenants.observe(len({work.tenant for work, _ in batch}))
        fingerprint = models.checkpoint.fingerprint
        self._metrics.checkpoint_queries.labels(fingerprint).inc(len(texts))
        self._metrics.checkpoint_batches.labels(fingerprint).inc()

    # ---- adaptations -------------------------------------------------------------------------------------------

    def _run_slices(self, queue: deque[SlicedWork[Any]], budget_s: float) -> None:
        """Runs slices of the work that is first in a queue: one, and more until the time is up."""
        until = time.perf_counter() + budget_s
        work = queue[0]
        while True:
            if work.cancelled:
                self._remove(work)
                work.slices.close()
                return
            if work.start():
                self._metrics.queue_wait.observe(work.queue_s)
            try:
                self._computed(work, next(work.slices))
            except StopIteration as stop:
                self._remove(work)
                work.resolve(stop.value)
                return
            except Exception as error:
                self._fail(work, error)
                return
            if _is_past(until):
                break
        with self._changed:
            queue.rotate(-1)

    # ---- bookkeeping -------------------------------------------------------------------------------------------

    def _fail(self, work: PredictWork | SlicedWork[Any], error: Exception) -> None:
        self._remove(work)
        work.fail(error)

    def _queue_of(self, work: PredictWork | SlicedWork[Any]) -> "deque[Any]":
        if isinstance(work, PredictWork):
            return self._predictions
        return self._background if work.background else self._sliced

    def _remove(self, work: PredictWork | SlicedWork[Any]) -> None:
        with self._changed:
            self._queue_of(work).remove(work)
            self._done(work)

    def _computed(self, work: Work[Any], tokens: int) -> None:
        """Releases the queue's tokens for a computed part of the work."""
        with self._changed:
            work.tokens -= tokens
            charge = min(work.charge, work.tokens)
            self._count(charge - work.charge)
            work.charge = charge

    def _done(self, work: Work[Any]) -> None:
        self._count(-work.charge)
        work.charge = 0

    def _count(self, tokens: int) -> None:
        self._queued_tokens += tokens
        self._metrics.queue_tokens.set(self._queued_tokens)


def _is_past(moment: float) -> bool:
    return time.perf_counter() > moment
