"""Corrections and the rows of a support set: nothing is lost, and no class is left without an example."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from metalearn.types import Example, TextInput
from model_store.codec import ExampleRow
from model_store.digests import set_aside_digests, text_digest
from service.tasks.corrections import adapted_example, corrected
from service.tasks.support_warnings import text_key


def row(id_: str, label: str, text: str, **fields: str) -> ExampleRow:
    """A row."""
    return ExampleRow(id=id_, label=label, text=text, **fields)  # type: ignore[arg-type]


def right(text: str, label: str) -> Example:
    """A text with its right label."""
    return Example(TextInput(text), label)


ROWS = (row("1", "a", "one"), row("2", "a", "two"), row("3", "b", "three"), row("4", "b", "four"))


def test_a_new_text_is_added_behind_the_others() -> None:
    found = corrected(ROWS, right("five", "b"), described=(), most=5)
    assert found.rows[:-1] == ROWS
    assert (found.row.text, found.row.label, found.row.source, found.row.state) == ("five", "b", "feedback", "adapted")
    assert (found.outweighed, found.waited) == ((), False)
    assert found.held == (*ROWS, found.row.model_copy(update={"state": "pending"}))


def test_the_newer_label_of_a_text_counts_and_the_older_example_comes_back_under_its_id() -> None:
    first = corrected(ROWS, right(" ONE ", "b"), described=(), most=5)
    assert [(each.id, reason) for each, reason in first.outweighed] == [("1", "contradicts")]
    assert [(each.id, each.state) for each in first.rows[:2]] == [("1", "outweighed"), ("2", "adapted")]
    assert set_aside_digests(first.rows) == (text_digest(TextInput("one")),)
    again = corrected(first.rows, right("one", "a"), described=(), most=5)
    assert (again.row.id, again.row.state, again.row.source) == ("1", "adapted", "adapt")
    assert [(each.id, reason) for each, reason in again.outweighed] == [(first.row.id, "contradicts")]
    assert len(again.rows) == 5


def test_the_last_example_of_a_class_stays_unless_the_class_is_described() -> None:
    rows = (ROWS[0], *ROWS[2:])
    assert corrected(rows, right("one", "b"), described=(), most=5).outweighed == ()
    assert [each.id for each, _ in corrected(rows, right("one", "b"), described=("a",), most=5).outweighed] == ["1"]


def test_examples_of_both_labels_are_settled_without_a_copy() -> None:
    rows = (*ROWS, row("5", "b", "one"))
    found = corrected(rows, right("one", "a"), described=(), most=5)
    assert found.row.id == "1"
    assert [each.id for each, _ in found.outweighed] == ["5"]
    assert len(found.rows) == len(rows)


def test_above_the_cap_the_oldest_feedback_of_the_label_is_outweighed() -> None:
    rows: tuple[ExampleRow, ...] = ROWS
    for i in range(4):
        found = corrected(rows, right(f"new {i}", "a"), described=(), most=3)
        rows = found.rows
    assert [(each.text, reason) for each, reason in found.outweighed] == [("new 0", "over_cap")]
    counts = Counter((each.source, each.state) for each in rows)
    assert counts == {("adapt", "adapted"): 4, ("feedback", "adapted"): 3, ("feedback", "outweighed"): 1}
    assert corrected(rows, right("other label", "b"), described=(), most=3).outweighed == ()


@given(
    st.lists(
        st.tuples(st.sampled_from(["one", "two", "three", "five", "six"]), st.sampled_from("ab"), st.booleans()),
        max_size=12,
    ),
    st.integers(1, 3),
)
def test_no_row_is_ever_lost_and_each_text_has_one_label(steps: list[tuple[str, str, bool]], most: int) -> None:
    rows: tuple[ExampleRow, ...] = ROWS
    for text, label, joins in steps:
        found = corrected(rows, right(text, label), described=(), most=most)
        after = found.rows if joins else found.held
        assert {each.id for each in rows} <= {each.id for each in after}
        assert len({each.id for each in after}) == len(after)
        adapted = [each for each in after if each.state == "adapted"]
        assert {each.label for each in adapted} == {"a", "b"}
        if joins:
            assert adapted_example(after, right(text, label)) is not None
            named = {each.id for each, _ in found.outweighed}
            gone = {each.id for each in rows if each.state == "adapted"} - {each.id for each in adapted}
            assert gone == named
            others = [e for e in adapted if text_key(e.example.input) == text_key(TextInput(text)) and e.label != label]
            assert all(sum(e.label == other.label for e in adapted) == 1 for other in others)
            of_label = [e for e in adapted if (e.source, e.label) == ("feedback", label)]
            assert len(of_label) <= most
        else:
            before = {each.id: each for each in rows}
            changed = [each.id for each in after if before.get(each.id) != each]
            assert changed in ([found.row.id], [])
        rows = after
