"""Adapt and predict as a route sees them: awaitable, bounded, timed."""

import asyncio
import dataclasses
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from metalearn.adaptation import (
    SupportPlan,
    adaptation_steps,
    plan_support,
    support_accuracy,
    support_features,
)
from metalearn.encoder import TokenizedText, plan_batches
from metalearn.inner_loop import finished
from metalearn.learners import Learner, make_learner
from metalearn.types import Adapter, SupportSet, TextInput
from model_store.checkpoint import Checkpoint
from service.engine.compute import ComputeThread
from service.engine.work import PredictWork, SlicedWork
from service.metrics import Metrics
from service.settings import Settings

_BATCH_TOKENS_CPU = 512
"""A CPU gains nothing from wider batches, and a short batch keeps others waiting less."""
_BATCH_TOKENS_GPU = 16_384


@dataclass(frozen=True, slots=True)
class AdaptOptions:
    """How to adapt; None leaves a choice to the checkpoint.

    Attributes:
        steps: Inner steps.
        learning_rate: Inner learning rate.
        learner: A learner's registered name.
        use_label_text: Whether label texts are a prior.
    """

    steps: int | None = None
    learning_rate: float | None = None
    learner: str | None = None
    use_label_text: bool = True


@dataclass(frozen=True, slots=True)
class Adaptation:
    """What an adaptation came to.

    Attributes:
        adapter: The task's own weights.
        learner: Name of the learner that made it.
        steps: Inner steps taken.
        losses: Support loss before the first step and after each step.
        support_accuracy: Share of the examples that the adapter classifies correctly.
        truncated: Texts that were cut.
        queue_s: Time waited.
        encode_s: Time spent encoding.
        inner_s: Time spent in the inner loop.
    """

    adapter: Adapter
    learner: str
    steps: int
    losses: list[float]
    support_accuracy: float
    truncated: int
    queue_s: float
    encode_s: float
    inner_s: float


@dataclass(frozen=True, slots=True)
class Predictions:
    """Class probabilities of each query.

    Attributes:
        probabilities: One row per query, in the order of the adapter's labels.
        truncated: Queries that were cut.
        queue_s: Time waited.
        encode_s: Time from the first computation to the last.
    """

    probabilities: list[list[float]]
    truncated: int
    queue_s: float
    encode_s: float


class Engine:
    """Owns the compute thread, the tokenizing thread, and the loaded checkpoint."""

    def __init__(self, checkpoint: Checkpoint, settings: Settings, metrics: Metrics) -> None:
        self.checkpoint = checkpoint
        self._metrics = metrics
        self._max_batch_tokens = settings.max_batch_tokens or (
            _BATCH_TOKENS_CPU if checkpoint.encoder.device.type == "cpu" else _BATCH_TOKENS_GPU
        )
        # Tokenizing a large request takes a while: never on the event loop, nor on the device's thread
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="handful-tokenize")
        self._compute = ComputeThread(
            checkpoint,
            metrics,
            max_queue_tokens=settings.max_queue_tokens,
            max_batch_tokens=self._max_batch_tokens,
        )

    @property
    def alive(self) -> bool:
        """Whether requests can be computed."""
        return self._compute.alive

    def close(self) -> None:
        """Ends both threads."""
        self._tokenizing.shutdown(cancel_futures=True)
        self._compute.close()

    async def adapt(self, support: SupportSet, options: AdaptOptions) -> Adaptation:
        """Adapts on a support set.

        Raises:
            InvalidSupportSet: A class has neither an example nor a usable description.
            UnknownLearner: There is no such learner.
            AdaptationDiverged: The inner loop left the finite numbers.
            ServerBusy: The queue is full.
        """
        checkpoint = self.checkpoint
        learner = checkpoint.learner if options.learner is None else make_learner(options.learner)
        hyperparameters = checkpoint.manifest.hyperparameters
        plan = plan_support(
            support, label_text_weight=hyperparameters.label_text_weight if options.use_label_text else 0.0
        )
        texts = await self._tokenize(plan.inputs)
        work: SlicedWork[Adaptation] = SlicedWork(
            sum(len(text.ids) for text in texts), self._adapt_slices(support, plan, texts, learner, options)
        )
        self._compute.submit(work)
        adaptation = await work.result()
        self._metrics.adapt_support_examples.observe(len(support.examples))
        self._metrics.adapt_duration.observe(adaptation.encode_s + adaptation.inner_s)
        return dataclasses.replace(adaptation, queue_s=work.queue_s)

    async def predict(self, tenant: str, adapter: Adapter, inputs: Sequence[TextInput]) -> Predictions:
        """Classifies queries.

        Raises:
            ServerBusy: The queue is full.
        """
        texts = await self._tokenize(inputs)
        work = PredictWork(tenant, adapter, texts)
        began = time.perf_counter()
        self._compute.submit(work)
        probabilities = await work.result()
        computed_s = time.perf_counter() - began - work.queue_s
        return Predictions(probabilities, sum(text.truncated for text in texts), work.queue_s, computed_s)

    async def _tokenize(self, inputs: Sequence[TextInput]) -> list[TokenizedText]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._tokenizing, self.checkpoint.encoder.tokenize, inputs)

    def _wait_for_device(self) -> None:
        """A GPU is handed work and left to it; without waiting, slices have no bound and timings no sense."""
        if self.checkpoint.encoder.device.type == "cuda":
            torch.cuda.synchronize(self.checkpoint.encoder.device)

    def _adapt_slices(
        self,
        support: SupportSet,
        plan: SupportPlan,
        texts: Sequence[TokenizedText],
        learner: Learner,
        options: AdaptOptions,
    ) -> Generator[int, None, Adaptation]:
        """Encodes batch by batch, then takes step by step; runs on the compute thread."""
        checkpoint = self.checkpoint
        encoder = checkpoint.encoder
        encode_s = inner_s = 0.0
        features = torch.empty(len(texts), encoder.dim, device=encoder.device)
        # The batches depend on this support set alone, so that the same request gives the same bits
        for batch in plan_batches([len(text.ids) for text in texts], self._max_batch_tokens):
            began = time.perf_counter()
            features[batch] = encoder.encode_batch([texts[i] for i in batch])
            self._wait_for_device()
            encode_s += time.perf_counter() - began
            yield sum(len(texts[i].ids) for i in batch)
        encoded = support_features(plan, features)
        steps = checkpoint.manifest.hyperparameters.steps if options.steps is None else options.steps
        states = adaptation_steps(
            learner, checkpoint.slow_weights, encoded, steps=steps, learning_rate=options.learning_rate
        )
        losses = []
        while True:
            began = time.perf_counter()
            state = next(states, None)
            if state is None:
                break
            losses.append(state.loss)
            fast_weights = state.fast_weights
            self._wait_for_device()
            inner_s += time.perf_counter() - began
            yield 0
        result = finished(fast_weights, losses)
        examples = features[: plan.n_examples]
        accuracy = support_accuracy(learner.logits(result.fast_weights, examples), support.targets)
        return Adaptation(
            adapter=Adapter(result.fast_weights, support.labels, checkpoint.fingerprint),
            learner=learner.name,
            steps=steps,
            losses=result.losses.tolist(),
            support_accuracy=accuracy,
            truncated=sum(text.truncated for text in texts[: plan.n_examples]),
            queue_s=0.0,
            encode_s=encode_s,
            inner_s=inner_s,
        )
