"""The requests and answers of the HTTP API that are about feedback on answers, and about drift."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from handful.wire_tokens import Span

ANSWER_ID_CHARS = 100_000
"""The most characters of an answer's id; it holds the text."""

FeedbackOutcome = Literal["joined", "pending", "confirmed", "known"]
"""The outcome of a correction."""


class FeedbackRequest(BaseModel):
    """Say which answer a text should have had: `label`, or what examples of the task's kind have in its place."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    label: str | None = Field(None, description="The right label, one of the task's.")
    # Left out where they are missing, so that a request that is repeated after an update has the digest that it had
    labels: list[str] | None = Field(
        None,
        description="Of a multi-label task: the right labels in place of `label`; may be empty.",
        exclude_if=lambda labels: labels is None,
    )
    score: float | None = Field(
        None,
        allow_inf_nan=False,
        description="Of a regression, or an ordinal task of numbers: the right score in place of `label`.",
        exclude_if=lambda score: score is None,
    )
    spans: list[Span] | None = Field(
        None,
        description="Of a task that tags words: the right spans of the text in place of `label`; may be empty.",
        exclude_if=lambda spans: spans is None,
    )
    tokens: list[str] | None = Field(
        None,
        description="Of a task that tags words: tokens in place of the text, with their right `tags`.",
        exclude_if=lambda tokens: tokens is None,
    )
    tags: list[str] | None = Field(
        None, description="A tag for each of the `tokens`.", exclude_if=lambda tags: tags is None
    )
    text: str | None = Field(None, description="The text; or give `id`.")
    text_pair: str | None = Field(None, description="Second text, where pairs are classified.")
    id: str | None = Field(
        None, max_length=ANSWER_ID_CHARS, description="The id of a prediction that was asked for with `ids`."
    )
    force: bool = Field(
        False, description="Adapt on the example also where the check fails, or where the task has it already."
    )


class Outweighed(BaseModel):
    """An older example that the task is not adapted on any more. It is kept and listed."""

    id: str
    label: str = Field(description="Its label; its labels or its score, in words, where the task has those.")
    reason: Literal["contradicts", "over_cap"] = Field(
        description="It has the same text under another label, or its label had too many examples of feedback."
    )
    detail: str = Field(description="What happened to it, and how to erase it.")


class HeldBackCheck(BaseModel):
    """The accuracy on the task's other examples, each left out, without and with the correction."""

    asked: int = Field(description="Examples that were left out; 0 where none can be, so that nothing is checked.")
    measure: str = Field(
        "accuracy",
        description="What is compared: the accuracy; of several labels and of tagged words the micro F1; of scores and "
        "ordered classes the share of the mean's absolute error that is avoided.",
    )
    accuracy_without: float
    accuracy_with: float
    tolerance: float = Field(description="By how much it may fall.")
    passed: bool


class FeedbackResponse(BaseModel):
    """The outcome of a correction."""

    task: str
    version: int = Field(description="The newest version, also where the correction made none.")
    outcome: FeedbackOutcome = Field(
        description="`joined`: a new version is adapted on it. `confirmed`: the same, and the task gave this answer "
        "already, or an interval with this score. `pending`: it is kept and not adapted on, since the check failed. "
        "`known`: the task is adapted on this example already, and nothing changed."
    )
    detail: str = Field(description="What happened, and what to do.")
    id: str | None = Field(description="The id of the example; null where none was stored.")
    label: str = Field(description="The right label; labels or a score, in words, where the task has those.")
    answered: str = Field(description="The answer that the task gave before, in the same form.")
    confidence: float = Field(description="The confidence of that answer, as `predict` gives it.")
    outweighed: list[Outweighed] = Field(default_factory=list)
    check: HeldBackCheck | None = Field(None, description="Null where nothing was to be checked, and with `force`.")
    n_support: int = Field(description="Examples that the newest version was adapted on.")
    truncated: bool = Field(description="Whether the text is longer than the encoder reads and was cut.")
    unreadable: bool = Field(description="Whether the encoder knows half of the text's tokens or fewer.")
    elapsed_ms: float


class QueryWindow(BaseModel):
    """Figures of some queries."""

    queries: int
    abstained: float | None = Field(description="Share with a confidence below `threshold`; null where none came.")
    confidence: float | None = Field(description="Mean confidence.")


class Distances(BaseModel):
    """Distances of texts from the nearest example: 1 less the cosine, beside what all examples have in common."""

    texts: int
    median: float | None
    far: float | None = Field(description="Share that lie further than 19 of 20 examples do from the other examples.")


class DriftResponse(BaseModel):
    """Differences of recent queries from the examples, and from earlier queries, as the answering process saw them."""

    task: str
    version: int
    since: datetime | None = Field(
        description="Begin of the counts: the first query after this process began or adapted the task; null before."
    )
    threshold: float = Field(description="The checkpoint's abstention threshold, whatever requests asked for.")
    recent: QueryWindow = Field(description="The last queries.")
    earlier: QueryWindow = Field(description="Those before them, since the begin.")
    of_queries: Distances | None = Field(
        description="A sample of the recent queries; null where the examples were not kept, or weights lie below the "
        "head."
    )
    of_examples: Distances | None = Field(description="The examples, each from the nearest other one.")
    findings: list[str] = Field(description="Sentences on what moved.")
