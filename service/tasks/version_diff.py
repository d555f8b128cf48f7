"""The use case diff: what two versions of a task were adapted on."""

from collections import Counter
from collections.abc import Hashable, Sequence

from handful.wire_examples import StoredExample, VersionDiff
from model_store.codec import ExampleRow
from service.tasks.app_parts import Parts
from service.tasks.kept_support import load_kept_support
from service.tasks.token_examples import stored_example


async def diff_versions(parts: Parts, tenant: str, task: str, version: int, other: int) -> VersionDiff:
    """The differences of a version from another one. Examples are the same where text, second text and label are.

    Raises:
        TaskNotFound: The task is absent.
        VersionNotFound: The task does not have one of the versions.
        SupportNotKept: The support set of one of them was not kept.
        AdapterCorrupt: A stored support set is damaged.
        StoreUnavailable: The store does not answer.
    """
    one = await load_kept_support(parts, tenant, task, version)
    two = await load_kept_support(parts, tenant, task, other)
    labels, others = set(one.source.labels), set(two.source.labels)
    return VersionDiff(
        task=task,
        version=version,
        other=other,
        added=_missing(one.rows, two.rows),
        removed=_missing(two.rows, one.rows),
        labels_added=sorted(labels - others),
        labels_removed=sorted(others - labels),
        leave_one_out_accuracy=one.source.leave_one_out_accuracy,
        other_leave_one_out_accuracy=two.source.leave_one_out_accuracy,
    )


def _missing(rows: Sequence[ExampleRow], others: Sequence[ExampleRow]) -> list[StoredExample]:
    """The examples that others do not have, or have less often."""
    left = Counter(_content(row) for row in others if row.state == "adapted")
    missing = []
    for row in rows:
        if row.state != "adapted":
            continue  # kept, and the version was not adapted on it
        if left[_content(row)]:
            left[_content(row)] -= 1
        else:
            missing.append(stored_example(row))
    return missing


def _content(row: ExampleRow) -> tuple[Hashable, str, str | None, float]:
    return row.example.answer, row.text, row.text_pair, row.weight
