"""Several checkpoints in one server: each version is answered by the checkpoint that made it."""

import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from handful.wire import AdaptRequest
from handful.wire_readapt import ReadaptRequest
from metalearn.encoder.tokenizing import TokenizedText
from metalearn.model_spec import ModelSpec
from service.engine.work import SlicedWork
from tests.conftest import SUPPORT, MakeCheckpoint, StartService
from tests.service.conftest import OTHER_SUPPORT, TEXTS, adapt, bearer, make_key, parts_of, predict, store_of
from tests.service.test_metrics import scrape, value
from tests.waiting import LIMIT_S, until


@pytest.fixture(scope="module")
def four_checkpoints(make_checkpoint: MakeCheckpoint, other_checkpoint: Path) -> list[Path]:
    """One with another limit on texts, one whose learner keeps its texts, two with fast weights below the head."""
    specs = (
        ModelSpec("matching"),
        ModelSpec("protomaml", "modulations", 1),
        ModelSpec("protomaml", "low_rank", 1),
    )
    return [other_checkpoint, *map(make_checkpoint, specs)]


@pytest.fixture
def start_with(start_service: StartService) -> Callable[..., httpx.Client]:
    """Starts a service with several checkpoints, the first of them the default."""

    def start(*folders: Path, **settings: object) -> httpx.Client:
        return start_service(checkpoint=list(map(str, folders)), **settings)

    return start


def loaded(client: httpx.Client) -> dict[str, str]:
    """Fingerprints of the loaded checkpoints by name, the default one first."""
    return {each["name"]: each["fingerprint"] for each in client.get("/v1/checkpoints").json()["checkpoints"]}


def refused(response: httpx.Response, status: int, code: str) -> str:
    """The detail of a refusal, which has to be this one."""
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    detail: str = response.json()["detail"]
    return detail


def together(client: httpx.Client, requests: Sequence[Callable[[], httpx.Response]]) -> list[httpx.Response]:
    """The answers to requests that all wait in the queue before the first is computed."""
    compute, held, released = parts_of(client).engine._compute, threading.Event(), threading.Event()

    def hold() -> Generator[int, None, None]:
        held.set()
        assert released.wait(LIMIT_S)
        yield 0

    async def submit() -> None:
        compute.submit(SlicedWork(0, hold()))

    client.portal.call(submit)  # type: ignore[attr-defined]
    # Predictions go first: one that came before the thread has begun to wait would be answered alone
    assert held.wait(LIMIT_S)
    with ThreadPoolExecutor(len(requests)) as threads:
        answers = [threads.submit(request) for request in requests]
        until(lambda: len(compute._predictions) == len(requests))
        released.set()
        return [answer.result() for answer in answers]


# ---- adapt and predict -----------------------------------------------------------------------------------------------


def test_each_version_is_answered_by_the_checkpoint_that_made_it(
    start_service: StartService,
    start_with: Callable[..., httpx.Client],
    tiny_checkpoint: Path,
    other_checkpoint: Path,
    tmp_path: Path,
) -> None:
    both = start_with(tiny_checkpoint, other_checkpoint)
    prints = loaded(both)
    assert both.get("/v1/checkpoint").json()["fingerprint"] == prints["tiny"]
    assert adapt(both)["checkpoint"] == prints["tiny"], "the first is the default"
    assert adapt(both, checkpoint="other", steps=3)["checkpoint"] == prints["other"]
    assert adapt(both, checkpoint=prints["tiny"][:12], steps=3)["checkpoint"] == prints["tiny"]
    assert adapt(both)["checkpoint_choice"] is None
    for version, folder in ((1, tiny_checkpoint), (2, other_checkpoint), (3, tiny_checkpoint)):
        alone = start_service(checkpoint=str(folder), store=f"sqlite:{tmp_path / f'{version}.db'}")
        adapt(alone, **({} if version == 1 else {"steps": 3}))
        assert predict(both, version=version)["predictions"] == predict(alone)["predictions"]
    # A version that is not in memory is read with the shapes of its own checkpoint
    parts_of(both).adapters.forget_all()
    assert [predict(both, version=version)["version"] for version in (1, 2)] == [1, 2]
    assert both.post("/v1/tasks/bank/rollback", json={"version": 2}).json()["checkpoint"] == prints["other"]


def test_64_tenants_of_four_checkpoints_get_the_answers_that_each_gets_alone(
    start_with: Callable[..., httpx.Client], four_checkpoints: list[Path]
) -> None:
    client = start_with(*four_checkpoints)
    prints = loaded(client)
    keys = [bearer(make_key(client, f"tenant{i}")) for i in range(64)]
    supports = [(SUPPORT, OTHER_SUPPORT)[i // 4 % 2][i // 8 % 2 :] for i in range(64)]
    for i, headers in enumerate(keys):
        adapt(client, support=supports[i], headers=headers, checkpoint=list(prints)[i % 4], steps=2)
    single = [predict(client, queries=TEXTS[: 1 + i % 3], headers=headers) for i, headers in enumerate(keys)]
    assert len({str(answer) for answer in single}) > 16
    before = scrape(client)

    def ask(i: int) -> httpx.Response:
        return client.post("/v1/tasks/bank/predict", json={"queries": TEXTS[: 1 + i % 3]}, headers=keys[i])

    mixed = together(client, [lambda i=i: ask(i) for i in range(64)])
    assert [answer.json() for answer in mixed] == single
    after = scrape(client)
    for place, fingerprint in enumerate(prints.values()):
        batches, queries = (
            value(after, name, fingerprint=fingerprint) - value(before, name, fingerprint=fingerprint)
            for name in ("handful_checkpoint_batches_total", "handful_checkpoint_queries_total")
        )
        assert batches == 1, "the 16 tenants of a checkpoint share a batch"
        assert queries == sum(1 + i % 3 for i in range(place, 64, 4))


def test_a_failure_in_one_checkpoint_fails_no_request_of_another(
    start_with: Callable[..., httpx.Client],
    tiny_checkpoint: Path,
    other_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = start_with(tiny_checkpoint, other_checkpoint)
    for name in ("tiny", "other"):
        adapt(client, name, checkpoint=name)

    def broken(texts: Sequence[TokenizedText], *_: object) -> None:
        raise RuntimeError("the device is broken")

    monkeypatch.setattr(parts_of(client).engine.checkpoints.named("other"), "runtime", broken)
    body = {"queries": TEXTS}
    asked = [lambda name=name: client.post(f"/v1/tasks/{name}/predict", json=body) for name in ("tiny", "other") * 3]
    assert [answer.status_code for answer in together(client, asked)] == [200, 500] * 3
    assert predict(client, "tiny")["version"] == 1
    assert client.get("/readyz").json()["checks"]["compute"] is True


def test_classify_takes_a_checkpoint_too(
    start_with: Callable[..., httpx.Client], tiny_checkpoint: Path, other_checkpoint: Path
) -> None:
    client = start_with(tiny_checkpoint, other_checkpoint)
    body = {"support": SUPPORT, "queries": TEXTS}
    for name, fingerprint in loaded(client).items():
        answer = client.post("/v1/classify", json={**body, "checkpoint": name}).json()
        adapt(client, name, checkpoint=name)
        assert answer["checkpoint"] == fingerprint
        assert answer["predictions"] == predict(client, name)["predictions"]
    assert client.post("/v1/classify", json=body).json()["checkpoint"] == loaded(client)["tiny"]


# ---- names -----------------------------------------------------------------------------------------------------------


def test_a_name_that_is_not_loaded_is_refused_with_those_that_are(
    start_with: Callable[..., httpx.Client], tiny_checkpoint: Path, other_checkpoint: Path
) -> None:
    client = start_with(tiny_checkpoint, other_checkpoint)
    adapt(client)
    bodies: dict[str, dict[str, Any]] = {
        "/v1/tasks/bank/adapt": {"support": SUPPORT},
        "/v1/classify": {"support": SUPPORT, "queries": TEXTS},
        "/v1/tasks/bank/readapt": {},
    }
    prints = loaded(client)
    for path, body in bodies.items():
        for name in ("absent", "", prints["other"][:11], "Auto"):
            response = client.post(path, json={**body, "checkpoint": name})
            detail = refused(response, 422, "unknown_checkpoint")
            assert response.json()["errors"][0]["pointer"] == "#/checkpoint"
            for loaded_name, fingerprint in prints.items():
                assert f"{loaded_name!r} ({fingerprint[:12]})" in detail
    assert client.get("/v1/tasks/bank").json()["version"] == 1


def test_a_repeated_request_without_a_checkpoint_has_the_digest_of_earlier_releases() -> None:
    sent = AdaptRequest.model_validate({"support": SUPPORT}).model_dump_json()
    assert "checkpoint" not in sent
    assert "keep_versions" not in sent
    assert ReadaptRequest().model_dump_json() == '{"version":null,"checkpoint":null}'
    named = AdaptRequest.model_validate({"support": SUPPORT, "checkpoint": "tiny"})
    assert '"checkpoint":"tiny"' in named.model_dump_json()


# ---- auto ------------------------------------------------------------------------------------------------------------

FILLER = "one two three four five six seven eight nine ten eleven twelve "
INNER_WORDS = [
    {"text": f"{first} {FILLER * 2} {f'{word} ' * 20} {FILLER}", "label": word}
    for first in ("alpha", "omega")
    for word in ("card", "fee")
]
"""Examples whose middle shows the label. The checkpoint ``other`` leaves it out: it reads 32 tokens, with a first word
that both labels share."""

TWICE = [{"text": text, "label": label} for label, text in (("card", "where is my card"), ("fee", "why a fee")) * 2]
"""Examples that every checkpoint classifies correctly without themselves."""


def test_auto_takes_the_best_on_the_support_set(
    start_with: Callable[..., httpx.Client], tiny_checkpoint: Path, other_checkpoint: Path
) -> None:
    client = start_with(other_checkpoint, tiny_checkpoint)
    made = adapt(client, support=INNER_WORDS, use_label_text=False, checkpoint="auto")
    prints = loaded(client)
    assert made["checkpoint"] == prints["tiny"]
    assert made["leave_one_out_accuracy"] == 1.0
    candidates = made["checkpoint_choice"]["candidates"]
    assert [(each["name"], each["fingerprint"]) for each in candidates] == list(prints.items())
    assert [each["leave_one_out_accuracy"] for each in candidates] == [0.0, 1.0]
    assert "'tiny' has the best leave-one-out accuracy, 1.000" in made["checkpoint_choice"]["reason"]
    shown = client.get("/v1/tasks/bank").json()
    assert (shown["checkpoint"], shown["version"]) == (prints["tiny"], 1), "one version is stored"
    body = {"support": INNER_WORDS, "queries": TEXTS, "use_label_text": False, "checkpoint": "auto"}
    classified = client.post("/v1/classify", json=body).json()
    assert classified["checkpoint"] == prints["tiny"]
    assert classified["checkpoint_choice"] == made["checkpoint_choice"]
    readapted = client.post("/v1/tasks/bank/readapt", json={"checkpoint": "auto"}).json()
    assert readapted["checkpoint_choice"] == made["checkpoint_choice"]


def test_in_a_tie_auto_takes_the_fastest_and_of_equally_fast_ones_the_first(
    start_with: Callable[..., httpx.Client],
    deeper_checkpoint: Path,
    tiny_checkpoint: Path,
    other_checkpoint: Path,
) -> None:
    client = start_with(deeper_checkpoint, other_checkpoint, tiny_checkpoint)
    made = adapt(client, support=TWICE, use_label_text=False, checkpoint="auto")
    choice = made["checkpoint_choice"]
    assert [each["leave_one_out_accuracy"] for each in choice["candidates"]] == [1.0, 1.0, 1.0]
    assert made["checkpoint"] == loaded(client)["other"]
    assert "3 checkpoints have the best leave-one-out accuracy, 1.000: 'other' is the fastest" in choice["reason"]


def test_without_two_examples_of_a_class_auto_takes_the_default(
    start_with: Callable[..., httpx.Client], tiny_checkpoint: Path, other_checkpoint: Path
) -> None:
    client = start_with(other_checkpoint, tiny_checkpoint)
    made = adapt(client, support=SUPPORT[::2], checkpoint="auto")
    assert made["checkpoint"] == loaded(client)["other"]
    assert "no class has two examples" in made["checkpoint_choice"]["reason"]
    assert [each["leave_one_out_accuracy"] for each in made["checkpoint_choice"]["candidates"]] == [None, None]


def test_auto_with_one_checkpoint_is_that_one(service: httpx.Client) -> None:
    made = adapt(service, checkpoint="auto")
    assert made["checkpoint"] == service.get("/v1/checkpoint").json()["fingerprint"]
    assert made["checkpoint_choice"]["reason"] == "'tiny' is the only loaded checkpoint"


def test_auto_passes_over_a_checkpoint_that_cannot_adapt_on_the_support_set(
    start_with: Callable[..., httpx.Client], make_checkpoint: MakeCheckpoint, tiny_checkpoint: Path
) -> None:
    deep = make_checkpoint(ModelSpec("protomaml", "modulations", 1))
    client = start_with(deep, tiny_checkpoint, max_deep_tokens=10)
    made = adapt(client, checkpoint="auto")
    assert made["checkpoint"] == loaded(client)["tiny"]
    errors = [each["error"] for each in made["checkpoint_choice"]["candidates"]]
    assert errors[1] is None
    assert "at most 10 are allowed" in errors[0]
    # Where none can, the answer is that of the default one
    body = {"support": SUPPORT, "checkpoint": "auto", "learner": "absent"}
    refused(client.post("/v1/tasks/bank/adapt", json=body), 422, "unknown_learner")


# ---- changes of checkpoint -------------------------------------------------------------------------------------------


def test_a_task_goes_from_one_checkpoint_to_another_and_back(
    start_with: Callable[..., httpx.Client], store_url: str, tiny_checkpoint: Path, other_checkpoint: Path
) -> None:
    client = start_with(tiny_checkpoint, other_checkpoint, store=store_url)
    options: dict[str, Any] = {"steps": 2, "labels": {"card_arrival": "a card that is late"}}
    adapt(client, **options)
    first = predict(client)["predictions"]
    prints = loaded(client)
    moved = client.post("/v1/tasks/bank/readapt", json={"checkpoint": "other"}).json()
    assert (moved["version"], moved["checkpoint"], moved["steps"]) == (2, prints["other"], 2)
    adapt(client, "fresh", checkpoint="other", **options)
    assert predict(client)["predictions"] == predict(client, "fresh")["predictions"]
    # Without a name it is the default one
    back = client.post("/v1/tasks/bank/readapt").json()
    assert (back["version"], back["checkpoint"]) == (3, prints["tiny"])
    assert predict(client)["predictions"] == first


def test_a_version_is_stale_only_while_its_checkpoint_is_not_loaded(
    start_with: Callable[..., httpx.Client], store_url: str, tiny_checkpoint: Path, other_checkpoint: Path
) -> None:
    both = start_with(tiny_checkpoint, other_checkpoint, store=store_url)
    prints = loaded(both)
    adapt(both)
    adapt(both, checkpoint="other")
    adapt(both, "unkept", checkpoint="other", keep_support=False)
    answers = [predict(both, version=version) for version in (1, 2)]
    until(lambda: value(scrape(both), "handful_stale_tasks") == 0)

    one = start_with(tiny_checkpoint, store=store_url)
    assert one.get("/readyz").status_code == 200
    until(lambda: value(scrape(one), "handful_stale_tasks") == 2)
    assert predict(one, version=1) == answers[0]
    assert predict(one) == answers[0], "the newest version of a loaded checkpoint answers"
    for task, body in (("bank", {"queries": TEXTS, "version": 2}), ("unkept", {"queries": TEXTS})):
        detail = refused(one.post(f"/v1/tasks/{task}/predict", json=body), 409, "stale_adapter")
        assert f"made from checkpoint {prints['other'][:12]}, loaded is {prints['tiny'][:12]}" in detail
        assert "call adapt" in detail
    refused(one.post("/v1/tasks/bank/rollback", json={"version": 2}), 409, "stale_adapter")
    detail = refused(one.post("/v1/tasks/unkept/readapt"), 409, "support_not_kept")
    assert "was not kept: call adapt with the examples" in detail
    assert store_of(one).version("default", "unkept", 1) is not None, "nothing is lost"

    again = start_with(other_checkpoint, tiny_checkpoint, store=store_url)
    assert [predict(again, version=version) for version in (1, 2)] == answers
    assert predict(again, "unkept")["version"] == 1


# ---- what operators see ----------------------------------------------------------------------------------------------


def test_metrics_and_memory_are_counted_by_checkpoint(
    start_with: Callable[..., httpx.Client], tiny_checkpoint: Path, other_checkpoint: Path
) -> None:
    client = start_with(tiny_checkpoint, other_checkpoint)
    prints = loaded(client)
    for each in client.get("/v1/checkpoints").json()["checkpoints"]:
        labels = {name: each[name] for name in ("name", "fingerprint", "learner", "device", "runtime")}
        assert value(scrape(client), "handful_checkpoint_info", **labels) == 1
        held = {name: each[name] for name in ("name", "fingerprint")}
        assert value(scrape(client), "handful_checkpoint_bytes", **held, memory="weights") > 0
    adapt(client, "one", checkpoint="tiny")
    adapt(client, "two", checkpoint="other", support=OTHER_SUPPORT)
    adapt(client, "three", checkpoint="other", support=OTHER_SUPPORT)
    predict(client, "two")
    predict(client, "two", queries=TEXTS[:2])
    series = scrape(client)

    def figures(name: str) -> list[float]:
        return [value(series, name, fingerprint=fingerprint) for fingerprint in prints.values()]

    assert figures("handful_checkpoint_adaptations_total") == [1, 2]
    assert figures("handful_checkpoint_queries_total") == [0, len(TEXTS) + 2]
    assert figures("handful_checkpoint_batches_total") == [0, 2]
    for memory, whole in (("adapters", "handful_cache_bytes"), ("features", "handful_feature_cache_bytes")):
        parts = [
            value(series, "handful_checkpoint_bytes", name=name, fingerprint=fingerprint, memory=memory)
            for name, fingerprint in prints.items()
        ]
        assert min(parts) > 0
        assert sum(parts) == value(series, whole)
    client.delete("/v1/tasks/one")
    held = {"name": "tiny", "fingerprint": prints["tiny"]}
    left = value(scrape(client), "handful_checkpoint_bytes", **held, memory="adapters")
    assert left == 0


def test_features_of_one_checkpoint_are_never_those_of_another(
    start_with: Callable[..., httpx.Client], deeper_checkpoint: Path, tiny_checkpoint: Path
) -> None:
    # Their tokens are the same, their features are not
    client = start_with(tiny_checkpoint, deeper_checkpoint)
    adapt(client, "first", checkpoint="tiny")
    adapt(client, "second", checkpoint="deeper")
    hits = value(scrape(client), "handful_feature_cache_events_total", event="hit")
    assert hits == 0
    adapt(client, "third", checkpoint="tiny")
    assert value(scrape(client), "handful_feature_cache_events_total", event="hit") > 0
    assert predict(client, "third")["predictions"] == predict(client, "first")["predictions"]


def test_a_checkpoint_that_is_given_twice_is_loaded_once(
    start_with: Callable[..., httpx.Client], tiny_checkpoint: Path
) -> None:
    assert list(loaded(start_with(tiny_checkpoint, tiny_checkpoint))) == ["tiny"]
