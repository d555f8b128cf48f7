"""64 tenants at once through a cache of 4 adapters: no tenant gets another tenant's answer."""

import asyncio
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from benchmarks.server import running_server
from service.auth import new_key
from service.settings import Settings
from service.store_access import open_store
from tests.waiting import LIMIT_S

TENANTS = 64
ROUNDS = 3
SEVERAL_TOKENS = 200
"""More tokens than the queries of five requests have."""
HELD_SERVER = Path(__file__).parents[1] / "faults" / "held_server.py"
TOPICS = [
    ("I want my money back", "refund"),
    ("the parcel never came", "delivery"),
    ("I cannot sign in", "login"),
    ("you charged me twice", "billing"),
    ("the app crashes when I open it", "crash"),
    ("please delete my account", "account"),
]
QUERIES = ["where is my parcel", "give me a refund", "my password does not work", "why two payments on my bill"]


def support_of(tenant: int) -> list[dict[str, str]]:
    """A support set of two to six classes, whose labels name the tenant, so that a crossed answer shows."""
    chosen = [TOPICS[(tenant + i) % len(TOPICS)] for i in range(2 + tenant % (len(TOPICS) - 1))]
    return [{"text": f"{text}, says customer {tenant}", "label": f"{label} of {tenant}"} for text, label in chosen]


@pytest.mark.slow
def test_every_answer_equals_the_single_tenant_answer(store_url: str, tiny_checkpoint: Path, tmp_path: Path) -> None:
    store = open_store(Settings(store=SecretStr(store_url), store_timeout_s=30))
    keys = []
    for tenant in range(TENANTS):
        key, record = new_key(f"tenant-{tenant}")
        store.add_key(record)
        keys.append(key)
    store.close()
    options = ("--store", store_url, "--store-timeout-s", "30", "--cache-max-adapters", "4")
    options += ("--checkpoint", str(tiny_checkpoint), "--threads", "1")
    hold = tmp_path / "hold"
    held = {"TEST_HOLD_FILE": str(hold), "TEST_HOLD_FROM": "1"}
    with running_server(tmp_path, *options, program=[str(HELD_SERVER)], env=held) as server:
        asyncio.run(_check(server.url, keys, hold))
        metrics = httpx.get(f"{server.url}/metrics").text
    evicted = next(
        line for line in metrics.splitlines() if line.startswith('handful_cache_events_total{event="evict"}')
    )
    assert float(evicted.split()[1]) > TENANTS, "the cache was never under pressure: the test shows nothing"
    tenants_in_batch = next(line for line in metrics.splitlines() if line.startswith("handful_batch_tenants_sum"))
    batches = next(line for line in metrics.splitlines() if line.startswith("handful_batch_tenants_count"))
    shared = float(tenants_in_batch.split()[1]) - float(batches.split()[1])
    assert shared > 0, "no batch mixed tenants: the test shows little"


async def _check(url: str, keys: list[str], hold: Path) -> None:
    limits = httpx.Limits(max_connections=TENANTS + 1)
    async with httpx.AsyncClient(base_url=url, timeout=LIMIT_S, limits=limits) as client:

        async def call(tenant: int, path: str, body: dict[str, object]) -> dict[str, object]:
            # One name for all tenants' tasks, so that only the key distinguishes them
            answer = await client.post(
                f"/v1/tasks/tickets/{path}", json=body, headers={"Authorization": f"Bearer {keys[tenant]}"}
            )
            assert answer.status_code == 200, answer.text
            result: dict[str, object] = answer.json()
            return result

        async def queued_tokens() -> float:
            lines = (await client.get("/metrics")).text.splitlines()
            return next(float(line.split()[1]) for line in lines if line.startswith("handful_queue_tokens "))

        for tenant in range(TENANTS):
            await call(tenant, "adapt", {"support": support_of(tenant)})
        alone = [await call(tenant, "predict", {"queries": QUERIES}) for tenant in range(TENANTS)]
        for _ in range(ROUNDS):
            hold.touch()  # noqa: ASYNC240
            asking = [asyncio.ensure_future(call(tenant, "predict", {"queries": QUERIES})) for tenant in range(TENANTS)]
            # Several wait for the same batch before the first is computed
            while await queued_tokens() < SEVERAL_TOKENS:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            hold.unlink()  # noqa: ASYNC240
            together = await asyncio.gather(*asking)
            for tenant in range(TENANTS):
                labels = {example["label"] for example in support_of(tenant)}
                for one, other in zip(alone[tenant]["predictions"], together[tenant]["predictions"], strict=True):
                    assert set(other["scores"]) == labels
                    assert other["scores"] == pytest.approx(one["scores"], abs=1e-5)
