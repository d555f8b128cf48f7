"""The path prefix under which a proxy shows the server. The settings name it for routing, a header also for links."""

import re

from starlette.types import Scope

_SAFE = re.compile(r"(/[A-Za-z0-9._~-]{1,64}){1,8}")
_HEADER = b"x-forwarded-prefix"


def with_prefix(scope: Scope, root_path: str) -> Scope:
    """The scope of a request with its prefix as ASGI defines it: ``path`` starts with ``root_path``.

    The proxy may have taken the prefix of the settings off the path, or have left it there. The prefix that the header
    ``X-Forwarded-Prefix`` names was taken off; anyone can send that header, so it changes the links on pages and not
    which route answers.

    Args:
        scope: The scope of the connection.
        root_path: The prefix of the settings; empty for none.
    """
    path: str = scope["path"]
    if root_path:
        if path == root_path:
            path = root_path + "/"
        if path.startswith(root_path + "/"):
            return {**scope, "root_path": root_path, "path": path}
        return _moved(scope, root_path)
    for name, value in scope["headers"]:
        if name == _HEADER:
            prefix = value.decode("latin-1").rstrip("/")
            return _moved(scope, prefix) if _SAFE.fullmatch(prefix) and ".." not in prefix else scope
    return scope


def route_path(scope: Scope) -> str:
    """The path of a request without its prefix."""
    path: str = scope["path"]
    return path[len(scope.get("root_path", "")) :]


def link(scope: Scope, name: str) -> str:
    """A link to a page of this server, for the page of a request."""
    root_path: str = scope.get("root_path", "")
    # Relative where no prefix is known, so that it works behind a proxy that takes one off without a header, too
    return f"{root_path}/{name}" if root_path else name or "."


def _moved(scope: Scope, prefix: str) -> Scope:
    raw = scope.get("raw_path")
    moved = {**scope, "root_path": prefix, "path": prefix + scope["path"]}
    if raw is not None:
        moved["raw_path"] = prefix.encode() + raw
    return moved
