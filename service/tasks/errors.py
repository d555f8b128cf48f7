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
            f"the support set of version {version} of task {task!r} was not kept: call adapt with the examples, and "
            "without keep_support: false they can be listed, added to, erased and adapted on again"
        )


class ExampleNotFound(UseCaseError):
    """An example that the newest version of a task does not have."""

    def __init__(self, task: str, version: int) -> None:
        super().__init__(f"version {version} of task {task!r}, its newest, has no example with this id")


class ExampleNeeded(UseCaseError):
    """An example without which there is nothing left to adapt on."""

    def __init__(self, task: str, reason: str) -> None:
        super().__init__(
            f"without this example {reason}. Nothing was erased: add other examples to task {task!r} first, or delete "
            "the task"
        )


class KindNotReported(UseCaseError):
    """A task of a kind that has no report."""

    def __init__(self, task: str, kind: str) -> None:
        super().__init__(
            f"task {task!r} is of the kind {kind}, for which there is no report yet: GET /v1/tasks/{task} has the "
            "figures of its leave-one-out"
        )


class NewestVersion(UseCaseError):
    """The newest version, which answers and cannot be removed alone."""

    def __init__(self, task: str, version: int) -> None:
        super().__init__(
            f"version {version} is the newest of task {task!r} and answers: adapt or roll back first, and remove this "
            "version then; or delete the task"
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
