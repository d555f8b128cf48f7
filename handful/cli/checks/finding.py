"""A finding of ``handful doctor``."""

from dataclasses import dataclass
from typing import Literal, Self


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: ``ok``; ``warning`` for what is slow, unsafe or about to fail; ``error`` for what fails.
        subject: The thing.
        cause: Its state.
        next_step: What to do; None where nothing is to be done.
    """

    level: Literal["ok", "warning", "error"]
    subject: str
    cause: str
    next_step: str | None = None

    @classmethod
    def ok(cls, subject: str, state: str) -> Self:
        """A thing that is as it should be."""
        return cls("ok", subject, state)

    @classmethod
    def warning(cls, subject: str, cause: str, next_step: str) -> Self:
        """A thing that is slow, unsafe or about to fail."""
        return cls("warning", subject, cause, next_step)

    @classmethod
    def error(cls, subject: str, cause: str, next_step: str) -> Self:
        """A thing that fails."""
        return cls("error", subject, cause, next_step)
