"""Features of support texts in memory: bounded, each tenant's own, and the same answers as without."""

from typing import Any

import httpx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metalearn.encoder.encoder import Encoder, TokenizedText
from metalearn.model_spec import ModelSpec
from service.engine.feature_cache import FeatureCache
from service.metrics import Metrics
from tests.conftest import SUPPORT, MakeCheckpoint, StartService
from tests.service.conftest import adapt, bearer, make_key, predict

DIM = 4
ENTRY_BYTES = 4 * DIM + 512


def text(number: int, type_id: int = 0) -> TokenizedText:
    return TokenizedText([101, number, 102], [0, type_id, type_id], truncated=False)


def sample(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


def events(metrics: Metrics) -> dict[str, float]:
    return {e: sample(metrics, "handful_feature_cache_events_total", event=e) for e in ("hit", "miss", "evict")}


def test_the_least_recently_used_make_room() -> None:
    metrics = Metrics()
    cache = FeatureCache(metrics, max_bytes=3 * ENTRY_BYTES)
    features = torch.arange(5.0 * DIM).reshape(5, DIM)
    cache.put("a", [text(0), text(1), text(2)], features[:3])
    cache.get("a", [text(0)])
    cache.put("a", [text(3)], features[3:4])
    found = cache.get("a", [text(i) for i in range(4)])
    assert [each is None for each in found] == [False, True, False, False]
    for row, each in enumerate(found):
        assert each is None or torch.equal(each, features[row])
    assert sample(metrics, "handful_feature_cache_bytes") == 3 * ENTRY_BYTES
    assert events(metrics) == {"hit": 4, "miss": 1, "evict": 1}


def test_a_text_is_known_by_tenant_and_by_all_that_the_encoder_reads() -> None:
    cache = FeatureCache(Metrics(), max_bytes=2**20)
    cache.put("a", [text(1)], torch.ones(1, DIM))
    assert cache.get("b", [text(1)]) == [None]
    assert cache.get("a", [text(1, type_id=1)]) == [None], "the second text of a pair"
    assert cache.get("a", [text(257)]) == [None]
    assert cache.get("a", [text(1)])[0] is not None


def test_erased_texts_are_dropped_and_their_memory_counts_no_more() -> None:
    metrics = Metrics()
    cache = FeatureCache(metrics, max_bytes=2**20)
    cache.put("a", [text(1), text(2)], torch.ones(2, DIM))
    cache.put("b", [text(1)], torch.ones(1, DIM))
    cache.forget("a", [text(1), text(3)])
    assert [each is None for each in cache.get("a", [text(1), text(2)])] == [True, False]
    assert cache.get("b", [text(1)])[0] is not None
    assert sample(metrics, "handful_feature_cache_bytes") == 2 * ENTRY_BYTES


def test_nothing_is_kept_without_room_and_rows_keep_no_batch_alive() -> None:
    none = FeatureCache(Metrics(), max_bytes=0)
    none.put("a", [text(1)], torch.ones(1, DIM))
    assert none.get("a", [text(1)]) == [None]
    cache = FeatureCache(Metrics(), max_bytes=2**20)
    batch = torch.ones(100, DIM, requires_grad=True) * 2
    cache.put("a", [text(i) for i in range(100)], batch)
    (row,) = cache.get("a", [text(7)])
    assert row is not None
    assert row.untyped_storage().nbytes() == 4 * DIM
    assert not row.requires_grad


@settings(deadline=None, max_examples=50)
@given(puts=st.lists(st.lists(st.integers(0, 20), min_size=1, max_size=6), max_size=20), room=st.integers(0, 8))
def test_the_bound_holds_and_what_is_there_is_right(puts: list[list[int]], room: int) -> None:
    metrics = Metrics()
    cache = FeatureCache(metrics, max_bytes=room * ENTRY_BYTES)
    for numbers in puts:
        cache.put("a", [text(i) for i in numbers], torch.tensor(numbers).float().unsqueeze(1).repeat(1, DIM))
        assert sample(metrics, "handful_feature_cache_bytes") <= room * ENTRY_BYTES
    found = cache.get("a", [text(i) for i in range(21)])
    assert sum(each is not None for each in found) * ENTRY_BYTES == sample(metrics, "handful_feature_cache_bytes")
    assert all(each is None or bool((each == i).all()) for i, each in enumerate(found))


# ---- in the service --------------------------------------------------------------------------------------------------


def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that torch encodes from now on."""
    sizes: list[int] = []
    real = Encoder.padded

    def noted(self: Encoder, texts: list[TokenizedText]) -> Any:
        sizes.append(len(texts))
        return real(self, texts)

    monkeypatch.setattr(Encoder, "padded", noted)
    return sizes


def scores(client: httpx.Client, **more: Any) -> list[float]:
    answers = predict(client, **more)["predictions"]
    return [score for answer in answers for _, score in sorted(answer["scores"].items())]


def test_an_example_more_is_one_text_to_encode(start_service: StartService, monkeypatch: pytest.MonkeyPatch) -> None:
    client = start_service(runtime="torch")
    adapt(client, support=SUPPORT[:5], use_label_text=False)
    sizes = encoded(monkeypatch)
    adapt(client, support=SUPPORT, use_label_text=False)
    assert sum(sizes) == 1
    adapt(client, support=SUPPORT[::-1], use_label_text=False, steps=3)
    assert sum(sizes) == 1
    # And the answers are those of a service that meets all of it for the first time: features differ in the last bits,
    # which may round a number of the head up there and down here, by half a thousandth of it. Few steps: on features as
    # alike as this random encoder's, forty multiply whatever differs by a hundred thousand
    adapt(client, support=SUPPORT, use_label_text=False, steps=3)
    fresh = start_service(runtime="torch", feature_cache_max_bytes=0)
    adapt(fresh, "fresh", support=SUPPORT, use_label_text=False, steps=3)
    assert scores(client) == pytest.approx(scores(fresh, task="fresh"), abs=1e-3)


def test_without_room_all_texts_are_encoded_again(start_service: StartService, monkeypatch: pytest.MonkeyPatch) -> None:
    client = start_service(runtime="torch", feature_cache_max_bytes=0)
    sizes = encoded(monkeypatch)
    for _ in range(2):
        adapt(client, use_label_text=False)
    assert sum(sizes) == 2 * len(SUPPORT)


def test_one_tenant_is_not_served_from_what_another_sent(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = start_service(runtime="torch")
    sizes = encoded(monkeypatch)
    for tenant in ("one", "other"):
        adapt(client, headers=bearer(make_key(client, tenant)), use_label_text=False)
    assert sum(sizes) == 2 * len(SUPPORT)


@pytest.mark.parametrize("spec", [ModelSpec("protomaml", "modulations", 1), ModelSpec("matching")])
def test_every_kind_of_model_answers_the_same_the_second_time(
    start_service: StartService, make_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch, spec: ModelSpec
) -> None:
    client = start_service(runtime="torch", checkpoint=str(make_checkpoint(spec)))
    adapt(client)
    before = scores(client)
    sizes = encoded(monkeypatch)
    adapt(client)
    assert (sum(sizes) > 0) is (spec.placement != "head"), "states of every token are not kept"
    assert scores(client) == before
