"""The site of the documentation: its navigation, its page of calls, and a build that loads nothing from elsewhere."""

import re
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from docs import site
from docs.openapi_page import openapi_page
from service.app import create_app
from service.settings import Settings

GROUPS = ["Tutorials", "How-to", "Reference", "Background"]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(Settings()).openapi()


def test_the_navigation_has_four_groups_and_every_page() -> None:
    groups = site.navigation()
    assert list(groups) == GROUPS
    listed = [page for entries in groups.values() for _, page in entries]
    assert len(set(listed)) == len(listed)
    pages = {str(path.relative_to(site.ROOT)) for path in site.DOCS.rglob("*.md")} - {"docs/README.md"}
    assert sorted(pages - set(listed)) == []


def test_the_site_has_what_its_pages_link_to() -> None:
    documents = site.documents()
    assert {"docs/playground.png", "benchmarks/RESULTS.md", "benchmarks/accuracy.png"} <= set(documents)
    assert len(documents) == len(set(documents))


def test_the_page_of_calls_has_every_call_and_object(document: dict[str, Any]) -> None:
    page = openapi_page(document)
    calls = [f"### `{method.upper()} {path}`" for path, item in document["paths"].items() for method in item]
    objects = [f"### {name}\n" for name in document["components"]["schemas"]]
    assert [text for text in (*calls, *objects) if text not in page] == []
    for name, schema in document["components"]["schemas"].items():
        part = page.split(f"### {name}\n")[1].split("\n### ")[0]
        assert [field for field in schema.get("properties", {}) if f"| `{field}` |" not in part] == []


def test_links_of_the_page_of_calls_lead_to_its_headings(document: dict[str, Any]) -> None:
    page = openapi_page(document)
    headings = {name.lower() for name in re.findall(r"^### (\w+)$", page, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= headings
    assert all(line.count("|") - line.count("\\|") in {4, 5} for line in page.splitlines() if line.startswith("| `"))


class _Loaded(HTMLParser):
    """Collects what a page loads by itself: scripts, styles, pictures, fonts, frames."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag in {"script", "img", "iframe", "source"}:
            self.addresses.append(given.get("src", ""))
        if tag == "link" and given.get("rel") not in {"canonical", "next", "prev", "alternate"}:
            self.addresses.append(given.get("href", ""))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return site.build(tmp_path_factory.mktemp("site"))


def pages(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    for path in folder.rglob("*.html"):
        parser = _Loaded()
        parser.feed(path.read_text(encoding="utf-8"))
        yield path, [address for address in parser.addresses if address]


@pytest.mark.slow
def test_the_site_loads_nothing_from_other_hosts(built: Path) -> None:
    found = dict(pages(built))
    assert len(found) > 30
    assert [(path.name, a) for path, loaded in found.items() for a in loaded if re.match(r"(https?:)?//", a)] == []
    styles = "".join(path.read_text(encoding="utf-8") for path in built.rglob("*.css"))
    assert re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//[^)\"']+", styles) == []


@pytest.mark.slow
def test_the_search_finds_words_of_every_page(built: Path) -> None:
    index = (built / "search.json").read_text(encoding="utf-8")
    titles = [title for entries in site.navigation().values() for title, _ in entries]
    assert titles
    for path, _ in pages(built):
        name = path.relative_to(built).as_posix()
        assert name in index or name in {"index.html", "404.html"}, name


@pytest.mark.slow
def test_a_link_that_leads_nowhere_ends_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = site.write_pages

    def with_a_broken_link(folder: Path) -> None:
        write(folder)
        page = folder / "pages" / "docs" / "files.md"
        page.write_text(page.read_text(encoding="utf-8") + "\n[gone](files.md#no-such-heading)\n", encoding="utf-8")

    monkeypatch.setattr(site, "write_pages", with_a_broken_link)
    with pytest.raises(subprocess.CalledProcessError):
        site.build(tmp_path / "site")
