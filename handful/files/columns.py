"""The choice of the columns of a table, or keys of a JSON record, that hold text, label and other fields."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from handful.files.rows import ReadOptions

# Names without case, accents, blanks and punctuation. The first group with a match decides.
TEXT_NAMES = (
    "text",
    "utterance sentence message query content body comment review question example tweet post document phrase input "
    "prompt feedback texts utterances sentences messages queries comments reviews questions examples utt "
    "text1 texta sentence1 sentencea premise question1 "
    "texte texto testo tekst nachricht satz frage mensaje mensagem messaggio phrase",
    "description title subject headline summary",
)
LABEL_NAMES = (
    "labeltext labelname",
    "label",
    "category intent class target topic sentiment tag choice labels categories intents classes topics tags choices "
    "categoryname intentname classname categorie kategorie categoria klasse etiqueta etiquette etichetta",
)
TEXT_PAIR_NAMES = ("textpair sentence2 text2 textb sentenceb hypothesis question2 secondtext",)
ID_NAMES = ("id exampleid guid uuid uid",)
WEIGHT_NAMES = ("weight sampleweight exampleweight",)
# Label Studio names the label's column after the project; its tables are known by these other columns
_LABEL_STUDIO_NAMES = frozenset(["annotationid", "leadtime", "annotator", "createdat", "updatedat", "id"])
_LABEL_STUDIO_MARKS = frozenset({"annotationid", "leadtime"})


class ColumnsUnclear(Exception):
    """The text's or the label's column is absent or ambiguous; the message lists the columns."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Positions of the columns that are read; None for a column that is not there.

    Attributes:
        set_aside: Names of columns that could also have been the text or the label.
        score: The score of a regression; only where there is no label.
    """

    text: int
    label: int | None = None
    text_pair: int | None = None
    id: int | None = None
    weight: int | None = None
    set_aside: tuple[str, ...] = ()
    score: int | None = None


def name_key(name: str) -> str:
    """The name without case, accents, blanks, quotes and punctuation."""
    decomposed = unicodedata.normalize("NFKD", name)
    return re.sub(r"[\W_]+", "", "".join(c for c in decomposed if not unicodedata.combining(c))).casefold()


def known_roles(names: Sequence[str], options: ReadOptions) -> set[str]:
    """The roles (``text``, ``label``, …) for which a name is known or asked for."""
    keys = {name_key(name) for name in names}
    asked = {"text": options.text_column, "label": options.label_column}
    roles = {role for role, name in asked.items() if name is not None and _named(names, name) is not None}
    groups = {
        "text": TEXT_NAMES,
        "label": LABEL_NAMES,
        "text_pair": TEXT_PAIR_NAMES,
        "id": ID_NAMES,
        "weight": WEIGHT_NAMES,
    }
    return roles | {role for role, tiers in groups.items() if keys & set(" ".join(tiers).split())}


def choose_columns(names: Sequence[str], options: ReadOptions, *, labelled: bool, places: str = "columns") -> Columns:
    """Finds text, label and the rest by their names.

    Args:
        names: The columns' names in order; an empty name is never chosen by name.
        options: Columns that the caller names; they take precedence.
        labelled: Whether a label has to be there.
        places: The noun for the names in errors: ``columns`` or ``keys``.

    Raises:
        ColumnsUnclear: Text or label are missing, or there are two candidates.
    """
    keys = [name_key(name) for name in names]
    listed = f"the {places} are {', '.join(repr(name) for name in names)}"
    if len(names) == 1:
        listed = f"the only one of the {places} is {names[0]!r}"
    label_studio = set(keys) >= _LABEL_STUDIO_MARKS
    set_aside: list[int] = []
    text_pair, identifier, weight = (
        next(iter(_by_tier(keys, tiers)[0]), None) for tiers in (TEXT_PAIR_NAMES, ID_NAMES, WEIGHT_NAMES)
    )

    def named(asked: str | None, tiers: Sequence[str], role: str, *, needed: bool, taken: int | None) -> int | None:
        if asked is not None:
            position = _asked(names, asked)
            if position is None:
                raise ColumnsUnclear(f"there is no {asked!r} among the {places}: {listed}")
            return position
        first, rest = _by_tier([key if position != taken else "" for position, key in enumerate(keys)], tiers)
        if len(first) > 1 and needed:
            candidates = " and ".join(repr(names[position]) for position in first)
            raise ColumnsUnclear(f"{candidates} could both be the {role}: choose one with --{role}-column")
        set_aside.extend(rest)
        return first[0] if len(first) == 1 else None

    asked_text = None if options.text_column is None else _asked(names, options.text_column)
    label = named(options.label_column, LABEL_NAMES, "label", needed=labelled, taken=asked_text)
    text = named(options.text_column, TEXT_NAMES, "text", needed=True, taken=label)
    others = [
        position
        for position, key in enumerate(keys)
        if key and position not in {text, label, text_pair, identifier, weight}
        and not (label_studio and key in _LABEL_STUDIO_NAMES)
    ]  # fmt: skip
    if text is None and len(others) == 1 and (label is not None or not labelled):
        text = others[0]
    elif label is None and labelled and label_studio and text is not None and len(others) == 1:
        label = others[0]
    if text is None:
        raise ColumnsUnclear(f"no {places[:-1]} is known to hold the text: {listed}; name it with --text-column")
    score = next((i for i, key in enumerate(keys) if key == "score" and i != text), None) if label is None else None
    if label is None and score is None and labelled:
        raise ColumnsUnclear(f"no {places[:-1]} is known to hold the label: {listed}; name it with --label-column")
    chosen = {text, label}
    if text_pair in chosen:
        text_pair = None
    aside = tuple(dict.fromkeys(names[position] for position in set_aside if position not in {*chosen, text_pair}))
    identifier, weight = (None if position in chosen else position for position in (identifier, weight))
    return Columns(text, label, text_pair, identifier, weight, aside, score if labelled else None)


def _by_tier(keys: Sequence[str], tiers: Sequence[str]) -> tuple[list[int], list[int]]:
    """The positions that match the first group of names with a match, and the positions that match later groups."""
    found = [[i for i, key in enumerate(keys) if key in tier.split()] for tier in tiers]
    first = next((positions for positions in found if positions), [])
    return first, [i for positions in found if positions is not first for i in positions]


def _asked(names: Sequence[str], asked: str) -> int | None:
    """The position of the column that the caller names. A number that is no column's name counts from 1."""
    position = _named(names, asked)
    if position is None and asked.isdecimal() and 1 <= int(asked) <= len(names):
        return int(asked) - 1
    return position


def _named(names: Sequence[str], asked: str) -> int | None:
    """The position of the one column with a name, or with a name that differs in case and punctuation alone."""
    for same in (lambda name: name == asked, lambda name: name_key(name) == name_key(asked) != ""):
        positions = [position for position, name in enumerate(names) if same(name.strip())]
        if len(positions) == 1:
            return positions[0]
    return None


def guess_columns(rows: Sequence[Sequence[str]]) -> Columns | None:
    """Finds text and label of a two-column table without a header by the columns' content.

    The label's column has fewer distinct values and shorter ones. The first row's label is among those of later rows,
    since the first row could else be a header of unknown names.

    Returns:
        The columns, or None where the two are too alike.
    """
    for text, label in ((0, 1), (1, 0)):
        texts, labels = [row[text] for row in rows], [row[label] for row in rows]
        distinct = {value.strip() for value in labels}
        if (
            len(distinct) < min(len(rows), len(set(texts)))
            and sum(map(len, labels)) < sum(map(len, texts))
            and not any("\n" in value or value[:1] == " " for value in labels)
            and labels[0].strip() in {value.strip() for value in labels[1:]}
        ):
            return Columns(text, label)
    return None


def likely_columns(rows: Sequence[Sequence[str]]) -> tuple[int, int] | None:
    """The columns that hold text and label if the first row is a header; good enough to propose, not to take.

    Args:
        rows: The first may be a header. All of one width.

    Returns:
        The column of the longest values, and the one with the fewest distinct ones, of which some repeat.
    """
    below = [list(column) for column in zip(*rows[1:], strict=True)]
    repeating = [at for at, values in enumerate(below) if 1 < len(set(values)) < len(values)]
    if not repeating:
        return None
    text = max(range(len(below)), key=lambda at: sum(map(len, below[at])))
    label = min(repeating, key=lambda at: len(set(below[at])))
    return None if text == label else (text, label)
