"""The output of predict, classify and try: answers with lines of files, and warnings."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest
from pydantic import SecretStr

from handful.cli import connection
from handful.cli.answers import AnswerSheet, Fault, answer_rows, show_warnings
from handful.cli.output import number_list, printable
from handful.cli.places import Places, Rows
from handful.client import Client
from handful.errors import HandfulError
from handful.files import ReadFile, Row
from handful.wire import Prediction, SupportWarning
from service.local import InProcessTransport
from service.settings import Settings
from tests.conftest import SUPPORT, running_service
from tests.handful.cli.test_cli import Handful, as_jsonl, lines
from tests.service.conftest import TEXTS, adapt
from tests.socket_server import socket_server


@pytest.fixture(scope="module")
def service(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service inside this process with low limits, and a task ``bank``."""
    settings = Settings(
        checkpoint=str(tiny_checkpoint),
        store=SecretStr(f"sqlite:{tmp_path_factory.mktemp('answers') / 'service.db'}"),
        threads=1,
        max_queries=150,
        max_body_bytes=200_000,
    )
    with running_service(settings) as service:
        adapt(service)
        yield service


@pytest.fixture(scope="module")
def url(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server in a thread of this process."""
    with socket_server(tiny_checkpoint, f"sqlite:{tmp_path_factory.mktemp('terminal') / 'handful.db'}") as server:
        yield server.url


@pytest.fixture
def handful(tmp_path: Path, service: httpx.Client, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Handful:
    """The command; its clients reach the service without a socket."""
    transport = service._transport
    assert isinstance(transport, InProcessTransport)
    monkeypatch.setattr(connection, "Client", lambda url, api_key: Client("http://handful", transport=transport))
    variables = {"HANDFUL_CHECKPOINT": str(tiny_checkpoint), "HANDFUL_THREADS": "1", "COLUMNS": "200"}
    (tmp_path / "support.jsonl").write_text(as_jsonl(SUPPORT))
    return Handful(tmp_path, {"PATH": os.environ["PATH"], **variables})


def numbered(count: int, **faulty: str) -> str:
    """Lines of text, some of which are replaced by ``line_N``."""
    return "".join(faulty.get(f"line_{i}", f"where is my card {i}") + "\n" for i in range(1, count + 1))


def test_a_faulty_line_is_named_by_the_files_line_and_all_others_are_answered(handful: Handful) -> None:
    (handful.folder / "queries.txt").write_text(numbered(250, line_30="\u200b", line_230="\u200b\u200b"))
    done = handful.run("predict", "bank", "--queries", "queries.txt")
    assert done.returncode == 1
    answers = lines(done.stdout)
    assert [answer["line"] for answer in answers] == [i for i in range(1, 251) if i not in {30, 230}]
    assert answers[200]["text"] == "where is my card 202"
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert [error.split(": ")[1] for error in errors] == ["queries.txt, line 30", "queries.txt, line 230"]
    assert "#/queries" not in done.stderr


def test_a_text_that_is_larger_than_a_request_costs_only_its_own_line(handful: Handful) -> None:
    huge = "x" * 250_000
    done = handful.run("predict", "bank", stdin=numbered(9, line_4=huge))
    assert done.returncode == 1
    assert [answer["line"] for answer in lines(done.stdout)] == [1, 2, 3, 5, 6, 7, 8, 9]
    assert "standard input, line 4: " in done.stderr


def test_classify_answers_in_parts_that_the_server_takes(handful: Handful) -> None:
    (handful.folder / "queries.txt").write_text(numbered(200, line_180="\u200b"))
    done = handful.run("classify", "--support", "support.jsonl", "--queries", "queries.txt", "--top-k", "1")
    assert done.returncode == 1
    answers = lines(done.stdout)
    assert [answer["line"] for answer in answers] == [i for i in range(1, 201) if i != 180]
    assert all(len(answer["scores"]) == 1 for answer in answers)
    assert "queries.txt, line 180: " in done.stderr
    assert [task["task"] for task in lines(handful("tasks", "list"))] == ["bank"]


def test_classify_names_a_faulty_example_once(handful: Handful) -> None:
    (handful.folder / "faulty.jsonl").write_text(as_jsonl([*SUPPORT, {"text": "\u200b", "label": "card_arrival"}]))
    done = handful.run("classify", "--support", "faulty.jsonl", stdin="where is my card")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("faulty.jsonl, line 7") == 1
    assert "#/support" not in done.stderr


def test_classify_without_a_server_leaves_no_store(handful: Handful) -> None:
    words = ("classify", "--local", "--support", "support.jsonl", "--queries", "support.jsonl")
    assert [answer["text"] for answer in lines(handful(*words))] == TEXTS
    assert sorted(path.name for path in handful.folder.iterdir()) == ["support.jsonl"]


def test_two_files_cannot_both_come_from_standard_input(handful: Handful) -> None:
    assert "give --queries FILE" in handful.fails("classify", "--support", "-", codes=(2,))


def test_the_readers_summary_is_printed_on_standard_error(handful: Handful) -> None:
    done = handful.run("predict", "bank", stdin="where is my card\n")
    assert "standard input: 1 row" in done.stderr
    assert len(lines(done.stdout)) == 1


@pytest.mark.parametrize(
    ("words", "abstained"),
    [
        ((), False),
        (("--abstain", "1.0"), True),
        (("--abstain=1",), True),
        (("--abstain-below", "1"), True),
        (("--abstain", "0"), False),
    ],
)
def test_a_prediction_abstains_under_a_threshold(handful: Handful, words: tuple[str, ...], abstained: bool) -> None:
    (answer,) = lines(handful("predict", *words, "bank", stdin="where is my card"))
    assert answer["abstained"] is abstained
    assert (answer["label"] is None) is abstained
    (answer,) = lines(handful("classify", *words, "--support", "support.jsonl", stdin="where is my card"))
    assert answer["abstained"] is abstained


def test_abstain_alone_takes_the_checkpoints_threshold(handful: Handful, service: httpx.Client) -> None:
    (answer,) = lines(handful("predict", "bank", "--abstain", stdin="where is my card"))
    body = {"queries": ["where is my card"], "abstain": True}
    expected = service.post("/v1/tasks/bank/predict", json=body).json()["predictions"][0]
    assert answer["abstained"] == expected["abstained"]


@pytest.mark.parametrize("threshold", ["2", "-0.5", "nan"])
def test_a_threshold_that_is_none_is_refused(handful: Handful, threshold: str) -> None:
    assert "abstain" in handful.fails("predict", "bank", "--abstain", threshold, codes=(1, 2), stdin="a")


def test_try_reads_an_excel_file_and_answers_lines(handful: Handful) -> None:
    rows = "".join(f"{example['text']};{example['label']}\r\n" for example in SUPPORT)
    (handful.folder / "excel.csv").write_bytes(("Message;Category\r\n" + rows).encode("windows-1252"))
    done = handful.run("try", "excel.csv", "--url", "http://handful", stdin="where is my card\n\nwhat is this fee\n")
    assert done.returncode == 0, done.stderr
    assert [(answer["line"], answer["text"]) for answer in lines(done.stdout)] == [
        (1, "where is my card"),
        (3, "what is this fee"),
    ]
    assert "text from 'Message', label from 'Category'" in done.stderr
    assert "6 examples of 3 classes" in done.stderr
    assert [task["task"] for task in lines(handful("tasks", "list"))] == ["bank"]


def test_try_computes_in_this_process_where_no_server_is_named(handful: Handful) -> None:
    (answer,) = lines(handful("try", "support.jsonl", stdin="where is my card"))
    assert answer["label"] in {example["label"] for example in SUPPORT}
    assert sorted(path.name for path in handful.folder.iterdir()) == ["support.jsonl"]


def test_try_goes_on_after_a_line_that_has_no_answer(handful: Handful) -> None:
    done = handful.run("try", "support.jsonl", "--url", "http://handful", stdin=b"a\n\xff\n\xe2\x80\x8b\nb\n")
    assert done.returncode == 1
    assert [answer["line"] for answer in lines(done.stdout)] == [1, 4]
    assert "line 2: not UTF-8" in done.stderr
    assert "line 3: " in done.stderr


def test_try_names_the_line_of_a_faulty_example(handful: Handful) -> None:
    (handful.folder / "faulty.jsonl").write_text("\n" + as_jsonl([*SUPPORT, {"text": "\u200b", "label": "x"}]))
    assert "faulty.jsonl, line 8" in handful.fails("try", "faulty.jsonl", "--url", "http://handful")


def test_try_asks_for_texts_on_a_terminal(handful: Handful, tiny_checkpoint: Path, url: str) -> None:
    master, slave = os.openpty()
    environment = {**os.environ, "HANDFUL_URL": url, "TERM": "dumb", "COLUMNS": "200"}
    command = subprocess.Popen(
        [sys.executable, "-m", "handful", "try", "support.jsonl"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=handful.folder,
        env=environment,
    )
    os.close(slave)
    shown = typed(master, [b"where is my card\n", b"\xe2\x80\x8b\n", b"what is this fee\n", b":q\n"])
    assert command.wait(timeout=60) == 0
    os.close(master)
    assert "6 examples of 3 classes" in shown
    assert shown.count("> ") == 4
    answers = [line for line in shown.splitlines() if line.startswith("  ")]
    assert len(answers) == 2
    assert all(line.count("0.") == 3 for line in answers)
    assert "error: line 2: " in shown


def typed(terminal: int, words: list[bytes]) -> str:
    """The output of a command on a terminal where these texts are typed, each after a prompt."""
    shown = b""
    while True:
        try:
            data = os.read(terminal, 4096)
        except OSError:  # Linux has no end of file here
            break
        if not data:
            break
        shown += data
        if words and shown.endswith(b"> "):
            os.write(terminal, words.pop(0))
    return shown.decode().replace("\r", "")


def test_the_version_is_printed(handful: Handful) -> None:
    assert handful("--version").startswith("handful 0.")
    assert handful("-h") == handful("--help")
    assert "--abstain" in handful("predict", "-h")


def test_options_that_do_not_go_together_are_refused(handful: Handful) -> None:
    assert "not both" in handful.fails("tasks", "list", "--local", "--url", "http://127.0.0.1:9", codes=(2,))
    assert "--store needs --local" in handful.fails("tasks", "list", "--store", "sqlite:x.db", codes=(2,))


def test_an_error_is_printed_once_and_names_the_option(handful: Handful) -> None:
    done = handful.run("adapt", "bank", "--support", "support.jsonl", "--steps", "9999")
    errors = [line for line in done.stderr.splitlines() if "steps" in line]
    assert len(errors) == 1
    assert errors[0].startswith("error: --steps: ")


def test_a_pipe_that_closes_ends_the_command_quietly(handful: Handful) -> None:
    class Closed:
        encoding = "utf-8"

        def write(self, text: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

        def flush(self) -> None:
            pass

    with mock.patch.object(sys, "stdout", Closed()), mock.patch("contextlib.redirect_stdout", mock.MagicMock()):
        done = handful.run("predict", "bank", stdin=numbered(300))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [done.stderr.splitlines()[0]]  # the reader's summary, and nothing else
    assert "standard input" in done.stderr


def rows_of(*texts: str, first: int = 1) -> Rows:
    """Rows of a file, a line each."""
    return Rows("queries.txt", [Row(line, text) for line, text in enumerate(texts, first)])


def prediction(**fields: Any) -> Prediction:
    """A prediction."""
    return Prediction(**{"label": "x", "confidence": 0.5, "scores": {"x": 0.5}, "abstained": False, **fields})


def refusal(*pointers: str, status: int = 422, code: str = "empty_text") -> HandfulError:
    """A refusal of the server."""
    errors = [{"pointer": pointer, "detail": "no good"} for pointer in pointers]
    return HandfulError("no good", status=status, code=code, errors=errors)


def asker(refuse: Callable[[Sequence[Row]], HandfulError | None], asked: list[int]) -> Any:
    """Answers rows unless they are refused; counts those of each request."""

    def ask(rows: Sequence[Row]) -> list[Prediction]:
        asked.append(len(rows))
        error = refuse(rows)
        if error is not None:
            raise error
        return [prediction()] * len(rows)

    return ask


def test_a_request_that_is_too_large_is_split_in_two() -> None:
    asked: list[int] = []
    ask = asker(lambda rows: refusal(status=413, code="body_too_large") if len(rows) > 2 else None, asked)
    answers = list(answer_rows(rows_of(*"abcde"), ask, Places()))
    assert [answer[0].line for answer in answers if not isinstance(answer, Fault)] == [1, 2, 3, 4, 5]
    assert asked == [5, 2, 3, 1, 2]


def test_a_support_set_that_is_too_large_is_an_error_and_not_a_fault_of_each_row() -> None:
    asked: list[int] = []
    ask = asker(lambda rows: refusal(status=413, code="body_too_large"), asked)
    with pytest.raises(HandfulError):
        list(answer_rows(rows_of(*"abcd"), ask, Places()))
    assert asked == [4, 2, 1]


def test_an_error_of_the_support_set_is_not_asked_again() -> None:
    asked: list[int] = []
    support = Rows("support.csv", [Row(2, "a"), Row(5, "b")])
    ask = asker(lambda rows: refusal("#/queries/0", "#/support/1/label"), asked)
    with pytest.raises(HandfulError) as caught:
        list(answer_rows(rows_of("a"), ask, Places(support=support)))
    assert asked == [1]
    assert [part["pointer"] for part in caught.value.errors] == ["queries.txt, line 1", "support.csv, line 5, label"]


def test_a_pointer_that_no_row_has_ends_the_work() -> None:
    asked: list[int] = []
    with pytest.raises(HandfulError):
        list(answer_rows(rows_of("a"), asker(lambda rows: refusal("#/queries/7"), asked), Places()))
    assert asked == [1]


def test_places_are_lines_or_rows_of_files() -> None:
    without_lines = Rows.of(ReadFile((Row(0, "a", label="x"), Row(0, "b", label="y")), "", source="export.json"))
    places = Places(support=without_lines, queries=rows_of("a", first=9), labels="labels.json")
    assert places.of("#/support/1/text") == "export.json, row 2"
    assert places.of("#/support/1/label") == "export.json, row 2, label"
    assert places.of("#/support") == "export.json"
    assert places.of("#/queries/0/text_pair") == "queries.txt, line 9, text_pair"
    assert places.of("#/queries/1") == "#/queries/1"
    assert places.of("#/labels/a~1b~0c") == "labels.json, label 'a/b~c'"
    assert places.of("#/learning_rate") == "--learning-rate"
    assert places.of("path/task") == "path/task"
    assert places.of_all(["#/support/1/label", "#/support/0", "#/labels/x", "#/queries/0"]) == (
        "export.json, rows 1 and 2; queries.txt, line 9; labels.json, label 'x'"
    )


def test_long_lists_of_lines_are_cut() -> None:
    assert number_list("line", [4]) == "line 4"
    assert number_list("line", [4, 5]) == "lines 4 and 5"
    assert number_list("line", list(range(1, 31))).endswith("11, 12 and 18 more")


def test_warnings_are_printed_once_with_the_files_lines(capsys: pytest.CaptureFixture[str]) -> None:
    support = Rows("support.csv", [Row(2, "a"), Row(4, "b"), Row(5, "c")])
    warning = SupportWarning(
        code="labels_look_alike", detail="2 labels look alike.", pointers=["#/support/0/label", "#/support/2/label"]
    )
    seen: set[str] = set()
    for _ in range(2):
        show_warnings([warning], Places(support=support), seen)
    assert capsys.readouterr().err.splitlines() == ["warning: 2 labels look alike. See support.csv, lines 2 and 5."]


def test_texts_that_were_cut_or_not_read_are_reported_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    answer = {"name": "x", "fingerprint": "x", "learner": "x", "placement": "head", "fast_layers": 0, "steps": 1}
    answer |= {"encoder": {"max_tokens": 64}, "device": "cpu", "runtime": "torch", "limits": {}}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=answer))
    file = rows_of(*"abcd", first=3)
    with (
        Client("http://handful", transport=transport) as client,
        AnswerSheet(file, as_json=True, client=client) as sheet,
    ):
        for row, fields in zip(
            file.rows, ({}, {"truncated": True}, {"unreadable": True}, {"truncated": True}), strict=True
        ):
            sheet.add(row, prediction(**fields))
    printed = capsys.readouterr()
    assert [json.loads(line)["line"] for line in printed.out.splitlines()] == [3, 4, 5, 6]
    assert printed.err.splitlines() == [
        "warning: 2 texts are longer than 64 tokens and were cut: queries.txt, lines 4 and 6",
        "warning: 1 text is in words that the encoder hardly knows: queries.txt, line 5",
    ]


def test_a_text_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[2Jb\nc\u202ed") == "a [2Jb c d"
