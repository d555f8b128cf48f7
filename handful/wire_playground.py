"""The requests and answers of the HTTP API for people who look at a task: files of examples, and a map."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, FailFast, Field

from handful.report_answers import ExampleText
from handful.wire import LabelledText
from handful.wire_query import Query


class ReadExamplesResponse(BaseModel):
    """The labelled examples of a file, and how they were read."""

    found: str = Field(
        description="How the file was read, in a line: its rows, columns, format and encoding.",
        examples=["25 rows; text from 'text', label from 'label'; JSON lines, UTF-8"],
    )
    examples: list[LabelledText] = Field(description="The examples, as `support` of `adapt` takes them.")
    lines: list[int] = Field(description="The line of the file where each example starts, from 1; 0 for none.")
    labels: dict[str, str] = Field(description="Descriptions of labels, where the file has them.")


class MapRequest(BaseModel):
    """Place a task's examples, and queries, on a plane."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    version: int | None = Field(None, ge=1, lt=2**63, description="The newest version where it is missing.")
    queries: Annotated[list[Query], FailFast()] = Field([], description="Texts to place among the examples.")
    examples: bool = Field(True, description="Whether the answer has the examples; their places do not change.")


class Place(BaseModel):
    """A place on the map."""

    x: float = Field(description="Along the direction in which the classes differ most.")
    y: float = Field(description="Along the direction in which they differ most beside it.")


class PlacedExample(ExampleText, Place):
    """An example on the map."""


class MapResponse(BaseModel):
    """A task's examples and the queries of the request on a plane, where similar texts are near each other.

    The plane depends on the version's examples alone: the same query always has the same place.
    """

    task: str
    version: int
    examples: list[PlacedExample] = Field(description="Empty where the request says so.")
    queries: list[Place]
    shown: float = Field(description="Share of the differences between the examples that the plane shows.")
