"""Files of examples, read by the server as the command line reads them."""

import gzip
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handful.files import ReadOptions, read_support
from tests.conftest import StartService
from tests.service.conftest import bearer, make_key

EXAMPLES = Path(__file__).parents[2] / "service" / "playground" / "examples"


def read(client: httpx.Client, data: bytes, **query: str) -> httpx.Response:
    """The answer on a file."""
    return client.post("/v1/examples/read", content=data, params=query)


@pytest.mark.parametrize("path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_bundled_files_read_as_on_the_command_line(shared_service: httpx.Client, path: Path) -> None:
    answer = read(shared_service, path.read_bytes(), name=path.name).json()
    expected = read_support(str(path), ReadOptions())
    assert answer["found"] == expected.found
    assert [(row["text"], row["label"]) for row in answer["examples"]] == [(r.text, r.label) for r in expected.rows]
    assert answer["lines"] == [row.line for row in expected.rows]
    adapted = shared_service.post("/v1/tasks/read/adapt", json={"support": answer["examples"]})
    assert adapted.status_code == 200, adapted.text


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ("text;label\nwo bleibt es;später\ngeld zurück;rück\n".encode("cp1252"), "semicolons, Windows-1252 (a guess)"),
        ("text\tlabel\na card\tcard\n".encode("utf-16"), "tabs, UTF-16"),
        (b'\xef\xbb\xbf[{"text": "a card", "label": "card"}]', "JSON array, UTF-8"),
        (b"nlu:\n- intent: card\n  examples: |\n    - a card\n", "Rasa YAML, UTF-8"),
    ],
)
def test_formats_and_encodings(shared_service: httpx.Client, data: bytes, found: str) -> None:
    answer = read(shared_service, data)
    assert answer.status_code == 200, answer.text
    assert answer.json()["found"].endswith(found)


def test_statements_about_the_file_overrule_guesses(shared_service: httpx.Client) -> None:
    data = "Frage|Art|Ort\nwo bleibt es|später|Köln\n".encode("cp1252")
    refused = read(shared_service, data, delimiter="|", encoding="cp1252")
    assert refused.status_code == 422
    assert "label_column" in refused.json()["detail"]
    assert "--" not in refused.json()["detail"]
    query = {"text_column": "Frage", "label_column": "Art", "delimiter": "|", "encoding": "cp1252"}
    (example,) = read(shared_service, data, **query).json()["examples"]
    assert (example["text"], example["label"]) == ("wo bleibt es", "später")


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "the file is empty"),
        (b"PK\x03\x04 xl/workbook", "save it as CSV UTF-8"),
        (gzip.compress(b"text,label\na,b\n", mtime=0), "unpack it"),
        (b"text,label\na card,card\n,fee\n", "table.csv, line 3: no text"),
        (b'{"text": "a \\ud800", "label": "b"}', "table.csv, line 1: 'text' has half a character"),
        (b"[" * 100_000, ""),
    ],
)
def test_what_cannot_be_read_is_refused_with_place_and_remedy(
    shared_service: httpx.Client, data: bytes, cause: str
) -> None:
    answer = read(shared_service, data, name="table.csv")
    assert (answer.status_code, answer.json()["code"]) == (422, "file_unreadable"), answer.text
    assert cause in answer.json()["errors"][0]["detail"]


def test_comments_before_a_table_do_not_hold_the_server_up(shared_service: httpx.Client) -> None:
    assert read(shared_service, b"#     \n" * 60 + b"x").status_code == 422
    assert read(shared_service, b"## intent: a" + b" " * 200_000 + b"b\n- a card\n").status_code == 200


def test_limits_and_keys(start_service: StartService) -> None:
    client = start_service(max_body_bytes=1024)
    refused = read(client, b"text,label\n" + b"a,b\n" * 300)
    assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")
    packed = gzip.compress(b"text,label\n" + b"a,b\n" * 200, mtime=0)
    answer = client.post("/v1/examples/read", content=packed, headers={"Content-Encoding": "gzip"})
    assert len(answer.json()["examples"]) == 200
    key = make_key(client, "acme")
    assert read(client, b"text,label\na,b\n").status_code == 401
    assert client.post("/v1/examples/read", content=b"text,label\na,b\n", headers=bearer(key)).status_code == 200


PIECES = st.sampled_from(
    [b"text", b"label", b",", b";", b"\t", b"\n", b"\r", b'"', b"'", b"{", b"}", b"[", b"]", b":", b"\\ud800", b"\xff",
     b"\x00", b"\xe4", b"- ", b"nlu:", b"## intent:a", b"|", b"&a ", b"*a", b"1", b" "]
)  # fmt: skip


@given(
    parts=st.lists(PIECES | st.binary(max_size=5), max_size=20), name=st.sampled_from(["", "a.csv", "a.json", "a.yml"])
)
def test_no_bytes_are_a_server_error(shared_service: httpx.Client, parts: list[bytes], name: str) -> None:
    answer = read(shared_service, b"".join(parts), name=name)
    assert answer.status_code in {200, 422}, answer.text


@given(
    delimiter=st.text(min_size=1, max_size=2), encoding=st.sampled_from(["utf-8", "utf-16", "idna", "hex", "zip", "x"])
)
def test_no_statement_is_a_server_error(shared_service: httpx.Client, delimiter: str, encoding: str) -> None:
    answer = read(shared_service, b"text,label\na card,card\n", delimiter=delimiter, encoding=encoding)
    assert answer.status_code in {200, 422}, answer.text
