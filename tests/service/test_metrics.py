"""/metrics: every promised name, the right labels, the right amounts, and nobody's name."""

import functools
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from model_store.errors import StoreUnavailable
from tests.conftest import SUPPORT, StartService
from tests.service.conftest import OTHER_SUPPORT, TEXTS, adapt, bearer, make_key, predict, store_of
from tests.waiting import until

PROMISED = {
    "handful_requests_total": ("counter", {"route", "status"}),
    "handful_request_duration_seconds": ("histogram", {"route"}),
    "handful_adapt_duration_seconds": ("histogram", set()),
    "handful_adapt_support_examples": ("histogram", set()),
    "handful_predict_queries_total": ("counter", set()),
    "handful_batch_queries": ("histogram", set()),
    "handful_batch_tenants": ("histogram", set()),
    "handful_queue_tokens": ("gauge", set()),
    "handful_queue_max_tokens": ("gauge", set()),
    "handful_queue_wait_seconds": ("histogram", set()),
    "handful_cache_events_total": ("counter", {"event"}),
    "handful_cache_bytes": ("gauge", set()),
    "handful_cache_max_bytes": ("gauge", set()),
    "handful_store_duration_seconds": ("histogram", {"store", "op"}),
    "handful_store_errors_total": ("counter", {"store", "op"}),
    "handful_degraded_answers_total": ("counter", set()),
    "handful_abstentions_total": ("counter", set()),
    "handful_drifting_tasks": ("gauge", set()),
    "handful_feedback_total": ("counter", {"outcome"}),
    "handful_stale_tasks": ("gauge", set()),
    "handful_readapts_total": ("counter", {"trigger", "outcome"}),
    "handful_readapt_pending_tasks": ("gauge", set()),
    "handful_checkpoint_info": ("gauge", {"name", "fingerprint", "learner", "device", "runtime"}),
}
"""The documented metrics."""

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(client: httpx.Client) -> Series:
    """Every sample."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(series: Series, name: str, /, **labels: str) -> float:
    """One sample; 0 where it is not there yet."""
    return series.get((name, frozenset(labels.items())), 0.0)


def break_store(client: httpx.Client, monkeypatch: pytest.MonkeyPatch, method: str, error: Exception) -> None:
    """Makes one method of the store raise."""
    original = getattr(store_of(client), method)

    @functools.wraps(original)
    def broken(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(store_of(client), method, broken)


@pytest.fixture
def used_service(start_service: StartService, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """A service that has seen every kind of traffic."""
    client = start_service(cache_max_adapters=1)
    for task in ("acme-secret", "other-secret"):
        adapt(client, task)
    predict(client, "acme-secret", abstain=1.0)
    client.get("/v1/tasks/missing-secret")
    client.get("/nowhere-secret")
    with monkeypatch.context() as patch:
        break_store(client, patch, "tasks", StoreUnavailable("away"))
        assert client.get("/v1/tasks").status_code == 503
    yield client


def test_every_promised_metric_is_there_with_its_type_and_labels(used_service: httpx.Client) -> None:
    text = used_service.get("/metrics").text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for name, (kind, labels) in PROMISED.items():
        family = families[name.removesuffix("_total")]
        assert family.type == kind, name
        assert family.documentation
        assert family.samples, name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == labels, sample
        suffix = {"counter": "_total", "histogram": "_count", "gauge": ""}[kind]
        assert f"{name.removesuffix('_total')}{suffix}" in {sample.name for sample in family.samples}


def test_labels_have_the_promised_values(used_service: httpx.Client) -> None:
    series = scrape(used_service)
    for event in ("hit", "miss", "evict"):
        assert ("handful_cache_events_total", frozenset({("event", event)})) in series
    assert value(series, "handful_store_errors_total", store="sqlite", op="tasks") == 1
    assert value(series, "handful_store_duration_seconds_count", store="sqlite", op="commit") == 2
    shown = used_service.get("/v1/checkpoint").json()
    labels = {name: shown[name] for name in ("name", "fingerprint", "learner", "device", "runtime")}
    assert value(series, "handful_checkpoint_info", **labels) == 1


def test_no_tenant_task_or_label_is_shown(start_service: StartService) -> None:
    client = start_service()
    for tenant in ("acme-tenant", "globex-tenant"):
        headers = bearer(make_key(client, tenant))
        adapt(client, f"{tenant}-task", headers=headers)
        predict(client, f"{tenant}-task", headers=headers)
        client.get(f"/v1/tasks/{tenant}-absent", headers=headers)
        client.get(f"/v1/{tenant}-nowhere", headers=headers)
        client.put(f"/v1/tasks/{tenant}-put", headers=headers)
        client.post(f"/v1/tasks/{tenant}-bad/adapt", json={}, headers=headers)
    text = client.get("/metrics").text
    for name in ("acme", "globex", "tenant-", "card_arrival", "nowhere"):
        assert name not in text
    routes = {dict(labels).get("route") for name, labels in scrape(client) if name == "handful_requests_total"}
    assert routes >= {"/v1/tasks/{task}/adapt", "/v1/tasks/{task}/predict", "/v1/tasks/{task}", "unmatched"}
    assert len(routes) < 20


def test_counters_move_by_the_right_amount(service: httpx.Client) -> None:
    adapt(service, "warm", steps=0)
    before = scrape(service)
    adapt(service, support=OTHER_SUPPORT)
    predict(service, queries=TEXTS)
    predict(service, queries=TEXTS[:2], abstain=1.0)
    service.get("/v1/tasks/absent")
    service.post("/v1/tasks/bank/predict", json={"queries": []})
    body = {"support": SUPPORT, "queries": TEXTS[:3]}
    assert service.post("/v1/classify", json=body).status_code == 200
    after = scrape(service)

    def moved(name: str, /, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    predict_route = "/v1/tasks/{task}/predict"
    assert moved("handful_requests_total", route="/v1/tasks/{task}/adapt", status="200") == 1
    assert moved("handful_requests_total", route=predict_route, status="200") == 2
    assert moved("handful_requests_total", route=predict_route, status="422") == 1
    assert moved("handful_requests_total", route="/v1/tasks/{task}", status="404") == 1
    assert moved("handful_requests_total", route="/v1/classify", status="200") == 1
    assert moved("handful_request_duration_seconds_count", route=predict_route) == 3
    assert moved("handful_predict_queries_total") == 6 + 2 + 3
    assert moved("handful_abstentions_total") == 2
    assert moved("handful_adapt_duration_seconds_count") == 2
    assert moved("handful_adapt_support_examples_count") == 2
    assert moved("handful_adapt_support_examples_sum") == len(OTHER_SUPPORT) + len(SUPPORT)
    assert moved("handful_batch_queries_sum") == 6 + 2 + 3
    assert moved("handful_batch_tenants_count") == 3
    assert moved("handful_batch_tenants_sum") == 3
    assert moved("handful_queue_wait_seconds_count") == 5
    assert moved("handful_cache_events_total", event="hit") == 2
    assert moved("handful_cache_events_total", event="miss") == 0
    assert moved("handful_store_duration_seconds_count", store="sqlite", op="commit") == 1
    assert moved("handful_cache_bytes") > 2 * 33 * 4


def test_the_gauge_of_the_queue_comes_back_to_zero(service: httpx.Client) -> None:
    adapt(service)
    predict(service)
    until(lambda: value(scrape(service), "handful_queue_tokens") == 0)


def test_durations_are_seconds(service: httpx.Client) -> None:
    answer = adapt(service)
    series = scrape(service)
    took_s = value(series, "handful_request_duration_seconds_sum", route="/v1/tasks/{task}/adapt")
    assert answer["elapsed_ms"] / 1000 <= took_s < 60
    assert 0 < value(series, "handful_adapt_duration_seconds_sum") <= took_s


def test_unforeseen_errors_are_counted_as_500(service: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    adapt(service)
    break_store(service, monkeypatch, "task", RuntimeError("no"))
    assert service.get("/v1/tasks/bank").status_code == 500
    assert value(scrape(service), "handful_requests_total", route="/v1/tasks/{task}", status="500") == 1


def test_two_services_in_one_process_count_apart(start_service: StartService) -> None:
    one, other = start_service(), start_service()
    adapt(one)
    predict(one)
    assert value(scrape(one), "handful_predict_queries_total") == len(TEXTS)
    assert value(scrape(other), "handful_predict_queries_total") == 0


def test_openmetrics_is_spoken_to_whoever_asks_for_it(service: httpx.Client) -> None:
    response = service.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert response.text.rstrip().endswith("# EOF")
