"""The blocks of the page on other APIs' clients, word by word, against a real server."""

import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from benchmarks.server import running_server
from tests.e2e.blocks import code_block, run

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs" / "doors.md").read_text(encoding="utf-8")
SUPPORT = [
    {"text": "I have not received my card yet", "label": "card_arrival"},
    {"text": "when does the card come", "label": "card_arrival"},
    {"text": "what is this fee on my statement", "label": "extra_charge"},
    {"text": "I was charged twice", "label": "extra_charge"},
]
BLOCKS = {
    "huggingface_hub": ("python", "InferenceClient", "card_arrival "),
    "cohere": ("python", "import cohere", "card_arrival "),
    "text-embeddings-inference": ("sh", "/predict?task", '[[{"label": "card_arrival"'),
    "vllm": ("sh", '"model": "bank"', '"label": "card_arrival"'),
    "jina": ("sh", "/v1/train", '"prediction": "card_arrival"'),
    "tritonclient": ("python", "import tritonclient", "[b'card_arrival' b'extra_charge']"),
    "label-studio": ("sh", "label-studio/support", '{"model_version": "support@1"}'),
    "mcp": ("python", "from mcp", "{'card_arrival': "),
}
"""Client -> the language of its block, a text in it, and a text of its output."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with the default checkpoint and the task bank."""
    with running_server(tmp_path_factory.mktemp("doors")) as server:
        answer = httpx.post(f"{server.url}/v1/tasks/bank/adapt", json={"support": SUPPORT})
        assert answer.status_code == 200, answer.text
        yield server.url


@pytest.mark.parametrize("client", BLOCKS)
def test_a_block_of_the_page_works(url: str, client: str) -> None:
    language, part, expected = BLOCKS[client]
    if language == "python" and find_spec(client) is None:
        pytest.skip(f"{client} is not installed")
    command = [sys.executable, "-"] if language == "python" else ["bash", "-e"]
    assert expected in run(command, code_block(language, part, PAGE), url)


def test_every_block_of_the_page_is_run() -> None:
    assert len(re.findall(r"^```\w", PAGE, re.MULTILINE)) == len(BLOCKS)
