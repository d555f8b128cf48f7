"""Words that a shell completes: names of tasks and of checkpoints. Where they cannot be had, there are none."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import typer

from handful import environment
from handful.server import DEFAULT_URL, Server

_TIMEOUT_S = 1.0
"""Longest wait of somebody who presses Tab, in seconds."""
_MOST = 100


def task_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of the tasks of the server that the command line so far names."""
    # The server lists names in order, so that those that begin with a word come right after it
    found = _asked(ctx, "v1/tasks", {"limit": str(_MOST)} | ({"after": incomplete} if incomplete else {}))
    return [each["task"] for each in found.get("tasks", ())]


def checkpoint_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of checkpoints for an adaptation: those that the server has loaded, or with --local the shipped ones."""
    if ctx.params.get("local"):
        return [*shipped_names(), "auto"]
    loaded = [each["name"] for each in _asked(ctx, "v1/checkpoints", {}).get("checkpoints", ())]
    return [*loaded, "auto"] if loaded else []


def shipped_names() -> list[str]:
    """Names of the shipped checkpoints. Nothing of torch is loaded for them."""
    import model_store

    folder = Path(model_store.__file__).parent / "checkpoints"
    return sorted(each.parent.name for each in folder.glob("*/manifest.json"))


def among(choices: Sequence[str]) -> Callable[[], list[str]]:
    """The completion of an option with fixed values."""
    return lambda: list(choices)


def _asked(ctx: typer.Context, path: str, parameters: Mapping[str, str]) -> dict[str, Any]:
    """The answer of the server; empty where there is none. Nothing is printed: the user is typing."""
    if ctx.params.get("local"):
        return {}
    url = ctx.params.get("url") or environment.value_of(environment.URL) or DEFAULT_URL
    key = ctx.params.get("api_key") or environment.value_of(environment.API_KEY)
    with suppress(Exception):
        server = Server.at(url, key, by_network=True)
        with server.http(httpx.Client, timeout_s=_TIMEOUT_S, transport=None) as http:
            answer = http.get(path, params=parameters)
            found: dict[str, Any] = answer.json() if answer.is_success else {}
            return found
    return {}
