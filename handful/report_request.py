"""The request of the HTTP API for a report. Its answer is in ``report_answers``."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, FailFast, Field

from handful.wire_query import Query


class ReportRequest(BaseModel):
    """Report on a task, and choose between unlabelled texts."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    version: int | None = Field(None, ge=1, lt=2**63, description="The newest version where it is missing.")
    unlabelled: Annotated[list[Query], FailFast()] = Field([], description="Texts to choose the next to label from.")
    next: int = Field(10, ge=1, le=100, description="How many of these texts to choose.")
