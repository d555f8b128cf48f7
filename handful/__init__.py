"""Handful: a handful of labelled examples in, a classifier out."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from handful.async_client import AsyncClient
    from handful.client import Client
    from handful.errors import (
        Conflict,
        HandfulError,
        Invalid,
        Misconfigured,
        NotFound,
        RateLimited,
        ServerFailed,
        ServerFull,
        Unauthorized,
        Unavailable,
        UnexpectedAnswer,
        Unreachable,
    )
    from handful.estimator import HandfulClassifier

_MODULES = {
    "AsyncClient": "async_client",
    "Client": "client",
    "Conflict": "errors",
    "HandfulClassifier": "estimator",
    "HandfulError": "errors",
    "Invalid": "errors",
    "Misconfigured": "errors",
    "NotFound": "errors",
    "RateLimited": "errors",
    "ServerFailed": "errors",
    "ServerFull": "errors",
    "Unauthorized": "errors",
    "Unavailable": "errors",
    "UnexpectedAnswer": "errors",
    "Unreachable": "errors",
}

__all__ = [
    "AsyncClient",
    "Client",
    "Conflict",
    "HandfulClassifier",
    "HandfulError",
    "Invalid",
    "Misconfigured",
    "NotFound",
    "RateLimited",
    "ServerFailed",
    "ServerFull",
    "Unauthorized",
    "Unavailable",
    "UnexpectedAnswer",
    "Unreachable",
]


def __getattr__(name: str) -> Any:
    """Loads a name on first use, so that a server that reads ``handful.wire`` needs no httpx, and a client no numpy."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"handful.{_MODULES[name]}")
    except ModuleNotFoundError as error:
        if _MODULES[name] != "estimator" or (error.name or "").partition(".")[0] not in {"numpy", "sklearn"}:
            raise
        raise ImportError(f"{name} needs scikit-learn: pip install 'handful[sklearn]'") from error
    return getattr(module, name)
