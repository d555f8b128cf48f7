"""JSON documents, JSON lines and YAML."""

import json
from typing import Any

import pytest

from handful.files import FileInvalid, ReadOptions, read_descriptions, read_queries, read_support
from tests.handful.files.conftest import Write

TWO = [("I want my money back", "refund"), ("where is my parcel", "delivery")]
RECORDS = [{"text": text, "label": label} for text, label in TWO]
LINES = "".join(json.dumps(record) + "\n" for record in RECORDS)


def refused(source: str, *, labelled: bool = True) -> str:
    """The message of a refusal."""
    with pytest.raises(FileInvalid) as caught:
        (read_support if labelled else read_queries)(source)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "lines", "shape"),
    [
        (LINES, [1, 2], "JSON lines"),
        (LINES.replace("\n", "\r\n"), [1, 2], "JSON lines"),
        (LINES.replace("\n", "\r"), [1, 2], "JSON lines"),
        ("\n" + LINES.replace("\n", "\n\n"), [2, 4], "JSON lines"),
        (LINES.replace("\n", ",\n"), [1, 2], "JSON lines"),
        ("\ufeff" + LINES, [1, 2], "JSON lines"),
        (json.dumps(RECORDS), [1, 1], "JSON array"),
        (json.dumps(RECORDS, indent=1), [2, 6], "JSON array"),
        ("\n".join(json.dumps(record, indent=1) for record in RECORDS), [1, 5], "JSON lines"),
        (json.dumps({"support": RECORDS}), [1, 1], "JSON with 'support'"),
        (json.dumps({"support": RECORDS}, indent=1), [3, 7], "JSON with 'support'"),
        (json.dumps({"examples": RECORDS}), [1, 1], "JSON with 'examples'"),
        (json.dumps({"data": RECORDS}), [1, 1], "JSON with 'data'"),
        (json.dumps({"rows": [{"row_idx": 0, "row": record} for record in RECORDS]}), [1, 1], "JSON with 'rows'"),
        (json.dumps({"text": [a for a, _ in TWO], "label": [b for _, b in TWO]}), [1, 1], "JSON columns"),
    ],
)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.txt", "-"])
def test_documents_of_examples(write: Write, name: str, content: str, lines: list[int], shape: str) -> None:
    read = read_support(write(name, content))
    assert [(row.line, row.text, row.label) for row in read.rows] == [
        (line, *pair) for line, pair in zip(lines, TWO, strict=True)
    ]
    assert read.found == f"2 rows; text from 'text', label from 'label'; {shape}, UTF-8"
    queries = read_queries(write(name, content))
    assert [(row.line, row.text, row.label) for row in queries.rows] == [
        (row.line, row.text, row.label) for row in read.rows
    ]


def test_keys_have_the_names_that_columns_have(write: Write) -> None:
    read = read_support(
        write("a.jsonl", '{"Utterance": "a", "Intent": "x", "id": 7, "weight": 2, "meta": {"text": 1}}\n')
    )
    assert [(row.text, row.label, row.id, row.weight) for row in read.rows] == [("a", "x", "7", 2.0)]
    assert "text from 'Utterance', label from 'Intent'" in read.found
    pair = read_support(write("b.jsonl", '{"sentence1": "a", "sentence2": "b", "label": "x"}\n')).rows[0]
    assert (pair.text, pair.text_pair) == ("a", "b")
    assert "'topic' and 'sentiment' could both be the label" in refused(
        write("c.jsonl", '{"text": "a", "topic": "x", "sentiment": "y"}\n')
    )
    chosen = read_support("c.jsonl", ReadOptions(label_column="sentiment"))
    assert chosen.rows[0].label == "y"


@pytest.mark.parametrize(
    ("value", "label"),
    [("x", "x"), (" x ", "x"), (["x"], "x"), (0, "0"), (1, "1"), (1.0, "1"), ([3], "3"), ("true", "true")],
)
def test_values_that_are_labels(write: Write, value: Any, label: str) -> None:
    read = read_support(write("a.jsonl", json.dumps({"text": "a", "label": value})))
    assert read.rows[0].label == label
    assert ("whole numbers as labels" in read.found) == (not isinstance(value, str) and value != ["x"])


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("NaN", "the label NaN is a number"),
        ("1.5", "the label 1.5 is a number"),
        ("Infinity", "the label Infinity is a number"),
        ("true", 'the label true is no text: write "true" in double quotes'),
        ('{"name": "x"}', 'the label {"name": "x"} is no text'),
        ('["x", "y"]', 'the label ["x", "y"] is a list of several'),
        ('[[0, 4, "PER"]]', "is a list of lists"),
        ("[]", "no label in 'label'"),
        ('""', "no label in 'label'"),
        ('" "', "no label in 'label'"),
        (r'"\ud83d"', "has half a character"),
    ],
)
def test_values_that_are_no_labels_are_refused_with_their_line(write: Write, value: str, reason: str) -> None:
    source = write("a.jsonl", '{"text": "a", "label": "x"}\n\n{"text": "b", "label": ' + value + "}\n")
    message = refused(source)
    assert message.startswith("a.jsonl, line 3: ")
    assert reason in message
    assert [row.label for row in read_queries(source).rows] == ["x", None]


def test_the_label_null_is_out_of_scope_and_is_counted(write: Write) -> None:
    lines = ('{"text": "a", "label": "x", "weight": 2}', '{"text": "b", "label": null}')
    read = read_support(write("a.jsonl", "\n".join(lines)))
    assert [(row.label, row.weight) for row in read.rows] == [("x", 2.0), (None, None)]
    assert "1 example with the label null read as out of scope" in read.found
    unlabelled = refused(write("b.jsonl", '{"text": "a", "intent": "x"}\n{"text": "b", "intent": null}\n'))
    assert "no label in 'intent'" in unlabelled


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        ('{"text": "a", "label": "b"}\n{"text": "a"', 2, "not JSON"),
        ('{"text": "a", "label": "b"}\n{"text": "a"\n', 2, "not JSON"),
        ('{"text": "a"\n{"text": "b"}\n', 1, "not JSON"),
        ('[\n {"text": "a"}\n {"text": "b"}\n]', 3, "not JSON"),
        ('[\n {"text": "a"},\n]', 3, "take off the comma before the bracket"),
        ("{'text': 'a', 'label': 'b'}\n", 1, "JSON has double quotes"),
        ("[" * 100_000, 1, "nested too deeply"),
        ('{"foo": 1}', 1, "its keys are 'foo'"),
        ('{"label": "x"}\n{"label": "y"}\n', 1, "no key is known to hold the text"),
        ('{"text": "a", "label": "x"}\n{"text": 5, "label": "x"}\n', 2, "'text' is 5, which is no text"),
        ('{"text": "a", "label": "x"}\n{"text": " ", "label": "x"}\n', 2, "no text in 'text'"),
        ('{"text": "a", "label": "x"}\n5\n', 2, "5 is no record"),
        ('{"text": ["a"], "label": ["x", "y"]}', 1, "not of one length"),
        ('{\n"support": [],\n"labels": {"x": 1}}', 3, "descriptions have the form"),
        ('{"text": "a", "label": "x"}\n{"text": "b", "label": "x", "label": "y"}', 2, "the key 'label' stands twice"),
        ('[{"text": "a", "label": "x"},\n{"text": "b", "text": "c"}]', 2, "the key 'text' stands twice"),
        ('{"refund": ["a"],\n"delivery": ["b"],\n"refund": ["c"]}', 1, "the key 'refund' stands twice"),
        ('{"text": "a", "label": "x"}\n{"text": "b \\ud800", "label": "x"}\n', 2, "half a character"),
    ],
)
def test_what_is_no_record_is_refused_with_its_line(write: Write, content: str, line: int, reason: str) -> None:
    message = refused(write("a.json", content))
    assert message.startswith(f"a.json, line {line}: ")
    assert reason in message


@pytest.mark.parametrize("content", ["", "[]", '{"support": []}', "\n\n"])
def test_documents_without_records_are_refused(write: Write, content: str) -> None:
    assert refused(write("a.json", content)).startswith("a.json: 0 rows read: ")


def test_one_file_may_hold_examples_queries_and_descriptions(write: Write) -> None:
    body = {"support": RECORDS, "labels": {"refund": "wants money"}, "queries": ["a", {"text": "b", "text_pair": "c"}]}
    source = write("a.json", json.dumps(body, indent=1))
    read = read_support(source)
    assert [row.label for row in read.rows] == ["refund", "delivery"]
    assert read.descriptions == {"refund": "wants money"}
    assert [(row.line, row.text, row.text_pair) for row in read_queries(source).rows] == [
        (16, "a", None),
        (17, "b", "c"),
    ]
    assert read_descriptions(source) == {"refund": "wants money"}
    described = read_support(write("b.json", json.dumps({"support": [], "labels": {"x": "a", "y": "b"}})))
    assert (described.rows, set(described.descriptions)) == ((), {"x", "y"})


def test_texts_by_label(write: Write) -> None:
    read = read_support(write("a.json", '{"refund": ["a",\n"b"],\n"delivery": ["c"]}'))
    assert [(row.line, row.text, row.label) for row in read.rows] == [
        (1, "a", "refund"),
        (2, "b", "refund"),
        (3, "c", "delivery"),
    ]


def test_texts_of_queries(write: Write) -> None:
    for content in (
        '["a", "b"]',
        '{"queries": ["a", "b"]}',
        '{"texts": ["a", "b"]}',
        '"a"\n"b"\n',
        '{"text": "a"}\n{"text": "b"}',
    ):
        assert [row.text for row in read_queries(write("a.json", content)).rows] == ["a", "b"], content


def test_yaml_scalars_are_texts(write: Write) -> None:
    read = read_support(write("a.yml", "- text: is it on\n  label: no\n- text: how many\n  label: 1\n"))
    assert [(row.line, row.label) for row in read.rows] == [(1, "no"), (3, "1")]
    message = refused(write("b.yml", "- text: [\n"))
    assert message.startswith("b.yml, line 2: this is not YAML")
    message = refused(write("c.yml", "refund: [a]\ndelivery: [b]\nrefund: [c]\n"))
    assert message == "c.yml, line 1: this is not YAML: a key stands twice in one mapping"


def test_aliases_of_aliases_stay_small(write: Write) -> None:
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 10))
    assert "no list of records" in refused(write("a.yml", f"l0: &l0 [x]\n{levels}"))
    assert refused(write("b.yml", "a: &a [*a]\n")).startswith("b.yml")


def test_descriptions(write: Write) -> None:
    assert read_descriptions(write("a.json", '{"x": "what x is"}')) == {"x": "what x is"}
    assert read_descriptions(write("a.yml", "no: what it is\n")) == {"no": "what it is"}
    assert read_descriptions(write("a.csv", 'label;description\nx;"what; it is"\n')) == {"x": "what; it is"}
    for content in ("[]", '{"x": 1}', '"x"', '{"x": "a"}\n{"y": "b"}\n'):
        with pytest.raises(FileInvalid, match="descriptions have the form"):
            read_descriptions(write("a.json", content))
    with pytest.raises(FileInvalid, match="not JSON"):
        read_descriptions(write("a.json", "{"))
