"""Combinations of parameters for tests where all of them would take too long."""

from collections.abc import Sequence
from itertools import combinations, product
from typing import Any


def pairs(*axes: Sequence[Any]) -> list[tuple[Any, ...]]:
    """A few combinations of one value of each axis, among which each two values of two axes stand together once."""
    lengths = [range(len(axis)) for axis in axes]
    missing = {(a, i, b, j) for a, b in combinations(range(len(axes)), 2) for i in lengths[a] for j in lengths[b]}
    rows, chosen = list(product(*lengths)), []
    while missing:
        row = max(rows, key=lambda row: sum(row[a] == i and row[b] == j for a, i, b, j in missing))
        missing -= {(a, row[a], b, row[b]) for a, b in combinations(range(len(axes)), 2)}
        chosen.append(row)
    return [tuple(axis[i] for axis, i in zip(axes, row, strict=True)) for row in sorted(chosen)]
