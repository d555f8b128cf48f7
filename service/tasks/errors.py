"""Errors of the use cases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from model_store.removals import Removal


class UseCaseError(Exception):
    """Root of this package's errors."""


class TaskNotFound(UseCaseError):
    """A task that is absent, expired or another tenant's; the error does not reveal which."""

    def __init__(self) -> None:
        super().__init__(
            "there is no such task, or its ttl_seconds is over: `handful tasks list` or GET /v1/tasks lists yours, and "
            "adapt makes one"
        )


class VersionNotFound(UseCaseError):
    """A version that the tenant's task does not have, or has no more."""

    def __init__(self, task: str, version: int, newest: int, removal: Removal | None = None) -> None:
        if removal is None:
            super().__init__(
                f"task {task!r} has no version {version}; its newest is {newest}, and GET /v1/tasks/{task}/versions "
                "lists all"
            )
            return
        moment = datetime.fromtimestamp(removal.at, UTC).isoformat(sep=" ", timespec="seconds")
        why = _REASONS.get(removal.reason, removal.reason)
        super().__init__(
            f"version {version} of task {task!r} was removed at {moment} by {removal.by}, since {why}; its newest is "
            f"{newest}, and GET /v1/tasks/{task}/versions lists all"
        )


_REASONS: Mapping[str, str] = {
    "delete": "its removal was asked for",
    "erase": "an example was erased that it had been adapted on",
    "retention": "no more versions are to be kept, or none that old",
}


class SupportNotKept(UseCaseError):
    """A version whose support set was not stored."""

    def __init__(self, task: str, version: int) -> None:
        super().__init__(
            f"the support set of version {version} of task {task!r} was not kept: call adapt with the examples, and "
            "without keep_support: false they can be listed, added to, erased and adapted on again"
        )


class ReadaptRefused(UseCaseError):
    """A version from another checkpoint that would be worse than the former one, by more than the settings allow.

    Attributes:
        why: The comparison, in a sentence.
    """

    def __init__(self, task: str, why: str) -> None:
        super().__init__(
            f"task {task!r} was not adapted again: {why}. Nothing was changed: readapt without unless_worse takes the "
            "new version nevertheless, and more examples may make it better"
        )
        self.why = why


class ExampleNotFound(UseCaseError):
    """An example that the newest version of a task does not have."""

    def __init__(self, task: str, version: int) -> None:
        super().__init__(
            f"version {version} of task {task!r}, its newest, has no example with this id: "
            f"GET /v1/tasks/{task}/examples lists them"
        )


class ExampleNeeded(UseCaseError):
    """An example without which there is nothing left to adapt on."""

    def __init__(self, task: str, reason: str) -> None:
        super().__init__(
            f"without this example {reason}. Nothing was erased: add other examples to task {task!r} first, or delete "
            "the task"
        )


class CheckpointNotLoaded(UseCaseError):
    """A file of weights whose checkpoint is not loaded; the message has the remedy."""


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


class FileUnreadable(UseCaseError):
    """A file of which no examples could be read; the message names the line, the fault and the remedy."""


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
