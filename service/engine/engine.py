"""The engine, by which use cases adapt and predict: awaitable, bounded and timed."""

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor

from jaxtyping import Float
from torch import Tensor

from metalearn.encoder.batches import batch_tokens
from metalearn.encoder.tokenizing import TokenizedText
from metalearn.evidence.held_back import HeldBack
from metalearn.kinds import KINDS
from metalearn.options import AdaptOptions
from metalearn.support_plan import plan_support
from metalearn.types import Adapter, SupportSet, TextInput
from model_store.learner_models import LoadedModel, Models
from model_store.loaded_checkpoints import LoadedCheckpoints
from service.engine.adapt_slices import Adaptation, adapt_slices, readable, refuse_empty
from service.engine.compute import ComputeThread
from service.engine.evidence_slices import (
    Evidence,
    KindEvidence,
    evidence_slices,
    feature_slices,
    held_back_slices,
    kind_evidence_slices,
    kind_held_back_slices,
)
from service.engine.feature_cache import FeatureCache
from service.engine.support_batches import SupportBatches
from service.engine.support_size import check_size, check_words
from service.engine.token_evidence import TokenEvidence, token_evidence_slices, token_held_back_slices
from service.engine.token_slices import plan_words, token_adapt_slices
from service.engine.work import Predictions, PredictWork, SlicedWork
from service.metrics import Metrics
from service.settings import Settings

_FEW_TEXTS, _FEW_CHARS = 2, 500
"""Most texts and characters that are tokenized on the event loop: in 0.1 ms, less than a hand-over to a thread."""


class Engine:
    """Owns the compute thread, the tokenizing thread, and the loaded checkpoints.

    Attributes:
        checkpoints: The loaded checkpoints.
    """

    def __init__(self, checkpoints: LoadedCheckpoints, settings: Settings, metrics: Metrics) -> None:
        self.checkpoints = checkpoints
        self._metrics = metrics
        self._settings = settings
        device = checkpoints.device
        max_batch_tokens = settings.max_batch_tokens or batch_tokens(device)
        # A large request takes a while to tokenize, so it is done neither on the event loop nor on the compute thread
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="handful-tokenize")
        cache_bytes = settings.feature_cache_max_bytes // len(checkpoints)
        self._support_batches = {
            models: SupportBatches(
                models.runtime,
                device,
                FeatureCache(metrics, max_bytes=cache_bytes, checkpoint=models.checkpoint.fingerprint),
                max_batch_tokens=max_batch_tokens,
            )
            for models in checkpoints
        }
        self._compute = ComputeThread(
            checkpoints.of,
            metrics,
            max_queue_tokens=settings.max_queue_tokens,
            max_batch_tokens=max_batch_tokens,
        )

    @property
    def alive(self) -> bool:
        """Whether requests can be computed."""
        return self._compute.alive

    def close(self) -> None:
        """Ends both threads."""
        self._tokenizing.shutdown(cancel_futures=True)
        self._compute.close()

    async def adapt(
        self,
        tenant: str,
        models: Models,
        support: SupportSet,
        options: AdaptOptions,
        *,
        background: bool = False,
    ) -> Adaptation:
        """Adapts a checkpoint's model on a tenant's support set.

        Args:
            tenant: The tenant of the support set.
            models: The models of the checkpoint.
            support: The support set.
            options: The options of the adaptation.
            background: Whether no request waits for it, so that it gives way to requests.

        Raises:
            TextEmpty: An example holds nothing to read.
            SupportTooLarge: There are too many texts or tokens for the learner.
            InvalidSupportSet: A class has neither an example nor a usable description.
            UnknownLearner: There is no such learner.
            UnsupportedObjective: The learner does not classify.
            AdaptationDiverged: The inner loop left the finite numbers.
            QueueFull: The queue has no room.
            ComputeStopped: The compute thread has ended.
        """
        loaded = _loaded(models, support, options)
        if support.kind == "tokens":
            return await self._adapt_words(models, loaded, support, options)
        plan = plan_support(support, use_label_text=options.use_label_text)
        plan, texts = readable(plan, support, await self.tokenize(models, plan.inputs))
        check_size(loaded, texts, self._settings)
        work: SlicedWork[Adaptation] = SlicedWork(
            sum(len(text.ids) for text in texts),
            adapt_slices(
                loaded,
                models.checkpoint,
                plan,
                support,
                texts,
                options,
                tenant=tenant,
                batches=self._support_batches[models],
                background=background,
            ),
            background=background,
        )
        return await self._adapted(work, models, support)

    async def _adapt_words(
        self, models: Models, loaded: LoadedModel, support: SupportSet, options: AdaptOptions
    ) -> Adaptation:
        plan = plan_words(support)
        texts = await self.tokenize(models, plan.inputs)
        check_words(texts, self._settings)
        slices = token_adapt_slices(
            loaded,
            models,
            plan,
            support,
            texts,
            options,
            max_batch_tokens=self._support_batches[models].max_batch_tokens,
        )
        return await self._adapted(SlicedWork(sum(len(text.ids) for text in texts), slices), models, support)

    async def _adapted(self, work: SlicedWork[Adaptation], models: Models, support: SupportSet) -> Adaptation:
        self._compute.submit(work)
        adaptation = await work.result()
        self._metrics.adapt_support_examples.observe(len(support.examples))
        self._metrics.adapt_duration.observe(adaptation.encode_s + adaptation.inner_s)
        self._metrics.checkpoint_adaptations.labels(models.checkpoint.fingerprint).inc()
        return dataclasses.replace(adaptation, queue_s=work.queue_s)

    async def forget(self, tenant: str, inputs: Sequence[TextInput]) -> None:
        """Drops the cached features of a tenant's erased texts.

        Raises:
            ComputeStopped: The compute thread has ended.
        """
        for models, batches in self._support_batches.items():
            work: SlicedWork[None] = SlicedWork(0, batches.forget(tenant, await self.tokenize(models, inputs)))
            self._compute.submit(work)
            await work.result()

    async def evidence(
        self,
        tenant: str,
        models: Models,
        support: SupportSet,
        options: AdaptOptions,
        *,
        same_texts: Sequence[int],
        unlabelled: Sequence[TextInput],
    ) -> Evidence:
        """Asks for the examples of a support set by classifiers without them.

        Args:
            tenant: The tenant of the texts.
            models: The models of the checkpoint.
            support: The support set.
            options: The options of the adaptation.
            same_texts: A number of each example's text, the same for copies.
            unlabelled: Texts to be compared with the examples.

        Raises:
            TextEmpty: An unlabelled text holds nothing to read.
            QueueFull: The queue has no room.
            ComputeStopped: The compute thread has ended.
        """
        plan = plan_support(support, use_label_text=options.use_label_text)
        texts = await self.tokenize(models, [*plan.inputs, *unlabelled])
        refuse_empty(texts[len(plan.inputs) :], "unlabelled")
        plan, of_support = readable(plan, support, texts[: len(plan.inputs)])
        all_texts = [*of_support, *texts[len(texts) - len(unlabelled) :]]
        work: SlicedWork[Evidence] = SlicedWork(
            sum(len(text.ids) for text in all_texts),
            evidence_slices(
                models.of(options.learner),
                models.checkpoint,
                plan,
                all_texts,
                same_texts,
                options,
                tenant=tenant,
                batches=self._support_batches[models],
            ),
        )
        self._compute.submit(work)
        return dataclasses.replace(await work.result(), queue_s=work.queue_s)

    async def kind_evidence(
        self, tenant: str, models: Models, support: SupportSet, options: AdaptOptions
    ) -> KindEvidence:
        """Asks for the examples of a support set of another kind than one label by heads without them.

        Raises:
            QueueFull: The queue has no room.
            ComputeStopped: The compute thread has ended.
        """
        plan = plan_support(support, use_label_text=options.use_label_text)
        plan, texts = readable(plan, support, await self.tokenize(models, plan.inputs))
        loaded, batches = _loaded(models, support, options), self._support_batches[models]
        slices = kind_evidence_slices(loaded, plan, texts, support, tenant=tenant, batches=batches)
        work: SlicedWork[KindEvidence] = SlicedWork(sum(len(text.ids) for text in texts), slices)
        self._compute.submit(work)
        return dataclasses.replace(await work.result(), queue_s=work.queue_s)

    async def token_evidence(self, models: Models, support: SupportSet, options: AdaptOptions) -> TokenEvidence:
        """Asks for the tags of a support set's sentences by heads without them; raises as ``kind_evidence`` does."""
        texts = await self.tokenize(models, plan_words(support).inputs)
        loaded, most = _loaded(models, support, options), self._support_batches[models].max_batch_tokens
        slices = token_evidence_slices(loaded, models, support, texts, options, max_batch_tokens=most)
        work: SlicedWork[TokenEvidence] = SlicedWork(sum(len(text.ids) for text in texts), slices)
        self._compute.submit(work)
        return dataclasses.replace(await work.result(), queue_s=work.queue_s)

    async def held_back(
        self,
        tenant: str,
        models: Models,
        support: SupportSet,
        options: AdaptOptions,
        *,
        same_texts: Sequence[int],
        before: Sequence[bool],
        after: Sequence[bool],
    ) -> HeldBack:
        """Asks for the examples that a change leaves as they are, each by classifiers without it.

        Args:
            tenant: The tenant of the texts.
            models: The models of the checkpoint.
            support: The examples of both sides.
            options: The options of the adaptation.
            same_texts: A number of each example's text, the same for copies.
            before: Whether each example is in the support set before the change.
            after: Whether it is after the change.

        Raises:
            TextEmpty: An example holds nothing to read.
            QueueFull: The queue has no room.
            ComputeStopped: The compute thread has ended.
        """
        loaded, batches, sides = _loaded(models, support, options), self._support_batches[models], (before, after)
        words = support.kind == "tokens"
        plan = plan_words(support) if words else plan_support(support, use_label_text=options.use_label_text)
        texts = await self.tokenize(models, plan.inputs)
        if not words:
            plan, texts = readable(plan, support, texts)
        if words:
            most = batches.max_batch_tokens
            slices = token_held_back_slices(loaded, models, support, texts, sides, options, max_batch_tokens=most)
        elif support.kind == "single_label":
            slices = held_back_slices(
                loaded, models.checkpoint, plan, texts, same_texts, sides, options, tenant=tenant, batches=batches
            )
        else:
            slices = kind_held_back_slices(loaded, plan, texts, support, sides, tenant=tenant, batches=batches)
        work: SlicedWork[HeldBack] = SlicedWork(sum(len(text.ids) for text in texts), slices)
        self._compute.submit(work)
        return await work.result()

    async def features(self, tenant: str, models: Models, texts: Sequence[TokenizedText]) -> Float[Tensor, "texts dim"]:
        """Features of texts, on the CPU, of known ones from the cache; raises as ``kind_evidence`` does."""
        slices = feature_slices(self._support_batches[models], tenant, texts)
        work: SlicedWork[Tensor] = SlicedWork(sum(len(text.ids) for text in texts), slices)
        self._compute.submit(work)
        return await work.result()

    async def predict(
        self, tenant: str, adapter: Adapter, queries: Awaitable[list[TokenizedText]], *, sampled: int = 0
    ) -> Predictions:
        """Classifies queries.

        Args:
            tenant: The tenant of the queries.
            adapter: The task's adapter.
            queries: The queries, as ``tokenize`` returned them for the adapter's checkpoint.
            sampled: Most queries whose features are wanted, too; none where they depend on fast weights.

        Raises:
            TextEmpty: A query holds nothing to read.
            QueueFull: The queue has no room.
            ComputeStopped: The compute thread has ended.
        """
        texts = await queries
        refuse_empty(texts, "queries")
        # Before the work's own clock begins, so that the time in the queue is never the longer one
        began = time.perf_counter()
        deep = self.checkpoints.of(adapter).of(adapter.learner).is_deep
        work = PredictWork(tenant, adapter, texts, sampled=0 if deep else sampled)
        self._compute.submit(work)
        probabilities = await work.result()
        computed_s = time.perf_counter() - began - work.queue_s
        return Predictions(probabilities, work.queue_s, computed_s, work.sampled)

    def tokenize(self, models: Models, inputs: Sequence[TextInput]) -> "asyncio.Future[list[TokenizedText]]":
        """Tokenizes texts for a checkpoint, in a thread unless they are few and short; begins at once."""
        loop, encoder = asyncio.get_running_loop(), models.checkpoint.encoder
        if len(inputs) > _FEW_TEXTS or sum(len(each.text) + len(each.text_pair or "") for each in inputs) > _FEW_CHARS:
            return loop.run_in_executor(self._tokenizing, encoder.tokenize, inputs)
        done: asyncio.Future[list[TokenizedText]] = loop.create_future()
        done.set_result(encoder.tokenize(inputs))
        return done


def _loaded(models: Models, support: SupportSet, options: AdaptOptions) -> LoadedModel:
    """The model that adapts on a support set: of the learner that was asked for, or of the kind's."""
    return models.of(KINDS[support.kind].learner if options.learner is None else options.learner)
