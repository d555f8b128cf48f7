"""Columns of texts as scikit-learn's callers give them, as the queries of a request."""

from typing import Any

import numpy as np

from handful.forms import Query

_FORM = "X is a list or a column of texts, or two columns where pairs of texts are classified"


def as_queries(column: Any) -> list[Query]:
    """The texts, or pairs of texts, of a list, an array, a column or a table.

    Args:
        column: ``n`` texts; or a table of ``n`` rows with one or two columns of texts.

    Returns:
        A string for each row, or ``{"text", "text_pair"}``.

    Raises:
        ValueError: It has another form, a cell is no text, or there is none.
    """
    if isinstance(column, str | bytes):
        raise ValueError(f"{_FORM}, not one text: put it into a list, [X]")
    if not hasattr(column, "__len__"):
        column = list(column)
    # An array of objects: one of strings would have numbers as words, in silence
    cells = np.asarray(column, dtype=object)
    if cells.ndim not in {1, 2} or (cells.ndim == 2 and cells.shape[1] not in {1, 2}):
        raise ValueError(f"{_FORM}, not an array of the shape {cells.shape}")
    if not len(cells):
        raise ValueError(f"there are 0 texts while a minimum of 1 is required: {_FORM}")
    rows = cells.reshape(len(cells), -1)
    for i, row in enumerate(rows):
        for cell in row:
            if not isinstance(cell, str):
                raise ValueError(f"X[{i}] is a {type(cell).__name__}, {cell!r:.40}, not a text: {_FORM}")
            if not cell.strip():
                raise ValueError(f"X[{i}] is an empty text: leave it out")
    if rows.shape[1] == 1:
        return [str(text) for (text,) in rows]
    return [{"text": str(text), "text_pair": str(pair)} for text, pair in rows]
