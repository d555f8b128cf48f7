"""Ids of answers: they hold the text, sealed for one tenant's task, and for a time."""

import base64
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metalearn.types import TextInput
from service.tasks.answer_ids import AnswerIds
from service.tasks.errors import InvalidContent

IDS = AnswerIds("a secret", keep_s=60)
TEXT = TextInput("Why was I charged a fee, José?")


def refusal(ids: AnswerIds, id_: str, tenant: str = "acme", task: str = "bank") -> str:
    """The detail of the refusal to open an id."""
    with pytest.raises(InvalidContent) as caught:
        ids.open(tenant, task, id_)
    assert caught.value.code == "unknown_answer_id"
    return str(caught.value)


@given(st.text(), st.none() | st.text())
def test_an_id_gives_its_text_back(text: str, pair: str | None) -> None:
    assert IDS.open("acme", "bank", IDS.seal("acme", "bank", TextInput(text, pair))) == TextInput(text, pair)


def test_servers_with_one_secret_open_each_others_ids_and_others_do_not() -> None:
    sealed = IDS.seal("acme", "bank", TEXT)
    assert AnswerIds("a secret", keep_s=60).open("acme", "bank", sealed) == TEXT
    for other in (AnswerIds("another", keep_s=60), AnswerIds("", keep_s=60)):
        assert "HANDFUL_ANSWER_ID_SECRET" in refusal(other, sealed)
    own = AnswerIds("", keep_s=60)
    assert own.open("acme", "bank", own.seal("acme", "bank", TEXT)) == TEXT


@pytest.mark.parametrize("tenant, task", [("globex", "bank"), ("acme", "other"), ("acme\0bank", ""), ("acm", "ebank")])
def test_an_id_is_of_one_task_of_one_tenant(tenant: str, task: str) -> None:
    refusal(IDS, IDS.seal("acme", "bank", TEXT), tenant, task)


def test_an_id_shows_nothing_of_its_text_and_is_another_each_time() -> None:
    first, second = (IDS.seal("acme", "bank", TEXT) for _ in range(2))
    assert first != second
    data = base64.urlsafe_b64decode(first[2:] + "=" * (-len(first[2:]) % 4))
    for form in (TEXT.text.encode(), zlib.compress(TEXT.text.encode()), b"charged"):
        assert form not in data


@given(st.data())
def test_a_changed_id_is_refused(data: st.DataObject) -> None:
    sealed = IDS.seal("acme", "bank", TEXT)
    place = data.draw(st.integers(0, len(sealed) - 1))
    other = data.draw(st.characters(codec="utf-8").filter(lambda c: c != sealed[place]))
    changed = sealed[:place] + other + sealed[place + 1 :]
    try:
        opened = IDS.open("acme", "bank", changed)
    except InvalidContent:
        return
    assert opened == TEXT  # the last character's spare bits


@given(st.text(max_size=60))
def test_anything_else_is_refused(given_id: str) -> None:
    refusal(IDS, given_id)
    refusal(IDS, f"a1{given_id}")


def test_an_id_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    sealed, now = IDS.seal("acme", "bank", TEXT), time.time()
    monkeypatch.setattr(time, "time", lambda: now + 58)
    assert IDS.open("acme", "bank", sealed) == TEXT
    monkeypatch.setattr(time, "time", lambda: now + 62)
    assert "HANDFUL_ANSWER_ID_SECONDS" in refusal(IDS, sealed)
    monkeypatch.setattr(time, "time", lambda: now - 1000)
    refusal(IDS, sealed)
