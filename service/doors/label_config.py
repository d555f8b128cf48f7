"""A project's labelling interface in Label Studio, which is XML: the control that classifies its texts.

Source: the tags Choices, Choice, Text, HyperText and Paragraphs of Label Studio's documentation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.parsers import expat

from metalearn.label_text import label_words
from service.tasks.errors import Fault, InvalidContent
from service.tasks.labels import normalised

_TEXTS = ("Text", "HyperText")
_MOST_ELEMENTS = 10_000


@dataclass(frozen=True, slots=True)
class ChoicesControl:
    """The control whose choices are a task's labels.

    Attributes:
        name: The control's name.
        text: The name of the text that it classifies.
        field: The field of a task's data that holds the text.
        multiple: Whether a text may have several choices.
        choices: Label -> the choice as Label Studio writes it.
        descriptions: Label -> words for it.
    """

    name: str
    text: str
    field: str
    multiple: bool
    choices: Mapping[str, str]
    descriptions: Mapping[str, str]


@dataclass(slots=True)
class _Element:
    tag: str
    attributes: dict[str, str]
    choices: list[dict[str, str]]


def choices_control(config: str, task: str, pointer: str) -> ChoicesControl:
    """The control of a labelling interface that classifies texts; of several ones, the one that has the task's name.

    Args:
        config: The labelling interface.
        task: The task's name.
        pointer: The place of the interface in the request, without ``#/``.

    Raises:
        InvalidContent: It is no XML, or has no such control, or several.
    """

    def refuse(detail: str) -> InvalidContent:
        return InvalidContent("invalid_request", [Fault(tuple(pointer.split("/")), detail)])

    try:
        elements = _elements(config)
    except (expat.ExpatError, ValueError) as error:
        raise refuse(f"the labelling interface is no XML that can be read: {error}") from None
    texts = {each.attributes.get("name", ""): each for each in elements if each.tag in _TEXTS}
    found = [
        each
        for each in elements
        if each.tag == "Choices"
        and each.attributes.get("toName") in texts
        and each.attributes.get("perRegion", "false").lower() != "true"
    ]
    if len(found) > 1:
        named = [each for each in found if each.attributes.get("name") == task]
        if len(named) != 1:
            names = ", ".join(sorted(each.attributes.get("name", "") for each in found))
            raise refuse(
                f"the labelling interface has several Choices of texts: {names}. One task has the labels of one: give "
                "the task the name of one, in the address of this backend, or leave the others out"
            )
        found = named
    if not found:
        raise refuse(
            "the labelling interface classifies no text: it needs Choices whose toName is the name of a Text, as in "
            '<Text name="text" value="$text"/><Choices name="label" toName="text"><Choice value="a"/>'
            '<Choice value="b"/></Choices>'
        )
    (control,) = found
    source = texts[control.attributes["toName"]].attributes
    value = source.get("value", "")
    if not value.startswith("$") or source.get("valueType", "text") != "text":
        raise refuse(
            'the text is to stand in a task\'s data, as in <Text name="text" value="$text"/>; not at an address'
        )
    choices = {normalised(name): name for name, _ in map(_named, control.choices)}
    if len(choices) < 2:
        raise refuse("a classifier needs at least two classes: give the Choices two Choice tags with a value each")
    return ChoicesControl(
        name=control.attributes.get("name", ""),
        text=control.attributes["toName"],
        field=value[1:],
        multiple=control.attributes.get("choice", "single") == "multiple",
        choices=choices,
        descriptions={normalised(name): words for name, words in map(_named, control.choices)},
    )


def _named(choice: Mapping[str, str]) -> tuple[str, str]:
    """The name of a choice in annotations, and words for it."""
    value = choice["value"]
    name = choice.get("alias") or value
    return name, choice.get("hint") or label_words(value) or value


def _elements(config: str) -> list[_Element]:
    """The elements of an interface in order, those called Choice within their Choices."""
    found: list[_Element] = []
    open_choices: list[_Element] = []
    parser = expat.ParserCreate()

    def start(tag: str, attributes: dict[str, str]) -> None:
        if len(found) == _MOST_ELEMENTS:
            raise ValueError(f"it has more than {_MOST_ELEMENTS} elements")
        if tag == "Choice" and open_choices:
            if attributes.get("value"):
                open_choices[-1].choices.append(attributes)
            return
        found.append(_Element(tag, attributes, []))
        if tag == "Choices":
            open_choices.append(found[-1])

    def end(tag: str) -> None:
        if tag == "Choices":
            open_choices.pop()

    def refuse(*_: Any) -> None:
        raise ValueError("it declares a document type, which could make it grow without bound")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(config, True)
    return found
