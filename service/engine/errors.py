"""Errors of the engine."""

from collections.abc import Sequence
from typing import Literal


class EngineError(Exception):
    """Root of this package's errors."""


class QueueFull(EngineError):
    """The compute queue has no room for a request."""


class ComputeStopped(EngineError):
    """The compute thread has ended, or is about to."""


class TextEmpty(EngineError):
    """Texts without any character that the encoder reads, such as control characters alone.

    Attributes:
        field: The list of the request that the texts are from.
        indices: The texts' indices in that list.
    """

    def __init__(self, field: Literal["support", "queries", "unlabelled"], indices: Sequence[int]) -> None:
        super().__init__("the text is empty: no character of it is one that the encoder reads")
        self.field = field
        self.indices = tuple(indices)


class SupportTooLarge(EngineError):
    """A support set beyond what its learner may hold in memory.

    Attributes:
        code: Stable, machine-readable reason.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
