"""Difficulty is an exponential mean of normalised losses, held as a value."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metalearn.errors import InvalidTasks
from metalearn.tasks.difficulty import Difficulty, normalised_loss, updated
from metalearn.types import Episode, LabelledTexts, Objective, Target, TextInput


def test_means_by_hand() -> None:
    before = Difficulty({"a": 0.5})
    after = updated(before, [("a", 1.0), ("b", 0.25), ("a", 0.0)], memory=0.5)
    assert dict(after.losses) == {"a": (0.5 * 0.5 + 0.5 * 1.0) * 0.5, "b": 0.25}
    assert dict(before.losses) == {"a": 0.5}
    assert after.of("never seen") == 1.0


def test_losses_are_bounded_and_those_that_are_not_finite_are_left_out() -> None:
    after = updated(Difficulty(), [("a", math.nan), ("b", math.inf), ("c", 1e9), ("d", -1.0)])
    assert dict(after.losses) == {"c": 2.0, "d": 0.0}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats())))
def test_it_survives_json(observations: list[tuple[str, float]]) -> None:
    difficulty = updated(Difficulty(), observations)
    assert Difficulty.from_json(json.loads(json.dumps(difficulty.to_json()))) == difficulty


@pytest.mark.parametrize("loss", [-0.1, 2.1, math.nan])
def test_a_state_that_no_training_wrote_is_refused(loss: float) -> None:
    with pytest.raises(InvalidTasks, match="difficulty of task a"):
        Difficulty.from_json({"a": loss})


@pytest.mark.parametrize(
    ("objective", "labels", "targets", "guess"),
    [
        ("classification", ("x", "y", "z"), (0, 2), math.log(3)),
        ("multi_label", ("x", "y", "z"), ((), (0, 2)), math.log(2)),
        ("regression", (), (1.0, 5.0), 4.0),
    ],
)
def test_guessing_has_the_normalised_loss_one(
    objective: Objective, labels: tuple[str, ...], targets: tuple[Target, ...], guess: float
) -> None:
    support = LabelledTexts((TextInput("a"), TextInput("b"), TextInput("c")), (0, 1, 2) if labels else (0.0, 1.0, 2.0))
    query = LabelledTexts((TextInput("d"), TextInput("e")), targets)
    episode = Episode("t", "g", objective, labels, support, query)
    assert normalised_loss(guess, episode) == pytest.approx(1)
    assert normalised_loss(guess / 2, episode) == pytest.approx(0.5)


def test_queries_of_one_score_have_no_difficulty() -> None:
    one = LabelledTexts((TextInput("a"),), (3.0,))
    episode = Episode("t", "g", "regression", (), one, LabelledTexts((TextInput("b"),), (3.0,)))
    assert normalised_loss(7.0, episode) == 1.0
