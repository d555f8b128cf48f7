"""Many tenants in a store: some adapted through the server, the others with copies of their weights."""

import json
import random
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice

from benchmarks.episodes import Row
from handful.client import Client
from metalearn.types import Adapter
from model_store.checkpoint import Checkpoint
from model_store.codec import AdapterKey, decode_adapter, encode_adapter
from model_store.learner_models import Models
from model_store.records import NewVersion, Version
from model_store.store import TaskStore
from service.auth import new_key

TASK = "intents"


@dataclass(frozen=True, slots=True)
class Tenant:
    """Somebody with a key and a task.

    Attributes:
        name: The tenant's.
        key: Its API key.
        task: Its task.
    """

    name: str
    key: str
    task: str = TASK


def new_tenant(store: TaskStore, name: str) -> Tenant:
    """Lets a tenant in."""
    key, record = new_key(name)
    store.add_key(record)
    return Tenant(name, key)


def support_set(rows: Sequence[Row], *, ways: int, shots: int, seed: int) -> list[dict[str, str]]:
    """Examples of ``ways`` classes that are drawn anew for each seed, ``shots`` of each."""
    draw = random.Random(seed)
    by_label: dict[str, list[str]] = {}
    for row in rows:
        by_label.setdefault(row.label, []).append(row.text)
    large = sorted(label for label, texts in by_label.items() if len(texts) >= shots)
    return [
        {"text": text, "label": label}
        for label in draw.sample(large, ways)
        for text in draw.sample(sorted(by_label[label]), shots)
    ]


def adapted_tenants(
    store: TaskStore, url: str, rows: Sequence[Row], *, count: int, ways: int, shots: int, prefix: str
) -> list[Tenant]:
    """Tenants that adapt through the server."""
    tenants = [new_tenant(store, f"{prefix}-{number}") for number in range(count)]
    for number, tenant in enumerate(tenants):
        with Client(url, api_key=tenant.key, timeout_s=600) as client:
            client.adapt(tenant.task, support_set(rows, ways=ways, shots=shots, seed=number))
    return tenants


def copied_tenants(
    store: TaskStore, checkpoint: Checkpoint, originals: Sequence[Tenant], *, count: int, prefix: str
) -> Iterator[Tenant]:
    """Tenants with the weights, and the support sets, of others in turn: what a store holds of ``count`` tenants."""
    loaded = [_loaded(store, checkpoint, tenant) for tenant in originals]
    for number, (adapter, version, support) in enumerate(islice(cycle(loaded), count)):
        tenant = new_tenant(store, f"{prefix}-{number}")
        key = AdapterKey(tenant.name, tenant.task, 1, uuid.uuid4().hex)
        data = encode_adapter(adapter, key)
        record = replace(version, **asdict(key), size_bytes=len(data), created_at=time.time())
        store.commit(NewVersion(record, data, support), expected_version=0)
        yield tenant


def predict_bodies(texts: Sequence[str], *, queries: int, count: int, seed: int = 0) -> list[bytes]:
    """Bodies of ``predict``, each with ``queries`` texts that are drawn at random."""
    draw = random.Random(seed)
    return [json.dumps({"queries": draw.sample(texts, queries)}).encode() for _ in range(count)]


def _loaded(store: TaskStore, checkpoint: Checkpoint, tenant: Tenant) -> tuple[Adapter, Version, bytes | None]:
    version = store.version(tenant.name, tenant.task, 1)
    data = store.load_adapter(tenant.name, tenant.task, 1)
    if version is None or data is None:
        raise RuntimeError(f"{tenant.name} has no adapter")
    adapter = decode_adapter(
        data,
        AdapterKey(tenant.name, tenant.task, 1, version.adapter_id),
        shapes={checkpoint.fingerprint: Models(checkpoint).shapes},
        device=checkpoint.encoder.device,
    )
    return adapter, version, store.load_support(tenant.name, tenant.task, 1)
