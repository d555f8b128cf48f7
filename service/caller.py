"""The caller of a request, for the records of the versions that it makes."""

import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

from model_store.removals import Removal

SERVER = "server"
"""The name in the records of versions that nobody asked for, such as those of a readapt in the background."""


@dataclass(slots=True)
class Caller:
    """The caller, and the id of its request.

    Attributes:
        name: The first characters of the API key, or the tenant where no key came, or ``server``.
        request_id: The request's id; None outside of a request.
    """

    name: str = SERVER
    request_id: str | None = None


_current: ContextVar[Caller] = ContextVar("handful_caller")


def start_caller(request_id: str | None) -> None:
    """Notes that a request begins in this context; who asks is not known yet."""
    _current.set(Caller(request_id=request_id))


def name_caller(name: str) -> None:
    """Notes who asks."""
    current_caller().name = name


def current_caller() -> Caller:
    """The caller of the request that is served in this context; the server itself outside of one."""
    caller = _current.get(None)
    return Caller() if caller is None else caller


def removal_by(caller: Caller, reason: Literal["erase", "delete", "retention"]) -> Removal:
    """The entry that is left of a version that is removed now."""
    return Removal(caller.name, caller.request_id, reason, time.time())
