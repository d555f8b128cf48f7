"""Builds the documentation as a site that works without network.

``python -m docs.site`` copies the documents of the repository to ``build/site/pages``, adds the page of all calls, and
has Zensical build ``build/site/html``. A link that leads to no page or heading ends it with an error. The navigation is
the index, ``docs/README.md``.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from docs.openapi_page import openapi_page

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
OUT = ROOT / "build" / "site"
SEARCH_IN_FILES = "docs/iframe-worker.js"
CALLS_PAGE = "docs/calls.md"
"""The page of all calls, which is made at each build."""

_SECTION = re.compile(r"^## (.+)$")
_ENTRY = re.compile(r"^\| \[([^\]]+)\]\(([^)]+)\) \|")
_LINK = re.compile(r"\]\(([^()\s#]+)(?:#[^()\s]*)?(?: \"[^\"]*\")?\)")

Navigation = Mapping[str, list[tuple[str, str]]]


def navigation() -> Navigation:
    """Group -> the titles and pages of it, as the index lists them. Pages are paths in the repository."""
    groups: dict[str, list[tuple[str, str]]] = {}
    group = ""
    for line in (DOCS / "README.md").read_text(encoding="utf-8").splitlines():
        if section := _SECTION.match(line):
            group = section[1]
        elif entry := _ENTRY.match(line):
            page = os.path.normpath(f"docs/{entry[2]}")
            groups.setdefault(group, []).append((entry[1], page))
    groups["Reference"].insert(1, ("Calls and fields", CALLS_PAGE))
    return groups


def documents() -> list[str]:
    """The documents of the site as paths in the repository, and the files that they link to."""
    pages = {"README.md", "README.zh.md", "docs/README.md", "CONTRIBUTING.md", "CHANGELOG.md"}
    pages |= {page for entries in navigation().values() for _, page in entries} - {CALLS_PAGE}
    found: set[str] = set()
    waiting = sorted(page for page in pages if (ROOT / page).is_file())
    while waiting:
        page = waiting.pop()
        found.add(page)
        if page.endswith(".md"):
            targets = {os.path.normpath(f"{Path(page).parent}/{target}") for target in linked(ROOT / page)}
            waiting += sorted(target for target in targets - found if (ROOT / target).is_file())
    return sorted(found)


def linked(page: Path) -> set[str]:
    """The files that a document links to, as written there."""
    return {target for target in _LINK.findall(page.read_text(encoding="utf-8")) if ":" not in target}


def write_pages(folder: Path) -> None:
    """Writes the pages of the site and its configuration into a folder."""
    from service.app import create_app
    from service.settings import Settings

    shutil.rmtree(folder, ignore_errors=True)
    for name in (*documents(), SEARCH_IN_FILES):
        copy = folder / "pages" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy)
    (folder / "pages" / CALLS_PAGE).write_text(openapi_page(create_app(Settings()).openapi()), encoding="utf-8")
    tree = [{"Handful": [{"Start": "README.md"}, {"中文": "README.zh.md"}, {"Documentation": "docs/README.md"}]}]
    tree += [{group: [{title: page} for title, page in entries]} for group, entries in navigation().items()]
    tree.append({"Project": [{"Changes": "CHANGELOG.md"}, {"Contributing": "CONTRIBUTING.md"}]})
    pages = yaml.safe_dump({"nav": tree}, allow_unicode=True, sort_keys=False)
    (folder / "mkdocs.yml").write_text((DOCS / "site.yml").read_text(encoding="utf-8") + pages, encoding="utf-8")


def build(folder: Path = OUT) -> Path:
    """Builds the site and returns the folder of its pages.

    Raises:
        subprocess.CalledProcessError: A link leads nowhere, or the generator failed; its output names the place.
    """
    write_pages(folder)
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--strict", "--config-file", "mkdocs.yml"]
    subprocess.run(command, cwd=folder, check=True, env={**os.environ, "NO_COLOR": "1"})  # noqa: S603  # our own command
    return folder / "html"


def main() -> None:
    """Builds the site and prints where it is."""
    try:
        sys.stdout.write(f"{build() / 'index.html'}\n")
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)


if __name__ == "__main__":
    main()
