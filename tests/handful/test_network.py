"""The client's way to a server: addresses, proxies, certificates, and messages when no answer comes."""

import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest

from handful.client import Client
from handful.errors import HandfulError
from handful.network import AddressInvalid, is_this_machine, masked, proxy_of, server_address

PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
LIST = b'{"tasks": [], "next": null}'


class Tasks(BaseHTTPRequestHandler):
    """Answers as a server without tasks does."""

    def do_GET(self) -> None:
        """Answers every path."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(LIST)))
        self.end_headers()
        self.wfile.write(LIST)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Logs nothing."""


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes the caller's network settings and the pauses between attempts."""
    for name in (*PROXY_VARIABLES, "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr("handful.connection.time.sleep", lambda seconds: None)


def served(server: HTTPServer) -> Iterator[int]:
    """Runs a server in a thread; gives its port."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def plain_port() -> Iterator[int]:
    """A port that speaks plain HTTP."""
    yield from served(HTTPServer(("127.0.0.1", 0), Tasks))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for localhost, and its key in one file."""
    folder = tmp_path_factory.mktemp("certificate")
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    made = subprocess.run(
        ["openssl", *words.split(), "-keyout", folder / "key.pem", "-out", folder / "certificate.pem"],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("openssl makes no certificate here")
    return folder / "certificate.pem"


@pytest.fixture(scope="module")
def tls_port(certificate: Path) -> Iterator[int]:
    """A port that speaks HTTPS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    server = HTTPServer(("127.0.0.1", 0), Tasks)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    yield from served(server)


def fault(address: str) -> str:
    """The error of a client of this address."""
    with pytest.raises(HandfulError) as caught, Client(address, timeout_s=20) as client:
        list(client.tasks())
    assert caught.value.status == 0
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        (" http://[::1]:8000/ ", "http://[::1]:8000/"),
        ("localhost:8000", "http://localhost:8000"),
        ("127.0.0.1", "http://127.0.0.1"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("https://example.org/handful/v1", "https://example.org/handful/"),
        ("HTTP://EXAMPLE.org", "http://example.org"),
        ("http://my_service:8000", "http://my_service:8000"),
    ],
)
def test_addresses_are_understood(given: str, understood: str) -> None:
    assert str(server_address(given)) == understood


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("", "is empty"),
        ("example.org:8000", "does not start with http:// or https://"),
        ("ftp://example.org", "does not start with http:// or https://"),
        ("http:/127.0.0.1", "does not start with http:// or https://"),
        ("http://::1:8000", "without brackets: use http://[::1]:8000"),
        ("https://fe80::1", "without brackets: use https://[fe80::1]"),
        ("http://", "has no host"),
        ("http://:8000", "has no host"),
        ("http://127.0.0.1:99999", "ports are 1 to 65535"),
        ("http://127.0.0.1:0", "ports are 1 to 65535"),
        ("http://127.0.0.1:http", "Invalid port"),
        ("http://[bad", "where the name of a host belongs"),
        ("http://two words", "where the name of a host belongs"),
        ("http://a..b", "where the name of a host belongs"),
        ("http://" + "a" * 64, "where the name of a host belongs"),
        ("http://\udcff", "not valid"),
        ("http://a\nb", "not valid"),
        ("http://example.org/?tenant=1", "query or a fragment"),
        ("http://127.0.0.1:" + "9" * 5000, "not valid"),
    ],
)
def test_addresses_that_no_server_has_are_refused_in_words(given: str, reason: str) -> None:
    with pytest.raises(AddressInvalid) as caught:
        server_address(given)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 700


def test_secrets_of_an_address_are_not_repeated() -> None:
    assert masked("http://user:secret@example.org/") == "http://***@example.org"
    assert masked("user:secret@example.org") == "***@example.org"
    with pytest.raises(HandfulError) as caught:
        Client("ftp://user:secret@example.org")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("a.localhost", True),
        ("127.0.0.1", True),
        ("127.1", True),
        ("127.255.0.9", True),
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", True),  # noqa: S104 - a name, not an address to listen on
        ("128.0.0.1", False),
        ("127.example.org", False),
        ("localhost.example.org", False),
        ("10.0.0.1", False),
        ("::2", False),
    ],
)
def test_loopback_is_known(host: str, here: bool) -> None:
    assert is_this_machine(host) is here


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTP_PROXY", "http://127.0.0.1:9"),
        ("http_proxy", "http://127.0.0.1:9"),
        ("ALL_PROXY", "socks5://127.0.0.1:9"),
        ("HTTPS_PROXY", "no proxy at all"),
        ("SSL_CERT_FILE", "/no/such.pem"),
    ],
)
def test_this_machine_is_reached_past_proxies(
    monkeypatch: pytest.MonkeyPatch, plain_port: int, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    for host in ("127.0.0.1", "localhost"):
        with Client(f"http://{host}:{plain_port}") as client:
            assert list(client.tasks()) == []


def test_other_servers_are_reached_through_the_proxy(monkeypatch: pytest.MonkeyPatch, plain_port: int) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{plain_port}")
    with Client("http://handful.invalid") as client:
        assert list(client.tasks()) == []


def test_no_proxy_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert proxy_of(httpx.URL("http://handful.invalid")) is not None
    for exception in ("handful.invalid", "invalid", "*", "handful.invalid:80"):
        monkeypatch.setenv("NO_PROXY", exception)
        assert proxy_of(httpx.URL("http://handful.invalid:80")) is None or exception.endswith(":80")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("HTTP_PROXY", "http://user:secret@127.0.0.1:9", "HTTP_PROXY=http://***@127.0.0.1:9 does not answer"),
        ("http_proxy", "127.0.0.1:9", "http_proxy=127.0.0.1:9 does not answer"),
        ("ALL_PROXY", "socks4://127.0.0.1:9", "ALL_PROXY=socks4://127.0.0.1:9 cannot be used"),
        ("ALL_PROXY", "http://127.0.0.1:port", "ALL_PROXY=http://127.0.0.1:port cannot be used"),
    ],
)
def test_a_proxy_at_fault_is_named_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(name, value)
    message = fault("http://handful.invalid")
    assert reason in message
    assert "secret" not in message


def test_a_socks_proxy_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    assert "ALL_PROXY=socks5://127.0.0.1:9" in fault("http://handful.invalid")


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_certificates_that_are_not_there_are_named_by_their_variable(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "/no/such.pem")
    assert f"{name}=/no/such.pem: there is no such file or folder" in fault("https://127.0.0.1:9")


def test_certificates_that_are_none_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "none.pem").write_text("hello")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    assert f"no certificates can be read from SSL_CERT_FILE={tmp_path / 'none.pem'}" in fault("https://127.0.0.1:9")


def test_https_to_a_port_of_plain_http_is_reported(plain_port: int) -> None:
    message = fault(f"https://127.0.0.1:{plain_port}")
    assert f"this port speaks plain HTTP: use http://127.0.0.1:{plain_port}" in message


def test_plain_http_to_a_port_of_https_is_reported(tls_port: int) -> None:
    message = fault(f"http://127.0.0.1:{tls_port}")
    assert f"this port speaks HTTPS: use https://127.0.0.1:{tls_port}" in message


def test_the_refusal_of_plain_http_by_a_port_of_https_is_recognised() -> None:
    page = httpx.Response(400, text="<title>400 The plain HTTP request was sent to HTTPS port</title>")
    client = Client("http://handful", transport=httpx.MockTransport(lambda request: page))
    with client, pytest.raises(HandfulError, match="http://handful speaks HTTPS: use https://handful"):
        list(client.tasks())


def test_an_untrusted_certificate_is_reported_with_the_remedy(tls_port: int) -> None:
    message = fault(f"https://localhost:{tls_port}")
    assert "not trusted" in message
    assert "SSL_CERT_FILE=FILE" in message


def test_a_certificate_of_ones_own_is_trusted(
    monkeypatch: pytest.MonkeyPatch, tls_port: int, certificate: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with Client(f"https://localhost:{tls_port}") as client:
        assert list(client.tasks()) == []


def test_a_host_that_does_not_exist_is_named() -> None:
    assert "there is no host 'handful.invalid'" in fault("http://handful.invalid")


def test_nothing_listening_asks_whether_the_server_runs() -> None:
    assert "is `handful serve` running?" in fault("http://127.0.0.1:9")
