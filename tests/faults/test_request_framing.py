"""Request framing: whatever a client sends, no body is run as a request of its own."""

import gzip
import json
import logging
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import SUPPORT
from tests.socket_server import Answer, SocketServer, answers_in, exchange, socket_server
from tests.waiting import until

TASK = "/v1/tasks/bank"
DELETE = f"DELETE {TASK} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
"""A request that must never be run."""
CHUNKED_DELETE = b"%x\r\n%s\r\n0\r\n\r\n" % (len(DELETE), DELETE)
GOOD = json.dumps({"queries": ["where is my card"]}).encode()
LAST = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
LENGTH = f"Content-Length: {len(GOOD)}"
H2C = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__"


@pytest.fixture(scope="module")
def server(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SocketServer]:
    """A server with a small limit on bodies."""
    store = tmp_path_factory.mktemp("framing") / "service.db"
    with socket_server(tiny_checkpoint, f"sqlite:{store}", max_body_bytes=100_000) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: SocketServer) -> Iterator[httpx.Client]:
    """A client that sends valid requests."""
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


@pytest.fixture(autouse=True)
def _task_lives(client: httpx.Client) -> Iterator[None]:
    """Makes the task where it is absent, and checks that it exists after a test."""
    if client.get(TASK).status_code == 404:
        assert client.post(f"{TASK}/adapt", json={"support": SUPPORT}).status_code == 200
    yield
    assert client.get(TASK).status_code == 200, "a body was run as a request"


def head(method: str, path: str, *lines: str) -> bytes:
    """A request without its body."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode("latin-1")


def post(*lines: str) -> bytes:
    """The head of a prediction."""
    return head("POST", f"{TASK}/predict", "Content-Type: application/json", *lines)


AMBIGUOUS = {
    "length and chunks": post(f"Content-Length: {len(DELETE)}", "Transfer-Encoding: chunked") + b"0\r\n\r\n" + DELETE,
    "chunks and length": post("Transfer-Encoding: chunked", "Content-Length: 5") + b"0\r\n\r\n" + DELETE,
    "two lengths": post(f"Content-Length: {len(DELETE)}", "Content-Length: 0") + DELETE,
    "the same length twice": post("Content-Length: 2", "Content-Length: 2") + b"{}" + DELETE,
    "a list of lengths": post("Content-Length: 2, 3") + b"{}" + DELETE,
    "a list of equal lengths": post("Content-Length: 2, 2") + b"{}" + DELETE,
    "a signed length": post("Content-Length: +2") + b"{}" + DELETE,
    "a negative length": post("Content-Length: -1") + DELETE,
    "a hexadecimal length": post("Content-Length: 0x2") + b"{}" + DELETE,
    "a length with a blank": post("Content-Length: 1 2") + b"{}" + DELETE,
    "an empty length": post("Content-Length:") + DELETE,
    "a huge length": post("Content-Length: " + "9" * 30) + DELETE,
    "a blank before the colon": post(f"Content-Length : {len(DELETE)}") + DELETE,
    "a blank before the coding's colon": post("Transfer-Encoding : chunked") + CHUNKED_DELETE,
    "a tab before the colon": post(f"Content-Length\t: {len(DELETE)}") + DELETE,
    "a blank before the name": head("POST", f"{TASK}/predict", " Content-Length: 5") + DELETE,
    "a folded header": post("X-Folded: a\r\n b", "Content-Length: 0") + DELETE,
    "a folded coding": post("Transfer-Encoding:\r\n chunked") + CHUNKED_DELETE,
    "a folded length": post(f"Content-Length:\r\n {len(DELETE)}") + DELETE,
    "a header without a colon": post("Content-Length", "X: y") + DELETE,
    "a header without a name": post(": 5", "X: y") + DELETE,
    "bare line feeds": (
        f"POST {TASK}/predict HTTP/1.1\nHost: x\nContent-Length: {len(DELETE)}\n\n".encode() + DELETE
    ),
    "one bare line feed": post(f"X: y\nContent-Length: {len(DELETE)}") + DELETE,
    "a bare line feed at the end": post("Content-Length: 0")[:-2] + b"\n" + DELETE,
    "a bare carriage return": post(f"X: y\rContent-Length: {len(DELETE)}") + DELETE,
    "a null byte": post(f"X: a\x00b\r\nContent-Length: {len(DELETE)}") + DELETE,
    "identity": post("Transfer-Encoding: identity", f"Content-Length: {len(DELETE)}") + DELETE,
    "chunked, identity": post("Transfer-Encoding: chunked, identity") + CHUNKED_DELETE,
    "identity, chunked": post("Transfer-Encoding: identity, chunked") + CHUNKED_DELETE,
    "gzip, chunked": post("Transfer-Encoding: gzip, chunked") + CHUNKED_DELETE,
    "chunked twice": post("Transfer-Encoding: chunked, chunked") + CHUNKED_DELETE,
    "two codings": post("Transfer-Encoding: chunked", "Transfer-Encoding: identity") + CHUNKED_DELETE,
    "the coding twice": post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + CHUNKED_DELETE,
    "xchunked": post("Transfer-Encoding: xchunked") + CHUNKED_DELETE,
    "chunkedx": post("Transfer-Encoding: chunkedx") + CHUNKED_DELETE,
    "a quoted coding": post('Transfer-Encoding: "chunked"') + CHUNKED_DELETE,
    "an empty coding": post("Transfer-Encoding:", f"Content-Length: {len(DELETE)}") + DELETE,
    "a vertical tab in the coding": post("Transfer-Encoding: \x0bchunked") + CHUNKED_DELETE,
    "chunks in HTTP/1.0": (
        f"POST {TASK}/predict HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + CHUNKED_DELETE
    ),
    "a chunk size with a prefix": post("Transfer-Encoding: chunked") + b"0x2\r\n{}\r\n0\r\n\r\n" + DELETE,
    "a signed chunk size": post("Transfer-Encoding: chunked") + b"+2\r\n{}\r\n0\r\n\r\n" + DELETE,
    "a negative chunk size": post("Transfer-Encoding: chunked") + b"-2\r\n{}\r\n0\r\n\r\n" + DELETE,
    "no chunk size": post("Transfer-Encoding: chunked") + b"\r\n{}\r\n0\r\n\r\n" + DELETE,
    "a chunk size that overflows": post("Transfer-Encoding: chunked") + b"10000000000000002\r\n{}\r\n" + DELETE,
    "a chunk longer than its size": post("Transfer-Encoding: chunked") + b"1\r\n{}\r\n0\r\n\r\n" + DELETE,
    "a chunk size that ends in a line feed": post("Transfer-Encoding: chunked") + b"2\n{}\r\n0\r\n\r\n" + DELETE,
    "chunk data that ends in a line feed": post("Transfer-Encoding: chunked") + b"2\r\n{}\n0\r\n\r\n" + DELETE,
    "a line feed in a chunk extension": post("Transfer-Encoding: chunked") + b"2;a\n{}\r\n0\r\n\r\n" + DELETE,
    "a carriage return in an extension": post("Transfer-Encoding: chunked") + b"2;a\rb\r\n{}\r\n0\r\n\r\n" + DELETE,
    "a last chunk that ends in a line feed": post("Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\n\n" + DELETE,
    "a trailer that ends in a line feed": post("Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\nX: y\n\n" + DELETE,
    "two hosts": head("GET", TASK, "Host: y") + DELETE,
    "no host": f"GET {TASK} HTTP/1.1\r\n\r\n".encode() + DELETE,
    "a fragment of a method": b"GE\tT / HTTP/1.1\r\nHost: x\r\n\r\n" + DELETE,
    "no path": b"GET tasks HTTP/1.1\r\nHost: x\r\n\r\n" + DELETE,
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + DELETE,
    "noise": bytes(range(128, 256)) + DELETE,
}  # fmt: skip


def in_pieces(sent: bytes) -> list[bytes]:
    """A request's bytes in small parts."""
    return [sent[i : i + 40] for i in range(0, len(sent), 40)]


@pytest.mark.parametrize("split", [lambda sent: [sent], in_pieces], ids=["at once", "in pieces"])
@pytest.mark.parametrize("name", AMBIGUOUS)
def test_an_ambiguous_request_is_refused_and_the_connection_closed(
    server: SocketServer, name: str, split: Callable[[bytes], list[bytes]]
) -> None:
    answers, closed = exchange(server.port, *split(AMBIGUOUS[name]))
    assert [answer.status for answer in answers] == [400], answers
    assert closed
    assert answers[0].headers["content-type"] == "application/problem+json"
    assert answers[0].headers["connection"] == "close"
    assert answers[0].headers["x-request-id"]
    problem = json.loads(answers[0].body)
    assert problem["code"] == "malformed_request"
    assert problem["detail"]


def is_prediction(answer: Answer) -> bool:
    """Whether the good body was read whole."""
    return answer.status == 200 and b'"predictions"' in answer.body


RIGHT = {
    "a length": post(LENGTH) + GOOD,
    "chunks": post("Transfer-Encoding: chunked") + b"%x\r\n%s\r\n0\r\n\r\n" % (len(GOOD), GOOD),
    "chunks, in capitals": post("Transfer-Encoding: Chunked") + b"%X\r\n%s\r\n000\r\n\r\n" % (len(GOOD), GOOD),
    "a chunk extension": post("Transfer-Encoding: chunked") + b'%x;a=b;c="d"\r\n%s\r\n0;e\r\n\r\n' % (len(GOOD), GOOD),
    "a trailer": post("Transfer-Encoding: chunked") + b"%x\r\n%s\r\n0\r\nX: y\r\n\r\n" % (len(GOOD), GOOD),
    "an upgrade": post(H2C, LENGTH) + GOOD,
    "an upgrade with chunks": post(H2C, "Transfer-Encoding: chunked") + b"%x\r\n%s\r\n0\r\n\r\n" % (len(GOOD), GOOD),
    "an upgrade to a web socket": post("Connection: Upgrade", "Upgrade: websocket", LENGTH) + GOOD,
    "an upgrade that nobody knows": post("Connection: keep-alive, upgrade", "Upgrade: x/1", LENGTH) + GOOD,
    "two upgrades": post("Connection: a", "Connection: upgrade", "Upgrade: h2c", "Upgrade: x", LENGTH) + GOOD,
    "a whole URL": post(LENGTH).replace(b" /v1", b" http://x/v1") + GOOD,
    "line breaks before": b"\r\n\r\n" + post(LENGTH) + GOOD,
    "a blank after a header": post(f"Content-Length: {len(GOOD)}  \t") + GOOD,
}  # fmt: skip


@pytest.mark.parametrize("split", [lambda sent: [sent], in_pieces], ids=["at once", "in pieces"])
@pytest.mark.parametrize("name", RIGHT)
def test_a_request_is_read_whole_and_the_next_one_too(
    server: SocketServer, name: str, split: Callable[[bytes], list[bytes]]
) -> None:
    answers, closed = exchange(server.port, *split(RIGHT[name] + RIGHT[name]), LAST)
    assert [answer.status for answer in answers] == [200, 200, 200], answers
    assert all(is_prediction(answer) for answer in answers[:2])
    assert closed


@pytest.mark.parametrize("pause_s", [0.0, 0.05], ids=["at once", "later"])
@pytest.mark.parametrize(
    "start",
    [
        post(H2C, f"Content-Length: {len(DELETE)}"),
        post("Connection: Upgrade", "Upgrade: websocket", f"Content-Length: {len(DELETE)}"),
        post("Connection: Upgrade", "Upgrade: TLS/1.0", "Connection: close", f"Content-Length: {len(DELETE)}"),
        post(f"Content-Length: {len(DELETE)}"),
        post("Expect: 100-continue", f"Content-Length: {len(DELETE)}"),
        head("GET", "/livez", H2C, f"Content-Length: {len(DELETE)}"),
        head("GET", TASK, f"Content-Length: {len(DELETE)}"),
        head("HEAD", TASK, f"Content-Length: {len(DELETE)}"),
        head("OPTIONS", TASK, f"Content-Length: {len(DELETE)}"),
        head("POST", "/nowhere", f"Content-Length: {len(DELETE)}"),
        head("POST", TASK, f"Content-Length: {len(DELETE)}"),
        head("POST", f"{TASK}/predict", "Content-Type: text/plain", f"Content-Length: {len(DELETE)}"),
        head("POST", f"{TASK}/adapt", "Content-Encoding: br", *H2C.split("\r\n"), f"Content-Length: {len(DELETE)}"),
    ],
)
def test_a_request_in_a_body_is_not_run(server: SocketServer, start: bytes, pause_s: float) -> None:
    answers, closed = exchange(server.port, start, DELETE, LAST, pause_s=pause_s)
    assert len(answers) == 1 or [answer.status for answer in answers[1:]] == [200], answers
    assert b"deleted" not in answers[-1].body
    assert closed


@pytest.mark.parametrize("expect", [(), ("Expect: 100-continue",)])
def test_an_answer_before_the_body_leaves_the_connection_right(server: SocketServer, expect: tuple[str, ...]) -> None:
    body = DELETE * 500
    start = head("POST", "/nowhere", *expect, f"Content-Length: {len(body)}")
    answers, closed = exchange(server.port, start, body, LAST, pause_s=0.1)
    if expect:  # whether it sends the body after a refusal is the client's choice: only closing is safe
        assert [answer.status for answer in answers] == [404]
    else:
        assert [answer.status for answer in answers] == [404, 200]
    assert closed


def test_a_trailer_is_no_header(server: SocketServer) -> None:
    sent = post("Transfer-Encoding: chunked") + b"%x\r\n%s\r\n0\r\nContent-Encoding: gzip\r\n\r\n" % (len(GOOD), GOOD)
    # Behind another request it is parsed to its end before it is served
    answers, _ = exchange(server.port, post(LENGTH) + GOOD + sent, LAST)
    assert [is_prediction(answer) for answer in answers] == [True, True, False]


def test_what_follows_a_close_is_not_run(server: SocketServer) -> None:
    for start in (
        post("Connection: close", LENGTH) + GOOD,
        f"GET {TASK} HTTP/1.0\r\n\r\n".encode(),
        f"GET {TASK} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".encode(),
    ):
        answers, closed = exchange(server.port, start + DELETE)
        assert [answer.status for answer in answers] == [200]
        assert closed


def test_requests_sent_at_once_are_answered_in_order(server: SocketServer) -> None:
    sent = b"".join(
        [
            head("GET", "/livez"),
            post(LENGTH) + GOOD,
            head("GET", "/nowhere"),
            head("HEAD", TASK),
        ]
    )
    answers, _ = exchange(server.port, sent + head("GET", "/readyz", "Connection: close"))
    assert [answer.status for answer in answers[:3]] == [200, 200, 404]
    assert is_prediction(answers[1])


def test_noise_after_a_request_does_not_come_before_its_answer(server: SocketServer) -> None:
    answers, closed = exchange(server.port, post(LENGTH) + GOOD + b"\x00noise")
    assert is_prediction(answers[0])
    assert closed


def test_a_wrong_chunk_after_an_answer_gets_no_second_one(server: SocketServer) -> None:
    start = head("POST", "/nowhere", "Transfer-Encoding: chunked")
    answers, closed = exchange(server.port, start, b"xyz\r\n" + DELETE, pause_s=0.3)
    assert [answer.status for answer in answers] == [404]
    assert closed


def test_a_tunnel_is_refused(server: SocketServer) -> None:
    answers, closed = exchange(server.port, b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n" + DELETE)
    assert [answer.status for answer in answers] == [405]
    assert closed


@pytest.mark.parametrize("version", [" HTTP/0.9", " HTTP/2.0", ""])
def test_another_version_of_http_is_refused(server: SocketServer, version: str) -> None:
    answers, closed = exchange(server.port, f"GET {TASK}{version}\r\nHost: x\r\n\r\n".encode() + DELETE, wait_s=10)
    assert [answer.status for answer in answers] == [505]
    assert closed


@pytest.mark.parametrize("sent", [b"X: " + b"y" * 100_000, b"X: y\r\n" * 20_000 + b"\r\n"])
def test_a_head_without_bounds_is_refused(server: SocketServer, sent: bytes) -> None:
    answers, closed = exchange(server.port, b"GET /livez HTTP/1.1\r\nHost: x\r\n", sent)
    assert [answer.status for answer in answers] == [431]
    assert closed


def test_https_on_the_http_port_is_named_in_the_log(server: SocketServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "handful"):
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200))
        answers, closed = exchange(server.port, hello)
    assert closed
    assert json.loads(answers[0].body)["code"] == "https_on_http_port"
    assert "HTTPS was sent to the HTTP port" in caplog.text


# ---- clients that go on sending ------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["Content-Length: 20000000", "Transfer-Encoding: chunked"])
def test_a_client_that_is_still_sending_sees_the_413(server: SocketServer, framing: str) -> None:
    chunked = "chunked" in framing
    part = b"a" * 2**16
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(post(framing))
        for _ in range(20_000_000 // len(part)):  # as a client does that reads when all is sent
            connection.sendall(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
        received = b""
        while data := connection.recv(2**16):
            received += data
    (answer,) = answers_in(received)
    assert answer.status == 413
    assert "at most 100000 bytes" in json.loads(answer.body)["detail"]


@pytest.mark.parametrize("path", ["/nowhere", f"{TASK}/predict"])
def test_a_client_that_never_stops_is_cut_off(server: SocketServer, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.http_protocol._MAX_DISCARDED_BYTES", 2**22)
    part = b"%x\r\n%s\r\n" % (2**16, b"a" * 2**16)
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(head("POST", path, "Content-Type: application/json", "Transfer-Encoding: chunked"))
        with pytest.raises(ConnectionError):
            for _ in range(2000):
                connection.sendall(part)


def test_a_client_that_stops_inside_its_body_is_cut_off(server: SocketServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.http_protocol._DISCARDING_S", 0.2)
    answers, closed = exchange(server.port, head("POST", "/nowhere", "Content-Length: 1000"), b"a")
    assert [answer.status for answer in answers] == [404]
    assert closed


def test_no_connection_is_left_over(server: SocketServer) -> None:
    until(lambda: len(server.server.server_state.connections) <= 1)


def test_a_bomb_is_not_unpacked(server: SocketServer) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    assert len(bomb) < 100_000
    answers, _ = exchange(server.port, post("Content-Encoding: gzip", f"Content-Length: {len(bomb)}") + bomb)
    assert answers[0].status == 413
    assert "at most 100000 bytes" in json.loads(answers[0].body)["detail"]
