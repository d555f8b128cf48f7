"""Common HTTP clients get the same answer, and a 413 for a body that is too large."""

import json
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import SUPPORT
from tests.socket_server import SocketServer, exchange, request, socket_server

BODY = json.dumps({"support": SUPPORT, "queries": ["Where is my café card?"], "top_k": 1}, ensure_ascii=False)
LARGE = 20_000_000

JAVA = """
import java.net.URI; import java.net.http.*; import java.nio.file.*;
public class Main { public static void main(String[] a) throws Exception {
  var client = HttpClient.newHttpClient();  // asks for HTTP/2 by default
  for (int i = 0; i < 2; i++) {
    var request = HttpRequest.newBuilder(URI.create(a[0] + "/v1/classify")).header("Content-Type", "application/json")
      .POST(HttpRequest.BodyPublishers.ofFile(Path.of(a[1]))).build();
    var answer = client.send(request, HttpResponse.BodyHandlers.ofString());
    if (answer.statusCode() != 200) throw new RuntimeException(answer.body());
    System.out.println(answer.body());
  }
} }
"""
NODE = """
import { readFileSync } from "node:fs";
const [url, file] = process.argv.slice(2);
const send = (body) => fetch(url + "/v1/classify",
  { method: "POST", headers: { "content-type": "application/json" }, body });
console.log(await (await send(readFileSync(file, "utf8"))).text());
const large = await send("a".repeat(%d));
console.log(JSON.stringify({ status: large.status, code: (await large.json()).code }));
"""


@pytest.fixture(scope="module")
def server(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SocketServer]:
    """One server for all of them."""
    with socket_server(tiny_checkpoint, f"sqlite:{tmp_path_factory.mktemp('clients') / 'a.db'}") as running:
        yield running


@pytest.fixture(scope="module")
def expected(server: SocketServer) -> object:
    """The answer that httpx gets."""
    answer = httpx.post(f"{server.url}/v1/classify", content=BODY.encode(), headers=JSON, timeout=60)
    assert answer.status_code == 200
    return answer.json()["predictions"]


JSON = {"Content-Type": "application/json"}


def run(program: str, *arguments: str) -> str:
    """Runs a program and returns its output; skips where it is not installed."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    ended = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture
def body_file(tmp_path: Path) -> str:
    """The request's body as a file."""
    (tmp_path / "body.json").write_text(BODY, encoding="utf-8")
    return str(tmp_path / "body.json")


def predictions(text: str | bytes) -> object:
    """The predictions of an answer."""
    return json.loads(text)["predictions"]


def test_java(server: SocketServer, expected: object, body_file: str, tmp_path: Path) -> None:
    (tmp_path / "Main.java").write_text(JAVA)
    lines = run("java", str(tmp_path / "Main.java"), server.url, body_file).splitlines()
    assert [predictions(line) for line in lines] == [expected, expected]


@pytest.mark.parametrize(
    "options",
    [["--http2"], ["--http1.1"], ["--http1.0"], ["-H", "Expect: 100-continue"], ["-H", "Transfer-Encoding: chunked"]],
)
def test_curl(server: SocketServer, expected: object, body_file: str, options: list[str]) -> None:
    url = f"{server.url}/v1/classify"
    common = ["-sS", "--noproxy", "*", "-H", "Content-Type: application/json", "--data-binary", f"@{body_file}", url]
    assert predictions(run("curl", *options, *common)) == expected


def test_node(server: SocketServer, expected: object, body_file: str, tmp_path: Path) -> None:
    (tmp_path / "main.mjs").write_text(NODE % LARGE)
    answer, large = run("node", str(tmp_path / "main.mjs"), server.url, body_file).splitlines()
    assert predictions(answer) == expected
    assert json.loads(large) == {"status": 413, "code": "body_too_large"}


def test_urllib(server: SocketServer, expected: object) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    ask = urllib.request.Request(f"{server.url}/v1/classify", BODY.encode(), JSON)  # noqa: S310 - a URL of ours
    with opener.open(ask, timeout=60) as answer:
        assert predictions(answer.read()) == expected
    ask = urllib.request.Request(f"{server.url}/v1/classify", b"a" * LARGE, JSON)  # noqa: S310
    with pytest.raises(urllib.error.HTTPError) as refused:
        opener.open(ask, timeout=60)
    assert refused.value.code == 413
    assert json.loads(refused.value.read())["code"] == "body_too_large"


def test_httpx(server: SocketServer, expected: object) -> None:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for _ in range(2):
            answer = client.post("/v1/classify", json=json.loads(BODY))
            assert answer.json()["predictions"] == expected
        assert client.post("/v1/classify", content=b"a" * LARGE, headers=JSON).status_code == 413
        assert client.post("/v1/classify", json=json.loads(BODY)).status_code == 200


def test_powershell(server: SocketServer, expected: object) -> None:
    # Windows PowerShell waits for 100 Continue; files that it writes begin with a byte order mark
    body = BODY.encode("utf-8-sig")
    sent = request("POST", "/v1/classify", b"", "Expect: 100-continue", f"Content-Length: {len(body)}",
                   "Content-Type: application/json; charset=utf-8", "Connection: Keep-Alive")  # fmt: skip
    last = request("GET", "/livez", b"", "Connection: close")
    answers, closed = exchange(server.port, sent, body + last, pause_s=0.2)
    assert [answer.status for answer in answers] == [200, 200]
    assert predictions(answers[0].body) == expected
    assert closed
