"""Markdown documents: their links resolve, and their form is the agreed one."""

import re
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
INDEX = DOCS / "README.md"
MAX_COLUMNS = 100
MAX_README_LINES = 120

FENCE = re.compile(r"^\s*(```|~~~)")
HEADING = re.compile(r"^#{1,6} (.*)$")
# `[text](target)` and `![text](target "title")`; a text may hold brackets of its own, such as an interval
LINK = re.compile(r"\]\(([^()\s]+)(?: \"[^\"]*\")?\)")
CODE = re.compile(r"(`+)(?:(?!\1).)+\1", re.DOTALL)


def tracked_documents() -> list[str]:
    """The Markdown files of the repository, without those of an environment beside it."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = listed.stdout.split() or [str(path.relative_to(ROOT)) for path in DOCS.rglob("*.md")]
    return sorted(name for name in found if (ROOT / name).is_file())


DOCUMENTS = tracked_documents()


def prose(path: Path) -> list[tuple[int, str]]:
    """The numbered lines of a document outside of fenced code."""
    lines, fenced = [], False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if FENCE.match(line):
            fenced = not fenced
        elif not fenced:
            lines.append((number, line))
    return lines


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, made as GitHub makes them."""
    found: set[str] = set()
    for _, line in prose(path):
        if heading := HEADING.match(line):
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).replace("`", "").replace("*", "")
            slug = re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")
            again = 0
            while (name := f"{slug}-{again}" if again else slug) in found:
                again += 1
            found.add(name)
    return found


def links(path: Path) -> list[str]:
    """The targets of a document's links that are no addresses of the web."""
    text = CODE.sub("", "\n".join(line for _, line in prose(path)))
    return [unquote(target) for target in LINK.findall(text) if not re.match(r"[a-z][a-z+.-]*:", target)]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_to_a_file_and_a_heading(name: str) -> None:
    path = ROOT / name
    broken = []
    for target in links(path):
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_prose_is_wrapped(name: str) -> None:
    # Tables, headings, pictures, code and a link of its own length cannot be broken
    wide = [
        f"{name}:{number}"
        for number, line in prose(ROOT / name)
        if len(line) > MAX_COLUMNS and " " in line.strip() and not re.match(r"\s*(\||#|!\[)", line)
    ]
    assert wide == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MAX_README_LINES


def test_the_index_lists_every_page() -> None:
    listed = {(DOCS / target.partition("#")[0]).resolve() for target in links(INDEX)}
    pages = {path.resolve() for path in DOCS.rglob("*.md")} - {INDEX.resolve()}
    assert sorted(str(path.relative_to(DOCS)) for path in pages - listed) == []


def test_the_index_describes_each_page_in_one_line() -> None:
    described = [line for _, line in prose(INDEX) if re.match(r"\| \[[^\]]+\]\([^)]+\) \|", line)]
    assert len(described) == len({LINK.findall(line)[0] for line in described})
    assert all(len(line.split("|")[2].split()) > 1 for line in described)
