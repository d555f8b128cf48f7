"""The typed clients: retries, limits of retries, and error messages."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from handful.client import Client
from handful.errors import HandfulError
from tests.conftest import SUPPORT, StartService
from tests.handful.conftest import BUSY, DELETED, LIST, Connected, Open, Script, Scripted, busy
from tests.service.conftest import OTHER_SUPPORT, TEXTS, adapt


def test_a_busy_server_is_asked_again_after_the_time_of_its_answer(pauses: list[float], scripted: Scripted) -> None:
    client, script = scripted(
        busy(**{"Retry-After": "3"}), busy(**{"Retry-After": "2"}), httpx.Response(200, json=LIST)
    )
    assert list(client.tasks()) == []
    assert pauses == [3.0, 2.0]
    assert len(script.requests) == 3


def test_a_server_that_stays_busy_is_given_up_on(pauses: list[float], scripted: Scripted) -> None:
    client, script = scripted(busy(**{"Retry-After": "1"}))
    with pytest.raises(HandfulError) as caught:
        list(client.tasks())
    assert (caught.value.status, caught.value.code, caught.value.request_id) == (503, "server_busy", "r-1")
    assert str(caught.value) == "the queue is full"
    assert 2 <= len(script.requests) <= 5
    assert len(pauses) == len(script.requests) - 1


@pytest.mark.parametrize("retry_after", ["Wed, 21 Oct 2026 07:28:00 GMT", "soon", "", "-5", "nan"])
def test_a_retry_after_of_another_form_does_not_break_the_client(
    pauses: list[float], retry_after: str, scripted: Scripted
) -> None:
    # A date is as good a Retry-After as seconds (RFC 9110, section 10.2.3), and a proxy may send anything
    client, script = scripted(busy(**{"Retry-After": retry_after}), httpx.Response(200, json=LIST))
    assert list(client.tasks()) == []
    assert len(script.requests) == 2
    assert all(0 <= pause < 3600 for pause in pauses)


def test_a_repeated_write_carries_one_idempotency_key(pauses: list[float], scripted: Scripted) -> None:
    client, script = scripted(busy(), httpx.ReadTimeout("lost"), busy())
    with pytest.raises(HandfulError):
        client.adapt("bank", SUPPORT)
    with pytest.raises(HandfulError):
        client.rollback("bank", 1)
    keys = [request.headers.get("idempotency-key") for request in script.requests]
    assert all(keys)
    assert len(set(keys)) == 2
    assert [request.url.path.rsplit("/", 1)[1] for request in script.requests] == ["adapt"] * 3 + ["rollback"] * 3


def test_a_read_carries_no_idempotency_key(pauses: list[float], scripted: Scripted) -> None:
    client, script = scripted(httpx.Response(200, json=LIST))
    list(client.tasks())
    assert "idempotency-key" not in script.requests[0].headers
    assert pauses == []


@pytest.mark.parametrize("status", [400, 401, 404, 409, 413, 422, 500, 501])
def test_other_refusals_are_not_tried_again(pauses: list[float], status: int, scripted: Scripted) -> None:
    errors = [{"pointer": "#/support", "detail": "empty"}]
    answer = {**BUSY, "status": status, "code": "some_code", "errors": errors}
    client, script = scripted(httpx.Response(status, json=answer, headers={"X-Request-Id": "r-2"}))
    with pytest.raises(HandfulError) as caught:
        client.adapt("bank", SUPPORT)
    assert (caught.value.status, caught.value.code, caught.value.request_id) == (status, "some_code", "r-2")
    assert list(caught.value.errors) == errors
    assert len(script.requests) == 1
    assert pauses == []


RACE = httpx.Response(409, json={**BUSY, "status": 409, "code": "version_conflict"})


def test_what_builds_on_the_newest_version_is_tried_again_after_a_race(pauses: list[float], scripted: Scripted) -> None:
    calls: tuple[Callable[[Client], object], ...] = (
        lambda client: client.add_examples("bank", [("a", "b")]),
        lambda client: client.erase_example("bank", "id"),
    )
    for call in calls:
        client, script = scripted(RACE, RACE, RACE, RACE, httpx.Response(404, json={**BUSY, "status": 404}))
        with pytest.raises(HandfulError):
            call(client)
        assert len(script.requests) == 5
        assert len({request.headers.get("idempotency-key") for request in script.requests}) == 1
        client, script = scripted(RACE)
        with pytest.raises(HandfulError) as caught:
            call(client)
        assert (caught.value.status, len(script.requests)) == (409, 50)
        client, script = scripted(httpx.Response(409, json={**BUSY, "status": 409, "code": "support_not_kept"}))
        with pytest.raises(HandfulError):
            call(client)
        assert len(script.requests) == 1
    assert all(0 <= pause <= 0.5 for pause in pauses)


def test_a_lost_connection_is_tried_again(pauses: list[float], scripted: Scripted) -> None:
    client, script = scripted(httpx.ConnectError("refused"), httpx.Response(200, json=LIST))
    assert list(client.tasks()) == []
    assert len(script.requests) == 2
    assert len(pauses) == 1


def test_a_delete_whose_answer_was_lost_is_not_sent_twice(pauses: list[float], scripted: Scripted) -> None:
    client, script = scripted(httpx.ReadError("lost"), httpx.Response(200, json=DELETED))
    with pytest.raises(HandfulError) as caught:
        client.delete("bank")
    assert caught.value.status == 0
    assert len(script.requests) == 1
    assert pauses == []


def test_an_unreachable_server_is_named(pauses: list[float], open_client: Open) -> None:
    with open_client("http://127.0.0.1:9", timeout_s=2) as client, pytest.raises(HandfulError) as caught:
        client.checkpoint()
    assert (caught.value.status, caught.value.code) == (0, "unreachable")
    assert "http://127.0.0.1:9" in str(caught.value)
    assert "handful serve" in str(caught.value)
    assert len(pauses) == 2


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>Welcome to the hotel's network</html>"),
        httpx.Response(200, json={"hello": "world"}),
        httpx.Response(200, json=[1, 2]),
        httpx.Response(204),
        httpx.Response(302, headers={"Location": "https://login.example.org"}),
        httpx.Response(502, text="<html>Bad Gateway</html>"),
        httpx.Response(404, json=["not", "ours"]),
        httpx.Response(404, json={"message": "no route"}),
    ],
    ids=["page", "other-json", "list", "empty", "redirect", "gateway", "error-list", "error-other"],
)
def test_an_answer_that_is_not_the_servers_is_a_handful_error(
    pauses: list[float], answer: httpx.Response, scripted: Scripted
) -> None:
    client, _ = scripted(answer)
    with pytest.raises(HandfulError) as caught:
        client.checkpoint()
    assert caught.value.code == "unexpected_answer"
    assert len(str(caught.value)) < 1000


def test_the_key_is_sent_and_not_shown(pauses: list[float], open_client: Open) -> None:
    script = Script(httpx.Response(401, json={**BUSY, "status": 401}))
    with open_client("http://handful", api_key="handful_secret", transport=script) as client:
        with pytest.raises(HandfulError) as caught:
            client.checkpoint()
        assert script.requests[0].headers["authorization"] == "Bearer handful_secret"
        assert "handful_secret" not in str(caught.value)


def test_every_call_works_against_the_service(connected: Connected) -> None:
    client, _ = connected
    assert client.adapt("bank", SUPPORT, steps=3).version == 1
    assert client.adapt("bank", OTHER_SUPPORT).labels == ["cooking", "travel"]
    assert client.predict("bank", TEXTS, top_k=1).version == 2
    assert client.predict("bank", [{"text": "a"}], version=1).version == 1
    assert client.rollback("bank", 1).version == 3
    assert [version.version for version in client.versions("bank")] == [3, 2, 1]
    assert client.report("bank").version == 3
    assert [each.index for each in client.report("bank", ["a fee", "a card"], next=1, version=1).next_to_label] != []
    assert client.predict("bank", "a fee", explain=True).predictions[0].nearest
    assert client.task("bank").copied_from == 1
    assert [task.task for task in client.tasks()] == ["bank"]
    assert len(client.classify(SUPPORT, TEXTS).predictions) == len(TEXTS)
    assert client.checkpoint().name == "tiny"
    assert client.checkpoints() == [client.checkpoint()]
    (example,) = client.add_examples("bank", [("my card was stolen", "card_stolen")]).ids
    assert [(e.id, e.text) for e in client.examples("bank", label="card_stolen")] == [(example, "my card was stolen")]
    assert list(client.examples("bank", text="no such text")) == []
    assert client.erase_example("bank", example).removed_versions == [4]
    client.delete_version("bank", 2)
    assert [version.version for version in client.versions("bank")] == [5, 3, 1]
    with pytest.raises(HandfulError) as caught:
        client.erase_example("bank", "../versions/3")
    assert caught.value.status in {404, 422}
    client.delete("bank")
    with pytest.raises(HandfulError) as caught:
        client.task("bank")
    assert (caught.value.status, caught.value.code) == (404, "task_not_found")
    assert caught.value.request_id


def test_lists_of_a_service_are_read_page_by_page(start_service: StartService) -> None:
    service = start_service()
    client = Client("http://handful", transport=service._transport)
    for i in range(3):
        adapt(service, f"task-{i}", steps=0)
    for _ in range(102):
        adapt(service, "many", OTHER_SUPPORT, steps=0)
    assert [version.version for version in client.versions("many")] == list(range(102, 0, -1))
    assert [task.task for task in client.tasks()] == ["many", "task-0", "task-1", "task-2"]


def test_a_page_begins_where_the_one_before_ends(pauses: list[float], scripted: Scripted) -> None:
    pages = [
        {"task": "bank", "versions": [], "next": 7},
        {"task": "bank", "versions": [], "next": 3},
        {"task": "bank", "versions": [], "next": None},
    ]
    client, script = scripted(*(httpx.Response(200, json=page) for page in pages))
    assert list(client.versions("bank")) == []
    assert [dict(request.url.params) for request in script.requests] == [{}, {"before": "7"}, {"before": "3"}]
    client, script = scripted(httpx.Response(200, json={**LIST, "next": "a.b"}), httpx.Response(200, json=LIST))
    assert list(client.tasks()) == []
    assert [dict(request.url.params) for request in script.requests] == [{}, {"after": "a.b"}]


CALLS: dict[str, Callable[[Client, str], Any]] = {
    "delete": lambda client, task: client.delete(task),
    "task": lambda client, task: client.task(task),
    "versions": lambda client, task: list(client.versions(task)),
    "rollback": lambda client, task: client.rollback(task, 1),
    "predict": lambda client, task: client.predict(task, ["a"]),
    "adapt": lambda client, task: client.adapt(task, OTHER_SUPPORT),
}


NO_NAMES = ("bank?x=1", "bank#x", "other/../bank", "bank/versions", "../tasks/bank", "bank ", "")


@pytest.mark.parametrize("call", sorted(CALLS))
def test_a_name_that_no_task_can_have_reaches_no_other_task(connected: Connected, call: str) -> None:
    client, service = connected
    adapt(service)
    for task in NO_NAMES:
        with pytest.raises(HandfulError):
            CALLS[call](client, task)
        records = service.get("/v1/tasks").json()["tasks"]
        assert [(record["task"], record["version"]) for record in records] == [("bank", 1)], task


def test_an_error_of_the_service_names_the_place(connected: Connected) -> None:
    client, _ = connected
    with pytest.raises(HandfulError) as caught:
        client.adapt("bank", [{"text": "a", "label": "b"}, {"text": "", "label": "c"}])
    assert caught.value.status == 422
    assert [error["pointer"] for error in caught.value.errors] == ["#/support/1/text"]
    assert json.dumps(list(caught.value.errors))


def test_a_server_that_recovers_is_waited_for(pauses: list[float], scripted: Scripted) -> None:
    client, script = scripted(busy(**{"Retry-After": "0.2"}), httpx.Response(200, json=LIST))
    assert list(client.tasks()) == []
    assert len(pauses) == 1
    assert pauses[0] >= 0.2
    assert len(script.requests) == 2


def test_one_text_is_one_query(connected: Connected) -> None:
    client, _ = connected
    client.adapt("bank", SUPPORT)
    assert len(client.predict("bank", "where is my card").predictions) == 1
    assert len(client.predict("bank", (text for text in TEXTS)).predictions) == len(TEXTS)
    assert len(client.classify(SUPPORT, "where is my card").predictions) == 1


def test_one_pair_is_one_query(pauses: list[float], scripted: Scripted) -> None:
    client, script = scripted(httpx.Response(200, json={"task": "t", "version": 1, "predictions": [], "truncated": 0}))
    client.predict("t", {"text": "a", "text_pair": "b"})
    assert json.loads(script.requests[0].content)["queries"] == [{"text": "a", "text_pair": "b"}]


def test_examples_may_be_pairs_of_text_and_label(connected: Connected) -> None:
    client, _ = connected
    pairs = [(example["text"], example["label"]) for example in SUPPORT]
    assert client.adapt("bank", pairs).n_support == len(SUPPORT)
    assert len(client.classify(iter(pairs), TEXTS).predictions) == len(TEXTS)


@pytest.mark.parametrize(
    "support",
    [
        "a text",
        b"bytes",
        {"text": ["a", "b"], "label": ["x", "y"]},
        {"refund": [("a", "b")]},
        {"refund": [1]},
        {"refund": [{"text": "a", "label": "b"}]},
        {"refund": None},
        {1: ["a"]},
        None,
        5,
        ["a", "b"],
        [["a", "b"]],
        (["a", "b"], ["x", "y"]),
        [("a", "b", "c")],
        [("a", 1)],
        [None],
    ],
    ids=str,
)
def test_a_support_set_of_another_form_is_a_type_error_that_names_the_form(
    pauses: list[float], support: Any, scripted: Scripted
) -> None:
    client, script = scripted(httpx.Response(200, json={}))
    for call in (lambda: client.adapt("t", support), lambda: client.classify(support, "a")):
        with pytest.raises(TypeError, match="a support set is a list of"):
            call()
    assert script.requests == []


@pytest.mark.parametrize("queries", [None, 5, b"bytes", [1], [None], [["a"]], [("a", "b")]], ids=str)
def test_queries_of_another_form_are_a_type_error_that_names_the_form(
    pauses: list[float], queries: Any, scripted: Scripted
) -> None:
    client, script = scripted(httpx.Response(200, json={}))
    for call in (lambda: client.predict("t", queries), lambda: client.classify([("a", "b")], queries)):
        with pytest.raises(TypeError, match="queries are a text, or a list of texts"):
            call()
    assert script.requests == []


def test_a_server_at_another_path_is_reported_with_the_path(pauses: list[float], open_client: Open) -> None:
    answer = {**BUSY, "status": 404, "code": "not_found", "detail": "there is no such route"}
    script = Script(httpx.Response(404, json=answer))
    with open_client("http://handful/few-shot", transport=script) as client, pytest.raises(HandfulError) as caught:
        client.checkpoint()
    assert "is the path /few-shot of its address right?" in str(caught.value)
    assert caught.value.status == 404


def test_an_address_may_end_in_the_version_of_the_api(pauses: list[float], open_client: Open) -> None:
    for address in ("http://handful/v1", "http://handful/v1/", "http://handful", "http://handful/"):
        script = Script(httpx.Response(200, json=LIST))
        with open_client(address, transport=script) as client:
            list(client.tasks())
        assert str(script.requests[0].url) == "http://handful/v1/tasks"


@pytest.mark.parametrize("key", ["schl\u00fcssel", "two\nlines", "\x00"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_repeated(key: str, open_client: Open) -> None:
    with pytest.raises(HandfulError) as caught:
        open_client("http://handful", api_key=key)
    assert caught.value.code == "invalid_api_key"
    assert key not in str(caught.value)


def test_a_task_moves_as_a_file(connected: tuple[Client, httpx.Client], scripted: Scripted) -> None:
    client, _ = connected
    client.adapt("bank", SUPPORT, steps=1)
    client.adapt("bank", SUPPORT)
    content = client.export_task("bank", version=1)
    made = client.import_task("copy", content, ttl_seconds=600)
    assert (made.task, made.version, made.steps, made.readapted) == ("copy", 1, 1, False)
    assert client.task("copy").expires_at is not None
    with pytest.raises(HandfulError) as caught:
        client.import_task("copy", content[:-1], readapt=True)
    assert caught.value.code == "invalid_task_file"
    client, script = scripted(httpx.Response(200, text="<html>a proxy's page</html>"))
    with pytest.raises(HandfulError) as caught:
        client.export_task("bank")
    assert caught.value.code == "unexpected_answer"
    with pytest.raises(HandfulError):
        client.import_task("bank", content, readapt=True)
    assert str(script.requests[1].url) == "http://handful/v1/tasks/bank/import?readapt=true"
    assert script.requests[1].content == content
