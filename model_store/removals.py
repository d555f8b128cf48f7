"""The entry that is left of a version that was removed: nothing of its content."""

import json
from dataclasses import asdict, dataclass
from typing import Literal, Self

MOST_ENTRIES = 1000
"""The entry of a version goes when the version this many numbers after it is removed, so that entries are bounded."""


@dataclass(frozen=True, slots=True)
class Removal:
    """The removal of a version: its caller, its time and its reason.

    Attributes:
        by: The hint of an API key, a tenant, or the server itself.
        request_id: The id of the request that removed it, if any.
        reason: An erased example, a call that deleted the version, or the number or the time that are kept.
        at: Seconds since the epoch.
    """

    by: str
    request_id: str | None
    reason: Literal["erase", "delete", "retention"]
    at: float

    def to_json(self) -> str:
        """The entry as it is stored."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, data: str | bytes) -> Self:
        """The entry in stored bytes. Unknown fields are left out: servers of two releases may share a store."""
        stored = json.loads(data)
        return cls(stored["by"], stored["request_id"], stored["reason"], stored["at"])
