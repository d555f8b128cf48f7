"""Examples and queries of token classifications: their check, and their normal form as texts with words and spans."""

import re
from collections.abc import Sequence

from handful.wire_examples import StoredExample
from handful.wire_kinds import SpannedText, TaggedTokens
from handful.wire_tokens import StoredSpan, TokenList
from metalearn.tasks.entities import entity_spans, has_positions
from metalearn.tokens.decode import bio_tags, spans_of_tags
from metalearn.tokens.examples import tagged_example
from metalearn.tokens.words import OUTSIDE, LabelledSpan, Words, joined, split_words
from metalearn.types import Example, TextInput
from model_store.codec import ExampleRow
from service.tasks.checks import LimitChecker
from service.tasks.labels import is_blank, normalised, trimmed

_OUTSIDE_AS_LABEL = re.compile(f"[BIESLU]-{OUTSIDE}")
_RESERVED = f"{OUTSIDE!r} is the tag of words without a label: give the span another label"


def check_tagged(example: SpannedText | TaggedTokens, check: LimitChecker, *path: str | int) -> None:
    """Notes the faults of an example: unequal numbers of tokens and tags, spans that overlap or lie outside.

    Args:
        example: The example.
        check: Collects the faults.
        path: The place of the example in the request.
    """
    if isinstance(example, TaggedTokens):
        _check_tokens(example.tokens, check, *path)
        n_tokens, n_tags = len(example.tokens), len(example.tags)
        if n_tokens != n_tags:
            detail = f"{n_tokens} tokens and {n_tags} tags: give one tag for each token, O for those without a label"
            check.fault("tags_unequal", detail, *path, "tags")
            return
        for i, tag in enumerate(example.tags):
            if check.label(trimmed(tag), *path, "tags", i) and _OUTSIDE_AS_LABEL.fullmatch(normalised(tag)):
                check.fault("label_reserved", _RESERVED, *path, "tags", i)
        return
    check.text(example.text, *path, "text")
    end, last = 0, ""
    for i, span in sorted(enumerate(example.spans), key=lambda each: (each[1].start, each[1].end)):
        at = (*path, "spans", i)
        shown = f"the span from {span.start} to {span.end}"
        if span.start >= span.end:
            check.fault("span_empty", f"{shown} is empty: end is the character after the last one", *at, "end")
        elif span.end > len(example.text):
            detail = f"{shown} ends outside the text, which has {len(example.text)} characters (Unicode code points)"
            check.fault("span_outside", detail, *at, "end")
        elif is_blank(example.text[span.start : span.end]):
            check.fault("span_empty", f"{shown} holds no visible character", *at)
        elif span.start < end:
            check.fault("spans_overlap", f"{shown} overlaps {last}: a word has one label", *at, "start")
        if check.label(trimmed(span.label), *at, "label") and normalised(span.label) == OUTSIDE:
            check.fault("label_reserved", _RESERVED, *at, "label")
        end, last = max(end, span.end), f"the one from {span.start} to {span.end}"


def _check_tokens(tokens: Sequence[str], check: LimitChecker, *path: str | int) -> None:
    if not tokens:
        check.fault("empty_text", "there is no token: give at least one", *path, "tokens")
    for i, token in enumerate(tokens):
        if is_blank(token):
            check.fault("empty_text", "the token is empty: leave it out, and its tag", *path, "tokens", i)


def tagged_examples(
    examples: Sequence[SpannedText | TaggedTokens], max_chars: int
) -> tuple[list[Example], frozenset[int]]:
    """Examples with spans and without ids, and the indices of those whose text was cut at its end.

    Whether tags state positions is asked of all of them together: the plain tag ``E-mail`` among others does not.

    Args:
        examples: Examples that were checked.
        max_chars: The most characters of a text that are kept.
    """
    tags = [trimmed(tag) for example in examples if isinstance(example, TaggedTokens) for tag in example.tags]
    positions = has_positions(tags)
    made, shortened = [], []
    for i, example in enumerate(examples):
        if isinstance(example, TaggedTokens):
            text, words = joined(example.tokens)
            found = [
                (start, end, normalised(label))
                for start, end, label in entity_spans([trimmed(tag) for tag in example.tags], positions)
            ]
            made.append(_kept(text, words, spans_of_tags(words, found), max_chars, example.weight))
        else:
            spans = tuple(sorted(LabelledSpan(s.start, s.end, normalised(s.label)) for s in example.spans))
            made.append(_kept(example.text, None, spans, max_chars, example.weight))
        if len(made[-1].input.text) < len(example.text):
            shortened.append(i)
    return made, frozenset(shortened)


def _kept(text: str, words: Words | None, spans: tuple[LabelledSpan, ...], max_chars: int, weight: float) -> Example:
    if len(text) > max_chars:
        text, spans = text[:max_chars], tuple(span for span in spans if span.end <= max_chars)
        words = None if words is None else tuple(word for word in words if word[1] <= max_chars)
    return tagged_example(text, spans, words, weight=weight)


def tagged_query(query: str | TokenList, max_chars: int) -> TextInput:
    """A query with its words; its text is cut at its end where it has more characters than ``max_chars``."""
    if isinstance(query, str):
        text = query[:max_chars]
        return TextInput(text, None, split_words(text))
    text, words = joined(query.tokens)
    return TextInput(text[:max_chars], None, tuple(word for word in words if word[1] <= max_chars))


def check_token_list(query: TokenList, check: LimitChecker, *path: str | int) -> None:
    """Notes the faults of a query that is a list of tokens."""
    _check_tokens(query.tokens, check, *path)


def stored_example(row: ExampleRow) -> StoredExample:
    """A stored row as answers show it; an example that came as tokens has them, with their tags."""
    fields = row.model_dump(exclude={"spans", "words"})
    spans = None if row.spans is None else [StoredSpan(**span._asdict()) for span in row.spans]
    if row.words is None:
        return StoredExample(**fields, spans=spans)
    tokens = [row.text[start:end] for start, end in row.words]
    return StoredExample(**fields, spans=spans, tokens=tokens, tags=bio_tags(row.words, row.spans or ()))
