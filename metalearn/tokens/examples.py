"""Examples of token classification: texts with words, some of them in labelled spans."""

from metalearn.tokens.words import LabelledSpan, Words, split_words
from metalearn.types import Example, TextInput


def tagged_example(
    text: str, spans: tuple[LabelledSpan, ...], words: Words | None, *, id_: str = "", weight: float = 1.0
) -> Example:
    """An example with labelled spans.

    Args:
        text: The text.
        spans: Its labelled parts, in order.
        words: Its words; None for those of ``split_words``, cut where a span begins or ends.
        id_: Names the example within its support set.
        weight: How much it counts.
    """
    if words is None:
        words = split_words(text, (edge for span in spans for edge in span[:2]))
    return Example(TextInput(text, None, words), id=id_, weight=weight, spans=spans)
