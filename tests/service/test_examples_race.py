"""Many who append to one task at once: each is told of the race, tries again, and nothing is lost."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from pydantic import SecretStr

from handful.client import Client
from model_store.codec import decode_rows
from service.local import LocalService, local_service
from service.settings import Settings
from tests.conftest import STORE_TIMEOUT_S, SUPPORT

THREADS = 16


def append(service: LocalService, task: str, thread: int) -> str:
    """Appends one example; returns its id."""
    with service.client() as client:
        (example,) = client.add_examples(task, [(f"the text of thread {thread}", f"label {thread % 3}")]).ids
    return example


def race(checkpoint: Path, store_url: str, rounds: int) -> None:
    """Lets threads append to one task after another, and compares with all that they appended."""
    fields = {"checkpoint": str(checkpoint), "device": "cpu", "precision": "float32", "threads": 1, "keep_versions": 3}
    settings = Settings(**fields, store=SecretStr(store_url), store_timeout_s=STORE_TIMEOUT_S)  # type: ignore[arg-type]
    with local_service(settings) as service, ThreadPoolExecutor(THREADS) as threads:
        client: Client = service.client()
        for number in range(rounds):
            task = f"round-{number}"
            client.adapt(task, SUPPORT, steps=1)
            ids = list(threads.map(partial(append, service, task), range(THREADS)))
            assert client.task(task).version == 1 + THREADS, "each append has made one version"
            found = {example.id: example.text for example in client.examples(task, source="examples")}
            assert found == {example: f"the text of thread {thread}" for thread, example in enumerate(ids)}
            # In the order in which they were appended, the examples give the same answers at once
            stored = service.store.load_support("default", task, 1 + THREADS)
            assert stored is not None
            rows = [row.model_dump(include={"text", "label"}) for row in decode_rows(stored)[0]]
            client.adapt("at-once", rows, steps=1)
            answers = [client.predict(name, [row["text"] for row in rows]) for name in (task, "at-once")]
            assert answers[0].predictions == answers[1].predictions


def test_sixteen_threads_that_append_lose_nothing(tiny_checkpoint: Path, store_url: str) -> None:
    race(tiny_checkpoint, store_url, rounds=1)


@pytest.mark.very_slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(10))
def test_sixteen_threads_that_append_in_200_rounds_lose_nothing(
    tiny_checkpoint: Path, store_url: str, part: int
) -> None:
    race(tiny_checkpoint, store_url, rounds=20)
