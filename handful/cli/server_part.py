"""The server's part of the package, which is optional. Commands load it late, and report its absence in one line."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.settings import Settings

_OWN_PACKAGES = {"handful", "metalearn", "metatrain", "model_store", "service"}


def load_settings(**options: object) -> "Settings":
    """The server's settings, from the environment and from options that are not None.

    Raises:
        SettingsInvalid: A ``HANDFUL_`` variable is unknown, or a value is not acceptable.
    """
    from service import settings

    return settings.load_settings(**options)


@contextmanager
def loading() -> Iterator[None]:
    """A time in which modules and weights are loaded, without garbage collection.

    They stay for good, and each pass would look through all of them.
    """
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def advice_on(error: ModuleNotFoundError) -> str | None:
    """The advice on what to install for a missing module; None for a module of this package, whose absence is a bug."""
    package = (error.name or "").partition(".")[0]
    if not package or package in _OWN_PACKAGES:
        return None
    return (
        f"this needs the server part of Handful, and the package {package} is missing: pip install 'handful[server]'. "
        "Commands with --url use a running server without it."
    )
