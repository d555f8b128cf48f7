"""The Chinese README says what the English one says: headings, code, links and figures are the same."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENGLISH, CHINESE = (ROOT / name for name in ("README.md", "README.zh.md"))
LANGUAGES = {"README.md", "README.zh.md"}
BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
# A number, with commas between thousands; not a part of a name, such as that of a checkpoint or of a licence
FIGURE = re.compile(r"(?<![\w.-])\d+(?:,\d{3})*(?:\.\d+)*(?![\w-])")


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def prose(path: Path) -> str:
    """A document without code, link targets and addresses."""
    without = re.sub(r"`[^`]*`", " ", BLOCK.sub("", text(path)))
    return re.sub(r"<http[^>]*>", " ", re.sub(r"\]\([^)]*\)", "]", without))


def headings(path: Path) -> list[int]:
    return [len(mark) for mark in re.findall(r"^(#+) ", BLOCK.sub("", text(path)), re.MULTILINE)]


def links(path: Path) -> Counter[str]:
    return Counter(target for target in re.findall(r"\]\(([^)]+)\)", text(path)) if target not in LANGUAGES)


def names(path: Path) -> Counter[str]:
    """What stands in code style in prose: commands, names, addresses."""
    return Counter(re.findall(r"`([^`\n]+)`", BLOCK.sub("", text(path))))


def paragraphs(path: Path) -> list[str]:
    """The form of each part of the document in its order: heading, list item, row of a table, picture or text."""
    forms = []
    for part in BLOCK.sub("<block>", text(path)).split("\n\n"):
        lines = part.strip().splitlines()
        if lines and not re.search(r"^\[[^\]]+\]\(README(\.zh)?\.md\)$", lines[0]):
            forms += [line[:2] for line in lines if line.startswith(("#", "- ", "|", "!", "<block>"))] or ["text"]
    return forms


@pytest.mark.parametrize("part", [headings, links, names, paragraphs], ids=lambda part: part.__name__)
def test_both_have_the_same(part: object) -> None:
    assert callable(part)
    assert part(CHINESE) == part(ENGLISH)


def test_code_is_the_same() -> None:
    assert BLOCK.findall(text(CHINESE)) == BLOCK.findall(text(ENGLISH))


def test_figures_are_the_same() -> None:
    assert Counter(FIGURE.findall(prose(CHINESE))) == Counter(FIGURE.findall(prose(ENGLISH)))
    assert len(FIGURE.findall(prose(ENGLISH))) > 20


def test_each_names_the_other() -> None:
    assert "(README.md)" in text(CHINESE)
