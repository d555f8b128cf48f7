"""The requests and answers of the HTTP API that are about a task's examples and single versions."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field

from handful.wire import AdaptResponse, AnyExample, VersionResponse
from handful.wire_tokens import StoredSpan

EXAMPLE_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,79}$"
"""Ids that a caller gives, and those that are made from an example's content."""

ExampleSource = Literal["adapt", "examples", "feedback"]
"""The call that brought an example."""

ExampleState = Literal["adapted", "pending", "outweighed"]
"""Whether a version was adapted on an example, or only keeps it."""


class AddExamplesRequest(BaseModel):
    """Append examples to a task's support set and adapt on all of them."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    examples: Annotated[list[AnyExample], FailFast()] = Field(
        description="The labelled examples, as in `support` of `adapt`. Their labels may be new ones."
    )


class AddExamplesResponse(AdaptResponse):
    """The version that is adapted on the former examples and the new ones."""

    ids: list[str] = Field(description="The ids of the new examples, in their order.")


class EraseResponse(AdaptResponse):
    """The version that is adapted without the erased example."""

    erased: str = Field(description="The id of the erased example.")
    removed_versions: list[int] = Field(
        description="The versions that were adapted on the example's text and are removed."
    )


class StoredExample(BaseModel):
    """One example of a version."""

    id: str = Field(description="Names the example within the task.")
    label: str | None = Field(
        "", description="Its class; null where it is out of scope.", exclude_if=lambda label: label == ""
    )
    labels: list[str] | None = Field(None, exclude_if=lambda labels: labels is None)
    score: float | None = Field(None, exclude_if=lambda score: score is None)
    spans: list[StoredSpan] | None = Field(None, exclude_if=lambda spans: spans is None)
    tokens: list[str] | None = Field(None, exclude_if=lambda tokens: tokens is None)
    tags: list[str] | None = Field(None, exclude_if=lambda tags: tags is None)
    text: str
    text_pair: str | None = None
    source: ExampleSource = Field(description="The call that brought it.")
    state: ExampleState = Field(
        "adapted", description="`pending` and `outweighed` ones are kept, and the version was not adapted on them."
    )
    weight: float = Field(1.0, description="How much it counts, where not 1.", exclude_if=lambda weight: weight == 1)


class ExampleList(BaseModel):
    """A page of the newest version's examples, by id."""

    task: str
    version: int = Field(description="The version that has the examples.")
    total: int = Field(description="Number of examples that match, on all pages.")
    examples: list[StoredExample]
    next: str | None = Field(description="Give it as `after` for the next page; null on the last.")


class VersionDetail(VersionResponse):
    """One version, with the digests of what it was adapted on."""

    support_digests: list[str] | None = Field(
        description="Half of a SHA-256 of each example in its order, then of each description of a label; null in "
        "versions of releases that recorded none."
    )


class VersionDiff(BaseModel):
    """The differences of a version from another one."""

    task: str
    version: int
    other: int = Field(description="The version that it is compared with.")
    added: list[StoredExample] = Field(description="Examples that only the version has.")
    removed: list[StoredExample] = Field(description="Examples that only the other one has.")
    labels_added: list[str]
    labels_removed: list[str]
    leave_one_out_accuracy: float | None = Field(description="Of the version.")
    other_leave_one_out_accuracy: float | None = Field(description="Of the other one.")


class DeleteVersionResponse(BaseModel):
    """A version that was removed."""

    task: str
    version: int
    deleted: Literal[True] = True
