"""Round trips: rows that are written as a table or as JSON read back the same."""

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handful.files import read_queries, read_support

# No lone surrogates, which no encoding writes, and no NUL, which marks UTF-16
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\x00\ufeff")
TEXTS = st.text(CHARACTERS, min_size=1, max_size=30).filter(lambda text: text.strip())
LABELS = (
    st.text(CHARACTERS, min_size=1, max_size=10).map(str.strip).filter(lambda label: label[:1] not in {"", "[", "{"})
)
TABLES = st.lists(st.tuples(TEXTS, LABELS), min_size=1, max_size=8)
HEADERS = st.sampled_from([("text", "label"), ("Message", "Category"), ("UTTERANCE", "intent"), ("sentence", "Class")])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for all examples of a test."""
    return tmp_path_factory.mktemp("files")


@settings(max_examples=60, deadline=None)
@given(
    table=TABLES,
    header=HEADERS,
    delimiter=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
)
def test_tables(
    folder: Path,
    table: list[tuple[str, str]],
    header: tuple[str, str],
    delimiter: str,
    end: str,
    encoding: str,
    quoting: int,
) -> None:
    written = io.StringIO()
    if end != "\r\n" or delimiter == "\t":
        # Python before 3.13 quotes the other line end only then. In a tab-separated file whose header has no quotes,
        # the reader may take quotes literally.
        quoting = csv.QUOTE_ALL
    writer = csv.writer(written, delimiter=delimiter, lineterminator=end, quoting=quoting)  # type: ignore[arg-type]
    writer.writerow(header)
    writer.writerows(table)
    path = folder / "a.csv"
    path.write_bytes(written.getvalue().encode(encoding))
    assert [(row.text, row.label) for row in read_support(str(path)).rows] == table
    assert [(row.text, row.label) for row in read_queries(str(path)).rows] == table


@settings(max_examples=60, deadline=None)
@given(table=TABLES, form=st.sampled_from(["lines", "commas", "array", "pretty", "support"]), ascii_only=st.booleans())
def test_json(folder: Path, table: list[tuple[str, str]], form: str, *, ascii_only: bool) -> None:
    records = [{"text": text, "label": label} for text, label in table]

    def dump(value: object, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=ascii_only, indent=indent)

    content = {
        "lines": "\n".join(map(dump, records)),
        "commas": ",\n".join(map(dump, records)),
        "array": dump(records),
        "pretty": dump(records, indent=1),
        "support": dump({"support": records}, indent=1),
    }[form]
    path = folder / "a.json"
    path.write_bytes(content.encode())
    read = read_support(str(path)).rows
    assert [(row.text, row.label) for row in read] == table
    starts = content.split("\n")
    assert all(starts[row.line - 1].lstrip(" [")[:1] == "{" for row in read)


@settings(max_examples=40, deadline=None)
@given(
    lines=st.lists(
        st.text(CHARACTERS.filter(lambda c: c not in "\r\n"), min_size=1, max_size=30), min_size=1, max_size=6
    )
)
def test_plain_lines(folder: Path, lines: list[str]) -> None:
    # Marked so that no line is a document of another kind
    path = folder / "a.txt"
    path.write_bytes("\n".join(f"x {line}" for line in lines).encode())
    assert [row.text for row in read_queries(str(path)).rows] == [f"x {line}" for line in lines]
