"""The requests and answers of the HTTP API. The client and the service share them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, FailFast, Field, Tag

from handful import wire_kinds as kinds
from handful.checkpoint_answers import CheckpointChoice
from handful.report_answers import NearExample
from handful.wire_query import Abstain, Query
from handful.wire_versions import AuditFields, RemovedVersion, RetentionFields

TASK_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
TASK_NAME_RULE = (
    "a task's name has letters (a to z, A to Z), digits, '.', '_' and '-', starts with a letter or digit, and is at "
    "most 128 characters long"
)
"""A sentence that explains ``TASK_PATTERN``."""


def body_pointer(*path: str | int) -> str:
    """JSON pointer, as a URI fragment, to a place in the body. Source: RFC 6901, sections 3 and 6."""
    return "#" + "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class LabelledText(_Request):
    """One example of a support set."""

    text: str = Field(description="The text.", examples=["I have not received my card yet"])
    label: str | None = Field(
        description="Its class; null for a text that is out of scope, in none of the task's classes. White space and "
        "invisible characters at its ends do not count.",
        examples=["card_arrival"],
    )
    text_pair: str | None = Field(None, description="Second text, where pairs are classified.")
    id: kinds.ExampleName = None
    weight: kinds.ExampleWeight = 1.0


AnyExample = Annotated[Annotated[LabelledText, Tag("<label>")] | kinds.OtherExample, kinds.BY_SHAPE]


class AdaptOptionFields(BaseModel):
    """The options of an adaptation. Flags, stored versions and the documents' table of options are made from these."""

    steps: int | None = Field(
        None,
        ge=0,
        description="Inner steps; the checkpoint's own number where it is missing. 0 answers from the learner's start. "
        "A learner that only reads its support set takes none.",
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        le=1000,
        allow_inf_nan=False,
        description="Inner learning rate of the head; the checkpoint's own where it is missing. Rates below the head "
        "keep their proportion to it.",
    )
    learner: str | None = Field(
        None,
        description="Learner; the checkpoint's own where it is missing. Another one has a head alone on the "
        "checkpoint's encoder, and nothing of it is meta-trained.",
    )
    use_label_text: bool = Field(
        True,
        description="Use the words of label names and descriptions as a prior. The checkpoint has learned its weight, "
        "which falls as examples are added. Opaque labels (`c17`) have no weight; neither do label texts that classify "
        "the examples (four at least) worse than chance.",
    )
    seed: int = Field(
        0,
        ge=0,
        lt=2**63,
        description="Seed of update rules that draw random numbers, such as the examples that an inner step sees. The "
        "shipped checkpoint's rule draws none.",
    )


class AdaptationFields(AdaptOptionFields, kinds.KindFields, _Request):
    """The fields of both ``adapt`` and ``classify``."""

    support: Annotated[list[AnyExample], FailFast()] = Field(
        default_factory=list,
        description='The labelled examples, `{"text", "label"}` with `"text_pair"` for pairs and `"id"` for a name '
        'of your own; a multi-label task has `"labels"`, a list, a regression `"score"`, and a task that tags words '
        '`"spans"`, or `"tokens"` with `"tags"`. At least one per class, '
        "two classes. A class that `labels` describes needs none; two described ones may do without any.",
    )
    labels: dict[str, str] | None = Field(
        None,
        description="Descriptions of labels: a prior for their classes. A label that stands only here is a class "
        "that starts from its description alone.",
        examples=[{"refund": "asks for money back"}],
    )
    checkpoint: str | None = Field(
        None,
        description="Name or fingerprint of the checkpoint to adapt from, or `auto`, which takes the one of all loaded "
        "checkpoints with the best leave-one-out accuracy; the default checkpoint where it is missing.",
        # Left out where it is missing, so that a request that is repeated after an update has the digest that it had
        exclude_if=lambda checkpoint: checkpoint is None,
    )


class AdaptRequest(RetentionFields, AdaptationFields):
    """Adapt a task on exactly this support set."""

    keep_support: bool = Field(True, description="Keep the texts beside the weights.")
    ttl_seconds: int | None = Field(
        None,
        ge=1,
        le=10 * 366 * 86400,
        description="The task ends after this time, never where it is missing. Each adapt sets it anew.",
    )


class PredictionFields(_Request):
    """The fields of both ``predict`` and ``classify``."""

    queries: Annotated[list[Query], FailFast()] = Field(description="Texts to classify.")
    top_k: int | None = Field(None, ge=1, description="How many labels to score in the answer; all where missing.")
    abstain: Abstain | None = Field(
        None,
        description="true: answer null instead of a label where confidence is under the checkpoint's threshold, or "
        "where out of scope is more probable than each label; a number is a threshold of your own; an object has "
        "thresholds by label, beside the checkpoint's for the other labels; false: always answer a label, also for a "
        "text that cannot be read.",
    )
    only_labels: Annotated[list[str], Field(min_length=1)] | None = Field(
        None,
        description="The labels that may be answered; all where it is missing. Scores are probabilities among them.",
    )
    explain: bool = Field(False, description="Give the examples nearest to each query, of its label and of the rival.")


class PredictRequest(PredictionFields):
    """Classify texts with a stored task."""

    version: int | None = Field(None, ge=1, lt=2**63, description="The newest version where it is missing.")
    ids: bool = Field(False, description="Give each prediction an `id`, by which feedback can name it.")


class ClassifyRequest(AdaptationFields, PredictionFields):
    """Adapt and classify at once, storing nothing."""


class RollbackRequest(_Request):
    """Bring an earlier version back."""

    version: int = Field(ge=1, lt=2**63, description="The version to bring back, under a new number.")


class Prediction(kinds.KindAnswerFields):
    """The answer for one query."""

    label: str | None = Field(description="The most probable class; null where the prediction abstains.")
    confidence: float = Field(description="Probability of the most probable class.")
    scores: dict[str, float] = Field(
        description="Probability of each class, the most probable first. Where the task has out-of-scope examples, "
        "what is missing to 1 is the probability of out of scope."
    )
    abstained: bool = Field(
        description="Whether confidence was under the threshold, the text was out of scope, or it could not be read."
    )
    truncated: bool = Field(False, description="Whether the text was longer than the encoder reads and was cut.")
    unreadable: bool = Field(
        False, description="Whether the encoder knows half of the text's tokens or fewer: its scores mean little."
    )
    id: str | None = Field(None, description="With `ids`, its id for feedback.", exclude_if=lambda each: each is None)
    nearest: list[NearExample] | None = Field(
        None,
        description="With `explain`, the nearest examples of the most probable class, then of the second.",
        exclude_if=lambda nearest: nearest is None,
    )


class SupportWarning(BaseModel):
    """A possible mistake in a support set that was adapted on."""

    code: str = Field(description="Stable, machine-readable reason.", examples=["labels_look_alike"])
    detail: str = Field(description="What was found, and what to do.")
    pointers: list[str] = Field(
        description="JSON pointers to the first places in the request, such as #/support/3/text."
    )

    @classmethod
    def at(cls, places: Sequence[Sequence[str | int]], *, code: str, detail: str) -> Self:
        """A warning about parts of the request, each given by its path."""
        return cls(code=code, detail=detail, pointers=[body_pointer(*place) for place in places])


_LEAVE_ONE_OUT = (
    "Share of the examples that are classified correctly without themselves: an estimate of the accuracy on new texts, "
    "rough where there are few. Examples that are the only one of their class do not count; null where none is left."
)

_CHOICE = "How the checkpoint was chosen; null unless the request says `auto`."


class AdaptResponse(kinds.KindVersionFields):
    """The version that an adaptation made."""

    task: str
    version: int
    labels: list[str]
    n_support: int
    steps: int
    losses: list[float] = Field(description="Support loss before the first step and after each step.")
    support_accuracy: float | None
    leave_one_out_accuracy: float | None = Field(None, description=_LEAVE_ONE_OUT)
    checkpoint: str = Field(description="Fingerprint of the checkpoint that the version was made from.")
    checkpoint_choice: CheckpointChoice | None = Field(None, description=_CHOICE)
    bytes: int = Field(description="Size of the stored adapter.")
    elapsed_ms: float
    truncated: int = Field(description="Number of texts that were longer than the encoder reads and were cut.")
    warnings: list[SupportWarning] = Field(
        default_factory=list, description="What is worth a look in the support set, at most one of each code."
    )


class PredictResponse(BaseModel):
    """Predictions, in the order of the queries."""

    task: str
    version: int
    predictions: list[Prediction]
    truncated: int = Field(description="Number of queries that were longer than the encoder reads and were cut.")


class ClassifyResponse(kinds.KindVersionFields):
    """Predictions of an adapter that is not stored."""

    labels: list[str]
    predictions: list[Prediction]
    losses: list[float]
    support_accuracy: float | None
    leave_one_out_accuracy: float | None = Field(None, description=_LEAVE_ONE_OUT)
    checkpoint: str | None = Field(
        None, description="Fingerprint of the checkpoint that answers; earlier servers leave it out."
    )
    checkpoint_choice: CheckpointChoice | None = Field(None, description=_CHOICE)
    truncated: int
    warnings: list[SupportWarning] = Field(
        default_factory=list, description="What is worth a look in the support set, at most one of each code."
    )


class VersionResponse(AuditFields, kinds.KindVersionFields):
    """One version."""

    task: str
    version: int
    labels: list[str]
    n_support: int
    learner: str
    steps: int
    learning_rate: float | None
    use_label_text: bool
    asked: AdaptOptionFields | None = Field(
        None, description="The options that the version was asked for with; servers before 0.2.0 leave it out."
    )
    checkpoint: str
    support_accuracy: float | None
    leave_one_out_accuracy: float | None = Field(None, description=_LEAVE_ONE_OUT)
    support_kept: bool
    bytes: int
    source: Literal["adapt", "rollback", "readapt", "examples", "erase", "feedback", "import"]
    copied_from: int | None
    created_at: datetime


class TaskResponse(VersionResponse):
    """A task: its newest version, its creation and its end."""

    task_created_at: datetime
    expires_at: datetime | None


class TaskList(BaseModel):
    """A page of tasks, by name."""

    tasks: list[TaskResponse]
    next: str | None = Field(description="Give it as `after` for the next page; null on the last.")


class VersionList(BaseModel):
    """A page of versions, newest first."""

    versions: list[VersionResponse]
    removed: list[RemovedVersion] = Field(
        default_factory=list, description="Versions that were removed, of the numbers of this page, newest first."
    )
    next: int | None = Field(description="Give it as `before` for the next page; null on the last.")


class DeleteResponse(BaseModel):
    """A task that was deleted."""

    task: str
    deleted: Literal[True] = True


class Problem(BaseModel):
    """Every answer that is not a success (RFC 9457)."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: list[dict[str, str]] | None = None
