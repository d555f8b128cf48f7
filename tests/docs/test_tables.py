"""The documents' tables of options are what the code declares."""

from pathlib import Path

import pytest

from docs.tables import DOCS, TABLES, rewritten
from handful.wire import AdaptRequest
from service.settings import PREFIX, Settings


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_a_document_has_the_tables_that_the_code_makes(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text == rewritten(text), "run make docs-tables"


def test_every_table_stands_in_a_document() -> None:
    texts = "".join(path.read_text(encoding="utf-8") for path in DOCS.glob("*.md"))
    assert [name for name in TABLES if f"<!-- table: {name} -->" not in texts] == []


def test_the_table_of_adapt_has_a_row_for_each_field() -> None:
    rows = TABLES["adapt-fields"]().splitlines()[2:]
    assert {row.split("`")[1] for row in rows} == set(AdaptRequest.model_fields)
    assert all(row.count("|") == 4 for row in rows)


def test_operators_find_every_setting() -> None:
    rows = [
        line for line in (DOCS / "operations.md").read_text(encoding="utf-8").splitlines() if line.startswith("| `")
    ]
    named = "".join(row.split("|")[1] for row in rows)
    assert [name for name in Settings.model_fields if f"`{PREFIX}{name.upper()}`" not in named] == []


def test_operators_find_the_lines_of_the_log() -> None:
    lines = TABLES["log-events"]().splitlines()[2:]
    for line in (
        "| error | `store: it does not answer: …` |",
        "| critical | `store: it has lost its data or is another one: …` |",
        "| error | `the compute thread died` |",
        "| warning | `task … of … was not adapted again: …` |",
    ):
        assert line in lines
    assert len(lines) == len(set(lines)) > 25
