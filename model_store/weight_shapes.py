"""Which fast weights a stored adapter must have. Known as numbers, so that reading one takes no model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import zip_longest

from metalearn.errors import InvalidModel

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes by name of weight."""


@dataclass(frozen=True, slots=True)
class AxisLength:
    """Length of an axis: ``fixed + per_class * classes + per_text * texts adapted on``."""

    fixed: int
    per_class: int
    per_text: int

    def of(self, n_classes: int, n_texts: int) -> int:
        """The length for so many classes and texts."""
        return self.fixed + self.per_class * n_classes + self.per_text * n_texts


@dataclass(frozen=True, slots=True)
class FastWeightShapes:
    """The shapes that a model's fast weights have, whatever the task.

    Attributes:
        axes: Lengths of each weight's axes.
    """

    axes: Mapping[str, tuple[AxisLength, ...]]

    @classmethod
    def measured(cls, shapes_of: Callable[[int, int], Shapes]) -> "FastWeightShapes":
        """The shapes of a model, measured on trial adaptations.

        Args:
            shapes_of: (Number of classes, number of texts) -> the shapes.

        Raises:
            InvalidModel: The lengths do not grow evenly with classes and texts.
        """
        base, more_classes, more_texts = shapes_of(2, 4), shapes_of(3, 4), shapes_of(2, 5)
        axes = {}
        for name, shape in base.items():
            lengths = []
            for length, with_class, with_text in zip_longest(
                shape, more_classes.get(name, ()), more_texts.get(name, ()), fillvalue=0
            ):
                per_class, per_text = with_class - length, with_text - length
                lengths.append(AxisLength(length - 2 * per_class - 4 * per_text, per_class, per_text))
            axes[name] = tuple(lengths)
        found = cls(axes)
        for n_classes, n_texts in ((2, 4), (3, 4), (2, 5), (5, 11)):
            if not found.fit(shapes_of(n_classes, n_texts), n_classes):
                raise InvalidModel(f"fast weights do not grow evenly with classes and texts: {dict(base)} for 2 and 4")
        return found

    @property
    def grow_with_texts(self) -> bool:
        """Whether something of each text is kept."""
        return any(length.per_text for lengths in self.axes.values() for length in lengths)

    def fit(self, shapes: Shapes, n_classes: int) -> bool:
        """Whether these are the shapes for ``n_classes`` classes and some number of texts."""
        if shapes.keys() != self.axes.keys():
            return False
        if any(len(shapes[name]) != len(lengths) for name, lengths in self.axes.items()):
            return False
        found = [pair for name, lengths in self.axes.items() for pair in zip(lengths, shapes[name], strict=True)]
        n_texts = n_classes
        for length, size in found:
            if length.per_text:
                n_texts = (size - length.of(n_classes, 0)) // length.per_text
                break
        return n_texts >= n_classes and all(length.of(n_classes, n_texts) == size for length, size in found)


ShapesOfLearner = Callable[[str], FastWeightShapes]
"""A learner's name -> the shapes of its fast weights under one checkpoint."""
