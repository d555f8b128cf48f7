"""The server's addresses, and its messages where it cannot listen."""

import socket

import pytest

from service.listening import address, bind
from service.settings import SettingsInvalid


def test_an_address_of_ipv6_has_brackets() -> None:
    assert address("::1", 8000) == "[::1]:8000"
    assert address("127.0.0.1", 8000) == "127.0.0.1:8000"


def test_a_free_port_is_bound_and_does_not_listen_yet() -> None:
    (one,) = bind("127.0.0.1", 0)
    with one, pytest.raises(ConnectionRefusedError):
        socket.create_connection(one.getsockname(), timeout=5)


def test_a_name_is_bound_on_all_of_its_addresses_with_one_port() -> None:
    sockets = bind("localhost", 0)
    try:
        assert len({one.getsockname()[1] for one in sockets}) == 1
        assert {one.getsockname()[0] for one in sockets} <= {"127.0.0.1", "::1"}
    finally:
        for one in sockets:
            one.close()


def test_a_taken_port_is_named_with_its_flag() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsInvalid, match=rf"port {port} is taken.*--port \(HANDFUL_PORT\)"):
            bind("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8::7", "no-such-host.invalid", "not a host"])
def test_a_host_that_is_not_ours_is_named_with_its_flag(host: str) -> None:
    with pytest.raises(SettingsInvalid, match=rf"{host} is not an address of this machine.*--host \(HANDFUL_HOST\)"):
        bind(host, 0)
