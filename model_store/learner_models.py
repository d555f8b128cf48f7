"""Models that adapt and answer: the checkpoint's own, and other learners on its encoder for requests that name them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import torch
from torch import Tensor

from metalearn.body import MlpBody, TextBody
from metalearn.encoder.encoder import FeatureRuntime, TorchRuntime
from metalearn.meta_model import MetaModel
from metalearn.model_spec import ModelSpec, make_text_model
from metalearn.placement import Modulations
from metalearn.prepared import PreparedSet
from metalearn.types import SlowWeights
from model_store.checkpoint import Checkpoint
from model_store.weight_shapes import FastWeightShapes, Shapes


@dataclass(frozen=True)
class LoadedModel:
    """A model with the slow weights that it is a function of.

    Attributes:
        model: A model whose body reads texts.
        slow_weights: On the compute device.
        shapes: Shapes of the fast weights that it makes.
    """

    model: MetaModel
    slow_weights: SlowWeights
    shapes: FastWeightShapes

    @property
    def body(self) -> TextBody:
        """The body of the model."""
        return cast(TextBody, self.model.body)

    @cached_property
    def top_layers(self) -> Mapping[str, Tensor]:
        """Weights of the layers that are a function of fast weights, before any."""
        return self.body.encoder.upper_weights(self.body.layers)

    @property
    def is_deep(self) -> bool:
        """Whether a task owns weights below its head, so that its texts run through layers of its own."""
        return self.body.layers > 0


class Models:
    """The models of one checkpoint, by learner.

    Attributes:
        checkpoint: The loaded checkpoint.
        runtime: Computes features.
    """

    def __init__(self, checkpoint: Checkpoint, runtime: FeatureRuntime | None = None) -> None:
        """Takes the checkpoint's own model.

        Args:
            checkpoint: The loaded checkpoint.
            runtime: Computes whole features; torch by default. Layers that tasks have of their own stay with torch.
        """
        self.checkpoint = checkpoint
        self.runtime = runtime or TorchRuntime(checkpoint.encoder)
        own = self._loaded(checkpoint.model, checkpoint.slow_weights)
        self._models = {checkpoint.learner.name: own}

    @cached_property
    def weights_per_token(self) -> float:
        """The number of weights that a token is multiplied with, by which checkpoints are ordered by speed.

        Infinite where the encoder's layers cannot be counted.
        """
        encoder = self.checkpoint.encoder
        return sum(weight.numel() for weight in encoder.upper_weights(encoder.n_layers).values()) or math.inf

    def of(self, learner: str | None = None) -> LoadedModel:
        """The checkpoint's model, or that of another learner, whose head alone is fast and which was not meta-trained.

        Made when first asked for, and the same in every process.

        Raises:
            UnknownLearner: There is no such learner.
        """
        name = self.checkpoint.learner.name if learner is None else learner
        if name not in self._models:
            encoder, steps = self.checkpoint.encoder, self.checkpoint.manifest.hyperparameters.steps
            model = make_text_model(ModelSpec(name), encoder)
            slow_weights = model.initial_slow_weights(steps=steps)
            self._models[name] = self._loaded(model, {n: w.to(encoder.device) for n, w in slow_weights.items()})
        return self._models[name]

    def shapes(self, learner: str) -> FastWeightShapes:
        """The shapes of a learner's adapters.

        Raises:
            UnknownLearner: There is no such learner.
        """
        return self.of(learner).shapes

    def _loaded(self, model: MetaModel, slow_weights: SlowWeights) -> LoadedModel:
        body = cast(TextBody, model.body).computed_by(self.runtime)
        return _loaded(replace(model, body=body), slow_weights)


def modulated_norms(checkpoint: Checkpoint) -> list[str]:
    """Norms of which each task has scales and shifts of its own."""
    placement, body = checkpoint.model.placement, cast(TextBody, checkpoint.model.body)
    return placement.norms(body.encoder.upper_weights(body.layers)) if isinstance(placement, Modulations) else []


def _loaded(model: MetaModel, slow_weights: SlowWeights) -> LoadedModel:
    device = cast(TextBody, model.body).encoder.device
    # Without layers, the perceptron's features are its inputs
    on_features = replace(model, body=MlpBody((model.body.dim,)))

    def shapes_of(n_classes: int, n_texts: int) -> Shapes:
        features = torch.randn(n_texts, model.body.dim, generator=torch.Generator().manual_seed(0)).to(device)
        targets = torch.arange(n_texts, device=device) % n_classes
        weights = torch.ones(n_texts, device=device)
        fast_weights = on_features.start(slow_weights, PreparedSet(features, targets, weights, n_classes)).fast_weights
        return {name: tuple(weight.shape) for name, weight in fast_weights.items()}

    return LoadedModel(model, slow_weights, FastWeightShapes.measured(shapes_of))
