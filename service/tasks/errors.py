"""Errors of the use cases."""

from collections.abc import Sequence
from dataclasses import dataclass


class UseCaseError(Exception):
    """Root of this package's errors."""


class TaskNotFound(UseCaseError):
    """A task that is absent, expired or another tenant's; the error does not reveal which."""

    def __init__(self) -> None:
        super().__init__("there is no such task, or its ttl_seconds is over")


class VersionNotFound(UseCaseError):
    """A version that the tenant's task does not have."""

    def __init__(self, task: str, version: int, newest: int) -> None:
        super().__init__(f"task {task!r} has no version {version}; its newest is {newest}")


class SupportNotKept(UseCaseError):
    """A version whose support set was not stored."""

    def __init__(self, task: str, version: int) -> None:
        super().__init__(
            f"the support set of version {version} of task {task!r} was not kept: call adapt with the examples"
        )


class IdempotencyKeyReused(UseCaseError):
    """An idempotency key that was used with another request before."""

    def __init__(self) -> None:
        super().__init__("the key was used for another request: take a new key for a new request")


@dataclass(frozen=True, slots=True)
class Fault:
    """A part of a request that is wrong.

    Attributes:
        path: The place in the request, such as ``("support", 3, "text")``.
        message: The fault, and the expected value.
    """

    path: tuple[str | int, ...]
    message: str


class InvalidContent(UseCaseError):
    """A well-formed request with content that cannot be processed.

    Attributes:
        code: Stable, machine-readable reason.
        faults: The parts of the request at fault, at least one.
    """

    def __init__(self, code: str, faults: Sequence[Fault]) -> None:
        super().__init__(faults[0].message)
        self.code = code
        self.faults = tuple(faults)
