"""Every learner and every placement: adapted, stored, read back by another process, answered from; alone and mixed."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import Any, get_args

import httpx
import pytest

import service.tasks.adapters
from metalearn.learners import LEARNERS, make_learner
from metalearn.learners.interface import LearnerOptions
from metalearn.model_spec import ModelSpec
from metalearn.options import PlacementName
from model_store.checkpoint import UNTRAINED
from tests.conftest import SUPPORT, MakeCheckpoint, StartService
from tests.service.conftest import OTHER_SUPPORT, TEXTS, adapt, bearer, make_key, parts_of, predict

DESCENDING = [name for name in sorted(LEARNERS) if make_learner(name).descends]
READING = [name for name in sorted(LEARNERS) if not make_learner(name).descends]
PLACEMENTS: tuple[PlacementName, ...] = get_args(PlacementName)

SPECS = [ModelSpec(name) for name in sorted(LEARNERS)]
SPECS += [
    ModelSpec(name, place, 1 + (place == "modulations"))
    for name, place in zip(sorted({*DESCENDING} - {"protomaml"}), cycle(PLACEMENTS[1:]), strict=False)
]
SPECS += [ModelSpec("protomaml", place, 1) for place in PLACEMENTS[1:]]
"""Every learner by its head, every one that descends also below it, and the default one in every placement."""

PROTOMAML = [ModelSpec("protomaml", place, int(place != "head")) for place in PLACEMENTS]
"""One learner, with every placement of fast weights below its head."""


def named(spec: ModelSpec) -> str:
    """A test's name."""
    return f"{spec.learner}-{spec.placement}"


def scores(answer: dict[str, Any]) -> list[dict[str, float]]:
    """The scores, to compare two runs."""
    return [prediction["scores"] for prediction in answer["predictions"]]


def assert_close(found: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    """Checks that probabilities agree, and that there are some."""
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
        assert sum(one.values()) == pytest.approx(1, abs=1e-4)


def test_there_are_learners_of_both_kinds_and_all_placements() -> None:
    assert len(DESCENDING) >= 6
    assert len(READING) >= 1
    assert PLACEMENTS == ("head", "modulations", "low_rank", "full")


@pytest.mark.parametrize("spec", SPECS, ids=named)
def test_a_task_of_any_model_answers_alike_after_a_restart(
    start_service: StartService, make_checkpoint: MakeCheckpoint, spec: ModelSpec
) -> None:
    first = start_service(checkpoint=str(make_checkpoint(spec)))
    shown = first.get("/v1/checkpoint").json()
    assert (shown["learner"], shown["placement"], shown["fast_layers"]) == (
        spec.learner,
        spec.placement,
        spec.fast_layers,
    )
    descends = spec.learner in DESCENDING
    assert shown["steps"] == (UNTRAINED.steps if descends else 0)
    made = adapt(first, steps=3)
    assert made["steps"] == (3 if descends else 0)
    assert len(made["losses"]) == made["steps"] + 1
    answers = predict(first)
    before = scores(answers)
    hits = [
        answer["label"] == example["label"] for answer, example in zip(answers["predictions"], SUPPORT, strict=True)
    ]
    assert made["support_accuracy"] == pytest.approx(sum(hits) / len(hits))
    assert made["leave_one_out_accuracy"] * len(hits) == pytest.approx(
        round(made["leave_one_out_accuracy"] * len(hits))
    )
    assert adapt(first, "other", OTHER_SUPPORT[1:3])["leave_one_out_accuracy"] is None, "one example of each class"
    moved = adapt(first, "other", OTHER_SUPPORT, steps=2)
    assert moved["labels"] == ["cooking", "travel"]

    second = start_service(checkpoint=str(make_checkpoint(spec)))
    answer = predict(second)
    assert answer["version"] == 1
    # The first answers used the weights as they are stored, so that the same numbers come back
    assert scores(answer) == before
    assert [p["confidence"] for p in answer["predictions"]] == [p["confidence"] for p in answers["predictions"]]
    assert second.get("/v1/tasks/bank").json()["learner"] == spec.learner
    assert set(scores(predict(second, "other", TEXTS[:1]))[0]) == {"cooking", "travel"}
    assert second.post("/v1/tasks/bank/rollback", json={"version": 1}).json()["version"] == 2
    assert scores(predict(second)) == before


@pytest.mark.parametrize("spec", [ModelSpec("matching"), ModelSpec("protomaml", "full", 1)], ids=named)
def test_redis_keeps_them_as_well(
    start_service: StartService, make_checkpoint: MakeCheckpoint, redis_url: str, spec: ModelSpec
) -> None:
    first, second = (start_service(checkpoint=str(make_checkpoint(spec)), store=redis_url) for _ in range(2))
    adapt(first)
    assert_close(scores(predict(second)), scores(predict(first)))


@pytest.mark.parametrize("placement", PLACEMENTS[1:])
def test_what_lives_below_the_head_is_moved_and_matters(
    start_service: StartService, make_checkpoint: MakeCheckpoint, placement: PlacementName
) -> None:
    client = start_service(checkpoint=str(make_checkpoint(ModelSpec("protomaml", placement, 1))))
    losses = adapt(client, steps=20)["losses"]
    assert losses[-1] < losses[0]
    # A head alone has other answers, and fewer bytes
    alone = start_service(checkpoint=str(make_checkpoint(ModelSpec())))
    assert adapt(alone, "head", steps=20)["bytes"] < client.get("/v1/tasks/bank").json()["bytes"]
    assert scores(predict(alone, "head")) != scores(predict(client))


def test_large_adapters_are_written_and_read_off_the_event_loop(
    start_service: StartService, make_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = ModelSpec("maml", "full", 2)
    monkeypatch.setattr("service.tasks.adapters._LARGE_BYTES", 50_000)
    threads = []
    for name in ("encode_adapter", "decode_adapter"):
        real = getattr(service.tasks.adapters, name)

        def noted(*given: Any, real: Callable[..., Any] = real, **more: Any) -> Any:
            threads.append(threading.current_thread().name)
            return real(*given, **more)

        monkeypatch.setattr(f"service.tasks.adapters.{name}", noted)
    first, second = (start_service(checkpoint=str(make_checkpoint(spec))) for _ in range(2))
    adapt(first, "large", steps=1)
    assert_close(scores(predict(second, "large")), scores(predict(first, "large")))
    assert len(threads) == 2
    adapt(first, "small", steps=1, learner="protomaml")
    assert_close(scores(predict(second, "small")), scores(predict(first, "small")))
    assert not {*threads[2:]} & {*threads[:2]}


# ---- a learner by request -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", PROTOMAML, ids=named)
def test_a_request_may_ask_for_any_learner_on_the_checkpoints_encoder(
    start_service: StartService, make_checkpoint: MakeCheckpoint, spec: ModelSpec
) -> None:
    first = start_service(checkpoint=str(make_checkpoint(spec)))
    before = {}
    some = ["maml", "matching", "prototypical", "protomaml", "ridge"]
    for learner in sorted(LEARNERS) if spec == ModelSpec() else some:
        made = adapt(first, learner, learner=learner, steps=2)
        assert made["steps"] == (2 if learner in DESCENDING else 0)
        assert first.get(f"/v1/tasks/{learner}").json()["learner"] == learner
        before[learner] = scores(predict(first, learner))
        body = {"support": SUPPORT, "queries": TEXTS, "learner": learner, "steps": 2}
        assert scores(first.post("/v1/classify", json=body).json()) == before[learner]
    # They do not all answer alike: the learner that was asked for was taken
    assert len({json.dumps(found) for found in before.values()}) >= (len(READING) + 2 if spec == ModelSpec() else 4)
    second = start_service(checkpoint=str(make_checkpoint(spec)))
    for learner, expected in before.items():
        assert_close(scores(predict(second, learner)), expected)


def test_a_learner_by_request_is_as_one_by_checkpoint(
    start_service: StartService, make_checkpoint: MakeCheckpoint
) -> None:
    asked = start_service()
    for learner in sorted(LEARNERS):
        adapt(asked, learner, learner=learner)
        own = start_service(checkpoint=str(make_checkpoint(ModelSpec(learner))))
        answer = own.post("/v1/classify", json={"support": SUPPORT, "queries": TEXTS}).json()
        assert_close(scores(predict(asked, learner)), scores(answer))


def test_the_checkpoints_own_learner_by_name_is_the_checkpoints(
    start_service: StartService, make_checkpoint: MakeCheckpoint
) -> None:
    client = start_service(checkpoint=str(make_checkpoint(ModelSpec("maml", "modulations", 2))))
    assert adapt(client, "named", learner="maml")["losses"] == adapt(client, "unnamed")["losses"]
    assert scores(predict(client, "named")) == scores(predict(client, "unnamed"))


@pytest.mark.parametrize("learner", ["", "nope", "ProtoMAML", "proto maml", "x" * 5000])
def test_an_unknown_learner_is_refused_by_name(service: httpx.Client, learner: str) -> None:
    for path, more in (("/v1/tasks/bank/adapt", {}), ("/v1/classify", {"queries": TEXTS})):
        response = service.post(path, json={"support": SUPPORT, "learner": learner, **more})
        assert response.status_code == 422
        assert response.json()["code"] == "unknown_learner"
        assert response.json()["errors"][0]["pointer"] == "#/learner"
        assert "protomaml" in response.json()["detail"]
    assert service.get("/v1/tasks/bank").status_code == 404


@pytest.mark.parametrize("learner", READING)
def test_a_learner_that_takes_no_steps_reports_none(service: httpx.Client, learner: str) -> None:
    plain = adapt(service, learner=learner)
    asked = adapt(service, learner=learner, steps=50, learning_rate=3.0)
    for answer in (plain, asked):
        assert answer["steps"] == 0
        assert len(answer["losses"]) == 1
    assert asked["losses"] == plain["losses"]
    assert service.get("/v1/tasks/bank").json()["steps"] == 0


def test_the_seed_decides_what_a_mini_batch_holds(start_service: StartService, make_checkpoint: MakeCheckpoint) -> None:
    spec = ModelSpec(options=LearnerOptions(update_rule="minibatch_sgd"))
    client = start_service(checkpoint=str(make_checkpoint(spec)))
    support = [*SUPPORT, *OTHER_SUPPORT]
    runs = [adapt(client, f"run-{i}", support, seed=seed)["losses"] for i, seed in enumerate((1, 1, 2))]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


# ---- one batch of many tasks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", PROTOMAML, ids=named)
def test_tenants_of_different_learners_share_batches_and_answers_are_each_their_own(
    start_service: StartService, make_checkpoint: MakeCheckpoint, spec: ModelSpec
) -> None:
    client = start_service(checkpoint=str(make_checkpoint(spec)), max_batch_tokens=4096)
    learners = ["protomaml", *DESCENDING[:1], *(READING if spec == ModelSpec() else READING[:2])]
    tenants = {f"t{i}": bearer(make_key(client, f"t{i}")) for i in range(2 * len(learners))}
    for i, (tenant, headers) in enumerate(tenants.items()):
        support = [{**e, "label": f"{tenant}-{e['label']}"} for e in (SUPPORT if i % 3 else OTHER_SUPPORT)]
        adapt(client, "same-name", support, headers=headers, learner=learners[i % len(learners)], steps=2)
    jobs = [(headers, TEXTS[i % 6 : i % 6 + 1 + i % 3]) for i, headers in enumerate([*tenants.values()] * 2)]
    alone = [scores(predict(client, "same-name", texts, headers=headers)) for headers, texts in jobs]
    with ThreadPoolExecutor(len(jobs)) as threads:
        asked = [threads.submit(predict, client, "same-name", texts, headers=headers) for headers, texts in jobs]
        together = [scores(future.result()) for future in asked]
    for found, expected in zip(together, alone, strict=True):
        assert_close(found, expected)
    metrics = parts_of(client).metrics.registry
    single = metrics.get_sample_value("handful_batch_tenants_bucket", {"le": "1.0"})
    assert single is not None
    assert single < (metrics.get_sample_value("handful_batch_tenants_count") or 0), "no batch was mixed"


# ---- limits -------------------------------------------------------------------------------------------------------


def test_steps_below_the_head_have_a_limit_of_their_own(
    start_service: StartService, make_checkpoint: MakeCheckpoint
) -> None:
    client = start_service(checkpoint=str(make_checkpoint(ModelSpec("maml", "full", 1))), max_deep_tokens=60)
    assert client.get("/v1/checkpoint").json()["limits"]["max_deep_tokens"] == 60
    refused = client.post("/v1/tasks/bank/adapt", json={"support": SUPPORT, "use_label_text": False})
    assert refused.status_code == 422
    assert refused.json()["code"] == "too_many_tokens"
    assert refused.json()["errors"][0]["pointer"] == "#/support"
    # The head's steps have no such limit, and neither has a smaller support set
    assert adapt(client, use_label_text=False, learner="protomaml")["version"] == 1
    assert adapt(client, support=OTHER_SUPPORT, use_label_text=False)["version"] == 2


def test_learners_that_keep_something_of_each_text_have_a_limit_of_their_own(start_service: StartService) -> None:
    client = start_service(max_kept_texts=8)
    refused = client.post("/v1/tasks/bank/adapt", json={"support": SUPPORT, "learner": "matching"})
    assert refused.status_code == 422
    assert refused.json()["code"] == "too_many_examples"
    assert "9 texts" in refused.json()["detail"], "three label texts count as well"
    assert adapt(client, learner="matching", use_label_text=False)["version"] == 1
    assert adapt(client, learner="prototypical_cosine")["version"] == 2


def test_a_learner_that_does_not_classify_is_a_422(service: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = parts_of(service).engine.checkpoints.default.of("ridge")
    monkeypatch.setattr(type(loaded.model.learner), "objectives", frozenset({"regression"}))
    response = service.post("/v1/tasks/bank/adapt", json={"support": SUPPORT, "learner": "ridge"})
    assert response.status_code == 422
    assert response.json()["code"] == "unsupported_objective"
    assert adapt(service)["version"] == 1


def test_a_served_adapter_of_another_learner_is_not_read_as_the_checkpoints(
    start_service: StartService,
) -> None:
    # A version made by request keeps its learner through a restart and a rollback
    first = start_service()
    adapt(first, learner="matching")
    expected = scores(predict(first))
    adapt(first)
    second = start_service()
    assert scores(predict(second)) != expected
    assert_close(scores(predict(second, version=1)), expected)
    rolled = second.post("/v1/tasks/bank/rollback", json={"version": 1}).json()
    assert (rolled["learner"], rolled["version"]) == ("matching", 3)
    assert_close(scores(predict(start_service())), expected)
