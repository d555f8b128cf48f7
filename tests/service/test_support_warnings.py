"""Warnings about possible mistakes in a support set, in the answers to adapt and classify."""

from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metalearn.encoder.tokenizing import TokenizedText
from metalearn.support_plan import SupportPlan
from metalearn.types import Adapter, Example, SupportSet, TextInput
from service.engine.adapt_slices import Adaptation
from service.tasks.support_set import CheckedSupport
from service.tasks.support_warnings import support_warnings
from tests.conftest import SUPPORT
from tests.service.conftest import adapt

LONG = "card " * 100
"""The tiny encoder reads 64 tokens."""


def examples(*rows: tuple[str, str]) -> list[dict[str, str]]:
    """A support set of texts and labels."""
    return [{"text": text, "label": label} for text, label in rows]


def many(label: str, n: int = 5) -> list[dict[str, str]]:
    """Enough examples of a label."""
    return examples(*((f"text {i} about {label}", label) for i in range(n)))


def warned(client: httpx.Client, support: list[dict[str, str]], **fields: Any) -> dict[str, dict[str, Any]]:
    """The warnings by code, which adapt and classify agree on.

    Without the one on label texts: what these are worth to the tiny encoder, whose weights are random, is chance.
    """
    found = adapt(client, support=support, **fields)["warnings"]
    query = {name: support[0][name] for name in ("text", "text_pair") if name in support[0]}
    answer = client.post("/v1/classify", json={"support": support, "queries": [query], **fields})
    assert answer.json()["warnings"] == found
    assert len({each["code"] for each in found}) == len(found)
    return {each["code"]: each for each in found if each["code"] != "label_text_ignored"}


def test_a_support_set_without_a_slip_has_no_warning(shared_service: httpx.Client) -> None:
    assert warned(shared_service, many("arrival") + many("fee")) == {}


def test_white_space_at_the_ends_of_a_label_makes_no_class(shared_service: httpx.Client) -> None:
    support = examples(("I want my money back", "refund"), ("please return the payment", "refund "),
                       ("where is my parcel", "\ufeffdelivery"), ("package still not here", "delivery\u00a0"),
                       ("good coffee", "cafe\u0301"), ("bad coffee", "café"))  # fmt: skip
    answer = adapt(shared_service, support=support, labels={" refund": "asks for money back"})
    assert answer["labels"] == ["café", "delivery", "refund"]
    assert "labels_look_alike" not in {each["code"] for each in answer["warnings"]}
    assert adapt(shared_service, "clean", [{**each, "label": label} for each, label in zip(
        support, ["refund", "refund", "delivery", "delivery", "café", "café"], strict=True
    )], labels={"refund": "asks for money back"})["losses"] == answer["losses"]  # fmt: skip


def test_labels_that_look_alike_are_named_and_kept_apart(shared_service: httpx.Client) -> None:
    labels = [label for label in ("Refund", "refund", "card arrival", "card_arrival", "fee") for _ in range(5)]
    support = examples(*((f"text {i}", label) for i, label in enumerate(labels)))
    found = warned(shared_service, support)
    assert found.keys() == {"labels_look_alike"}
    assert found["labels_look_alike"]["pointers"] == [f"#/support/{i}/label" for i in (0, 5, 10, 15)]
    detail = found["labels_look_alike"]["detail"]
    assert "4 labels look alike" in detail
    assert "'Refund' and 'refund'; 'card arrival' and 'card_arrival'" in detail


def test_invisible_characters_in_a_label_are_shown(shared_service: httpx.Client) -> None:
    found = warned(shared_service, many("refund") + many("re\u200bfund"))
    assert "'re\\u200bfund'" in found["labels_look_alike"]["detail"]


@pytest.mark.parametrize("key", ["Refund", "re fund", "refnud", "refunds", "\uff52\uff45\uff46\uff55\uff4e\uff44"])
def test_a_description_that_looks_like_a_label_but_is_none_is_named(shared_service: httpx.Client, key: str) -> None:
    found = warned(shared_service, many("refund") + many("delivery"), labels={key: "the customer asks for money back"})
    assert found["labels_look_alike"]["pointers"] in ([f"#/labels/{key}", "#/support/0/label"],
                                                      ["#/support/0/label", f"#/labels/{key}"])  # fmt: skip


def test_a_described_class_beside_a_described_label_is_meant(shared_service: httpx.Client) -> None:
    labels = {
        "refund": "asks for money back",
        "refunds": "wants the list of refunds",
        "level_2": "of medium importance",
    }
    assert warned(shared_service, many("refund") + many("level_1"), labels=labels).keys() == {"few_examples"}


def test_a_text_under_two_labels_and_copies_are_named(shared_service: httpx.Client) -> None:
    support = many("fee") + many("arrival")
    support += examples(("Where is it?", "fee"), ("where  is it?", "arrival"), ("\uff37here is it?", "fee"))
    found = warned(shared_service, support)
    assert found.keys() == {"contradicting_examples", "duplicate_examples"}
    assert found["contradicting_examples"]["pointers"] == ["#/support/10", "#/support/11", "#/support/12"]
    assert "1 text stands under more than one label" in found["contradicting_examples"]["detail"]
    assert found["duplicate_examples"]["pointers"] == ["#/support/12"]


def test_pairs_are_the_same_where_both_texts_are(shared_service: httpx.Client) -> None:
    rows = [("a", "b", "x"), ("a", "c", "y"), ("b", "a", "y"), ("A", "B", "y")]
    support = [{"text": text, "text_pair": pair, "label": label} for text, pair, label in rows]
    found = warned(shared_service, support)
    assert found["contradicting_examples"]["pointers"] == ["#/support/0", "#/support/3"]
    assert "duplicate_examples" not in found


def test_classes_with_few_examples_are_counted(shared_service: httpx.Client) -> None:
    found = warned(shared_service, many("a") + many("b", 4) + many("c", 1), labels={"d/e": "has no example at all"})
    assert found["few_examples"]["pointers"] == ["#/labels/d~1e", "#/support/9/label", "#/support/5/label"]
    assert found["few_examples"]["detail"].startswith(
        "3 of 4 classes have fewer than 5 examples: 'd/e' (a description alone), 'c' (1), 'b' (4)."
    )


def test_texts_that_are_cut_are_pointed_at(shared_service: httpx.Client) -> None:
    support = many("fee") + many("arrival") + examples((LONG, "fee"), ("short", "fee"), (LONG + "?", "arrival"))
    found = warned(shared_service, support)
    assert found.keys() == {"truncated_text"}
    assert found["truncated_text"]["pointers"] == ["#/support/10/text", "#/support/12/text"]
    assert "2 texts are longer than 64 tokens" in found["truncated_text"]["detail"]
    assert "were cut" in found["truncated_text"]["detail"]
    described = warned(shared_service, many("fee") + many("arrival"), labels={"fee": LONG})
    assert described["truncated_text"]["pointers"] == ["#/labels/fee"]


def test_pointers_are_bounded_and_the_detail_has_their_number(shared_service: httpx.Client) -> None:
    support = [{"text": "the same", "label": label} for label in ("x", "y") for _ in range(30)]
    found = warned(shared_service, support)
    for code, n in (("contradicting_examples", 60), ("duplicate_examples", 58)):
        assert len(found[code]["pointers"]) == 20
        assert f"The first 20 of {n} places" in found[code]["detail"]
    labels = many("a" * 250) + many("A" * 250)
    assert all(len(each["detail"]) < 1000 for each in warned(shared_service, labels).values())


def test_spans_of_one_label_side_by_side_are_named(shared_service: httpx.Client) -> None:
    city = {"label": "city"}
    support = [
        {"text": "Rome Paris", "spans": [{"start": 0, "end": 4, **city}, {"start": 5, "end": 10, **city}]},
        {"text": "Rome, Paris", "spans": [{"start": 0, "end": 4, **city}, {"start": 6, "end": 11, **city}]},
        {"text": "Rome Paris", "spans": [{"start": 0, "end": 10, **city}]},
        {"tokens": ["Rome", "Paris", "by", "air"], "tags": ["B-city", "B-city", "O", "B-by"]},
        {"tokens": ["Rome", "air"], "tags": ["B-city", "B-by"]},
    ]
    found = adapt(shared_service, support=support)["warnings"]
    named = next(each for each in found if each["code"] == "spans_side_by_side")
    assert named["pointers"] == ["#/support/0", "#/support/3"]
    assert "2 examples have two spans of one label" in named["detail"]


def test_the_label_text_gate_is_reported(shared_service: httpx.Client) -> None:
    names = ["card arrival", "extra charge", "virtual card"]
    texts = [f"{name} {i}" for name in names for i in range(5)]
    swapped = [{"text": text, "label": names[(i // 5 + 1) % 3]} for i, text in enumerate(texts)]
    described = {"extra charge": "extra charge"}
    (found,) = adapt(shared_service, support=swapped, labels=described)["warnings"]
    assert found["code"] == "label_text_ignored"
    assert found["pointers"] == ["#/labels/extra charge"]
    assert adapt(shared_service, support=swapped, labels=described, use_label_text=False)["warnings"] == []
    right = [{"text": text, "label": names[i // 5]} for i, text in enumerate(texts)]
    assert adapt(shared_service, support=right, labels=described)["warnings"] == []


def test_a_repeated_request_gets_the_same_warnings(shared_service: httpx.Client) -> None:
    body = {"support": [*SUPPORT, {"text": LONG, "label": "Card_arrival"}]}
    first, again = (
        shared_service.post("/v1/tasks/bank/adapt", json=body, headers={"Idempotency-Key": "once"}) for _ in range(2)
    )
    assert again.headers["Idempotent-Replayed"] == "true"
    assert {each["code"] for each in first.json()["warnings"]} == {
        "labels_look_alike",
        "few_examples",
        "truncated_text",
    }
    assert again.json() == first.json()


def test_two_descriptions_of_one_class_are_refused(shared_service: httpx.Client) -> None:
    labels = {"refund": "money back", "refund ": "money returned", "delivery": "where is it"}
    answer = shared_service.post("/v1/tasks/refused/adapt", json={"support": SUPPORT, "labels": labels})
    assert answer.json()["code"] == "duplicate_description"
    assert [error["pointer"] for error in answer.json()["errors"]] == ["#/labels/refund", "#/labels/refund "]
    assert shared_service.get("/v1/tasks/refused").status_code == 404


ROWS = st.lists(
    st.tuples(st.sampled_from(["a", "A", "b", " b", "c  d", "c d"]), st.sampled_from(["x", "X", "y"])), max_size=30
)


@settings(deadline=None)
@given(ROWS, st.sets(st.integers(0, 31)), st.sets(st.integers(0, 31)))
def test_every_warning_points_into_the_request(rows: list[tuple[str, str]], cut: set[int], unread: set[int]) -> None:
    rows = [("first", "x"), ("second", "y"), *rows]
    support = SupportSet(tuple(Example(TextInput(text), label) for text, label in rows))
    texts = [TokenizedText([1], [0], i in cut, False)._replace(unreadable=i in unread) for i in range(len(rows))]
    plan = SupportPlan(tuple(each.input for each in support.examples), support.targets, (), len(support.labels))
    adaptation = Adaptation(
        adapter=Adapter({}, support.labels, ""), steps=0, losses=[], support_accuracy=None,
        leave_one_out_accuracy=None, left_out=None, truncated=0, queue_s=0.0, encode_s=0.0, inner_s=0.0,
        plan=plan, texts=texts, label_text_ignored=False,
    )  # fmt: skip
    found = support_warnings(CheckedSupport(support, frozenset(), {}), adaptation, max_tokens=256, max_chars=8000)
    by_code = {each.code: each for each in found}
    assert len(by_code) == len(found)
    for warning in found:
        assert 0 < len(warning.pointers) <= 20
        assert len(set(warning.pointers)) == len(warning.pointers)
        assert all(int(pointer.split("/")[2]) < len(rows) for pointer in warning.pointers)
    for code, places in (("truncated_text", cut), ("unreadable_text", unread)):
        expected = [f"#/support/{i}/text" for i in sorted(places) if i < len(rows)]
        assert (by_code[code].pointers if code in by_code else []) == expected[:20]
    assert ("labels_look_alike" in by_code) == ("X" in support.labels)
    keys = [(" ".join(text.casefold().split()), label) for text, label in rows]
    assert ("duplicate_examples" in by_code) == (len(set(keys)) < len(keys))
    assert ("contradicting_examples" in by_code) == any(a[0] == b[0] and a[1] != b[1] for a in keys for b in keys)
