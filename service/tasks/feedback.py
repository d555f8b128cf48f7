"""The use case feedback: a correction of an answer joins the support set, if the other examples do not suffer."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from handful.wire_feedback import FeedbackOutcome, FeedbackRequest, FeedbackResponse, HeldBackCheck, Outweighed
from metalearn.tokens.words import LabelledSpan
from metalearn.types import Example, TextInput
from model_store.codec import ExampleRow
from model_store.errors import VersionConflict
from service.engine.errors import TextEmpty
from service.tasks.adapt import adapt_and_commit
from service.tasks.app_parts import Parts
from service.tasks.checks import LimitChecker
from service.tasks.commit import remaining_ttl_s
from service.tasks.corrections import Correction, Reason, adapted_example, contradicted, corrected
from service.tasks.errors import Fault, InvalidContent
from service.tasks.feedback_request import checked_answer, checked_text
from service.tasks.idempotency import Committed, IdempotentRequest, former_answer
from service.tasks.kept_support import KeptSupport, load_kept_support
from service.tasks.kind_answers import prediction_of
from service.tasks.queries import CheckedQueries
from service.tasks.report_parts import answer_in_words, entities_in_words
from service.tasks.support_set import CheckedSupport
from service.tasks.support_warnings import text_key
from service.tasks.token_answers import tagged_prediction

_RACES = 5
"""Attempts where another commit comes first; a client tries again after that."""
_RACE_PAUSE_S = 0.05
_MOST_EXAMPLES = 1000
"""Examples of a larger support set that a correction is checked on, beside those that it changes."""
_LEAST_FALL = 0.5
"""Examples that may be lost in the mean, also where that is more than the tolerance: a half is within the chance of a
small support set's folds."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """The task's answer to the text, before the correction, and whether it agrees with that."""

    label: str
    agrees: bool
    confidence: float
    truncated: bool
    unreadable: bool


async def give_feedback(
    parts: Parts, tenant: str, task: str, asked: FeedbackRequest, idempotent: IdempotentRequest | None
) -> Committed:
    """Adapts a task on a correction of its answer, keeps the correction waiting, or changes nothing.

    Args:
        parts: The app's parts.
        tenant: The owner of the task.
        task: The task's name.
        asked: The text, or the id of its answer, and the right label.
        idempotent: Set for a request that may be repeated.

    Raises:
        InvalidContent: The text, the id or the label cannot be used, or the task has no room.
        IdempotencyKeyReused: The key came with another request.
        TaskNotFound: The task is absent.
        SupportNotKept: The newest version's support set was not kept.
        StaleAdapter: The newest version was made from a checkpoint that is not loaded.
        VersionConflict: Other commits came first each time, or a deletion did.
        AdapterCorrupt: The stored version is damaged.
        StoreUnavailable: The store does not answer.
    """
    for attempt in range(_RACES):
        try:
            committed = await _once(parts, tenant, task, asked, idempotent)
        except VersionConflict:
            if attempt == _RACES - 1:
                raise
            # So that those who collided part
            await asyncio.sleep(random.uniform(0, _RACE_PAUSE_S))  # noqa: S311
        else:
            break
    return committed


async def _once(
    parts: Parts, tenant: str, task: str, asked: FeedbackRequest, idempotent: IdempotentRequest | None
) -> Committed:
    began = time.perf_counter()
    former = await former_answer(parts.access, tenant, idempotent)
    if former is not None:
        return former
    text, shortened = checked_text(parts, tenant, task, asked)
    kept = await load_kept_support(parts, tenant, task)
    right = checked_answer(asked, text, kept.source.kind, kept.source.labels, parts.settings)
    label = answer_in_words(right)
    answer = await _answer(parts, kept, right, cut=shortened)
    result = partial(_Result, task=task, label=label, answer=answer, began=began)
    known = adapted_example(kept.rows, right)
    disputed = contradicted(kept.rows, right)
    if known is not None and not disputed and not asked.force:
        parts.metrics.feedback.labels("known").inc()
        detail = _KNOWN + ("." if answer.agrees else _KNOWN_IN_VAIN)
        response = result(outcome="known", detail=detail, example=known.id).response(
            version=kept.source.version, n_support=kept.source.n_support
        )
        return Committed(response.model_dump_json())
    check = LimitChecker(parts.settings)
    check.limit(
        "too_many_examples", len(kept.rows) + 1, "max_support_examples", "examples in all, also set aside", "text"
    )
    check.raise_faults()
    described = kept.descriptions
    correction = corrected(kept.rows, right, described=described, most=parts.settings.feedback_per_label)
    checked = None if asked.force else await _held_back(parts, kept, correction)
    joins = checked is None or checked.passed
    if not joins and correction.waited:
        made = result(outcome="pending", detail=_PENDING, example=correction.row.id, check=checked)
        parts.metrics.feedback.labels("pending").inc()
        unchanged = made.response(version=kept.source.version, n_support=kept.source.n_support)
        return Committed(unchanged.model_dump_json())
    rows = correction.rows if joins else correction.held
    support = kept.support_of(row for row in rows if row.state == "adapted")
    agrees: FeedbackOutcome = "confirmed" if answer.agrees and not disputed else "joined"
    made = result(
        outcome=agrees if joins else "pending",
        detail=_joined(correction) if joins else _PENDING,
        example=correction.row.id,
        outweighed=[_outweighed(task, *each) for each in correction.outweighed] if joins else [],
        check=checked,
    )
    committed = await adapt_and_commit(
        parts,
        tenant,
        task,
        kept.source.options,
        CheckedSupport(support, frozenset(), {each: each for each in kept.descriptions}),
        rows=rows,
        checkpoint=kept.source.checkpoint,
        terms=kept.source.terms,
        began=began,
        ttl_s=remaining_ttl_s(kept.record),
        idempotent=idempotent,
        source="feedback",
        builds_on=kept.source,
        response=made.response,
    )
    if not committed.replayed:
        parts.metrics.feedback.labels(made.outcome).inc()
    return committed


_KNOWN = "The task is adapted on this example already; nothing was changed"
_KNOWN_IN_VAIN = (
    ". It answers otherwise: give further examples like it, look at the report for examples that contradict it, or add "
    'it once more with "force": true.'
)
_PENDING = (
    "With this example the accuracy on the task's other examples would fall by more than the tolerance, so it is kept "
    'and not adapted on. Is the label right? Then send it again with "force": true; else erase it by its id. '
    "GET …/examples?state=pending lists those that wait."
)


def _joined(correction: Correction) -> str:
    set_aside = len(correction.outweighed)
    if not set_aside:
        return "The task is adapted on this example, too."
    return (
        f"The task is adapted on this example, too, and not on {set_aside} older "
        f"{'example' if set_aside == 1 else 'examples'} any more, which the list names. Nothing was erased."
    )


def _outweighed(task: str, row: ExampleRow, reason: Reason) -> Outweighed:
    why = (
        "it has the same text under another label, and the newer label counts"
        if reason == "contradicts"
        else "its label has more examples of feedback than HANDFUL_FEEDBACK_PER_LABEL allows, and it is the oldest"
    )
    erase = f"DELETE /v1/tasks/{task}/examples/{row.id} erases it"
    detail = f"{why}. It is kept: feedback with its label brings it back, {erase}"
    return Outweighed(id=row.id, label=answer_in_words(row.example), reason=reason, detail=detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """The answer to a correction, but for the version."""

    task: str
    label: str
    answer: _Answer
    began: float
    outcome: FeedbackOutcome
    detail: str
    example: str | None
    outweighed: Sequence[Outweighed] = ()
    check: HeldBackCheck | None = None

    def response(self, *, version: int, n_support: int, **_: object) -> FeedbackResponse:
        """The answer; the other fields of an adaptation's answer are left out."""
        return FeedbackResponse(
            task=self.task,
            version=version,
            outcome=self.outcome,
            detail=self.detail,
            id=self.example,
            label=self.label,
            answered=self.answer.label,
            confidence=self.answer.confidence,
            outweighed=list(self.outweighed),
            check=self.check,
            n_support=n_support,
            truncated=self.answer.truncated,
            unreadable=self.answer.unreadable,
            elapsed_ms=(time.perf_counter() - self.began) * 1000,
        )


async def _answer(parts: Parts, kept: KeptSupport, right: Example, *, cut: bool) -> _Answer:
    """The answer of the version that the correction builds on."""
    source, engine, text = kept.source, parts.engine, right.input
    async with parts.adapters.lease(source.tenant, source.task, source.version) as leased:
        adapter = leased.adapter
        _check_kind(text, adapter.pairs)
        tokenized = engine.tokenize(engine.checkpoints.of(adapter), [text])
        try:
            ((*row,),) = (await engine.predict(source.tenant, adapter, tokenized)).probabilities
        except TextEmpty as error:
            raise InvalidContent("empty_text", [Fault(("text",), str(error))]) from None
    (read,) = tokenized.result()
    if source.kind == "tokens":
        tagged = tagged_prediction(adapter, row, None, text, read, shortened=cut)
        spans = tuple(LabelledSpan(span.start, span.end, span.label) for span in tagged.spans or ())
        agrees = spans == right.spans
        label = entities_in_words(text.text, spans)
        return _Answer(label, agrees, tagged.confidence, tagged.truncated, tagged.unreadable)
    cut |= read.truncated
    if source.kind == "single_label":
        best = max(range(len(adapter.labels)), key=row.__getitem__)  # a row may end with that of out of scope
        return _Answer(adapter.labels[best], adapter.labels[best] == right.label, row[best], cut, read.unreadable)
    found = prediction_of(adapter, row, top_k=None, readable=True, truncated=cut, unreadable=read.unreadable)
    answered = replace(
        right,
        label=found.label or "" if right.labels is None else "",
        labels=None if found.labels is None else tuple(sorted(found.labels)),
        score=found.score if source.kind == "regression" else None,
    )
    agrees = (answered.label, answered.answer) == (right.label, right.answer)
    if right.score is not None and found.interval is not None:
        agrees = found.interval[0] <= right.score <= found.interval[1]
    return _Answer(answer_in_words(answered), agrees, found.confidence, cut, read.unreadable)


def _check_kind(text: TextInput, pairs: bool | None) -> None:
    try:
        CheckedQueries([text], frozenset()).check_pairs(pairs)
    except InvalidContent as error:
        raise InvalidContent(error.code, [Fault(("text",), str(error))]) from None


async def _held_back(parts: Parts, kept: KeptSupport, correction: Correction) -> HeldBackCheck:
    """The accuracy on the examples that the correction leaves as they are, without it and with it."""
    before = {row.id for row in kept.rows if row.state == "adapted"}
    after = {row.id for row in correction.rows if row.state == "adapted"}
    changed, both = before ^ after, before & after
    draw = random.Random(kept.source.options.seed)  # noqa: S311 - nothing secret
    rows = [row for row in correction.rows if row.id in changed | both]
    if len(both) > _MOST_EXAMPLES:
        chosen = _sample([row for row in rows if row.id in both], draw) | changed
        rows = [row for row in rows if row.id in chosen]
    keys = [text_key(row.example.input) for row in rows]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    found = await parts.engine.held_back(
        kept.source.tenant,
        parts.engine.checkpoints.named(kept.source.checkpoint),
        kept.support_of(rows),
        kept.source.options,
        same_texts=[numbers[key] for key in keys],
        before=[row.id in before for row in rows],
        after=[row.id in after for row in rows],
    )
    tolerance, asked = parts.settings.feedback_tolerance, found.asked
    return HeldBackCheck(
        asked=asked,
        measure=found.measure,
        accuracy_without=found.right_before / max(asked, 1),
        accuracy_with=found.right_after / max(asked, 1),
        tolerance=tolerance,
        passed=found.right_before - found.right_after <= max(tolerance * asked, _LEAST_FALL),
    )


def _sample(rows: Sequence[ExampleRow], draw: random.Random) -> set[str]:
    """The ids of a part of the rows that has each label in proportion, two rows at least where there are two."""
    chosen: set[str] = set()
    for label in dict.fromkeys(row.label for row in rows):
        ids = [row.id for row in rows if row.label == label]
        chosen.update(draw.sample(ids, min(len(ids), max(2, round(_MOST_EXAMPLES / len(rows) * len(ids))))))
    return chosen
