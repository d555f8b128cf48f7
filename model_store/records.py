"""Records of a store: everything about a task, its versions and API keys but the weights themselves."""

import hashlib
import json
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Self

from pydantic import TypeAdapter

from metalearn.options import AdaptOptions
from metalearn.types import Decision, TaskKind
from model_store.errors import StoreUnavailable

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
"""Names of tasks and tenants. No braces, colons or slashes, so a name cannot reach outside its Redis key."""

VersionSource = Literal["adapt", "rollback", "readapt", "examples", "erase"]
"""The call that made a version."""

_NAME = re.compile(NAME_PATTERN)


def is_name(name: str) -> bool:
    """Whether a task or a tenant may be called this."""
    return _NAME.fullmatch(name) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionDraft:
    """A version before it has its number: what was asked for, and what came of it.

    The options, the examples that ``support_digests`` names and the checkpoint decide the weights, so a version whose
    support set is kept can be derived again.

    Attributes:
        labels: The classes, in the order of the head's rows.
        n_support: Number of examples adapted on.
        learner: The learner that made it.
        steps: Inner steps taken.
        options: The options of the request.
        support_digests: Digest of each example in its order, then of each description of a label; see
            ``model_store.codec.support_digests``. None in records that are older than the field.
        support_accuracy: Share of the examples that the adapter classifies correctly; None without examples.
        leave_one_out_accuracy: Share of the examples that are classified correctly without themselves; None where each
            is the only one of its class, and in records that are older than the field.
        source: The call that made it.
        copied_from: The version whose weights a rollback brought back.
        kind: What the task answers; records that are older than the field are of one label a text.
        decision: How answers are made of the head's outputs; None where the objective alone says it.
        figures: Figures of the answers to examples without themselves, by name; None for classifications.
    """

    labels: tuple[str, ...]
    n_support: int
    learner: str
    steps: int
    options: AdaptOptions
    support_digests: tuple[str, ...] | None = None
    support_accuracy: float | None
    leave_one_out_accuracy: float | None = None
    source: VersionSource
    copied_from: int | None
    kind: TaskKind = "single_label"
    decision: Decision | None = None
    figures: Mapping[str, float] | None = None

    def committed(self, **facts: Any) -> "Version":
        """The version that the draft becomes.

        Args:
            facts: The fields of ``Version`` that a draft does not have.
        """
        return Version(**{field.name: getattr(self, field.name) for field in fields(VersionDraft)}, **facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Version(VersionDraft):
    """One immutable version of a task.

    Attributes:
        tenant: Its owner.
        task: Its task.
        version: 1, 2, 3 ... with gaps where versions were removed.
        adapter_id: Unique to this commit, also where a deleted task's numbers are used anew.
        checkpoint: Fingerprint of the checkpoint it was made from.
        size_bytes: Bytes of the encoded adapter.
        support_kept: Whether the support set is stored beside it.
        created_at: Seconds since the epoch.
    """

    tenant: str
    task: str
    version: int
    adapter_id: str
    checkpoint: str
    size_bytes: int
    support_kept: bool
    created_at: float

    def copied(self) -> VersionDraft:
        """The draft of a rollback to this version."""
        draft = {field.name: getattr(self, field.name) for field in fields(VersionDraft)}
        return VersionDraft(**{**draft, "source": "rollback", "copied_from": self.version})

    def to_json(self) -> bytes:
        """The bytes that are stored: one flat object, which earlier releases read as well."""
        record = _VERSION.dump_python(self, mode="json")
        options = record.pop("options")
        return json.dumps(
            {**record, **{_stored_name(name): value for name, value in options.items()}}, separators=(",", ":")
        ).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Version":
        """The record in stored bytes. Unknown fields are left out: servers of two releases may share a store."""
        stored = json.loads(data)
        names = {field.name: _stored_name(field.name) for field in fields(AdaptOptions)}
        options = {name: stored[stored_name] for name, stored_name in names.items() if stored_name in stored}
        return _VERSION.validate_python({**stored, "options": options})


_VERSION = TypeAdapter(Version)
_FIELDS = frozenset(field.name for field in fields(Version))


def _stored_name(option: str) -> str:
    """The name of an option beside the version's own fields: ``steps`` are those taken, ``steps_asked`` the option."""
    return f"{option}_asked" if option in _FIELDS else option


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task as it stands.

    Attributes:
        current: The newest committed version.
        created_at: Seconds since the epoch.
        expires_at: When the task ends of itself; None for never.
    """

    current: Version
    created_at: float
    expires_at: float | None


@dataclass(frozen=True, slots=True)
class StoredSupport:
    """A support set as it is stored; ``model_store.codec`` encodes and decodes it.

    Attributes:
        examples: A row for each example, in order. The versions of a task share equal rows.
        rest: The version's own part.
    """

    examples: tuple[bytes, ...]
    rest: bytes


def row_digest(row: bytes) -> bytes:
    """The 16 bytes by which a store recognises a row that it has."""
    return hashlib.sha256(row).digest()[:16]


@dataclass(frozen=True, slots=True)
class NewVersion:
    """The contents of a commit.

    Attributes:
        version: Its record.
        adapter: The encoded adapter.
        support: The support set, where the tenant lets it be kept.
    """

    version: Version
    adapter: bytes
    support: StoredSupport | None


@dataclass(frozen=True, slots=True)
class CurrentVersion:
    """The little that a prediction needs to know of a task.

    Attributes:
        version: The newest committed version.
        adapter_id: Its unique id.
    """

    version: int
    adapter_id: str


@dataclass(frozen=True, slots=True)
class StoredTask:
    """One task as a walk over all tasks of a store finds it.

    Attributes:
        tenant: Its owner.
        task: Its name.
        checkpoint: Fingerprint of what its newest version was made from; None where the record is damaged.
        support_kept: Whether the support set of that version is stored.
    """

    tenant: str
    task: str
    checkpoint: str | None
    support_kept: bool

    @classmethod
    def of(cls, tenant: str, task: str, record: bytes | None) -> Self:
        """The current version out of the stored record; None where it cannot be read."""
        try:
            stored = json.loads(record or b"")
            return cls(tenant, task, str(stored["checkpoint"]), bool(stored["support_kept"]))
        except (ValueError, KeyError, TypeError):
            return cls(tenant, task, None, support_kept=False)


@dataclass(frozen=True, slots=True)
class StoredTasks:
    """One page of a walk over all tasks of a store.

    Attributes:
        tasks: The tasks of this page; there may be none.
        next: Give it as ``after`` for the next page; None on the last.
    """

    tasks: Sequence[StoredTask]
    next: str | None


@dataclass(frozen=True, slots=True)
class IdempotentAnswer:
    """An answer that is committed together with a version, and given again to whoever repeats the request.

    Attributes:
        key: The client's key.
        answer: The answer to keep under it.
        ttl_s: Time to keep it, in seconds.
    """

    key: str
    answer: bytes
    ttl_s: int


@dataclass(frozen=True, slots=True)
class ApiKeyRecord:
    """An API key as stored: its hash, never itself.

    Attributes:
        digest: SHA-256 of the key, hex.
        tenant: The tenant that it lets in.
        hint: The key's first characters, to identify it.
        created_at: Seconds since the epoch.
    """

    digest: str
    tenant: str
    hint: str
    created_at: float


@dataclass(frozen=True, slots=True)
class StoreMarker:
    """The identity of a store, so that one that has lost its data is not taken for the same.

    Attributes:
        store_id: Random; written when the store is first used.
        replaces: Ids of lost stores that an operator lets this one stand in for.
        created_at: Seconds since the epoch.
    """

    store_id: str
    replaces: tuple[str, ...]
    created_at: float

    @classmethod
    def new(cls) -> Self:
        """A marker for a store that has none."""
        return cls(uuid.uuid4().hex, (), time.time())

    def replacing(self, lost_id: str) -> Self:
        """The same store, which also stands in for a lost one."""
        return replace(self, replaces=(*(id_ for id_ in self.replaces if id_ != lost_id), lost_id))

    def to_json(self) -> str:
        """The marker as it is stored."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, data: str | bytes) -> Self:
        """The marker in stored bytes.

        Raises:
            StoreUnavailable: The marker cannot be read.
        """
        try:
            fields = json.loads(data)
            return cls(str(fields["store_id"]), tuple(map(str, fields["replaces"])), float(fields["created_at"]))
        except (ValueError, KeyError, TypeError) as error:
            raise StoreUnavailable("the store's marker cannot be read") from error
