"""The labelling interface of Label Studio: which control classifies which text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.doors.label_config import choices_control
from service.tasks.errors import InvalidContent

TEXT = '<Text name="text" value="$text"/>'


def choices(*names: str, name: str = "label", more: str = "", to: str = "text") -> str:
    """A control with some choices."""
    inside = "".join(f'<Choice value="{each}"/>' for each in names)
    return f'<Choices name="{name}" toName="{to}" {more}>{inside}</Choices>'


def view(*parts: str) -> str:
    """An interface."""
    return f"<View>{''.join(parts)}</View>"


def test_a_plain_interface_is_read() -> None:
    found = choices_control(view(TEXT, choices("card_arrival", "Extra fee")), "bank", "schema")
    assert (found.name, found.text, found.field, found.multiple) == ("label", "text", "text", False)
    assert found.choices == {"card_arrival": "card_arrival", "Extra fee": "Extra fee"}
    assert found.descriptions == {"card_arrival": "card arrival", "Extra fee": "Extra fee"}


def test_aliases_hints_headers_and_nesting_are_read() -> None:
    config = view(
        '<Header value="Choose"/><HyperText name="mail" value="$body"/>',
        '<View style="x"><Choices name="c" toName="mail" choice="multiple">'
        '<View><Choice value="Money back" alias="refund"/></View><Choice value="b" hint="asks where a parcel is"/>'
        "</Choices></View>",
    )
    found = choices_control(config, "bank", "schema")
    assert (found.text, found.field, found.multiple) == ("mail", "body", True)
    assert list(found.choices) == ["refund", "b"]
    assert found.descriptions == {"refund": "Money back", "b": "asks where a parcel is"}


def test_of_several_controls_the_one_with_the_tasks_name_counts() -> None:
    config = view(TEXT, choices("a", "b", name="tone"), choices("c", "d", name="topic"))
    assert list(choices_control(config, "topic", "schema").choices) == ["c", "d"]
    with pytest.raises(InvalidContent, match="several Choices of texts: tone, topic"):
        choices_control(config, "bank", "schema")


def test_controls_of_other_things_do_not_count() -> None:
    image = '<Image name="image" value="$image"/>'
    config = view(
        TEXT, image, choices("x", "y", to="image"), choices("p", "q", more='perRegion="true"'), choices("a", "b")
    )
    assert list(choices_control(config, "bank", "schema").choices) == ["a", "b"]


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("", "no XML that can be read"),
        ("<View>", "no XML that can be read"),
        ('<!DOCTYPE v [<!ENTITY a "b">]><View/>', "document type"),
        (view(TEXT), "classifies no text"),
        (view(choices("a", "b")), "classifies no text"),
        (view(TEXT, choices("a")), "at least two classes"),
        (view(TEXT, choices("a", "a")), "at least two classes"),
        (view('<Text name="text" value="fixed"/>', choices("a", "b")), "stand in a task's data"),
        (view('<Text name="text" value="$url" valueType="url"/>', choices("a", "b")), "not at an address"),
        (view(*["<View/>"] * 10_001), "more than 10000 elements"),
        ("<View>\ud800</View>", "no XML that can be read"),
    ],
)
def test_an_interface_that_cannot_be_used_is_refused_with_the_reason(config: str, sentence: str) -> None:
    with pytest.raises(InvalidContent, match=sentence) as refused:
        choices_control(config, "bank", "project/label_config")
    assert refused.value.faults[0].path == ("project", "label_config")


@given(st.text(max_size=60) | st.text(alphabet='<>/="$ Choicestxviw', max_size=60).map(view))
def test_nothing_but_a_refusal_comes_of_anything_else(config: str) -> None:
    with pytest.raises(InvalidContent):
        choices_control(config, "bank", "schema")
