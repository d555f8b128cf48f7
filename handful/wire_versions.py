"""The fields of the HTTP API that are about a task's versions: how long they are kept, and who made them."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field


class RetentionFields(BaseModel):
    """The time for which the versions of a task are kept."""

    keep_versions: int | None = Field(
        None,
        ge=0,
        lt=2**31,
        description="Versions of the task that are kept, the newest ones, 0 for all; as the server is set where it is "
        "missing. Each adapt sets it anew.",
        # Left out where it is missing, so that a request that is repeated after an update has the digest that it had
        exclude_if=lambda number: number is None,
    )
    keep_versions_seconds: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="Seconds for which a version is kept after a newer one has replaced it, 0 for ever; as the server "
        "is set where it is missing. Each adapt sets it anew.",
        exclude_if=lambda seconds: seconds is None,
    )


class AuditFields(BaseModel):
    """The caller that asked for a version, and the wishes beyond its options."""

    asked_by: str | None = Field(
        None,
        description="Who made it: the first characters of the API key, the tenant where no key was sent, or `server`, "
        "which adapts again by itself. Null in versions of earlier releases.",
    )
    request_id: str | None = Field(None, description="The `X-Request-Id` of the call that made it.")
    checkpoint_asked: str | None = Field(
        None, description="The checkpoint that was asked for; null for the server's default one."
    )
    keep_versions: int | None = Field(None, description="As the task was asked for; null leaves it to the server.")
    keep_versions_seconds: float | None = Field(
        None, description="As the task was asked for; null leaves it to the server."
    )


class RemovedVersion(BaseModel):
    """A version that is there no longer; nothing of its content is kept."""

    version: int
    removed_at: datetime
    removed_by: str = Field(description="Who removed it, as in `asked_by`.")
    request_id: str | None = Field(description="The `X-Request-Id` of the call that removed it.")
    reason: Literal["erase", "delete", "retention"] = Field(
        description="An erased example, a call that deleted the version, or the number or the time that are kept."
    )
