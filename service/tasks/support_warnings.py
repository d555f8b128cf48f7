"""Warnings about possible mistakes in a support set that can be adapted on."""

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from handful.wire import SupportWarning
from metalearn.encoder.tokenizing import TokenizedText, nfkc
from metalearn.kinds import KINDS
from metalearn.tokens.words import OUTSIDE
from metalearn.types import Example, SupportSet, TextInput
from service.engine.adapt_slices import Adaptation
from service.tasks.labels import look_alikes, misspellings
from service.tasks.support_set import CheckedSupport

ENOUGH_EXAMPLES = 5
"""Examples of a class below which further ones help most."""

Place = tuple[str | int, ...]
"""The path to a part of the request."""

_MAX_PLACES = 20
_MAX_NAMED = 5
_MAX_NAME_CHARS = 60


def support_warnings(
    checked: CheckedSupport, adaptation: Adaptation, *, max_tokens: int, max_chars: int
) -> list[SupportWarning]:
    """The warnings about a support set that was adapted on, at most one of a code.

    Args:
        checked: The support set.
        adaptation: The result of the adaptation.
        max_tokens: The most tokens of a text that the encoder reads.
        max_chars: The most characters of a text that are kept.
    """
    support, places = checked.support, _places_of_labels(checked)
    truncated = _places(checked, adaptation, lambda text: text.truncated, also=checked.shortened)
    unreadable = _places(checked, adaptation, lambda text: text.unreadable)
    found = (
        _look_alike(checked, places),
        _contradicting(checked),
        _duplicate(checked),
        _few_examples(support, places),
        _side_by_side(checked),
        _truncated(truncated, max_tokens, max_chars),
        _unreadable(unreadable),
        _label_text_ignored(checked) if adaptation.label_text_ignored else None,
    )
    return [warning for warning in found if warning is not None]


def count_truncated(checked: CheckedSupport, adaptation: Adaptation) -> int:
    """The number of examples that were cut."""
    return adaptation.truncated + sum(not adaptation.texts[i].truncated for i in checked.shortened)


def _look_alike(checked: CheckedSupport, places: Mapping[str, Place]) -> SupportWarning | None:
    labels = checked.support.labels
    groups = look_alikes(labels)
    # A description whose key is no example's label makes a class of its own, so a slip in the key goes unseen
    with_examples = {label for example in checked.support.of_classes.examples for label in example.classes}
    alone = [label for label in labels if label in checked.description_keys and label not in with_examples]
    undescribed = [label for label in labels if label not in checked.description_keys]
    grouped = {label for group in groups for label in group}
    groups += [pair for pair in misspellings(alone, undescribed) if pair[0] not in grouped]
    if not groups:
        return None
    named = [label for group in groups for label in group]
    shown = "; ".join(" and ".join(map(_shown, group[:_MAX_NAMED])) for group in groups[:_MAX_NAMED])
    return _warning(
        "labels_look_alike",
        f"{len(named)} labels look alike, and each is a class of its own: {shown}{_more(len(groups))}. "
        "Write a label that means the same in the same way, in labels (descriptions) too.",
        [places[label] for label in named],
    )


def _contradicting(checked: CheckedSupport) -> SupportWarning | None:
    support = checked.support
    groups = [group for group in _same_texts(support) if len({support.examples[i].answer for i in group}) > 1]
    if not groups:
        return None
    if support.kind == "tokens":
        return _warning(
            "contradicting_examples",
            f"{_counted(len(groups), 'text stands', 'texts stand')} with other spans in each of "
            f"{sum(map(len, groups))} examples. Keep the right spans of each.",
            [checked.place(i) for group in groups for i in group],
        )
    labels = sorted({_answer_shown(support.examples[i]) for i in groups[0]})
    return _warning(
        "contradicting_examples",
        f"{_counted(len(groups), 'text stands', 'texts stand')} under more than one "
        f"{KINDS[support.kind].answer.removesuffix('s')}, such as under "
        f"{' and '.join(labels[:_MAX_NAMED])}, in {sum(map(len, groups))} examples. "
        "Keep the right label of each.",
        [checked.place(i) for group in groups for i in group],
    )


def _duplicate(checked: CheckedSupport) -> SupportWarning | None:
    support = checked.support
    repeats = []
    for group in _same_texts(support):
        seen: set[object] = set()
        for i in group:
            label = support.examples[i].answer
            if label in seen:
                repeats.append(i)
            seen.add(label)
    if not repeats:
        return None
    return _warning(
        "duplicate_examples",
        f"{_counted(len(repeats), 'example repeats', 'examples repeat')} the text and the label of an earlier one, "
        "which then counts more than others. Remove the copies, unless that is meant.",
        [checked.place(i) for i in sorted(repeats)],
    )


def _few_examples(support: SupportSet, places: Mapping[str, Place]) -> SupportWarning | None:
    labels = support.labels
    counts = Counter(label for example in support.of_classes.examples for label in example.classes)
    labels = tuple(label for label in labels if support.kind != "tokens" or label != OUTSIDE)
    few = sorted((label for label in labels if counts[label] < ENOUGH_EXAMPLES), key=lambda label: counts[label])
    if not few:
        return None
    without = {label: "a description alone" if label in support.descriptions else "none" for label in few}
    shown = ", ".join(f"{_shown(label)} ({counts[label] or without[label]})" for label in few[:_MAX_NAMED])
    have = "has" if len(few) == 1 else "have"
    return _warning(
        "few_examples",
        f"{len(few)} of {len(labels)} classes {have} fewer than {ENOUGH_EXAMPLES} examples: {shown}{_more(len(few))}. "
        "More examples make answers more reliable.",
        [places[label] for label in few],
    )


def _side_by_side(checked: CheckedSupport) -> SupportWarning | None:
    found = []
    for i, example in enumerate(checked.support.examples):
        words = example.input.words or ()
        if any(
            former.label == span.label and not any(former.end <= start < span.start for start, _ in words)
            for former, span in itertools.pairwise(example.spans or ())
        ):
            found.append(checked.place(i))
    if not found:
        return None
    return _warning(
        "spans_side_by_side",
        f"{_counted(len(found), 'example has', 'examples have')} two spans of one label with no word between them. "
        "Answers have such words in one span: mark them as one, or give the second another label.",
        found,
    )


def _truncated(found: Sequence[Place], max_tokens: int, max_chars: int) -> SupportWarning | None:
    if not found:
        return None
    return _warning(
        "truncated_text",
        f"{_counted(len(found), 'text is', 'texts are')} longer than {max_tokens} tokens (or {max_chars} "
        f"characters) and {'was' if len(found) == 1 else 'were'} cut. "
        "Shorten such a text to the part that its label is about.",
        found,
    )


def _unreadable(found: Sequence[Place]) -> SupportWarning | None:
    if not found:
        return None
    return _warning(
        "unreadable_text",
        f"{_counted(len(found), 'text', 'texts')} cannot be read: half or more of the tokens are unknown to this "
        "checkpoint's encoder. Use a checkpoint for the language of the texts, or write them in words that it knows.",
        found,
    )


def _label_text_ignored(checked: CheckedSupport) -> SupportWarning:
    return _warning(
        "label_text_ignored",
        "the words of the labels (names and descriptions) classify the examples worse than chance, as where two labels "
        "are swapped, and were given no weight. Check the labels of the examples, or send use_label_text: false.",
        [("labels", key) for key in checked.description_keys.values()],
    )


def _places(
    checked: CheckedSupport,
    adaptation: Adaptation,
    found: Callable[[TokenizedText], bool],
    also: Iterable[int] = (),
) -> list[Place]:
    """The places of examples and descriptions whose texts meet a condition. Texts of label names have no place."""
    plan, also = adaptation.plan, set(also)
    places: list[Place] = []
    for i, text in enumerate(adaptation.texts):
        if i < plan.n_examples:
            if found(text) or i in also:
                places.append((*checked.place(i), "text") if checked.support.kind != "tokens" else checked.place(i))
        elif found(text):
            key = checked.description_keys.get(checked.support.labels[plan.label_classes[i - plan.n_examples]])
            places += [] if key is None else [("labels", key)]
    return places


def _same_texts(support: SupportSet) -> list[list[int]]:
    """The indices of the examples of each text that occurs twice or more. Those of weight 0 do not count."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for i, example in enumerate(support.examples):
        if example.weight:
            groups[text_key(example.input)].append(i)
    return [group for group in groups.values() if len(group) > 1]


def text_key(text: TextInput) -> bytes:
    """A short key that is equal for texts that differ by case, white space or Unicode form alone."""
    parts = [text.text] if text.text_pair is None else [text.text, text.text_pair]
    return hashlib.sha256("\0".join(map(_folded, parts)).encode()).digest()


def _folded(text: str) -> str:
    return " ".join(nfkc(text.casefold()).casefold().split())


def _places_of_labels(checked: CheckedSupport) -> dict[str, Place]:
    """Label -> the place of its first example, or of its description where it has no example."""
    places: dict[str, Place] = {label: ("order", i) for i, label in enumerate(checked.support.order)}
    places |= {label: ("labels", key) for label, key in checked.description_keys.items()}
    examples = list(enumerate(checked.support.examples))
    # Of a text with spans, and of a list of tokens, the whole example is the place
    key = {"label": ("label",), "spans": ()}.get(KINDS[checked.support.kind].answer, ("labels",))
    return places | {label: (*checked.place(i), *key) for i, example in reversed(examples) for label in example.classes}


def _answer_shown(example: Example) -> str:
    """The classes of an example in quotes, or its score."""
    if example.score is not None:
        return f"{example.score:g}"
    if example.label is None:
        return "null (out of scope)"
    return " with ".join(map(_shown, example.classes)) if example.classes else "no label"


def _shown(label: str) -> str:
    """A label in quotes; invisible characters in it are escaped."""
    return repr(label if len(label) <= _MAX_NAME_CHARS else label[:_MAX_NAME_CHARS] + "…")


def _more(count: int) -> str:
    return f" and {count - _MAX_NAMED} more" if count > _MAX_NAMED else ""


def _counted(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"


def _warning(code: str, detail: str, found: Sequence[Place]) -> SupportWarning:
    if len(found) > _MAX_PLACES:
        detail += f" The first {_MAX_PLACES} of {len(found)} places are given."
    return SupportWarning.at(found[:_MAX_PLACES], code=code, detail=detail)
