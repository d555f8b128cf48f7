"""Pairs of texts, for methods that take one text."""

from benchmarks.episodes import Row


def joined(row: Row) -> str:
    """The text; of a pair both, with the separator between them that the tokenizer would put there.

    The token ids are those of the pair; the second text's type ids are not.
    """
    return row.text if row.text_pair is None else f"{row.text} [SEP] {row.text_pair}"
