"""The settings of the outer loop: what meta-training does in each outer step."""

import math
from dataclasses import dataclass

from metalearn.options import Optimizer, Schedule


@dataclass(frozen=True, slots=True)
class MetaTrainSettings:
    """How slow weights are trained.

    Attributes:
        inner_steps: Steps within an episode.
        meta_batch: Episodes per outer step.
        learning_rate: Outer rate of the encoder's weights.
        learner_learning_rate: Outer rate of the learner's own numbers and vectors, which are few and far from their
            best at first; its matrices get a tenth of it.
        optimizer: ``adamw``, or ``sgd``: Reptile's own outer step.
        weight_decay: Decoupled (AdamW), towards zero, of the encoder's weight matrices.
        schedule: The course of the rates after the warm-up, up to ``outer_steps``.
        outer_steps: Length of the schedule, and where training ends.
        warmup_steps: Outer steps over which the rates grow from zero.
        clip_norm: Longest gradient of an outer step; longer ones are scaled down to it.
        contrastive_weight: Weight of the supervised contrastive loss beside the meta-loss; 0 leaves it out.
        contrastive_temperature: Its temperature.
        contrastive_episodes: Episodes contrasted with each other; divides ``meta_batch``.
        average: Decay per outer step of a moving average of the trained weights, which then is what training results
            in; 0 for none.
        splits: How often an episode is divided into support and query set; see ``MetaModel.run_episode``.
        seed: Decides whatever is drawn within an episode.
    """

    inner_steps: int
    outer_steps: int
    meta_batch: int = 4
    learning_rate: float = 5e-5
    learner_learning_rate: float = 1e-2
    optimizer: Optimizer = "adamw"
    weight_decay: float = 0.01
    schedule: Schedule = "linear"
    warmup_steps: int = 50
    clip_norm: float = 1.0
    contrastive_weight: float = 0.0
    contrastive_temperature: float = 0.1
    contrastive_episodes: int = 2
    splits: int = 1
    average: float = 0.0
    seed: int = 0

    def average_decay(self, step: int) -> float:
        """Decay of the average in outer step ``step``, counted from 0: less at first, so that the start is forgotten.

        Source: the warm-up of ``tf.train.ExponentialMovingAverage``.
        """
        return min(self.average, (1 + step) / (10 + step))

    def rate_factor(self, step: int) -> float:
        """The factor of the rates in outer step ``step``, counted from 0."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        done = min(1.0, (step - self.warmup_steps) / max(1, self.outer_steps - self.warmup_steps))
        if self.schedule == "linear":
            return 1 - done
        return 0.5 * (1 + math.cos(math.pi * done)) if self.schedule == "cosine" else 1.0
