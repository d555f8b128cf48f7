"""The Python of the pages about the client and the estimator, word by word, against a real server."""

import re
import sys
from collections.abc import Iterator
from inspect import getmembers, isfunction
from pathlib import Path

import pytest

from benchmarks.server import running_server
from handful import Client
from tests.e2e.blocks import run

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {
    "client.md": ["card_arrival 0.", "task_not_found", "#/support/0/text", "lost_card"],
    "sklearn.md": ["['card_arrival']", "['lost_card'] 6", "use_label_text"],
    "from-setfit.md": ["['card_arrival']", "\ncard_arrival\n"],
    "from-scikit-learn.md": ["['card_arrival']"],
}
"""Page -> texts of what its code prints."""


def blocks(page: str) -> list[str]:
    """The Python of a page, without that of other packages' users."""
    found = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    return [block for block in found if "import setfit" not in block and "from setfit" not in block]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with the default checkpoint."""
    with running_server(tmp_path_factory.mktemp("pages")) as server:
        yield server.url


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_runs_from_top_to_bottom(url: str, page: str) -> None:
    output = run([sys.executable, "-"], "\n".join(blocks(page)), url)
    for expected in PAGES[page]:
        assert expected in output


def test_the_page_of_the_client_names_every_call() -> None:
    page = (DOCS / "client.md").read_text(encoding="utf-8")
    calls = {name for name, _ in getmembers(Client, isfunction) if not name.startswith("_")}
    assert sorted(name for name in calls if f"{name}(" not in page) == []
