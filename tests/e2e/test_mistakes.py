"""Mistakes that people make, provoked through HTTP and the command line: each answer names the cause and the next step.

An answer is a problem document or a line on standard error. Two patterns are looked for in it: one for the cause, one
for what to do.
"""

import gzip
import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from handful import Client
from model_store import sqlite_path
from tests.conftest import SUPPORT, StartService
from tests.handful.cli.test_cli import Handful, environment, folder
from tests.socket_server import socket_server
from tests.waiting import LIMIT_S, until

__all__ = ["environment", "folder"]

ADAPT, PREDICT = "/v1/tasks/bank/adapt", "/v1/tasks/bank/predict"
EXAMPLES = {"support": SUPPORT}
ALL_ADDRESSES = "0.0.0.0"  # noqa: S104 - as people set it
CSV = "text,label\na card,card\nthe card,card\na fee,fee\nthe fee,fee\n"


@pytest.fixture(scope="module")
def url(folder: Path, tiny_checkpoint: Path) -> Iterator[str]:
    """A server with the task `bank`, whose limits are small."""
    limits = {"max_body_bytes": 100_000, "max_classes": 5, "max_queries": 10}
    with socket_server(tiny_checkpoint, f"sqlite:{folder / 'handful.db'}", **limits) as server:
        assert httpx.post(f"{server.url}{ADAPT}", json=EXAMPLES).status_code == 200
        yield server.url


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    """A client of that server which knows nothing of Handful."""
    with httpx.Client(base_url=url) as client:
        yield client


@pytest.fixture
def handful(tmp_path: Path, environment: dict[str, str], url: str) -> Handful:
    """The command line on that server."""
    return Handful(tmp_path, {**environment, "HANDFUL_URL": url})


def says(answer: str, cause: str, next_step: str) -> None:
    """Requires cause and next step in an answer."""
    for pattern in (cause, next_step):
        assert re.search(pattern, answer), f"{pattern!r} is not in {answer!r}"


def words(response: httpx.Response, status: int) -> str:
    """The words and the headers of a problem document of this status."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert problem["code"]
    assert problem["status"] == status
    faults = [f"{each['pointer']}: {each['detail']}" for each in problem.get("errors", ())]
    headers = [f"{name}: {response.headers[name]}" for name in ("Retry-After", "Allow") if name in response.headers]
    return "\n".join([problem["detail"], *faults, *headers])


Ask = Callable[[httpx.Client], httpx.Response]


def _post(path: str, body: Any, **headers: str) -> Ask:
    return lambda http: http.post(path, json=body, headers=headers)


def _raw(path: str, content: bytes, kind: str = "application/json", **headers: str) -> Ask:
    return lambda http: http.post(path, content=content, headers={"Content-Type": kind, **headers})


def _changed(**fields: Any) -> dict[str, Any]:
    return {**EXAMPLES, **fields}


ONE_CLASS = [{"text": "a", "label": "x"}, {"text": "b", "label": "x"}]
MANY_CLASSES = [{"text": f"text {i}", "label": f"class {i}"} for i in range(6)]
OTHER_NAMES = [{"text": "a", "category": "x"}, {"text": "b", "category": "y"}]

REQUESTS: dict[str, tuple[Ask, int, str, str]] = {
    "wrong key": (
        lambda http: http.get("/v1/tasks", headers={"Authorization": "Bearer nonsense"}),
        401,
        "the API key is unknown",
        "handful keys create TENANT",
    ),
    "unknown task": (_post("/v1/tasks/absent/predict", {"queries": ["a"]}), 404, "no such task", "GET /v1/tasks "),
    "a blank in a task's name": (
        _post("/v1/tasks/my%20task/adapt", EXAMPLES),
        422,
        "path/task",
        "letters.*digits",
    ),
    "one class": (_post(ADAPT, {"support": ONE_CLASS}), 422, "the label 'x'", "at least two classes"),
    "an empty support set": (_post(ADAPT, {"support": []}), 422, "#/support", "example"),
    "a body that is too large": (
        _post(ADAPT, {"support": [{"text": "x" * 200_000, "label": "a"}]}),
        413,
        "100,?000 bytes|100_000|97|98 KiB|at most",
        "HANDFUL_MAX_BODY_BYTES",
    ),
    "too many queries": (_post(PREDICT, {"queries": ["a"] * 11}), 422, "11|at most 10", "10"),
    "too many classes": (_post(ADAPT, {"support": MANY_CLASSES}), 422, "6", "HANDFUL_MAX_CLASSES"),
    "one description alone": (_post(ADAPT, {"labels": {"card": "about cards"}}), 422, "class", "two classes"),
    "version 0": (_post(PREDICT, {"queries": ["a"], "version": 0}), 422, "#/version", "greater than or equal to 1"),
    "version 99": (
        _post(PREDICT, {"queries": ["a"], "version": 99}),
        404,
        "no version 99",
        "its newest is.*versions lists all",
    ),
    "rollback to 99": (
        _post("/v1/tasks/bank/rollback", {"version": 99}),
        404,
        "no version 99",
        "its newest is.*versions lists all",
    ),
    "a second delete": (lambda http: http.delete("/v1/tasks/gone"), 404, "no such task", "GET /v1/tasks "),
    "an example that is not there": (
        lambda http: http.delete("/v1/tasks/bank/examples/absent"),
        404,
        "no example with this id",
        "examples lists",
    ),
    "GET on a POST route": (lambda http: http.get(ADAPT), 405, "GET is not possible here", "use POST"),
    "a trailing slash": (_post(f"{PREDICT}/", {"queries": ["a"]}), 404, "no such route", f"do you mean {PREDICT}"),
    "no version in the path": (_post("/tasks/bank/predict", {"queries": ["a"]}), 404, "no such route", PREDICT),
    "curl's own content type": (
        _raw(ADAPT, json.dumps(EXAMPLES).encode(), "application/x-www-form-urlencoded"),
        415,
        "JSON",
        "Content-Type: application/json",
    ),
    "an unknown compression": (
        _raw(PREDICT, b"abc", **{"Content-Encoding": "br"}),
        415,
        "Content-Encoding|br",
        "gzip|identity|without",
    ),
    "damaged gzip": (
        _raw(PREDICT, b"abc", **{"Content-Encoding": "gzip"}),
        422,
        "gzip",
        "send|compress|leave",
    ),
    "gzip that nothing announces": (
        _raw(PREDICT, gzip.compress(b'{"queries": ["a"]}')),
        422,
        "gzip",
        "Content-Encoding",
    ),
    "UTF-16": (_raw(PREDICT, '{"queries": ["a"]}'.encode("utf-16")), 422, "UTF-16|UTF-8", "UTF-8"),
    "half a document": (_raw(PREDICT, b'{"queries": ["a"'), 422, "JSON", "line 1|column|end"),
    "a number as text": (_post(PREDICT, {"queries": ["a"], "top_k": "1,5"}), 422, "#/top_k", "integer"),
    "a negative time to live": (_post(ADAPT, _changed(ttl_seconds=-5)), 422, "#/ttl_seconds", "greater than or equal"),
    "abstain: yes": (
        _post(PREDICT, {"queries": ["a"], "abstain": "yes"}),
        422,
        "#/abstain",
        "true, false, a threshold",
    ),
    "queries as one text": (_post(PREDICT, {"queries": "a card"}), 422, "#/queries", r'\["…"\]'),
    "no queries": (_post(PREDICT, {}), 422, "#/queries: this field is missing", r'\["…"\]'),
    "text instead of queries": (_post(PREDICT, {"text": "hello"}), 422, "#/text.*unknown", "queries"),
    "another tool's names": (_post(ADAPT, {"support": OTHER_NAMES}), 422, "category.*unknown field", 'called "label"'),
    "a number as a label": (
        _post(ADAPT, {"support": [{"text": "a", "label": 1}, {"text": "b", "label": 2}]}),
        422,
        "a label is a string",
        "in quotes",
    ),
    "an unknown learner": (_post(ADAPT, _changed(learner="bert")), 422, "bert", "protomaml"),
    "an unknown checkpoint": (_post(ADAPT, _changed(checkpoint="nowhere")), 422, "nowhere", "tiny"),
    "too many steps": (_post(ADAPT, _changed(steps=10**6)), 422, "#/steps", "200"),
    "an empty text": (_post(PREDICT, {"queries": ["a", "  "]}), 422, "#/queries/1", "empty|no text"),
    "half a pair": (
        _post(ADAPT, {"support": [{**SUPPORT[0], "text_pair": "b"}, *SUPPORT[1:]]}),
        422,
        "pair",
        "pairs or single texts, not both",
    ),
    "an id that is none": (
        _post(ADAPT, {"support": [{**SUPPORT[0], "id": "a b"}, *SUPPORT[1:]]}),
        422,
        "#/support/0/id",
        "letters",
    ),
    "no task's file": (_raw("/v1/tasks/new/import", b"nothing", "application/zip"), 422, "file", "export"),
}


@pytest.mark.parametrize("mistake", REQUESTS)
def test_a_wrong_request_is_answered_with_cause_and_next_step(http: httpx.Client, mistake: str) -> None:
    ask, status, cause, next_step = REQUESTS[mistake]
    if mistake == "a second delete":
        http.post("/v1/tasks/gone/adapt", json=EXAMPLES)
        assert http.delete("/v1/tasks/gone").status_code == 200
    says(words(ask(http), status), cause, next_step)


def test_the_same_idempotency_key_for_another_request(http: httpx.Client) -> None:
    key = {"Idempotency-Key": "mistake-1"}
    assert http.post("/v1/tasks/once/adapt", json=EXAMPLES, headers=key).status_code == 200
    answer = http.post("/v1/tasks/twice/adapt", json=EXAMPLES, headers=key)
    says(words(answer, 422), "used for another request", "take a new key")


def test_a_long_text_is_answered_and_marked(http: httpx.Client) -> None:
    answer = http.post(PREDICT, json={"queries": ["a card " * 2000, "a card"]})
    assert [each["truncated"] for each in answer.json()["predictions"]] == [1, 0] or [
        each["truncated"] for each in answer.json()["predictions"]
    ] == [True, False]


def test_labels_that_look_alike_are_named(http: httpx.Client) -> None:
    examples = [*SUPPORT, {"text": "a", "label": "Card_Arrival "}]
    answer = http.post("/v1/tasks/alike/adapt", json={"support": examples}).json()
    (warning,) = [each for each in answer["warnings"] if each["code"] == "labels_look_alike"]
    says(warning["detail"], "Card_Arrival", "in the same way")
    assert warning["pointers"]


def test_examples_that_contradict_each_other_are_named(http: httpx.Client) -> None:
    examples = [*SUPPORT, {**SUPPORT[0], "label": SUPPORT[2]["label"]}]
    answer = http.post("/v1/tasks/torn/adapt", json={"support": examples}).json()
    (warning,) = [each for each in answer["warnings"] if each["code"] == "contradicting_examples"]
    says(warning["detail"], "label", "one|remove|keep|correct|decide")
    assert warning["pointers"]


def test_a_task_whose_time_is_over(http: httpx.Client) -> None:
    assert http.post("/v1/tasks/brief/adapt", json={**EXAMPLES, "ttl_seconds": 1}).status_code == 200
    until(lambda: http.get("/v1/tasks/brief").status_code == 404)
    says(words(http.get("/v1/tasks/brief"), 404), "ttl_seconds is over", "adapt")


def test_a_store_that_is_away(start_service: StartService) -> None:
    service = start_service(store="redis://127.0.0.1:9/0", store_timeout_s=0.3)
    answer = words(service.post(ADAPT, json=EXAMPLES), 503)
    says(answer, "the store does not answer", "try again")
    says(answer, "nothing was changed", "Retry-After: 1")


def test_a_server_that_everybody_reaches_and_no_key(start_service: StartService) -> None:
    service = start_service(host=ALL_ADDRESSES)
    says(words(service.get("/v1/tasks"), 401), "there is no API key", "handful keys create TENANT --store sqlite:")


def test_a_key_that_was_revoked(start_service: StartService, handful: Handful, tmp_path: Path) -> None:
    service, store = start_service(), f"sqlite:{tmp_path / 'service.db'}"
    key = handful("keys", "create", "acme", "--store", store).strip()
    call = {"Authorization": f"Bearer {key}"}
    assert service.get("/v1/tasks", headers=call).status_code == 200
    handful("keys", "revoke", key, "--store", store)
    says(words(service.get("/v1/tasks", headers=call), 401), "no API key|unknown", "handful keys create TENANT")
    says(words(service.get("/v1/tasks"), 401), "API key", "Authorization: Bearer KEY|handful keys create TENANT")


def test_a_task_of_a_checkpoint_that_is_not_loaded(start_service: StartService, other_checkpoint: Path) -> None:
    first = start_service()
    assert first.post(ADAPT, json={**EXAMPLES, "keep_support": False}).status_code == 200
    second = start_service(checkpoint=str(other_checkpoint))
    says(
        words(second.post(PREDICT, json={"queries": ["a"]}), 409),
        "was made from checkpoint",
        "call adapt with the examples",
    )


def test_two_servers_on_one_file_see_each_others_writes(start_service: StartService) -> None:
    first, second = start_service(), start_service()
    assert first.post(ADAPT, json=EXAMPLES).status_code == 200
    assert second.post(PREDICT, json={"queries": ["a"]}).status_code == 200
    assert second.delete("/v1/tasks/bank").status_code == 200
    says(words(first.post(PREDICT, json={"queries": ["a"]}), 404), "no such task", "GET /v1/tasks ")


def test_one_text_given_to_the_client_is_one_query(url: str) -> None:
    with Client(url) as client:
        assert len(client.predict("bank", "refund").predictions) == 1


# ---- the command line ----------------------------------------------------------------------------------------------

FILES: dict[str, bytes] = {
    "good.csv": CSV.encode(),
    "columns.csv": b"subject,team\nwhere is it,post\nwhat is it,shop\n",
    "comma.csv": b"text,label\na card,card\nHello, where is my parcel,post\n",
    "empty.csv": b"",
    "header.csv": b"text,label\n",
    "half.json": b'[{"text": "a", "label": "x"},\n {"text": "b", "label"',
    "missing.jsonl": b'{"text": "a", "label": "x"}\n{"text": "b"}\n',
    "binary.xlsx": b"PK\x03\x04" + bytes(20) + b"xl/workbook.xml" + bytes(200),
    "one.csv": b"text,label\na,x\nb,x\n",
}

COMMANDS: dict[str, tuple[list[str], dict[str, str], str, str]] = {
    "an unknown variable": (["serve"], {"HANDFUL_PROT": "1"}, "HANDFUL_PROT is not a setting", "HANDFUL_PORT"),
    "no checkpoint": (["serve", "--checkpoint", "/nope", "--port", "0"], {}, "'/nope' is neither", "e5-small-handful"),
    "another host's address": (["serve", "--host", "192.0.2.1"], {}, "192.0.2.1 is not an address of", "--host"),
    "no such device": (
        ["serve", "--device", "cuda:99", "--port", "0"],
        {},
        "'cuda:99' is not available",
        "auto or cpu",
    ),
    "no such store": (["serve", "--store", "mysql://db"], {}, "store must start with", "sqlite:"),
    "int8 by torch": (
        ["serve", "--precision", "int8", "--runtime", "torch", "--port", "0"],
        {},
        "int8",
        "--precision float32",
    ),
    "a misspelt option of serve": (["serve", "--worker", "2"], {}, "--worker", "--workers|--help|-h"),
    "a misspelt command": (["taks"], {}, "'?taks'?", "tasks|-h|--help"),
    "a misspelt subcommand": (["tasks", "lst"], {}, "'?lst'?", "list|-h|--help"),
    "a misspelt option": (["predict", "bank", "--querys", "x"], {}, "--querys", "--queries"),
    "no task": (["predict"], {}, "Missing argument 'task'", "predict -h"),
    "an unknown task": (["tasks", "show", "absent"], {}, "no such task", "handful tasks list|GET /v1/tasks"),
    "a version that is not there": (["tasks", "rollback", "bank", "99"], {}, "no version 99", "its newest is"),
    "no such file": (["adapt", "bank", "--support", "absent.csv"], {}, "absent.csv", "path|name|folder"),
    "a folder for a file": (["adapt", "bank", "--support", "."], {}, "folder|directory", "file"),
    "other columns": (
        ["adapt", "bank", "--support", "columns.csv"],
        {},
        "columns.csv.*subject.*team",
        "--text-column|--label-column",
    ),
    "an unquoted comma": (["adapt", "bank", "--support", "comma.csv"], {}, "line 3", "quot|--delimiter"),
    "an empty file": (["adapt", "bank", "--support", "empty.csv"], {}, "empty.csv", "row|example|empty"),
    "a header alone": (["adapt", "bank", "--support", "header.csv"], {}, "header.csv", "0 rows|no example|example"),
    "half a JSON file": (["adapt", "bank", "--support", "half.json"], {}, "half.json.*line 2", "JSON"),
    "a row without a label": (["adapt", "bank", "--support", "missing.jsonl"], {}, "line 2", '"label"|label'),
    "a workbook": (["adapt", "bank", "--support", "binary.xlsx"], {}, "binary.xlsx", "CSV"),
    "one class in a file": (["adapt", "bank", "--support", "one.csv"], {}, "'x'", "two classes"),
    "no support set": (["adapt", "bank"], {}, "--support", "FILE"),
    "plain HTTP by https": (["tasks", "list", "--url", "HTTPS"], {}, "speaks plain HTTP", "use http://"),
    "no server": (["tasks", "list", "--url", "http://127.0.0.1:9"], {}, "no answer", "is `handful serve` running"),
    "an address without a scheme": (["tasks", "list", "--url", "db.example:80"], {}, "does not start with", "http://"),
    "a path that is not the server's": (["tasks", "list", "--url", "PATH"], {}, "does not know", "is the path"),
    "--local and --url": (["tasks", "list", "--local", "--url", "http://x"], {}, "--local", "not both"),
    "a store that is not there": (
        ["tasks", "list", "--local", "--store", "sqlite:nowhere.db"],
        {},
        "no store at",
        "HANDFUL_STORE|--store|the file is not",
    ),
    "a typo in the store's folder": (["keys", "list", "--store", "sqlite:/dta/h.db"], {}, "/dta does not exist", "."),
    "a key that is none": (["keys", "revoke", "nonsense-key-00"], {}, "0 keys match|no store", "give the key|file"),
    "a proxy that is away": (
        ["tasks", "list", "--url", "http://db.example"],
        {"HTTP_PROXY": "http://127.0.0.1:9"},
        "the proxy from HTTP_PROXY",
        "NO_PROXY=",
    ),
    "certificates that are not there": (
        ["tasks", "list", "--url", "https://127.0.0.1:9"],
        {"SSL_CERT_FILE": "/no/such.pem"},
        "SSL_CERT_FILE=/no/such.pem",
        "unset",
    ),
    "an export into no folder": (["tasks", "export", "bank", "-o", "nowhere/x"], {}, "nowhere", "folder"),
    "a file that is no task": (["tasks", "import", "new", "good.csv"], {}, "file", "export"),
    "an import of nothing": (["tasks", "import", "new", "absent"], {}, "absent", "path|name|folder"),
    "no such threshold": (["predict", "bank", "--threshold", "card"], {}, "--threshold", "LABEL=NUMBER"),
    "shots that are none": (["evaluate", "--tasks", ".", "--shots", "five"], {}, "'five'", "whole number"),
    "no episodes": (["evaluate"], {}, "--tasks", "--episodes-dir"),
    "no tasks to train on": (
        ["metatrain", "--out", "run", "--tasks", "nowhere", "--encoder", "ENCODER", "--tuned-layers", "0"],
        {},
        "nowhere",
        "folder|tasks",
    ),
    "a checkpoint that is none": (["checkpoint", "show", "nowhere"], {}, "'nowhere' is neither", "e5-small-handful"),
    "an unknown learner to train": (
        [
            "metatrain",
            "--out",
            "run",
            "--tasks",
            ".",
            "--learner",
            "bert",
            "--encoder",
            "ENCODER",
            "--tuned-layers",
            "0",
        ],
        {},
        "bert",
        "protomaml",
    ),
}


@pytest.mark.parametrize("mistake", COMMANDS)
def test_a_wrong_command_is_answered_with_cause_and_next_step(
    handful: Handful, tiny_encoder: Path, mistake: str
) -> None:
    given, variables, cause, next_step = COMMANDS[mistake]
    for name, content in FILES.items():
        (handful.folder / name).write_bytes(content)
    address = handful.environment["HANDFUL_URL"]
    places = {
        "HTTPS": address.replace("http://", "https://"),
        "PATH": f"{address}/nowhere",
        "ENCODER": str(tiny_encoder),
    }
    done = handful.fails(*(places.get(word, word) for word in given), codes=(1, 2), stdin="a\n", **variables)
    says(done, cause, next_step)


def test_a_port_that_is_taken(handful: Handful) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        answer = handful.fails("serve", "--port", str(taken.getsockname()[1]))
    says(answer, "is taken", "--port")


def test_a_folder_that_may_not_be_written(handful: Handful, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise sqlite_path.StoreUnavailable(
            f"SQLite at x: unable to open database file{sqlite_path.why_not_writable(handful.folder / 'x.db')}"
        )

    monkeypatch.setattr(sqlite_path.os, "access", lambda *_, **__: False)  # root may write everywhere
    monkeypatch.setattr("service.store_access.SqliteStore", refuse)
    says(handful.fails("serve", "--store", "sqlite:x.db", "--port", "0"), "is not writable for this process", "chown")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("text;label\nGebühr für Köln;gebühr\nwo ist die Karte;karte\n".encode("latin-1"), "semicolons"),
        (json.dumps([{"text": "a", "label": "x"}, {"text": "b", "label": "y"}], indent=2).encode(), "JSON"),
        (("\ufeff" + CSV).encode("utf-8"), "rows"),
        (CSV.encode("utf-16"), "UTF-16"),
    ],
    ids=["latin-1", "a pretty-printed array", "a byte order mark", "utf-16"],
)
def test_files_that_others_refuse_are_read_and_described(handful: Handful, content: bytes, found: str) -> None:
    (handful.folder / "file.csv").write_bytes(content)
    done = handful.run("adapt", "read", "--support", "file.csv")
    assert done.returncode == 0, done.stderr
    assert found in done.stderr


def test_a_text_that_was_cut_is_named_with_its_line(handful: Handful) -> None:
    done = handful.run("predict", "bank", "--queries", "-", stdin="a card\n" + "a card " * 500 + "\n")
    says(" ".join(done.stderr.split()), "1 text is longer than .* and was cut", "line 2")


def test_labels_that_look_alike_are_named_by_line(handful: Handful) -> None:
    (handful.folder / "labels.csv").write_text(CSV + "my card,Card\n")
    done = handful.run("adapt", "alike", "--support", "labels.csv")
    says(" ".join(done.stderr.split()), "'Card'|'card'", "line")


# ---- processes -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "cause", "next_step"),
    [
        (["--store", "redis://127.0.0.1:9/0"], "is not ready: .*store", "it goes on trying"),
        (["--host", ALL_ADDRESSES], "no API key exists: closed", "handful keys create TENANT"),
        ([], "open to everybody who reaches the server", "store: sqlite:"),
    ],
    ids=["its store is away", "everybody reaches it and it has no key", "it is open"],
)
def test_a_server_says_at_its_start_what_is_missing(
    tmp_path: Path, environment: dict[str, str], options: list[str], cause: str, next_step: str
) -> None:
    log = tmp_path / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "handful", "serve", "--port", "0", "--drain-delay-s", "0", *options],
            cwd=tmp_path,
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        until(lambda: re.search("listens on|is ready on", log.read_text()) or server.poll() is not None)
        says(" ".join(log.read_text().split()), cause, next_step)
    finally:
        server.terminate()
        server.wait(LIMIT_S)
