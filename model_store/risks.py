"""Risks to tenants' data in the configuration of a store."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class StoreRisk:
    """A risk, with the way out of it.

    Attributes:
        subject: The part of the configuration.
        cause: What is set, and what may happen by it.
        next_step: What to set.
    """

    subject: Literal["eviction", "persistence", "clock"]
    cause: str
    next_step: str

    def __str__(self) -> str:
        """The risk as a line of a log."""
        return f"{self.cause}; {self.next_step}"
