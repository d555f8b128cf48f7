"""The table of errors: every error that a use case or the engine raises has an answer of its own."""

import pytest

from model_store.errors import StoreAbsent, StoreEmptied, StoreFull, StoreUnavailable
from service.engine import errors as engine_errors
from service.engine.errors import EngineError, TextEmpty
from service.errors import _ANSWERS, to_api_error
from service.tasks import errors as task_errors
from service.tasks.errors import Fault, InvalidContent, UseCaseError


@pytest.mark.parametrize("module, root", [(engine_errors, EngineError), (task_errors, UseCaseError)])
def test_every_error_has_a_row(module: object, root: type[Exception]) -> None:
    kinds = {kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, root)} - {root}
    assert len(kinds) >= 4
    assert kinds <= set(_ANSWERS)


def test_an_error_without_a_row_is_answered_as_its_nearest_base() -> None:
    codes = {
        to_api_error(error).code: error
        for error in (StoreFull("full"), StoreEmptied("a", None), StoreAbsent("absent"), ValueError("unforeseen"))
    }
    assert list(codes) == ["store_full", "store_emptied", "store_unavailable", "internal_error"]
    assert to_api_error(StoreUnavailable("away")).status == 503


def test_paths_become_pointers() -> None:
    answer = to_api_error(InvalidContent("bad", [Fault(("labels", "a/b~c"), "wrong"), Fault(("support", 3), "too")]))
    assert (answer.status, answer.code, answer.detail) == (422, "bad", "#/labels/a~1b~0c: wrong")
    assert [error.pointer for error in answer.errors] == ["#/labels/a~1b~0c", "#/support/3"]
    assert [error.pointer for error in to_api_error(TextEmpty("support", [0, 2])).errors] == [
        "#/support/0/text",
        "#/support/2/text",
    ]
    assert [error.pointer for error in to_api_error(TextEmpty("queries", [1])).errors] == ["#/queries/1"]


def test_the_log_names_the_servers_own_trouble_alone(caplog: pytest.LogCaptureFixture) -> None:
    to_api_error(InvalidContent("bad", [Fault((), "wrong")]), "r1")
    assert not caplog.messages
    to_api_error(StoreFull("no room"), "r2")
    to_api_error(ValueError("unforeseen"), "r3")
    assert caplog.messages == ["request r2: store: no room", "request r3: unexpected error"]
