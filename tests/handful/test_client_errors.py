"""The errors of the clients: a class for each meaning, and all that the problem document says."""

import pickle
from inspect import getmembers, isclass

import httpx
import pytest

import handful
from handful import errors
from handful.errors import HandfulError
from tests.handful.conftest import BUSY, Open, Scripted

PROBLEMS = [
    (400, "malformed_request", "Invalid"),
    (401, "unauthorized", "Unauthorized"),
    (404, "task_not_found", "NotFound"),
    (405, "method_not_allowed", "Invalid"),
    (409, "version_conflict", "Conflict"),
    (409, "stale_adapter", "Conflict"),
    (413, "body_too_large", "Invalid"),
    (415, "unsupported_media_type", "Invalid"),
    (422, "invalid_request", "Invalid"),
    (429, "rate_limited", "RateLimited"),
    (431, "request_header_fields_too_large", "Invalid"),
    (500, "internal_error", "ServerFailed"),
    (500, "adapter_corrupt", "ServerFailed"),
    (503, "server_busy", "ServerFull"),
    (503, "store_unavailable", "Unavailable"),
    (503, "server_stopping", "Unavailable"),
]
"""Status and code of a problem -> the name of its class."""


@pytest.mark.parametrize(("status", "code", "name"), PROBLEMS)
def test_a_problem_has_the_class_of_its_meaning(
    pauses: list[float], status: int, code: str, name: str, scripted: Scripted
) -> None:
    fields = [{"pointer": "#/support", "detail": "empty"}]
    answer = {**BUSY, "status": status, "code": code, "detail": "a sentence", "errors": fields}
    client, _ = scripted(httpx.Response(status, json=answer, headers={"X-Request-Id": "r-7"}))
    with pytest.raises(HandfulError) as caught:
        client.checkpoint()
    error = caught.value
    assert type(error) is getattr(handful, name)
    assert (error.status, error.code, error.detail, error.request_id) == (status, code, "a sentence", "r-7")
    assert (str(error), list(error.errors)) == ("a sentence", fields)


PAGES = [
    (401, "UnexpectedAnswer"),
    (404, "UnexpectedAnswer"),
    (429, "RateLimited"),
    (502, "Unavailable"),
    (504, "Unavailable"),
]
"""Status of a proxy's page -> the name of its class."""


@pytest.mark.parametrize(("status", "name"), PAGES)
def test_a_proxys_page_is_no_answer_of_the_server(
    pauses: list[float], status: int, name: str, scripted: Scripted
) -> None:
    client, _ = scripted(httpx.Response(status, text="<html>a page</html>"))
    with pytest.raises(HandfulError) as caught:
        client.checkpoint()
    assert type(caught.value) is getattr(handful, name)
    assert caught.value.code == "unexpected_answer"


def test_errors_without_an_answer(pauses: list[float], scripted: Scripted, open_client: Open) -> None:
    client, _ = scripted(httpx.ConnectError("refused"))
    with pytest.raises(handful.Unreachable):
        client.checkpoint()
    with pytest.raises(handful.Misconfigured):
        open_client("ftp://example.org")
    with pytest.raises(handful.Misconfigured):
        open_client("http://handful", api_key="schl\u00fcssel")
    with pytest.raises(handful.Invalid) as caught:
        client.task("no/name")
    assert caught.value.errors


def test_content_that_cannot_be_used_is_a_value_error() -> None:
    assert issubclass(handful.Invalid, ValueError)


def test_every_class_can_be_imported_from_the_package() -> None:
    kinds = [kind for _, kind in getmembers(errors, isclass) if issubclass(kind, HandfulError)]
    assert len(kinds) > 10
    for kind in kinds:
        assert getattr(handful, kind.__name__) is kind
        assert kind.__name__ in handful.__all__


@pytest.mark.parametrize(("status", "code", "name"), PROBLEMS)
def test_an_error_survives_a_pickle(status: int, code: str, name: str) -> None:
    # As where a pool of processes hands it to its parent
    fields = [{"pointer": "#/queries/1", "detail": "empty"}]
    error = errors.error_of("why", status=status, code=code, errors=fields, request_id="r-1", retry_after_s=2.5)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (type(again).__name__, str(again), vars(again)) == (name, "why", vars(error))
