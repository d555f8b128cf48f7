"""Random walks through a task's life: whatever happened before, it answers as if adapted on the surviving examples."""

import itertools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from pydantic import SecretStr

from service.settings import Settings
from tests.conftest import STORE_TIMEOUT_S, running_service
from tests.service.stored_values import bytes_in, stored_values
from tests.service.test_examples import add, assert_same_bits, erase, listed, newest

LABELS = ("refund", "delivery", "Überweisung")


class ExamplesMachine(RuleBasedStateMachine):
    """One task, beside a list of the examples that it should have.

    Every text is unique and hard to guess, so that what is left of an erased one can be searched for.
    """

    def __init__(self, client: httpx.Client, left_in: Callable[[], bytes], walk: int) -> None:
        super().__init__()
        self.client, self.left_in, self.task = client, left_in, f"walk-{walk}"
        self.numbers = itertools.count()
        self.examples: list[dict[str, Any]] = []
        self.versions: dict[int, list[dict[str, Any]]] = {}
        self.steps = 1
        self.erased: list[str] = []
        self.adapt(2, 1)

    def _new(self, count: int) -> list[dict[str, Any]]:
        return [
            {"text": f"words-{self.task}-{n:04}-end", "label": LABELS[n % 3]}
            for n in itertools.islice(self.numbers, count)
        ]

    def _made(self, version: int, examples: list[dict[str, Any]]) -> None:
        self.examples = examples
        self.versions[version] = examples

    @rule(count=st.integers(2, 5), steps=st.integers(0, 2))
    def adapt(self, count: int, steps: int) -> None:
        examples = self._new(count)
        body = {"support": examples, "steps": steps}
        headers = {"Idempotency-Key": f"{self.task}-{examples[0]['text']}"}
        response = self.client.post(f"/v1/tasks/{self.task}/adapt", json=body, headers=headers)
        assert response.status_code == 200, response.text
        self.steps = steps
        self._made(response.json()["version"], examples)

    @rule(count=st.integers(1, 3))
    def append(self, count: int) -> None:
        examples = self._new(count)
        answer = add(self.client, examples, self.task, {"Idempotency-Key": examples[0]["text"]})
        self._made(answer["version"], [*self.examples, *examples])

    @rule(data=st.data())
    def erase(self, data: st.DataObject) -> None:
        example = data.draw(st.sampled_from(self.examples))
        (stored,) = listed(self.client, self.task, text=example["text"])
        left = [each for each in self.examples if each != example]
        if len({each["label"] for each in left}) < 2:
            response = self.client.delete(f"/v1/tasks/{self.task}/examples/{stored['id']}")
            assert (response.status_code, response.json()["code"]) == (409, "example_needed")
            return
        answer = erase(self.client, stored["id"], self.task)
        assert answer["removed_versions"] == sorted(n for n, examples in self.versions.items() if example in examples)
        for number in answer["removed_versions"]:
            del self.versions[number]
        self.erased += [example["text"], stored["id"]]
        self._made(answer["version"], left)

    @rule(data=st.data())
    def rollback(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.versions)))
        made = self.client.post(f"/v1/tasks/{self.task}/rollback", json={"version": number}).json()
        self.steps = made["steps"]
        self._made(made["version"], self.versions[number])

    @rule()
    def readapt(self) -> None:
        made = self.client.post(f"/v1/tasks/{self.task}/readapt", json={}).json()
        self._made(made["version"], self.examples)

    @precondition(lambda self: len(self.versions) > 1)
    @rule(data=st.data())
    def remove_version(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.versions)[:-1]))
        assert self.client.delete(f"/v1/tasks/{self.task}/versions/{number}").status_code == 200
        gone = self.versions.pop(number)
        kept = [example for examples in self.versions.values() for example in examples]
        self.erased += [example["text"] for example in gone if example not in kept]

    @invariant()
    def it_is_as_if_adapted_at_once_on_the_surviving_examples(self) -> None:
        fresh = f"{self.task}-fresh"
        body = {"support": self.examples, "steps": self.steps}
        assert self.client.post(f"/v1/tasks/{fresh}/adapt", json=body).status_code == 200
        assert_same_bits(newest(self.client, self.task), newest(self.client, fresh))
        assert self.client.delete(f"/v1/tasks/{fresh}").status_code == 200
        stored = {example["text"] for example in listed(self.client, self.task)}
        assert stored == {example["text"] for example in self.examples}
        found = self.client.get(f"/v1/tasks/{self.task}/versions").json()["versions"]
        assert [version["version"] for version in found] == sorted(self.versions, reverse=True)

    def teardown(self) -> None:
        """Deletes the task, so that a walk does not search what earlier ones have left."""
        assert self.client.delete(f"/v1/tasks/{self.task}").status_code == 200
        left = self.left_in()
        assert f"words-{self.task}-".encode() not in left

    @invariant()
    def nothing_is_left_of_what_was_erased(self) -> None:
        left = self.left_in()
        assert not [erased for erased in self.erased if erased.encode() in left]


@contextmanager
def opened(checkpoint: Path, store_url: str) -> Iterator[httpx.Client]:
    """A service on a store."""
    fields = {"checkpoint": str(checkpoint), "device": "cpu", "precision": "float32", "threads": 1}
    store = SecretStr(store_url)
    with running_service(Settings(**fields, store=store, store_timeout_s=STORE_TIMEOUT_S)) as client:  # type: ignore[arg-type]
        yield client


def walk(
    checkpoint: Path, store_url: str, caplog: pytest.LogCaptureFixture, *, examples: int, steps: int, part: int | None = None
) -> None:
    """Takes random walks on a store; each part has walks of its own, the same ones every time."""
    caplog.set_level(logging.DEBUG)

    def left_in() -> bytes:
        # Not the log of the test's own client, which names the paths that it asks for
        logged = "\n".join(r.getMessage() for r in caplog.records if r.name.startswith("handful")).encode()
        return b"\n".join((bytes_in(store_url), *stored_values(store_url), logged))

    walks = itertools.count()

    def new_walk() -> ExamplesMachine:
        caplog.clear()
        return ExamplesMachine(client, left_in, next(walks))

    with opened(checkpoint, store_url) as client:
        run_state_machine_as_test(
            new_walk if part is None else seed(part)(new_walk),
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
            ),
        )


def test_erasing_is_exact(tiny_checkpoint: Path, store_url: str, caplog: pytest.LogCaptureFixture) -> None:
    walk(tiny_checkpoint, store_url, caplog, examples=4, steps=8)


@pytest.mark.very_slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(1, 11))
def test_erasing_is_exact_in_200_walks(
    tiny_checkpoint: Path, store_url: str, caplog: pytest.LogCaptureFixture, part: int
) -> None:
    walk(tiny_checkpoint, store_url, caplog, examples=20, steps=12, part=part)
