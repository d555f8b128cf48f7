"""The specification of a meta-learning model, in words and numbers: enough to build it again."""

from dataclasses import dataclass, field, replace

from metalearn.body import TextBody
from metalearn.encoder.encoder import Encoder
from metalearn.errors import InvalidModel
from metalearn.learners import make_learner
from metalearn.learners.interface import LearnerOptions
from metalearn.meta_model import MetaModel
from metalearn.options import PlacementName
from metalearn.placement import make_placement
from metalearn.task_view.label_text_prior import LabelTextPrior


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Learner, placement, and how much of the encoder is trained.

    Attributes:
        learner: A learner's registered name.
        placement: Where fast weights live.
        fast_layers: How many of the encoder's top layers have fast weights; 0 for the placement ``head``.
        rank: Rank of low-rank updates.
        tuned_layers: How many of the top layers are meta-trained.
        options: The learner's options.
    """

    learner: str = "protomaml"
    placement: PlacementName = "head"
    fast_layers: int = 0
    rank: int = 4
    tuned_layers: int = 0
    options: LearnerOptions = field(default_factory=LearnerOptions)

    def serving(self) -> "ModelSpec":
        """The same model with its meta-trained layers taken as given: only what adapts is a function of weights."""
        return replace(self, tuned_layers=0)


def make_text_model(spec: ModelSpec, encoder: Encoder) -> MetaModel:
    """Builds a model on a text encoder.

    Raises:
        InvalidModel: The parts do not fit together.
        UnknownLearner: There is no such learner.
        UnknownUpdateRule: There is no such update rule.
    """
    if (spec.placement == "head") != (spec.fast_layers == 0):
        raise InvalidModel(f"the placement {spec.placement} does not go with {spec.fast_layers} fast layers")
    layers = max(spec.fast_layers, spec.tuned_layers)
    if layers and not encoder.n_layers:
        raise InvalidModel(
            f"the layers of this encoder ({encoder.transformer.architecture}) cannot be run one by one: "
            "none can be tuned or be fast; a head can adapt on it"
        )
    if layers > encoder.n_layers:
        raise InvalidModel(f"{layers} layers were asked for; the encoder has {encoder.n_layers}")
    learner = make_learner(spec.learner, spec.options)
    if spec.placement != "head" and not learner.descends:
        raise InvalidModel(f"the learner {spec.learner} takes no inner steps: its fast weights live in the head alone")
    placement = make_placement(spec.placement, layers=spec.fast_layers, rank=spec.rank)
    return MetaModel(
        TextBody(encoder, layers),
        placement,
        learner,
        prior=LabelTextPrior() if "classification" in learner.objectives else None,
        calibrated=learner.linear_head,
        centred=learner.linear_head and spec.placement == "head",
        balanced=learner.descends,
    )
