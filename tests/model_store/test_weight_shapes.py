"""Shapes of fast weights as functions of classes and texts: measured on trials, and then required."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metalearn.errors import InvalidModel
from model_store.weight_shapes import AxisLength, FastWeightShapes, Shapes


def _matching(n_classes: int, n_texts: int) -> Shapes:
    return {
        "keys": (n_texts, 32),
        "membership": (n_texts, n_classes),
        "scale": (),
        "tail": (2 * n_texts + n_classes + 1,),
    }


@settings(deadline=None, max_examples=60)
@given(n_classes=st.integers(2, 150), n_texts=st.integers(2, 5000), name=st.sampled_from(sorted(_matching(2, 2))))
def test_what_was_tried_on_little_holds_for_any_task_and_for_nothing_else(
    n_classes: int, n_texts: int, name: str
) -> None:
    found = FastWeightShapes.measured(_matching)
    shapes = _matching(n_classes, n_texts)
    assert found.grow_with_texts
    assert found.fit(shapes, n_classes) is (n_texts >= n_classes)
    assert not found.fit(shapes, n_classes + 1)
    for axis in range(len(shapes[name])):
        longer = (*shapes[name][:axis], shapes[name][axis] + 1, *shapes[name][axis + 1 :])
        assert not found.fit({**shapes, name: longer}, n_classes)
    assert not found.fit({**shapes, name: (*shapes[name], 1)}, n_classes)
    assert not found.fit({other: shape for other, shape in shapes.items() if other != name}, n_classes)
    assert not found.fit({**shapes, "more": ()}, n_classes)


def test_a_head_does_not_grow_with_texts() -> None:
    found = FastWeightShapes.measured(lambda n_classes, _: {"weight": (n_classes, 8), "bias": (n_classes,)})
    assert found.axes == {"weight": (AxisLength(0, 1, 0), AxisLength(8, 0, 0)), "bias": (AxisLength(0, 1, 0),)}
    assert not found.grow_with_texts
    assert found.fit({"weight": (5, 8), "bias": (5,)}, 5)
    assert not found.fit({"weight": (5, 8), "bias": (5,)}, 4)


@pytest.mark.parametrize(
    "shapes_of",
    [
        lambda n_classes, n_texts: {"gram": (n_texts * n_texts,)},
        lambda n_classes, n_texts: {"pairs": (n_classes * n_texts,)},
        lambda n_classes, n_texts: {f"class {i}": (8,) for i in range(n_classes)},
        lambda n_classes, n_texts: {"weight": (1,) * n_classes},
    ],
)
def test_shapes_that_do_not_grow_evenly_are_refused_before_anything_is_stored(shapes_of: object) -> None:
    with pytest.raises(InvalidModel, match="grow evenly"):
        FastWeightShapes.measured(shapes_of)  # type: ignore[arg-type]
