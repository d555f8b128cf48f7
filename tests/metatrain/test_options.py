"""The options of a run beside the records that are made of them."""

from dataclasses import MISSING, fields
from typing import Any, get_args, get_type_hints

import pytest

from metalearn.learners.interface import LearnerOptions
from metalearn.meta_train import MetaTrainSettings
from metalearn.model_spec import ModelSpec
from metalearn.tasks.sampler import SamplerSettings
from metatrain.options import ModelOptions, TrainingOptions


def kinds(annotation: Any) -> set[Any]:
    """The types and the literal values that an annotation allows."""
    parts = get_args(annotation)
    return set().union(*map(kinds, parts)) if parts else {annotation}


@pytest.mark.parametrize(
    ("record", "model", "worked_out"),
    [
        (MetaTrainSettings, TrainingOptions, {"inner_steps", "outer_steps"}),
        (LearnerOptions, TrainingOptions, set()),
        (SamplerSettings, TrainingOptions, {"ways", "shots"}),
        (ModelSpec, ModelOptions, {"fast_layers", "options"}),
    ],
)
def test_every_field_of_a_record_is_an_option_of_its_kind(
    record: type, model: type[ModelOptions], worked_out: set[str]
) -> None:
    hints = get_type_hints(record)
    for field in fields(record):
        if field.name in worked_out:
            continue
        option = model.model_fields[field.name]
        assert kinds(option.annotation) <= kinds(hints[field.name]), field.name
        if field.default is not MISSING and record is not SamplerSettings:
            assert option.default == field.default, field.name


def test_a_record_is_made_of_the_options_of_its_fields_names() -> None:
    options = TrainingOptions(tasks=["tasks"], clip_norm=0.5, rates="learned", seed=3)
    settings = options.part(MetaTrainSettings, inner_steps=options.inner_steps_used, outer_steps=options.steps)
    assert settings == MetaTrainSettings(20, 1000, clip_norm=0.5, seed=3)
    assert options.part(LearnerOptions) == LearnerOptions(rates="learned")
