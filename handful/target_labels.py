"""The classes of scikit-learn's targets as labels of a task."""

import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handful.forms import Query


def union_of(classes: NDArray[Any], further: Sequence[Any]) -> NDArray[Any]:
    """The classes and further ones in order, each once.

    Raises:
        ValueError: They have no common order.
    """
    found = np.unique(classes)
    new = set(further) - set(found.tolist())
    if not new:
        return found
    try:
        return np.asarray(sorted({*found.tolist(), *new}))
    except TypeError:
        raise ValueError(f"the classes {[*found.tolist(), *new]} are of several types: give all as strings") from None


def label_names(classes: NDArray[Any]) -> list[str]:
    """The labels of classes on the server.

    Raises:
        ValueError: Two of them have one label.
    """
    names = [label_of(each) for each in classes.tolist()]
    if len(set(names)) < len(names):
        again = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"classes differ by white space or Unicode form alone: {again}")
    return names


def label_of(target: Any) -> str:
    """The label of a class, without what the server would take off it."""
    return unicodedata.normalize("NFC", str(target).strip())


def labelled(texts: Sequence[Query], targets: NDArray[Any], weights: NDArray[Any] | None) -> list[dict[str, Any]]:
    """The examples of a request.

    Args:
        texts: ``n`` texts or pairs of texts.
        targets: The class of each.
        weights: The weight of each; None where all count alike.

    Raises:
        ValueError: Two classes have one label.
    """
    label_names(np.unique(targets))
    examples: list[dict[str, Any]] = []
    for i, (text, target) in enumerate(zip(texts, targets.tolist(), strict=True)):
        example = {"text": text} if isinstance(text, str) else dict(text)
        weight = {} if weights is None else {"weight": float(weights[i])}
        examples.append({**example, "label": label_of(target), **weight})
    return examples
