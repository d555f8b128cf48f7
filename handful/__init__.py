"""Handful: a handful of labelled examples in, a classifier out."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from handful.async_client import AsyncClient
    from handful.client import Client
    from handful.errors import HandfulError

__all__ = ["AsyncClient", "Client", "HandfulError"]

_MODULES = {"AsyncClient": "async_client", "Client": "client", "HandfulError": "errors"}


def __getattr__(name: str) -> Any:
    """Loads a client's name on first use, so that a server that reads ``handful.wire`` needs no httpx."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"handful.{_MODULES[name]}"), name)
