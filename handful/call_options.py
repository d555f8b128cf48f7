"""The options of the clients' calls by name, for editors and type checkers; ``handful.wire`` describes each field."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

from handful.wire_kinds import TaskKind


class AdaptationOptions(TypedDict, total=False):
    """The options of both ``adapt`` and ``classify``."""

    labels: Mapping[str, str] | None
    kind: TaskKind | None
    order: Sequence[str] | None
    steps: int | None
    learning_rate: float | None
    learner: str | None
    use_label_text: bool
    seed: int
    checkpoint: str | None


class AdaptOptions(AdaptationOptions, total=False):
    """The options of ``adapt``."""

    keep_support: bool
    ttl_seconds: int | None
    keep_versions: int | None
    keep_versions_seconds: float | None


class AnswerOptions(TypedDict, total=False):
    """The options of both ``predict`` and ``classify``."""

    top_k: int | None
    abstain: bool | float | Mapping[str, float] | None
    only_labels: Sequence[str] | None
    explain: bool


class PredictOptions(AnswerOptions, total=False):
    """The options of ``predict``."""

    version: int | None
    ids: bool


class ClassifyOptions(AdaptationOptions, AnswerOptions, total=False):
    """The options of ``classify``."""


class ReadaptOptions(TypedDict, total=False):
    """The options of ``readapt``."""

    version: int | None
    checkpoint: str | None
    unless_worse: bool


class ReportOptions(TypedDict, total=False):
    """The options of ``report``."""

    version: int | None
    next: int


class FileOptions(TypedDict, total=False):
    """The options of ``read_examples``: the columns and the form of a file, where they are not to be guessed."""

    text_column: str | None
    label_column: str | None
    delimiter: str | None
    encoding: str | None
