"""Specifications of models, and combinations that are refused."""

import pytest

from metalearn.body import TextBody
from metalearn.encoder.encoder import Encoder
from metalearn.learners import LEARNERS
from metalearn.model_spec import ModelSpec, make_text_model
from metalearn.task_view.label_text_prior import LabelTextPrior


def test_a_served_model_takes_tuned_layers_as_given(encoder: Encoder) -> None:
    tuned = ModelSpec(tuned_layers=1)
    served = make_text_model(tuned.serving(), encoder)
    assert tuned.serving() == ModelSpec()
    assert isinstance(served.body, TextBody)
    assert (served.body.layers, served.body.dim) == (0, 32)
    deep = ModelSpec("maml", "full", 1, tuned_layers=2)
    assert deep.serving() == ModelSpec("maml", "full", 1)


@pytest.mark.parametrize("learner", sorted(LEARNERS))
def test_every_model_that_classifies_weighs_label_texts(encoder: Encoder, learner: str) -> None:
    model = make_text_model(ModelSpec(learner), encoder)
    assert model.prior == LabelTextPrior()
    assert {"prior.log_weight", "prior.fade"} <= model.initial_slow_weights(steps=3).keys()
