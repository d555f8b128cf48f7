"""A version is derived again from its record and the support set that is kept with it."""

from typing import Any

import httpx
import pytest
import torch

from metalearn.learners.interface import LearnerOptions
from metalearn.model_spec import ModelSpec
from metalearn.types import Adapter
from model_store.codec import AdapterKey, decode_adapter, decode_support
from model_store.digests import support_digests
from model_store.records import StoredSupport, Version
from tests.conftest import SUPPORT, MakeCheckpoint, StartService
from tests.service.conftest import OTHER_SUPPORT, adapt, parts_of, store_of
from tests.service.test_examples import add, assert_same_bits, erase, newest
from tests.service.test_kinds import OF_KIND

PAIRS = [{**example, "text_pair": "my bank"} for example in SUPPORT]
VERSIONS = (
    {},
    {"steps": 3, "learning_rate": 0.5, "use_label_text": False},
    {"steps": 4, "seed": 11},
    {"learner": "ridge", "labels": {"card_arrival": "a card that is late", "refund": "asks for money back"}},
    {"learner": "matching", "support": OTHER_SUPPORT},
    {"support": PAIRS, "steps": 2},
    {"keep_support": False},
)


def derived(client: httpx.Client, version: Version, support: StoredSupport) -> Adapter:
    """The adapter that the engine derives from a version's record and support set."""
    decoded = decode_support(support)
    assert support_digests(decoded) == version.support_digests
    engine = parts_of(client).engine
    asked = (version.tenant, engine.checkpoints.default, decoded, version.options)
    adaptation = client.portal.call(engine.adapt, *asked)  # type: ignore[attr-defined]
    found: Adapter = adaptation.adapter
    return found


def test_every_kept_version_is_derived_again_to_the_same_bits(
    start_service: StartService, make_checkpoint: MakeCheckpoint
) -> None:
    folder = make_checkpoint(ModelSpec(options=LearnerOptions(update_rule="minibatch_sgd")))
    client = start_service(checkpoint=str(folder), feature_cache_max_bytes=0)
    for fields in VERSIONS:
        adapt(client, **{"support": SUPPORT, **fields})  # type: ignore[arg-type]
    for call, body in (("rollback", {"version": 2}), ("readapt", {"version": 4})):
        assert client.post(f"/v1/tasks/bank/{call}", json=body).status_code == 200
    store, models = store_of(client), parts_of(client).engine.checkpoints.default
    kept = 0
    for version in store.versions("default", "bank"):
        data = store.load_adapter("default", "bank", version.version)
        support = store.load_support("default", "bank", version.version)
        assert data is not None
        assert version.support_digests is not None
        assert (support is None) is (not version.support_kept)
        if support is None:
            continue
        kept += 1
        key = AdapterKey(version.tenant, version.task, version.version, version.adapter_id)
        stored = decode_adapter(data, key, shapes={version.checkpoint: models.shapes})
        again = derived(client, version, support)
        assert (again.labels, again.learner, again.checkpoint) == (stored.labels, stored.learner, version.checkpoint)
        assert again.fast_weights.keys() == stored.fast_weights.keys()
        for name, weight in stored.fast_weights.items():
            assert torch.equal(again.fast_weights[name], weight), f"version {version.version}, {name}"
    assert kept == len(VERSIONS) + 1


LIVES: dict[str, dict[str, Any]] = {
    "weights, descriptions and a text out of scope": {
        "support": [{**SUPPORT[0], "weight": 3}, *SUPPORT[1:], {"text": "What is for lunch?", "label": None}],
        "labels": {"card_arrival": "a card that is late"},
        "steps": 3,
    },
    **OF_KIND,
}


@pytest.mark.parametrize("life", LIVES)
def test_readapt_derives_each_version_that_a_life_leaves(stored_service: httpx.Client, life: str) -> None:
    client, body = stored_service, LIVES[life]
    adapt(client, **body)
    weight = {"weight": 0.5} if "labels" in body else {}
    (added,) = add(client, [{**body["support"][0], "text": "One more text for you", **weight}])["ids"]
    add(client, [{**body["support"][1], "text": "And another one for you"}])
    assert erase(client, added)["removed_versions"] == [2, 3]
    assert client.post("/v1/tasks/bank/rollback", json={"version": 1}).status_code == 200
    add(client, [{**body["support"][2], "text": "The last text for you"}])
    kept = [each["version"] for each in client.get("/v1/tasks/bank/versions").json()["versions"]]
    assert kept == [6, 5, 4, 1]
    for number in kept:
        store = store_of(client)
        record, data = store.version("default", "bank", number), store.load_adapter("default", "bank", number)
        assert record is not None and data is not None
        shapes = {record.checkpoint: parts_of(client).engine.checkpoints.default.shapes}
        stored = decode_adapter(data, AdapterKey("default", "bank", number, record.adapter_id), shapes=shapes)
        made = client.post("/v1/tasks/bank/readapt", json={"version": number})
        assert made.status_code == 200, made.text
        assert_same_bits(newest(client), stored)


def test_a_version_shows_what_was_asked_beside_what_came_of_it(service: httpx.Client) -> None:
    adapt(service, learner="ridge", steps=3, seed=5)
    shown = service.get("/v1/tasks/bank").json()
    assert (shown["learner"], shown["steps"], shown["learning_rate"], shown["use_label_text"]) == (
        "ridge",
        0,
        None,
        True,
    )
    options = {"steps": 3, "learning_rate": None, "learner": "ridge", "use_label_text": True, "seed": 5}
    assert shown["asked"] == options
