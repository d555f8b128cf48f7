"""Checks of the network: the port, and the address that callers use."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx

from handful import environment
from handful.cli.checks.finding import Finding
from handful.cli.checks.machine_checks import in_container
from handful.errors import HandfulError
from handful.network import masked
from handful.server import Server

if TYPE_CHECKING:
    from service.settings import Settings

_TIMEOUT_S = 3.0


def check_port(settings: "Settings") -> Iterator[Finding]:
    """Tries to listen, and asks who else does."""
    from service.listening import address, bind
    from service.settings import SettingsInvalid

    where = address(settings.host, settings.port)
    try:
        for listening in bind(settings.host, settings.port):
            listening.close()
    except SettingsInvalid as error:
        if _is_handful(f"http://{address(_reachable(settings.host), settings.port)}"):
            yield Finding.ok("port", f"a Handful server listens on {where}")
        else:
            cause, _, remedy = str(error).partition("; ")
            cause, remedy = (cause, remedy) if remedy else str(error).split(": ", 1)
            yield Finding.error("port", cause, remedy)
        return
    yield Finding.ok("port", f"{where} is free")
    if settings.is_loopback and in_container():
        yield Finding.warning(
            "port",
            f"the server would listen on {settings.host}, which nothing outside this container reaches",
            "set HANDFUL_HOST=0.0.0.0, and make an API key: `handful keys create TENANT`",
        )


def check_address(settings: "Settings", url: str | None) -> Iterator[Finding]:
    """Asks the server at the address that callers use, through whatever proxy is on the way.

    Args:
        settings: The server's settings.
        url: The address; that of the environment where it is None.
    """
    given = environment.value_of(environment.URL) if url is None else url
    if given is None:
        if settings.root_path:
            yield Finding.ok(
                "address", f"not asked, under {settings.root_path}: --url ADDRESS asks the server behind its proxy"
            )
        return
    try:
        server = Server.at(given, None, by_network=True)
        with server.http(httpx.Client, timeout_s=_TIMEOUT_S, transport=None) as http:
            answer = http.get("livez")
    except HandfulError as error:
        yield Finding.error("address", str(error), "correct --url (HANDFUL_URL)")
        return
    except httpx.TransportError as error:
        # The message ends with what to do where that follows from the failure
        cause, *remedies = re.split("; |: (?=use )", str(server.no_response(error)))
        remedies = remedies or ["start the server, or correct --url (HANDFUL_URL)"]
        yield Finding.error("address", cause, "; ".join(remedies))
        return
    shown, path = masked(server.url), server.url.path.rstrip("/")
    if not _is_livez(answer):
        yield Finding.error(
            "address",
            f"{shown}/livez answers {answer.status_code}, and not as Handful does",
            "correct --url (HANDFUL_URL), or the proxy's rule for that path",
        )
    elif path != settings.root_path:
        yield Finding.warning(
            "address",
            f"callers use the path {path or '/'}, and HANDFUL_ROOT_PATH is {settings.root_path or 'not set'}: links of "
            "the pages / and /docs lead elsewhere",
            f"set HANDFUL_ROOT_PATH={path}" if path else "leave HANDFUL_ROOT_PATH out, or add it to HANDFUL_URL",
        )
    else:
        yield Finding.ok("address", f"{shown} answers")


def _reachable(host: str) -> str:
    """An address of this machine on which a server that listens on all of them answers."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - not to listen on


def _is_handful(url: str) -> bool:
    try:
        with httpx.Client(trust_env=False, timeout=_TIMEOUT_S) as http:
            return _is_livez(http.get(f"{url}/livez"))
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return False


def _is_livez(answer: httpx.Response) -> bool:
    try:
        return "compute" in answer.json()["checks"]
    except (ValueError, KeyError, TypeError):
        return False
