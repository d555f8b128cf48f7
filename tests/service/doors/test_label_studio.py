"""``/label-studio/{task}``: what Label Studio's connector and its webhooks send, and what they read."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.conftest import SUPPORT, StartService
from tests.service.conftest import adapt, bearer, make_key
from tests.service.doors.conftest import LABELS, TEXT, Door

INTERFACE = (
    '<View><Text name="text" value="$text"/><Choices name="label" toName="text" choice="single">'
    + "".join(f'<Choice value="{label}"/>' for label in LABELS)
    + "</Choices></View>"
)
MULTIPLE = INTERFACE.replace('"single"', '"multiple"')


class LabelStudio:
    """The calls of Label Studio's connector (``ml/api_connector.py``) and of its webhooks, as its sources make them."""

    def __init__(self, client: httpx.Client, task: str, *, interface: str = INTERFACE, auth: Any = None) -> None:
        self.client, self.base, self.interface, self.auth = client, f"/label-studio/{task}/", interface, auth
        self.tasks: dict[int, dict[str, Any]] = {}

    def call(self, path: str, body: object = None) -> httpx.Response:
        """A call; GET without a body."""
        method = "GET" if body is None else "POST"
        return self.client.request(method, self.base + path, json=body, auth=self.auth)

    def setup(self) -> httpx.Response:
        """The call when a backend is connected, and before each prediction."""
        return self.call(
            "setup",
            {
                "project": "12.1694000000",
                "schema": self.interface,
                "hostname": "http://localhost:8080",
                "access_token": "token",
                "extra_params": None,
            },
        )

    def predict(self, *texts: object, field: str = "text") -> httpx.Response:
        """The call for tasks without a prediction."""
        tasks = [{"id": i, "data": {field: text}, "meta": {}, "overlap": 1} for i, text in enumerate(texts)]
        return self.call(
            "predict",
            {
                "tasks": tasks,
                "model_version": "any",
                "project": "12.1694000000",
                "label_config": self.interface,
                "params": {"login": None, "password": None, "context": None},
            },
        )

    def project(self) -> dict[str, Any]:
        """The project of a webhook."""
        return {"id": 12, "title": "Bank", "label_config": self.interface, "task_number": 100}

    def annotation(self, number: int, task: int, *labels: str, cancelled: bool = False) -> dict[str, Any]:
        """An annotation of a webhook."""
        result = {"id": "x1", "type": "choices", "from_name": "label", "to_name": "text", "origin": "manual"}
        results = [{**result, "value": {"choices": list(labels)}}] if labels else []
        return {"id": number, "task": task, "result": results, "was_cancelled": cancelled, "lead_time": 1.5}

    def annotate(self, action: str, number: int, task: int, text: str, *labels: str, **more: Any) -> httpx.Response:
        """The webhook of an annotation that was made or changed."""
        return self.call(
            "webhook",
            {
                "action": action,
                "annotation": self.annotation(number, task, *labels, **more),
                "task": {"id": task, "data": {"text": text}, "is_labeled": True},
                "project": self.project(),
            },
        )

    def delete(self, *numbers: int) -> httpx.Response:
        """The webhook of annotations that were deleted."""
        gone = [{"id": number} for number in numbers]
        return self.call("webhook", {"action": "ANNOTATIONS_DELETED", "annotations": gone, "project": self.project()})


def examples(client: httpx.Client, task: str = "new") -> dict[str, tuple[str, Any]]:
    """Id -> text and label of the stored examples."""
    found = client.get(f"/v1/tasks/{task}/examples?limit=1000").json()["examples"]
    return {each["id"]: (each["text"], each.get("label", each.get("labels"))) for each in found}


def version(answer: httpx.Response) -> int:
    """The version that a webhook made."""
    assert answer.status_code == 201, answer.text
    assert answer.json()["status"] == "ok"
    number: int = answer.json()["result"]["version"]
    return number


def test_a_new_project_is_labelled_from_nothing(start_service: StartService) -> None:
    client = start_service()
    studio = LabelStudio(client, "new")
    for path in ("", "health"):
        assert studio.call(path).json()["status"] == "UP"
    assert client.get("/label-studio/new").json()["status"] == "UP"
    assert client.get("/v1/tasks/new").status_code == 404  # a look at its health makes nothing
    assert studio.setup().json() == {"model_version": "new@1"}
    assert studio.setup().json() == {"model_version": "new@1"}  # Label Studio asks again and again
    found = studio.predict(TEXT).json()
    (prediction,) = found["results"]
    own = client.post("/v1/tasks/new/predict", json={"queries": [TEXT], "abstain": False}).json()["predictions"][0]
    assert prediction == {
        "result": [{"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [own["label"]]}}],
        "score": own["confidence"],
        "model_version": "new@1",
    }
    for i, example in enumerate(SUPPORT):
        made = studio.annotate("ANNOTATION_CREATED", 100 + i, i, example["text"], example["label"])
        assert version(made) == 2 + i
        assert made.json()["result"]["n_support"] == 1 + i
    assert examples(client) == {
        f"label-studio.{i}.{100 + i}": (each["text"], each["label"]) for i, each in enumerate(SUPPORT)
    }
    assert studio.predict(TEXT).json()["model_version"] == f"new@{1 + len(SUPPORT)}"


def test_annotations_are_replaced_and_erased(start_service: StartService) -> None:
    client = start_service()
    studio = LabelStudio(client, "new")
    first, other = LABELS[:2]
    for number, task in ((1, 11), (2, 12), (3, 13)):
        studio.annotate("ANNOTATION_CREATED", number, task, f"text {task}", first)
    before = client.get("/v1/tasks/new").json()["version"]
    assert version(studio.annotate("ANNOTATION_UPDATED", 2, 12, "text 12", other)) == before + 1
    assert examples(client)["label-studio.12.2"] == ("text 12", other)
    assert len(examples(client)) == 3
    # The same webhook again changes nothing, under whichever name
    for action in ("ANNOTATION_UPDATED", "ANNOTATION_CREATED"):
        again = studio.annotate(action, 2, 12, "text 12", other)
        assert (again.status_code, again.json()["result"]) == (201, {"task": "new", "examples": 1})
    assert client.get("/v1/tasks/new").json()["version"] == before + 1
    erased = studio.delete(1, 99)
    assert erased.json()["result"]["erased"] == 1
    assert "label-studio.11.1" not in examples(client)
    versions = [each["version"] for each in client.get("/v1/tasks/new/versions").json()["versions"]]
    assert versions == [version(erased), 1]  # every version that was adapted on the text is gone
    # A skipped task, and one whose choice was taken back, have no answer
    assert studio.annotate("ANNOTATION_UPDATED", 2, 12, "text 12", other, cancelled=True).status_code == 201
    assert set(examples(client)) == {"label-studio.13.3"}
    empty = studio.annotate("ANNOTATION_CREATED", 7, 17, "text 17")
    assert empty.json()["result"] == {"task": "new", "examples": 0, "erased": 0}
    gone = studio.call("webhook", {"action": "TASKS_DELETED", "tasks": [{"id": 13}], "project": studio.project()})
    assert gone.json()["result"]["erased"] == 1
    assert examples(client) == {}
    assert studio.predict(TEXT).status_code == 200  # by the names of the choices


def test_many_annotations_at_once_make_one_version(start_service: StartService) -> None:
    client = start_service()
    studio = LabelStudio(client, "new")
    answer = studio.call(
        "webhook",
        {
            "action": "ANNOTATIONS_CREATED",
            "annotation": [studio.annotation(i, 10 + i, each["label"]) for i, each in enumerate(SUPPORT)],
            "task": [{"id": 10 + i, "data": {"text": each["text"]}} for i, each in enumerate(SUPPORT)],
            "project": studio.project(),
        },
    )
    assert version(answer) == 2
    assert sorted(examples(client).values()) == sorted((each["text"], each["label"]) for each in SUPPORT)


def test_no_annotation_of_many_at_once_is_lost(start_service: StartService) -> None:
    client = start_service()
    studio = LabelStudio(client, "new")
    numbers = range(6)
    with ThreadPoolExecutor(len(numbers)) as pool:
        answers = list(
            pool.map(lambda i: studio.annotate("ANNOTATION_CREATED", i, i, f"text {i}", LABELS[i % 2]), numbers)
        )
    assert [answer.status_code for answer in answers] == [201] * len(numbers)
    assert set(examples(client)) == {f"label-studio.{i}.{i}" for i in numbers}


def test_a_task_that_was_deleted_starts_anew(start_service: StartService) -> None:
    client = start_service()
    studio = LabelStudio(client, "new")
    for _ in range(2):
        assert version(studio.annotate("ANNOTATION_CREATED", 1, 1, "a card", LABELS[0])) == 2
        assert client.delete("/v1/tasks/new").status_code == 200


def test_texts_with_several_labels_start_from_examples(start_service: StartService) -> None:
    client = start_service()
    studio = LabelStudio(client, "new", interface=MULTIPLE)
    assert studio.setup().json() == {"model_version": "new@0"}
    assert studio.predict(TEXT).json()["results"] == [{"result": [], "score": 0.0, "model_version": "new@0"}]
    first = studio.annotate("ANNOTATION_CREATED", 1, 1, "a card and a fee", *LABELS[:2])
    assert first.status_code == 201, first.text
    studio.annotate("ANNOTATION_CREATED", 2, 2, "a card", LABELS[0])
    assert examples(client)["label-studio.1.1"] == ("a card and a fee", LABELS[:2])
    assert client.get("/v1/tasks/new").json()["kind"] == "multi_label"
    (found,) = studio.predict("a card and a fee").json()["results"]
    own = client.post("/v1/tasks/new/predict", json={"queries": ["a card and a fee"]}).json()["predictions"][0]
    assert [each["value"]["choices"] for each in found["result"]] == ([own["labels"]] if own["labels"] else [])


def test_predictions_are_choices_of_the_interface(start_service: StartService) -> None:
    client = start_service()
    adapt(client)
    fewer = INTERFACE.replace(f'<Choice value="{LABELS[0]}"/>', '<Choice value="something else"/>')
    studio = LabelStudio(client, "bank", interface=fewer)
    own = client.post("/v1/tasks/bank/predict", json={"queries": [TEXT], "only_labels": LABELS[1:]}).json()
    (found,) = studio.predict(TEXT).json()["results"]
    assert found["result"][0]["value"]["choices"] == [own["predictions"][0]["label"]]
    assert found["score"] == own["predictions"][0]["confidence"]
    others = INTERFACE
    for label in LABELS:
        others = others.replace(label, f"other {label}")
    refused = LabelStudio(client, "bank", interface=others).predict(TEXT)
    assert (refused.status_code, refused.json()["status"]) == (422, "error")
    assert "none of the 3 labels of task 'bank' is a choice" in refused.json()["error"]


def test_a_choice_in_another_unicode_form_is_answered_as_the_interface_has_it(start_service: StartService) -> None:
    client = start_service()
    decomposed = "cafe\u0301"
    interface = INTERFACE.replace(LABELS[0], decomposed)
    studio = LabelStudio(client, "new", interface=interface)
    studio.annotate("ANNOTATION_CREATED", 1, 1, "coffee", decomposed)
    assert "café" in client.get("/v1/tasks/new").json()["labels"]
    (found,) = studio.predict("coffee").json()["results"]
    chosen = found["result"][0]["value"]["choices"][0]
    assert chosen in {decomposed, *LABELS[1:]}


def test_an_empty_text_has_no_prediction_and_a_missing_one_is_an_error(door: Door) -> None:
    with door.client() as client:
        studio = LabelStudio(client, "bank")
        found = studio.predict("", TEXT, None, 7).json()["results"]
        assert [len(each["result"]) for each in found] == [0, 1, 0, 1]
        assert found[1]["score"] == max(door.scores().values())
        missing = studio.predict(TEXT, field="body")
        assert missing.status_code == 422
        assert missing.json()["error"].startswith("#/tasks/0/data/text: the task's data has no text")


def test_the_key_is_a_bearer_or_the_password_of_basic_authentication(door: Door) -> None:
    with httpx.Client(base_url=door.url) as client:
        for auth, status in (
            (("handful", door.key), 200),
            (("", door.key), 200),
            (("handful", "wrong"), 401),
            (None, 401),
        ):
            for call in (LabelStudio.setup, lambda studio: studio.call("health"), lambda studio: studio.predict(TEXT)):
                assert call(LabelStudio(client, "bank", auth=auth)).status_code == status
        refused = LabelStudio(client, "bank").annotate("ANNOTATION_CREATED", 1, 1, TEXT, LABELS[0])
        assert refused.status_code == 401
        assert set(refused.json()) == {"status", "error", "code"}
    # Label Studio has no field for it where a webhook is made by itself: the address can hold it
    with_key = door.url.replace("http://", f"http://handful:{door.key}@")
    assert httpx.get(f"{with_key}/label-studio/bank/health").status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({"action": "PROJECT_UPDATED", "project": {"id": 1, "label_config": ""}}, 200, "no example follows"),
        ({"action": "START_TRAINING", "project": {"id": 1}}, 201, "nothing to train"),
        ({"action": "ANNOTATION_CREATED"}, 422, "Send payload"),
        ({"action": "ANNOTATIONS_DELETED"}, 422, "Send payload"),
        ({}, 422, "#/action"),
    ],
)
def test_other_webhooks_change_nothing(door: Door, body: dict[str, object], status: int, sentence: str) -> None:
    with door.client() as client:
        before = client.get("/v1/tasks/bank").json()
        answer = client.post("/label-studio/bank/webhook", json=body)
        assert answer.status_code == status
        assert sentence in json.dumps(answer.json())
        assert client.get("/v1/tasks/bank").json() == before


def test_annotations_that_cannot_be_examples_are_refused(door: Door) -> None:
    with door.client() as client:
        studio = LabelStudio(client, "bank")
        two = studio.annotate("ANNOTATION_CREATED", 1, 1, TEXT, *LABELS[:2])
        assert "has 2 choices" in two.json()["error"]
        empty = studio.annotate("ANNOTATION_CREATED", 1, 1, "", LABELS[0])
        assert (empty.status_code, empty.json()["code"]) == (422, "empty_text")
        elsewhere = studio.call(
            "webhook",
            {
                "action": "ANNOTATIONS_CREATED",
                "annotation": [studio.annotation(1, 5, LABELS[0])],
                "task": [{"id": 1, "data": {"text": "a"}}, {"id": 2, "data": {"text": "b"}}],
                "project": studio.project(),
            },
        )
        assert "task 5 is not in the request" in elsewhere.json()["error"]
        assert client.get("/v1/tasks/bank").json()["version"] == 1


def test_a_change_that_leaves_one_class_is_refused_and_changes_nothing(start_service: StartService) -> None:
    client = start_service()
    studio = LabelStudio(client, "plain")
    support = [{"text": "a card", "label": LABELS[0]}, {"text": "a fee", "label": LABELS[1], "id": "label-studio.1.1"}]
    adapt(client, "plain", support)
    refused = studio.annotate("ANNOTATION_UPDATED", 1, 1, "a fee", LABELS[0])
    assert (refused.status_code, refused.json()["code"]) == (409, "example_needed")
    assert client.get("/v1/tasks/plain").json()["version"] == 1


def test_a_tenants_project_never_meets_anothers(stored_service: httpx.Client) -> None:
    keys = {name: make_key(stored_service, name) for name in ("acme", "globex")}
    studios = {name: LabelStudio(stored_service, "new", auth=("x", key)) for name, key in keys.items()}
    for name, studio in studios.items():
        studio.annotate("ANNOTATION_CREATED", 1, 1, f"of {name}", LABELS[0])
    studios["globex"].delete(1)
    stored_service.headers.update(bearer(keys["acme"]))
    assert examples(stored_service) == {"label-studio.1.1": ("of acme", LABELS[0])}
    stored_service.headers.update(bearer(keys["globex"]))
    assert examples(stored_service) == {}
