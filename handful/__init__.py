"""Handful: a handful of labelled examples in, a classifier out."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from handful.client import Client, HandfulError

__all__ = ["Client", "HandfulError"]


def __getattr__(name: str) -> Any:
    """The client's names, loaded when first used: a server that reads ``handful.wire`` does without httpx."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from handful import client

    return getattr(client, name)
