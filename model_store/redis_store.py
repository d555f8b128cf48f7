"""The shared store: Redis, Valkey, or any server that speaks their protocol and runs Lua scripts."""

import time
from collections.abc import Collection, Sequence
from typing import cast

import redis
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from model_store.errors import IdempotencyReplay, StoreUnavailable, VersionConflict
from model_store.records import (
    CurrentVersion,
    IdempotentAnswer,
    NewVersion,
    StoredSupport,
    StoredTask,
    StoredTasks,
    StoreMarker,
    TaskRecord,
    Version,
    row_digest,
)
from model_store.redis_api_keys import RedisApiKeys
from model_store.redis_configuration import risks_of
from model_store.redis_failures import bounded, unavailable
from model_store.redis_keys import TASK_KEY, answers_key, once_key, task_key, tasks_key, token_key
from model_store.redis_marker import accept_loss, read_marker, write_first_marker
from model_store.redis_removals import read_removals
from model_store.redis_scripts import COMMIT, DELETE, DELETE_VERSIONS, FORGET_EXPIRED
from model_store.removals import Removal
from model_store.risks import StoreRisk
from model_store.store import TaskName, VersionName

_NUMBERS_AT_ONCE = 1000
"""Most version numbers that are looked at in one round trip, to find those that exist."""


class RedisStore(RedisApiKeys):
    """A ``TaskStore`` in a Redis server, shared by any number of service processes.

    Durability is the server's: with ``appendfsync everysec`` a crash of the server may lose the last second, with
    ``always`` nothing; without an append-only file a restart loses what came after the last snapshot.
    """

    kind = "redis"

    def __init__(self, url: str, *, timeout_s: float = 0.5, max_connections: int = 16) -> None:
        """Prepares a pool; connects with the first call.

        Args:
            url: ``redis://[:password@]host:port/db`` or ``rediss://`` for TLS.
            timeout_s: For connecting, for each reply, and for a free connection. One retry follows.
            max_connections: Size of the pool; callers beyond it wait.

        Raises:
            StoreUnavailable: The URL is not one.
        """
        try:
            pool = redis.BlockingConnectionPool.from_url(
                url,
                max_connections=max_connections,
                timeout=timeout_s,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                # No health checks: each would double the time that a server without a word can cost
                socket_keepalive=True,
                retry=Retry(ConstantBackoff(0.01), retries=1),
                protocol=2,
            )
        except ValueError as error:
            raise StoreUnavailable(f"Redis: {error}") from error
        super().__init__(redis.Redis(connection_pool=pool))
        self._commit = self._redis.register_script(COMMIT)
        self._delete_versions = self._redis.register_script(DELETE_VERSIONS)
        self._delete = self._redis.register_script(DELETE)
        self._forget_expired = self._redis.register_script(FORGET_EXPIRED)

    @bounded
    def commit(
        self,
        new: NewVersion,
        *,
        expected_version: int,
        expected_adapter_id: str | None = None,
        ttl_s: int | None = None,
        idempotent: IdempotentAnswer | None = None,
        erased: Collection[int] = (),
        removal: Removal | None = None,
    ) -> None:
        """See ``TaskStore.commit``."""
        version = new.version
        once = once_key(version.tenant, idempotent.key if idempotent else "")
        rows = new.support.examples if new.support else ()
        outcome, detail = self._commit(
            keys=[
                task_key(version.tenant, version.task),
                tasks_key(version.tenant),
                once,
                answers_key(version.tenant, version.task),
            ],
            args=[
                expected_version,
                version.version,
                version.adapter_id,
                version.to_json(),
                new.adapter,
                "" if ttl_s is None else ttl_s * 1000,
                version.task,
                repr(time.time()),
                int(new.support is not None),
                new.support.rest if new.support else b"",
                int(idempotent is not None),
                idempotent.answer if idempotent else b"",
                idempotent.ttl_s * 1000 if idempotent else 0,
                expected_adapter_id or "",
                _numbers(erased),
                b"".join(map(row_digest, rows)),
                removal.to_json() if removal else "",
                *rows,
            ],
        )
        if outcome == b"conflict":
            raise VersionConflict(int(detail))
        if outcome == b"replay":
            raise IdempotencyReplay(detail)

    @bounded
    def current(self, tenant: str, task: str) -> CurrentVersion | None:
        """See ``TaskStore.current``."""
        (found,) = self.currents([(tenant, task)])
        if isinstance(found, StoreUnavailable):
            raise found
        return found

    @bounded
    def currents(self, tasks: Sequence[TaskName]) -> Sequence[CurrentVersion | StoreUnavailable | None]:
        """See ``TaskStore.currents``."""
        pipeline = self._redis.pipeline(transaction=False)
        for tenant, task in tasks:
            pipeline.hmget(task_key(tenant, task), "current", "adapter_id")
        return [_current_version(reply) for reply in pipeline.execute(raise_on_error=False)]

    @bounded
    def load_adapter(self, tenant: str, task: str, version: int) -> bytes | None:
        """See ``TaskStore.load_adapter``."""
        return self._field(tenant, task, f"adapter:{version}")

    @bounded
    def load_adapters(self, versions: Sequence[VersionName]) -> Sequence[bytes | StoreUnavailable | None]:
        """See ``TaskStore.load_adapters``."""
        pipeline = self._redis.pipeline(transaction=False)
        for tenant, task, version in versions:
            pipeline.hget(task_key(tenant, task), f"adapter:{version}")
        replies: list[bytes | RedisError | None] = pipeline.execute(raise_on_error=False)
        return [unavailable(reply) if isinstance(reply, RedisError) else reply for reply in replies]

    @bounded
    def load_support(self, tenant: str, task: str, version: int) -> StoredSupport | None:
        """See ``TaskStore.load_support``."""
        key = task_key(tenant, task)
        rest, digests = self._redis.hmget(key, f"support:{version}", f"examples:{version}")
        if rest is None:
            return None
        fields = [b"example:" + digests[i : i + 16] for i in range(0, len(digests or b""), 16)]
        rows = self._redis.hmget(key, fields) if fields else []
        # A row that is missing becomes an empty one, which whoever decodes the support set finds
        return StoredSupport(tuple(row or b"" for row in rows), rest)

    @bounded
    def task(self, tenant: str, task: str) -> TaskRecord | None:
        """See ``TaskStore.task``."""
        (record,) = self._records(tenant, [task])
        return record

    @bounded
    def tasks(self, tenant: str, *, after: str = "", limit: int = 100) -> Sequence[TaskRecord]:
        """See ``TaskStore.tasks``."""
        found: list[TaskRecord] = []
        while len(found) < limit:
            wanted = limit - len(found)
            names = self._redis.zrangebylex(tasks_key(tenant), f"({after}" if after else "-", "+", start=0, num=wanted)
            records = self._records(tenant, [name.decode() for name in names])
            for name, record in zip(names, records, strict=True):
                if record is None:
                    self._forget_expired(keys=[task_key(tenant, name.decode()), tasks_key(tenant)], args=[name])
                else:
                    found.append(record)
            if len(names) < wanted:
                break
            after = names[-1].decode()
        return found

    @bounded
    def all_tasks(self, *, after: str = "", limit: int = 100) -> StoredTasks:
        """See ``TaskStore.all_tasks``."""
        cursor, keys = self._redis.scan(int(after or 0), match=task_key("*", "*"), count=limit)
        pipeline = self._redis.pipeline(transaction=False)
        matches = map(TASK_KEY.fullmatch, {key.decode() for key in keys})
        names = [(match[1], match[2]) for match in matches if match]
        for name in names:
            pipeline.hget(task_key(*name), "current")
        numbers = pipeline.execute(raise_on_error=False)
        for name, number in zip(names, numbers, strict=True):
            pipeline.hget(task_key(*name), f"record:{number.decode() if isinstance(number, bytes) else 0}")
        records = pipeline.execute(raise_on_error=False)
        found = [
            StoredTask.of(tenant, task, record if isinstance(record, bytes) else None)
            for (tenant, task), number, record in zip(names, numbers, records, strict=True)
            if number is not None  # deleted since the key was found
        ]
        return StoredTasks(found, str(cursor) if cursor else None)

    @bounded
    def version(self, tenant: str, task: str, version: int) -> Version | None:
        """See ``TaskStore.version``."""
        record = self._field(tenant, task, f"record:{version}")
        return Version.from_json(record) if record else None

    @bounded
    def versions(self, tenant: str, task: str, *, before: int | None = None, limit: int = 100) -> Sequence[Version]:
        """See ``TaskStore.versions``."""
        current = self._redis.hget(task_key(tenant, task), "current")
        newest = min(int(current or 0), before - 1 if before is not None else int(current or 0))
        found: list[int] = []
        while newest > 0 and len(found) < limit:  # there are gaps where versions were removed
            numbers = range(newest, max(0, newest - _NUMBERS_AT_ONCE), -1)
            ids = self._redis.hmget(task_key(tenant, task), [f"id:{number}" for number in numbers])
            found += [number for number, adapter_id in zip(numbers, ids, strict=True) if adapter_id is not None]
            newest -= _NUMBERS_AT_ONCE
        if not found[:limit]:
            return []
        records = self._redis.hmget(task_key(tenant, task), [f"record:{number}" for number in found[:limit]])
        return [Version.from_json(record) for record in records if record is not None]

    @bounded
    def delete_versions(
        self,
        tenant: str,
        task: str,
        versions: Collection[int],
        *,
        keep_answers: bool = False,
        removal: Removal | None = None,
    ) -> int:
        """See ``TaskStore.delete_versions``."""
        keys = [task_key(tenant, task), answers_key(tenant, task), token_key(tenant)]
        args = [_numbers(versions), int(keep_answers), removal.to_json() if removal else ""]
        return int(self._delete_versions(keys=keys, args=args))

    @bounded
    def removed_versions(self, tenant: str, task: str, *, before: int | None = None) -> Sequence[tuple[int, Removal]]:
        """See ``TaskStore.removed_versions``."""
        return read_removals(self._redis, task_key(tenant, task), before)

    @bounded
    def delete(self, tenant: str, task: str) -> bool:
        """See ``TaskStore.delete``."""
        keys = [
            task_key(tenant, task),
            tasks_key(tenant),
            answers_key(tenant, task),
            token_key(tenant),
        ]
        return bool(self._delete(keys=keys, args=[task]))

    @bounded
    def idempotent_answer(self, tenant: str, key: str) -> bytes | None:
        """See ``TaskStore.idempotent_answer``."""
        return cast("bytes | None", self._redis.get(once_key(tenant, key)))

    @bounded
    def marker(self) -> StoreMarker | None:
        """See ``TaskStore.marker``."""
        return read_marker(self._redis)

    @bounded
    def mark(self) -> StoreMarker:
        """See ``TaskStore.mark``."""
        return write_first_marker(self._redis)

    @bounded
    def accept(self, lost_id: str) -> StoreMarker:
        """See ``TaskStore.accept``."""
        return accept_loss(self._redis, lost_id)

    def purge_expired(self) -> None:
        """See ``TaskStore.purge_expired``; Redis does so by itself."""

    @bounded
    def ping(self) -> None:
        """See ``TaskStore.ping``."""
        self._redis.ping()

    @bounded
    def risks(self) -> Sequence[StoreRisk]:
        """See ``TaskStore.risks``."""
        return risks_of(self._redis)

    def close(self) -> None:
        """See ``TaskStore.close``."""
        self._redis.close()
        self._redis.connection_pool.disconnect()

    def _field(self, tenant: str, task: str, field: str) -> bytes | None:
        return cast("bytes | None", self._redis.hget(task_key(tenant, task), field))

    def _records(self, tenant: str, tasks: Sequence[str]) -> list[TaskRecord | None]:
        """Records of several tasks in two round trips, however many; the second asks for the versions of the first."""
        now = time.time()
        pipeline = self._redis.pipeline(transaction=False)
        for task in tasks:
            pipeline.hmget(task_key(tenant, task), "current", "created_at")
            pipeline.pttl(task_key(tenant, task))
        replies = pipeline.execute()
        heads = list(zip(replies[::2], replies[1::2], strict=True))
        for task, ((current, _), _) in zip(tasks, heads, strict=True):
            pipeline.hget(task_key(tenant, task), f"record:{int(current or 0)}")
        return [
            None
            if record is None
            else TaskRecord(Version.from_json(record), float(created), now + ttl_ms / 1000 if ttl_ms >= 0 else None)
            for ((_, created), ttl_ms), record in zip(heads, pipeline.execute(), strict=True)
        ]


def _current_version(reply: tuple[bytes | None, bytes | None] | RedisError) -> CurrentVersion | StoreUnavailable | None:
    if isinstance(reply, RedisError):
        return unavailable(reply)
    version, adapter_id = reply
    if version is None or adapter_id is None:
        return None
    try:
        return CurrentVersion(int(version), adapter_id.decode())
    except ValueError:
        return StoreUnavailable("Redis: a task's newest version is no number")


def _numbers(versions: Collection[int]) -> str:
    return " ".join(map(str, versions))
