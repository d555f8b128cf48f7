"""The server's part of the package, which is optional. Commands load it late, and report its absence in one line."""

import gc
import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
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


def require(package: str) -> None:
    """Refuses to begin work whose end needs a package that is missing.

    Raises:
        ModuleNotFoundError: It is missing.
    """
    if importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)


def advice_on(error: ModuleNotFoundError) -> str | None:
    """The advice on what to install for a missing module; None for a module of this package, whose absence is a bug."""
    package = (error.name or "").partition(".")[0]
    if not package or package in _OWN_PACKAGES:
        return None
    extra = _extra_of(package)
    if extra == "server":
        return (
            f"this needs the server part of Handful, and the package {package} is missing: pip install "
            "'handful[server]'. Commands with --url use a running server without it."
        )
    return f"this needs the package {package}, which is no part of 'handful[server]': pip install 'handful[{extra}]'"


def _extra_of(package: str) -> str:
    """The extra that installs a package; ``server`` for one that none of them names."""
    try:
        lines = metadata.requires("handful") or []
    except metadata.PackageNotFoundError:
        lines = []
    for line in lines:
        named = re.match(r"[A-Za-z0-9._-]+", line)
        extra = re.search(r"extra == ['\"]([^'\"]+)['\"]", line)
        if named and extra and _canonical(named[0]) == _canonical(package):
            return extra[1]
    return "server"


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
