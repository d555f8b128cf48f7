"""The model of a meta-training run: what its options and its start make it."""

from pathlib import Path

from metalearn.encoder.published import Published
from metalearn.encoder.stages import Stages
from metalearn.learners.interface import LearnerOptions
from metalearn.model_spec import ModelSpec
from metatrain.options import TrainingOptions
from model_store.manifest import Manifest


def model_spec(options: TrainingOptions) -> ModelSpec:
    """The model that the options describe."""
    learner_options = options.part(LearnerOptions)
    return options.part(ModelSpec, fast_layers=options.fast_layers_used, options=learner_options)


def stages_of_run(options: TrainingOptions, encoder_folder: Path, begun_from: Manifest | None) -> Stages:
    """The stages of a run's encoder: as asked, else as the start has them, else as the encoder's files state."""
    published = Published.read(encoder_folder)
    if begun_from is None:
        return published.stages(**options.stages)
    reading, pooling = begun_from.encoder.stages
    own = {"prompt": reading.prompt, "pooling": pooling.mode, "normalize": pooling.normalize}
    asked = {name: value for name, value in options.stages.items() if value is not None}
    return published.stages(**{**own, **asked})


def is_trained(name: str, first_layer: int) -> bool:
    """Whether a slow weight is trained: the encoder's from a layer on, and all others but those fitted afterwards."""
    if not name.startswith("body.layers."):
        return not is_calibration(name)
    return int(name.split(".")[2]) >= first_layer


def is_calibration(name: str) -> bool:
    """Whether a slow weight belongs to the calibration, which is fitted after the training."""
    return name.startswith("calibration.")
