"""The rules by which the clients send a call again."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from handful.client import Client
from handful.errors import HandfulError, RateLimited, ServerFull, Unreachable
from tests.conftest import SUPPORT, StartService
from tests.handful.conftest import BUSY, LIST, Open, Script, Scripted, busy

WELL = httpx.Response(200, json=LIST)


def test_a_date_is_waited_for(pauses: list[float], scripted: Scripted) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    client, script = scripted(busy(**{"Retry-After": soon}), WELL)
    assert list(client.tasks()) == []
    assert len(script.requests) == 2
    assert 0 < pauses[0] <= 30


@pytest.mark.parametrize("wish", ["61", "inf", "Wed, 21 Oct 2999 07:28:00 GMT"])
def test_a_server_is_not_asked_before_the_time_that_it_names(
    pauses: list[float], wish: str, scripted: Scripted
) -> None:
    client, script = scripted(busy(**{"Retry-After": wish}), WELL)
    with pytest.raises(ServerFull) as caught:
        list(client.tasks())
    assert len(script.requests) == 1
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s > 60
    assert pauses == []


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_may_pass_is_tried_again(pauses: list[float], status: int, scripted: Scripted) -> None:
    page = httpx.Response(status, text="<html>a proxy's page</html>", headers={"Retry-After": "2"})
    client, script = scripted(page, WELL)
    assert list(client.tasks()) == []
    assert len(script.requests) == 2
    assert pauses == [2.0]


@pytest.mark.parametrize("status", [502, 504])
def test_a_delete_that_a_proxy_lost_is_not_sent_twice(pauses: list[float], status: int, scripted: Scripted) -> None:
    client, script = scripted(httpx.Response(status, text="lost"))
    with pytest.raises(HandfulError):
        client.delete("bank")
    assert len(script.requests) == 1
    assert pauses == []


def test_a_limit_of_the_tenant_says_when_to_ask_again(pauses: list[float], scripted: Scripted) -> None:
    answer = {**BUSY, "status": 429, "code": "rate_limited", "detail": "too many requests"}
    client, script = scripted(httpx.Response(429, json=answer, headers={"Retry-After": "7"}))
    with pytest.raises(RateLimited) as caught:
        list(client.tasks())
    assert (caught.value.retry_after_s, caught.value.code) == (7.0, "rate_limited")
    assert pauses == [7.0, 7.0]
    assert len(script.requests) == 3


def test_without_a_wish_the_pauses_grow(pauses: list[float], scripted: Scripted) -> None:
    client, _ = scripted(httpx.ReadTimeout("lost"))
    with pytest.raises(Unreachable):
        list(client.tasks())
    assert 0 < pauses[0] < pauses[1]


@pytest.mark.parametrize("most", [0, 1, 5])
def test_the_number_of_retries_is_the_callers(pauses: list[float], most: int, open_client: Open) -> None:
    for answer in (busy(), httpx.ReadTimeout("lost")):
        script = Script(answer)
        with open_client("http://handful", transport=script, max_retries=most) as client:
            with pytest.raises(HandfulError):
                list(client.tasks())
            assert len(script.requests) == 1 + most
    race = httpx.Response(409, json={**BUSY, "status": 409, "code": "version_conflict"})
    script = Script(race)
    with open_client("http://handful", transport=script, max_retries=most) as client:
        with pytest.raises(HandfulError):
            client.add_examples("bank", [("a", "b")])
        assert len(script.requests) == (50 if most else 1)


class Forgetful(httpx.BaseTransport):
    """Sends requests on, and loses the first answer to each kind of write."""

    def __init__(self, transport: httpx.BaseTransport) -> None:
        self._transport = transport
        self.lost: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answers, unless it is the first answer of its path."""
        response = self._transport.handle_request(request)
        if request.method == "POST" and request.url.path not in self.lost:
            self.lost.append(request.url.path)
            raise httpx.ReadError("the connection broke")
        return response


def test_a_write_whose_answer_was_lost_is_done_once(pauses: list[float], start_service: StartService) -> None:
    transport = Forgetful(start_service()._transport)
    client = Client("http://handful", transport=transport)
    assert client.adapt("bank", SUPPORT, steps=1).version == 1
    assert client.add_examples("bank", {"card_arrival": ["my card is not here"]}).version == 2
    assert client.rollback("bank", 1).version == 3
    assert client.readapt("bank").version == 4
    assert client.import_task("copy", client.export_task("bank")).version == 1
    assert client.feedback("bank", "card_arrival", text="has it been sent", force=True).version == 5
    assert [version.version for version in client.versions("bank")] == [5, 4, 3, 2, 1]
    assert [version.version for version in client.versions("copy")] == [1]
    assert len(transport.lost) == len(pauses) == 6
