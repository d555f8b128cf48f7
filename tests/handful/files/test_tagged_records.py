"""Files of token classification: tokens and tags, texts and spans, CoNLL columns; and what is wrong in them."""

from pathlib import Path

import pytest

from handful.cli.inputs import example_of, query_of
from handful.files import FileInvalid, read_queries, read_support

_TOKENS = '{"tokens": ["to", "Paris"], "tags": ["O", "B-city"], "id": "a"}\n{"tokens": ["hi"], "tags": ["O"]}\n'
_SPANS = '{"text": "to Paris", "spans": [{"start": 3, "end": 8, "label": "city"}]}\n{"text": "hi", "spans": []}\n'
_CONLL = "-DOCSTART- -X- O O\n\nto TO O\nParis NNP B-city\n\nhi UH O\n"


def _write(folder: Path, name: str, content: str) -> str:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return str(path)


def test_tokens_and_tags_become_examples_as_a_request_has_them(tmp_path: Path) -> None:
    read = read_support(_write(tmp_path, "a.jsonl", _TOKENS))
    assert [example_of(row) for row in read.rows] == [
        {"tokens": ["to", "Paris"], "tags": ["O", "B-city"], "id": "a"},
        {"tokens": ["hi"], "tags": ["O"]},
    ]
    assert [row.line for row in read.rows] == [1, 2]
    assert "'tokens', 'tags'" in read.found


def test_texts_and_spans_become_examples(tmp_path: Path) -> None:
    read = read_support(_write(tmp_path, "a.json", f"[{_SPANS.strip().replace(chr(10), ',')}]"))
    spans = [{"start": 3, "end": 8, "label": "city"}]
    assert [example_of(row) for row in read.rows] == [{"text": "to Paris", "spans": spans}, {"text": "hi", "spans": []}]


def test_conll_columns_become_examples(tmp_path: Path) -> None:
    read = read_support(_write(tmp_path, "a.conll", _CONLL))
    assert [example_of(row) for row in read.rows] == [
        {"tokens": ["to", "Paris"], "tags": ["O", "B-city"]},
        {"tokens": ["hi"], "tags": ["O"]},
    ]
    assert [row.line for row in read.rows] == [3, 6]


@pytest.mark.parametrize(("name", "content"), [("a.jsonl", _TOKENS), ("a.conll", _CONLL)])
def test_queries_of_a_tagged_file_are_its_tokens(tmp_path: Path, name: str, content: str) -> None:
    read = read_queries(_write(tmp_path, name, content))
    assert [query_of(row) for row in read.rows] == [{"tokens": ["to", "Paris"]}, {"tokens": ["hi"]}]


def test_queries_of_a_file_with_spans_are_its_texts(tmp_path: Path) -> None:
    assert [query_of(row) for row in read_queries(_write(tmp_path, "a.jsonl", _SPANS)).rows] == ["to Paris", "hi"]


@pytest.mark.parametrize(
    ("name", "content", "line", "words"),
    [
        ("a.jsonl", '{"tokens": ["to", "Paris"], "tags": ["O"]}', 1, "2 tokens and 1 tags"),
        ("a.jsonl", _TOKENS + '{"tokens": ["x"]}', 3, "no tags"),
        ("a.jsonl", _TOKENS + '{"tokens": "x", "tags": ["O"]}', 3, "no list of texts"),
        ("a.jsonl", _TOKENS + '{"text": "", "spans": []}', 3, "no text"),
        ("a.jsonl", '{"text": "a", "spans": [[0, 1]]}', 1, "a span has the form"),
        ("a.jsonl", _SPANS + '{"text": "b"}', 3, "no spans"),
        ("a.conll", "to O\nParis\n", 2, "1 columns, where earlier lines have 2"),
        ("a.conll", "to O\nParis city\n", 2, "no tag"),
    ],
)
def test_faults_name_the_line(tmp_path: Path, name: str, content: str, line: int, words: str) -> None:
    with pytest.raises(FileInvalid, match=words) as caught:
        read_support(_write(tmp_path, name, content))
    assert caught.value.line == line


def test_one_sentence_alone_is_a_query(tmp_path: Path) -> None:
    read = read_queries(_write(tmp_path, "a.json", '{"tokens": ["to", "Paris"]}'))
    assert [query_of(row) for row in read.rows] == [{"tokens": ["to", "Paris"]}]


def test_records_with_a_label_are_of_one_label_whatever_else_they_have(tmp_path: Path) -> None:
    read = read_support(
        _write(tmp_path, "a.jsonl", '{"text": "a b", "label": "x", "tokens": ["a", "b"], "spans": []}\n')
    )
    assert [example_of(row) for row in read.rows] == [{"text": "a b", "label": "x"}]


def test_a_sign_that_is_a_token_is_no_comment(tmp_path: Path) -> None:
    content = "# sent_id = 1\n# O\n1 B-rank\n\n# text = hi there you\nhi O\n# B-rank\n"
    read = read_support(_write(tmp_path, "a.conll", content))
    assert [example_of(row) for row in read.rows] == [
        {"tokens": ["#", "1"], "tags": ["O", "B-rank"]},
        {"tokens": ["hi", "#"], "tags": ["O", "B-rank"]},
    ]


def test_rows_of_an_exported_task_are_read(tmp_path: Path) -> None:
    rows = (
        '{"id":"a","spans":[[3,8,"city"]],"text":"to Paris","source":"adapt"}\n'
        '{"id":"b","spans":[[7,15,"city"]],"words":[[0,6],[7,15]],"text":"fly-to New York","source":"adapt"}\n'
    )
    read = read_support(_write(tmp_path, "examples.jsonl", rows))
    assert [example_of(row) for row in read.rows] == [
        {"text": "to Paris", "spans": [{"start": 3, "end": 8, "label": "city"}], "id": "a"},
        {"tokens": ["fly-to", "New York"], "tags": ["O", "B-city"], "id": "b"},
    ]


def test_spans_of_prodigy_are_read(tmp_path: Path) -> None:
    row = '{"text": "to Paris", "spans": [{"start": 3, "end": 8, "label": "city", "token_start": 1}], '
    read = read_support(
        _write(tmp_path, "a.jsonl", row + '"tokens": [{"text": "to"}], "_task_hash": 1, "answer": "accept"}\n')
    )
    assert [example_of(each)["spans"] for each in read.rows] == [[{"start": 3, "end": 8, "label": "city"}]]


def test_ids_that_are_no_names_are_left_out_and_tags_stay(tmp_path: Path) -> None:
    read = read_support(_write(tmp_path, "a.jsonl", _TOKENS.replace('"a"', '"a b"')))
    assert example_of(read.rows[0]) == {"tokens": ["to", "Paris"], "tags": ["O", "B-city"]}
