"""Learners are found by name."""

import pytest

from metalearn.errors import UnknownLearner
from metalearn.learners import LEARNERS, Learner, make_learner


@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_every_registered_learner_has_its_own_name_and_the_interface(name: str) -> None:
    learner = make_learner(name)
    assert isinstance(learner, Learner)
    assert learner.name == name


def test_an_unknown_learner_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(UnknownLearner) as caught:
        make_learner("no-such-learner")
    assert "'no-such-learner'" in str(caught.value)
    for name in LEARNERS:
        assert name in str(caught.value)
