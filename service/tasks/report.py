"""The use case report: the evidence about a task's classifier, from the support set that is stored with a version."""

import asyncio
import random
import time
from dataclasses import replace

from handful.report_answers import ReportResponse
from handful.report_request import ReportRequest
from metalearn.types import SupportSet
from model_store.errors import StaleAdapter
from model_store.learner_models import Models
from service.tasks.app_parts import Parts
from service.tasks.errors import Fault, InvalidContent
from service.tasks.kept_support import KeptSupport, load_kept_support
from service.tasks.kind_report import ReportedKind, kind_report_of, without_copies
from service.tasks.queries import CheckedQueries, checked_texts
from service.tasks.report_findings import ReportedTask, report_of
from service.tasks.support_warnings import text_key
from service.tasks.token_report import token_report_of
from service.timings import add_to_current

_MOST_EXAMPLES = 2000
"""Examples of a larger support set that a report is computed on, drawn from each class in proportion."""


async def report(parts: Parts, tenant: str, task: str, asked: ReportRequest) -> ReportResponse:
    """Reports on a version of a task; changes nothing.

    Args:
        parts: The app's parts.
        tenant: The owner of the task.
        task: The task's name.
        asked: The version, and unlabelled texts.

    Raises:
        InvalidContent: An unlabelled text is unusable.
        TaskNotFound: The task is absent.
        VersionNotFound: The task does not have the version.
        SupportNotKept: The version's support set was not kept.
        StaleAdapter: The version was made from a checkpoint that is not loaded.
        StoreUnavailable: The store does not answer.
    """
    began = time.perf_counter()
    unlabelled = checked_texts(asked.unlabelled, parts.settings, "unlabelled")
    kept = await load_kept_support(parts, tenant, task, asked.version)
    version = kept.source
    checkpoints = parts.engine.checkpoints
    if version.checkpoint not in checkpoints:
        raise StaleAdapter(version.checkpoint, checkpoints.shapes.keys(), task=task, version=version.version)
    models = checkpoints.named(version.checkpoint)
    given = kept.checked().support
    if version.kind != "single_label":
        response = await _of_kind(parts, kept, models, unlabelled)
        return response.model_copy(update={"elapsed_ms": (time.perf_counter() - began) * 1000})
    # The classes' examples alone are left out in turn and asked for
    whole = given.of_classes
    unlabelled.check_pairs(whole.pairs, "unlabelled")
    unlabelled.refuse_tokens("unlabelled")
    support = _sample(whole, random.Random(version.options.seed))  # noqa: S311 - nothing secret
    keys = [text_key(example.input) for example in support.examples]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    same_texts = [numbers[key] for key in keys]
    evidence = await parts.engine.evidence(
        tenant, models, support, version.options, same_texts=same_texts, unlabelled=unlabelled.inputs
    )
    add_to_current("queue", evidence.queue_s)
    reported = ReportedTask(
        version=version,
        n_examples=len(whole.examples),
        n_out_of_scope=sum(example.label is None for example in given.examples),
        n_without_effect=sum(example.label is not None and not example.weight for example in given.examples),
        support=support,
        same_texts=same_texts,
        unlabelled=unlabelled.inputs,
        next=asked.next,
        threshold=models.checkpoint.manifest.hyperparameters.abstain_threshold,
        max_chars=parts.settings.max_text_chars,
    )
    # In a thread, since comparing thousands of texts would delay other requests
    response = await asyncio.to_thread(report_of, reported, evidence)
    return response.model_copy(update={"elapsed_ms": (time.perf_counter() - began) * 1000})


async def _of_kind(parts: Parts, kept: KeptSupport, models: Models, unlabelled: CheckedQueries) -> ReportResponse:
    version, given = kept.source, kept.checked().support
    if unlabelled.inputs:
        detail = f"no text is chosen to be labelled next for {version.kind} tasks yet: leave it out"
        raise InvalidContent("option_unsupported", [Fault(("unlabelled",), detail)])
    support = without_copies(given, most=_MOST_EXAMPLES, seed=version.options.seed)
    n_examples = sum(example.weight > 0 for example in given.examples)
    reported = ReportedKind(
        version=version,
        n_examples=n_examples,
        n_without_effect=len(given.examples) - n_examples,
        support=support,
        max_chars=parts.settings.max_text_chars,
    )
    if version.kind == "tokens":
        of_words = await parts.engine.token_evidence(models, support, version.options)
        add_to_current("queue", of_words.queue_s)
        return await asyncio.to_thread(token_report_of, reported, of_words)
    evidence = await parts.engine.kind_evidence(version.tenant, models, support, version.options)
    add_to_current("queue", evidence.queue_s)
    return await asyncio.to_thread(kind_report_of, reported, evidence)


def _sample(support: SupportSet, draw: random.Random) -> SupportSet:
    """The support set, or a part of it that has each class in proportion, in the order of the examples."""
    if len(support.examples) <= _MOST_EXAMPLES:
        return support
    share, kept = _MOST_EXAMPLES / len(support.examples), set()
    for kind in range(len(support.labels)):
        rows = [i for i, target in enumerate(support.class_indices) if target == kind]
        kept.update(draw.sample(rows, min(len(rows), max(2, round(share * len(rows))))))
    return replace(support, examples=tuple(support.examples[i] for i in sorted(kept)))
