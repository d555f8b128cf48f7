"""Queries: plain lines of text, also lines that look like a table or like JSON."""

import pytest

from handful.files import FileInvalid, ReadOptions, read_queries
from tests.handful.files.conftest import Write

PLAIN = [
    "hello, I need help",
    "hello, I need help\nwhere, is it\n",
    "Question, where is it?\nwell, now\n",
    "message, please\ncall me, now\n",
    "text me, please\nlabel it, now\n",
    "Message\nhello there\n",
    "text\n",
    '"Where is my card?" is what I asked you last week\nwhy was I charged\n',
    '"Where is my card?"\nhe said: "now"\n',
    "{name} wants a refund\nwhy\n",
    '{"error": "not found"} is what I get\nwhy\n',
    "[1] see the footnote\nwhy\n",
    "[urgent] help\n[again] help\n",
    "one\ttwo\nthree\n",
    "a;b\nc;d\n",
    "where is it\u2028second line\nwhy\x0bnot\n",
    "\n\nfirst\n\nsecond\n",
    "12\n13\n",
    "- a list\n- of things\n",
]


@pytest.mark.parametrize("content", PLAIN)
@pytest.mark.parametrize("name", ["-", "a.txt", "queries"])
def test_plain_lines_are_texts(write: Write, name: str, content: str) -> None:
    read = read_queries(write(name, content))
    expected = [(number, line) for number, line in enumerate(content.split("\n"), 1) if line.strip()]
    assert [(row.line, row.text) for row in read.rows] == expected
    assert read.found == f"{len(expected)} row{'s' * (len(expected) != 1)}; one text a line; UTF-8"


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_line_ends_are_no_part_of_a_text(write: Write, end: str) -> None:
    assert [(row.line, row.text) for row in read_queries(write("-", f"a{end}{end}b c{end}")).rows] == [
        (1, "a"),
        (3, "b c"),
    ]


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("text,label\nwhere is my card,x\n", ["where is my card"]),
        ("Text;Label\r\nwhere is it;x\r\n", ["where is it"]),
        ("sep=;\ntext;label\nwhere is it;x\n", ["where is it"]),
        ("id,text\n1,where is it\n2,why\n", ["where is it", "why"]),
        ("id\tutterance\n1\twhere, then\n", ["where, then"]),
        ('text,label\n"a, b",x\n', ["a, b"]),
        ("text\nwhere is my card\nwhy\n", ["where is my card", "why"]),
        ('"text"\n"a, b"\n"c"\n', ["a, b", "c"]),
    ],
)
def test_a_table_on_standard_input_is_known_by_its_header(write: Write, content: str, texts: list[str]) -> None:
    read = read_queries(write("-", content))
    assert [row.text for row in read.rows] == texts
    assert read.found.startswith(f"{len(texts)} row")
    assert "text from" in read.found
    assert read.source == "standard input"


def test_a_csv_without_header_and_with_one_column_is_a_list_of_texts(write: Write) -> None:
    read = read_queries(write("a.csv", 'where is my card\n"why, then"\n'))
    assert [row.text for row in read.rows] == ["where is my card", "why, then"]
    assert read.found == "2 rows; one text a row, no header; UTF-8"


def test_sentences_with_commas_in_a_csv_are_refused_and_the_remedy_works(write: Write) -> None:
    content = "hello, you\nwhere, is it\n"
    with pytest.raises(FileInvalid, match="where each line is one text, give --delimiter tab"):
        read_queries(write("a.csv", content))
    for read in (read_queries("a.csv", ReadOptions(delimiter="tab")), read_queries(write("a.tsv", content))):
        assert [row.text for row in read.rows] == ["hello, you", "where, is it"]


def test_errors_name_standard_input(write: Write) -> None:
    with pytest.raises(FileInvalid, match=r"^standard input, line 3: this row has 3 fields, the header has 2"):
        read_queries(write("-", "text,label\na,x\nHello, you,y\n"))
    for content in ("", "\n", "text,label\n"):
        with pytest.raises(FileInvalid, match=r"^standard input: 0 rows read"):
            read_queries(write("-", content))


def test_the_caller_makes_a_table_of_it(write: Write) -> None:
    source = write("a.txt", "one two\tx\nthree four\ty\n")
    assert [row.text for row in read_queries(source, ReadOptions(text_column="1")).rows] == ["one two", "three four"]
    assert read_queries(source).rows[0].text == "one two\tx"
