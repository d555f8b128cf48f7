"""The answers of predict and classify: scores, top_k, abstention, pairs, descriptions; and the data that they store."""

import httpx
import pytest

from metalearn.learners.optimization import GradientLearner
from tests.conftest import SUPPORT, StartService
from tests.service.conftest import OTHER_SUPPORT, TEXTS, adapt, parts_of, predict
from tests.service.stored_values import stored_values


def test_scores_are_a_distribution_over_all_labels_the_most_probable_first(service: httpx.Client) -> None:
    labels = adapt(service)["labels"]
    for prediction in predict(service)["predictions"]:
        scores = list(prediction["scores"].values())
        assert sorted(prediction["scores"]) == labels
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) == pytest.approx(1, abs=1e-5)
        assert prediction["label"] == next(iter(prediction["scores"]))
        assert prediction["confidence"] == scores[0]
        assert prediction["abstained"] is False


def test_top_k_cuts_the_scores_and_nothing_else(service: httpx.Client) -> None:
    adapt(service)
    complete = predict(service)["predictions"]
    for top_k in (1, 2, 3, 4, 10**30):
        for cut, full in zip(predict(service, top_k=top_k)["predictions"], complete, strict=True):
            assert list(cut["scores"].items()) == list(full["scores"].items())[:top_k]
            assert {**cut, "scores": None} == {**full, "scores": None}
    assert predict(service, top_k=None)["predictions"] == complete


def test_abstention_follows_the_threshold(start_service: StartService) -> None:
    client = start_service()
    adapt(client, steps=0)
    complete = predict(client)["predictions"]
    confidences = sorted(prediction["confidence"] for prediction in complete)
    middle = (confidences[2] + confidences[3]) / 2
    default = parts_of(client).engine.checkpoints.default.checkpoint.manifest.hyperparameters.abstain_threshold
    exact = confidences[2]  # a threshold that is just reached is reached
    plain_thresholds = [(threshold, threshold) for threshold in (0, 0.0, middle, exact, 1, 1.0)]
    for abstain, threshold in [(None, 0), (False, 0), (True, default), *plain_thresholds]:
        answers = predict(client, abstain=abstain)["predictions"]
        for answer, plain in zip(answers, complete, strict=True):
            expected = plain["confidence"] < threshold
            assert answer["abstained"] is expected
            assert answer["label"] == (None if expected else plain["label"])
            assert answer["confidence"] == plain["confidence"]
            assert answer["scores"] == plain["scores"]
    assert [a["abstained"] for a in predict(client, abstain=middle)["predictions"]].count(True) == 3


def test_queries_are_answered_one_by_one_in_order(service: httpx.Client) -> None:
    adapt(service)
    queries = [TEXTS[i % len(TEXTS)] + " really" * (i % 7) for i in range(60)]
    together = predict(service, queries=queries)["predictions"]
    assert len(together) == 60
    for query, prediction in list(zip(queries, together, strict=True))[::7]:
        (alone,) = predict(service, queries=[query])["predictions"]
        assert alone["scores"] == pytest.approx(prediction["scores"], abs=1e-5)


def test_a_pair_is_more_than_its_first_text(service: httpx.Client) -> None:
    support = [
        {"text": "It rains", "text_pair": "The street is wet", "label": "follows"},
        {"text": "He sings", "text_pair": "He makes a sound", "label": "follows"},
        {"text": "It rains", "text_pair": "The sun shines", "label": "contradicts"},
        {"text": "He sings", "text_pair": "He is silent", "label": "contradicts"},
    ]
    adapt(service, "pairs", support)
    queries = [
        {"text": "It rains", "text_pair": "The street is wet"},
        {"text": "The street is wet", "text_pair": "It rains"},
    ]
    predictions = [prediction["scores"]["follows"] for prediction in predict(service, "pairs", queries)["predictions"]]
    first, swapped = predictions
    assert round(first, 5) != round(swapped, 5)
    # Adapting on the first texts only gives other weights
    adapt(service, "first-texts", [{"text": e["text"], "label": e["label"]} for e in support])
    queries = ["It rains", {"text": "It rains"}, {"text": "It rains", "text_pair": None}]
    predictions = [
        prediction["scores"]["follows"] for prediction in predict(service, "first-texts", queries)["predictions"]
    ]
    assert predictions == pytest.approx([predictions[0]] * 3, abs=1e-6)
    assert predictions[0] != pytest.approx(first, abs=1e-6)


def test_a_class_may_start_from_its_description_alone(service: httpx.Client) -> None:
    described = adapt(service, labels={"refund": "asks for their money back"})
    assert "refund" in described["labels"]
    assert described["n_support"] == len(SUPPORT)
    query = ["asks for their money back"]
    (answer,) = predict(service, queries=query)["predictions"]
    # The checkpoint of the tests has random weights, to which all texts are nearly alike
    others = predict(service)["predictions"]
    assert answer["scores"]["refund"] > max(other["scores"]["refund"] for other in others)
    # Another description is another class
    adapt(service, "other", labels={"refund": "the weather is nice today"})
    (other,) = predict(service, "other", query)["predictions"]
    assert other["scores"]["refund"] < answer["scores"]["refund"]


def test_a_description_of_a_class_with_examples_is_a_prior_for_it(service: httpx.Client) -> None:
    plain = adapt(service, "plain")
    described = adapt(service, "described", labels={"card_arrival": "the card has not come by post yet"})
    assert described["labels"] == plain["labels"]
    assert described["losses"] != plain["losses"]


def test_label_text_is_left_out_where_asked(service: httpx.Client) -> None:
    used = adapt(service, "used")
    unused = adapt(service, "unused", use_label_text=False)
    assert used["losses"] != unused["losses"]
    assert service.get("/v1/tasks/used").json()["use_label_text"] is True
    assert service.get("/v1/tasks/unused").json()["use_label_text"] is False
    # Without label text only the partition counts, not what the classes are called
    renamed = [{**example, "label": f"z{example['label'][::-1]}"} for example in SUPPORT]
    adapt(service, "unused", use_label_text=False, steps=2)
    adapt(service, "renamed", renamed, use_label_text=False, steps=2)
    before, after = (predict(service, task)["predictions"] for task in ("unused", "renamed"))
    for one, other in zip(before, after, strict=True):
        expected = {f"z{label[::-1]}": score for label, score in one["scores"].items()}
        assert other["scores"] == pytest.approx(expected, abs=1e-5)


def test_classes_may_have_different_numbers_of_examples(service: httpx.Client) -> None:
    support = [{"text": f"question number {i} about a card", "label": "many"} for i in range(15)]
    support.append({"text": "tell me a joke", "label": "single"})
    # Without steps the nearest class mean decides, and the only example of its class is its mean
    answer = adapt(service, support=support, steps=0, use_label_text=False)
    assert (answer["n_support"], answer["labels"]) == (16, ["many", "single"])
    (prediction,) = predict(service, queries=["tell me a joke"])["predictions"]
    assert prediction["label"] == "single"


def test_truncated_texts_are_counted(service: httpx.Client) -> None:
    long = "card " * 100  # the tiny encoder reads 64 tokens
    fits, cut = "card " * 62, "card " * 63
    answer = adapt(service, support=[*SUPPORT, {"text": long, "label": "card_arrival"}])
    assert answer["truncated"] == 1
    assert adapt(service)["truncated"] == 0
    answer = predict(service, queries=["short", long, fits, cut])
    assert answer["truncated"] == 2
    assert [prediction["truncated"] for prediction in answer["predictions"]] == [False, True, False, True]
    body = {"support": [*SUPPORT, {"text": long, "label": "card_arrival"}], "queries": [long, "short"]}
    assert service.post("/v1/classify", json=body).json()["truncated"] == 2


def test_zero_steps_leave_the_start_as_it_is(service: httpx.Client) -> None:
    answer = adapt(service, steps=0)
    assert (answer["steps"], len(answer["losses"])) == (0, 1)


def test_a_weight_that_would_be_lost_is_refused(service: httpx.Client) -> None:
    support = [{**example, "weight": 1e-300} for example in SUPPORT]
    response = service.post("/v1/tasks/bank/adapt", json={"support": support})
    assert response.status_code == 422
    error = response.json()["errors"][0]
    assert error["pointer"] == "#/support/0/weight"
    assert "give 0" in error["detail"]


def test_an_adaptation_that_diverges_is_refused_and_stores_nothing(
    service: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapt(service)
    original = GradientLearner.learning_rates
    monkeypatch.setattr(
        GradientLearner,
        "learning_rates",
        lambda *args, **kwargs: {name: rate * 1e38 for name, rate in original(*args, **kwargs).items()},
    )
    for path, body in (("/v1/tasks/bank/adapt", {}), ("/v1/classify", {"queries": TEXTS})):
        response = service.post(path, json={"support": SUPPORT, "learning_rate": 1000, "steps": 50, **body})
        assert response.status_code == 422, response.text
        assert response.json()["code"] == "adaptation_diverged"
        assert response.json()["errors"][0]["pointer"] == "#/learning_rate"
        assert "which is 1000" in response.json()["errors"][0]["detail"]
    response = service.post("/v1/tasks/bank/adapt", json={"support": SUPPORT, "steps": 50})
    assert response.json()["errors"][0]["pointer"] == "#/support", "no rate was given that could be lowered"
    assert "checkpoint's own learning rate" in response.json()["errors"][0]["detail"]
    assert service.get("/v1/tasks/bank").json()["version"] == 1
    assert predict(service)["version"] == 1


def test_the_largest_rate_and_number_of_steps_give_numbers_or_a_refusal(service: httpx.Client) -> None:
    response = service.post("/v1/tasks/bank/adapt", json={"support": SUPPORT, "learning_rate": 1000, "steps": 200})
    assert response.status_code in {200, 422}
    if response.status_code == 200:
        for prediction in predict(service)["predictions"]:
            assert 0 <= prediction["confidence"] <= 1


def test_classify_answers_as_adapt_and_predict_do_and_stores_nothing(stored_service: httpx.Client) -> None:
    adapted = adapt(stored_service, "kept")
    expected = predict(stored_service, "kept")["predictions"]
    before = stored_service.get("/v1/tasks").json()
    cached = len(parts_of(stored_service).adapters._cache)
    response = stored_service.post("/v1/classify", json={"support": SUPPORT, "queries": TEXTS})
    assert response.status_code == 200
    answer = response.json()
    assert answer["predictions"] == expected
    for name in ("labels", "losses", "support_accuracy", "leave_one_out_accuracy"):
        assert answer[name] == adapted[name]
    assert "version" not in answer
    assert stored_service.get("/v1/tasks").json() == before
    assert len(parts_of(stored_service).adapters._cache) == cached


SECRET = "xylophone quadrant"


@pytest.mark.parametrize("keep", [True, False])
def test_texts_are_stored_only_where_they_may_be_kept(start_service: StartService, store_url: str, keep: bool) -> None:
    client = start_service(store=store_url)
    support = [*SUPPORT, {"text": SECRET, "label": "card_arrival"}]
    headers = {"Idempotency-Key": "k"}
    adapt(client, support=support, keep_support=keep, headers=headers, labels={"card_arrival": f"about {SECRET}"})
    assert client.post("/v1/tasks/bank/rollback", json={"version": 1}).status_code == 200
    predict(client, queries=[f"query {SECRET}"])
    assert client.get("/v1/tasks/bank").json()["support_kept"] is keep
    found = [data for data in stored_values(store_url) if SECRET.encode() in data]
    # The text in a row that both versions share, the description with each of them; nowhere else in any case
    assert len(found) == (3 if keep else 0)
    assert any(b"card_arrival" in data for data in stored_values(store_url)), "looked in the wrong place"


def test_neither_queries_nor_classified_texts_are_stored(start_service: StartService, store_url: str) -> None:
    client = start_service(store=store_url)
    adapt(client, support=OTHER_SUPPORT)
    predict(client, queries=[SECRET])
    body = {"support": [*SUPPORT, {"text": SECRET, "label": "x"}], "queries": [SECRET]}
    assert client.post("/v1/classify", json=body).status_code == 200
    assert not [data for data in stored_values(store_url) if SECRET.encode() in data]


def test_the_file_itself_forgets_a_deleted_tasks_texts(start_service: StartService, tmp_path: object) -> None:
    client = start_service()
    adapt(client, "doomed", [{"text": f"{SECRET} {i}", "label": f"label {i % 2}"} for i in range(4)])
    assert client.delete("/v1/tasks/doomed").status_code == 200
    url = str(parts_of(client).settings.store.get_secret_value())
    assert not [data for data in stored_values(url) if SECRET.encode() in data or b"doomed" in data]
