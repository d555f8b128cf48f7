"""Specifications of models, and combinations that are refused."""

import pytest

from metalearn.body import TextBody
from metalearn.encoder.encoder import Encoder
from metalearn.errors import InvalidModel
from metalearn.learners import LEARNERS
from metalearn.model_spec import ModelSpec, make_text_model
from metalearn.task_view.label_text_prior import LabelTextPrior

BESIDE = ModelSpec(tuned_layers=1, frozen_view=True)


@pytest.mark.parametrize(
    "spec",
    [
        ModelSpec(frozen_view=True),
        ModelSpec("ridge", frozen_view=True),
        ModelSpec("protomaml", "modulations", 1, frozen_view=True),
        ModelSpec("protomaml", "modulations", 1, tuned_layers=2, frozen_view=True),
        ModelSpec("maml", "full", 1, tuned_layers=1, frozen_view=True),
        ModelSpec("maml", "low_rank", 2, tuned_layers=1, frozen_view=True),
    ],
)
def test_a_frozen_view_without_tuned_layers_or_with_fast_ones_is_refused(encoder: Encoder, spec: ModelSpec) -> None:
    with pytest.raises(InvalidModel, match="tune layers, and adapt the head alone"):
        make_text_model(spec, encoder)


@pytest.mark.parametrize("learner", sorted(LEARNERS))
def test_a_frozen_view_doubles_the_features_of_any_learner(encoder: Encoder, learner: str) -> None:
    model = make_text_model(ModelSpec(learner, tuned_layers=1, frozen_view=True), encoder)
    assert isinstance(model.body, TextBody)
    assert (model.body.layers, model.body.dim, model.body.frozen_view) == (1, 64, True)
    slow = model.initial_slow_weights(steps=3)
    alone = make_text_model(ModelSpec(learner, tuned_layers=1), encoder)
    assert slow.keys() == alone.initial_slow_weights(steps=3).keys()


def test_a_served_model_takes_tuned_layers_as_given(encoder: Encoder) -> None:
    served = make_text_model(BESIDE.serving(), encoder)
    assert BESIDE.serving() == ModelSpec()
    assert isinstance(served.body, TextBody)
    assert (served.body.layers, served.body.dim) == (0, 32)
    deep = ModelSpec("maml", "full", 1, tuned_layers=2)
    assert deep.serving() == ModelSpec("maml", "full", 1)


@pytest.mark.parametrize("learner", sorted(LEARNERS))
def test_every_model_that_classifies_weighs_label_texts(encoder: Encoder, learner: str) -> None:
    model = make_text_model(ModelSpec(learner), encoder)
    assert model.prior == LabelTextPrior()
    assert {"prior.log_weight", "prior.fade"} <= model.initial_slow_weights(steps=3).keys()
