"""Scores of a model's outputs for the queries of one episode."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from metalearn.errors import AdaptationDiverged, InvalidEpisode
from metalearn.evaluation.figures import CalibrationBin
from metalearn.objectives import OBJECTIVES
from metalearn.types import Objective


@dataclass(frozen=True, slots=True)
class EpisodeScores:
    """Figures of one episode; None where one makes no sense for the task.

    Attributes:
        task: Name of the task.
        index: Which of the task's episodes at that number of shots.
        n_queries: Queries that were scored.
        accuracy: Share that is answered exactly; in multi-label tasks, with all of their classes and no other.
        macro_f1: Mean of F1 over the classes; in multi-label tasks at a probability of 0.5.
        ece: Expected calibration error of the answers; in multi-label tasks, of the decisions about each class.
        majority: Accuracy of always giving the queries' most frequent answer.
        mse: Mean squared error, in regression.
        spearman: Rank correlation, in regression.
        adapt_ms: Milliseconds from the support set's texts to fast weights.
        unseen: Queries whose class has no example in the support set; they are scored, and wrong.
        failure: Why there are no figures; empty where there are.
        bins: The answers by confidence, in tasks of one class each. The decisions of multi-label tasks are left out:
            most of them are a confident no.
    """

    task: str
    index: int = 0
    n_queries: int = 0
    accuracy: float | None = None
    macro_f1: float | None = None
    ece: float | None = None
    majority: float | None = None
    mse: float | None = None
    spearman: float | None = None
    adapt_ms: float | None = None
    unseen: int = 0
    failure: str = ""
    bins: tuple[CalibrationBin, ...] = ()


def judge(
    outputs: Float[Tensor, "rows outputs"],
    targets: Int[Tensor, " rows"] | Float[Tensor, "rows columns"],
    objective: Objective,
    *,
    task: str = "",
) -> EpisodeScores:
    """Figures of a model's outputs for the queries of an episode.

    Args:
        outputs: Logits of the episode's classes, or predictions in regression.
        targets: The targets as ``EncodedSet`` holds them. Rows that are ``OUT_OF_SCOPE`` are left out; a class index,
            or a column, beyond those of the outputs is a class that could not be predicted.
        objective: The meaning of the targets.
        task: Name of the task.

    Raises:
        AdaptationDiverged: An output is not finite.
        InvalidEpisode: No query has a class.
    """
    if not bool(torch.isfinite(outputs).all()):
        raise AdaptationDiverged("an output for a query is not finite: lower the learning rate")
    found = OBJECTIVES[objective].figures(outputs, targets)
    if not found.n_queries:
        raise InvalidEpisode(f"no query of {task} belongs to a class of its episode")
    return EpisodeScores(task, **found._asdict())
