"""The addresses that the server listens on."""

import errno
import os
import socket

from service.settings import SettingsInvalid

_ABSENT_FAMILY = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


def bind(host: str, port: int) -> list[socket.socket]:
    """Binds sockets on every address of a host name; they do not listen yet.

    Args:
        host: A name or an address of this machine.
        port: The port; 0 takes a free one, the same on all addresses.

    Raises:
        SettingsInvalid: The host is not this machine's, or the port is not available.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise cannot_listen(host, port, error) from None
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    for family, kind, protocol, _, target in dict.fromkeys(found):
        one = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix":
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            taken = sockets[0].getsockname()[1] if sockets else port
            one.bind((target[0], taken, *target[2:]))
        except OSError as error:
            one.close()
            if error.errno in _ABSENT_FAMILY:  # "localhost" where IPv6 is off
                absent = error
                continue
            for other in sockets:
                other.close()
            raise cannot_listen(host, port, error) from None
        sockets.append(one)
    if not sockets:
        raise cannot_listen(host, port, absent or OSError("it has no address")) from None
    return sockets


def cannot_listen(host: str, port: int, error: OSError) -> SettingsInvalid:
    """The error for an address that the system refuses."""
    where = address(host, port)
    if error.errno == errno.EADDRINUSE:
        return SettingsInvalid(
            f"port {port} is taken: another program listens on {where}; stop it, or take another port with --port "
            "(HANDFUL_PORT), 0 for a free one"
        )
    if error.errno == errno.EACCES:
        return SettingsInvalid(
            f"this user may not listen on port {port}: take one above 1023 with --port (HANDFUL_PORT)"
        )
    if isinstance(error, socket.gaierror) or error.errno in _ABSENT_FAMILY:
        return SettingsInvalid(
            f"{host} is not an address of this machine: take another with --host (HANDFUL_HOST), 127.0.0.1 for this "
            "machine alone, 0.0.0.0 for all of its addresses"
        )
    return SettingsInvalid(f"cannot listen on {where}: {error}; see --host and --port (HANDFUL_HOST, HANDFUL_PORT)")


def address(host: str, port: int) -> str:
    """The host and the port in a URL's form. Source: RFC 3986, section 3.2.2."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
