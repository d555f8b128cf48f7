"""The head of an exported task as a matrix, for programs that know nothing of Handful."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors.numpy
from jaxtyping import Float

from metalearn.fast_weights import HEAD_BIAS, HEAD_WEIGHT
from metalearn.learners import make_learner
from metalearn.types import Objective
from model_store.errors import NotExportable, TaskFileInvalid
from model_store.task_file import TaskFile


@dataclass(frozen=True)
class LinearHead:
    """A linear function of a text's features. Centring and temperature are in its numbers.

    Attributes:
        weight: A row for each class.
        bias: A number for each class.
        labels: The classes.
        pairs: Whether the task's texts are pairs.
        objective: The meaning of the outputs.
    """

    weight: Float[np.ndarray[Any, Any], "classes dim"]
    bias: Float[np.ndarray[Any, Any], " classes"]
    labels: tuple[str, ...]
    pairs: bool
    objective: Objective


def linear_head(file: TaskFile) -> LinearHead:
    """The head of an exported task.

    Raises:
        NotExportable: The task's answers are no linear function of its checkpoint's features.
        TaskFileInvalid: The file's weights cannot be read.
    """
    try:
        header: dict[str, Any] = json.loads(file.adapter)
        weights = safetensors.numpy.load(file.weights)
    except (ValueError, safetensors.SafetensorError) as error:
        raise TaskFileInvalid(f"the weights in the file cannot be read: {error}") from error
    learner, name = str(header["learner"]), f"{file.record.task!r}"
    if not make_learner(learner).linear_head:
        raise NotExportable(
            f"task {name} was adapted by the learner {learner!r}, whose answers are no linear function of the features:"
            " adapt it with a learner that has a linear head, such as protomaml or ridge"
        )
    if weights.keys() != {HEAD_WEIGHT, HEAD_BIAS}:
        raise NotExportable(
            f"task {name} has weights of its own in the encoder's layers, so that its head alone does not give its "
            "answers: adapt it from a checkpoint with the placement 'head', or with another learner than the "
            "checkpoint's"
        )
    if file.record.kind != "single_label":
        raise NotExportable(
            f"task {name} is of the kind {file.record.kind}, whose answers need more than a head: export it in the "
            "handful format, or its examples as a dataset"
        )
    labels: list[str] = header["labels"]
    if len(weights[HEAD_WEIGHT]) != (len(labels) or 1):
        raise NotExportable(
            f"the head of task {name} has {len(weights[HEAD_WEIGHT])} rows for {len(labels)} labels, as where examples "
            "are out of scope: other programs know no class without a label. Adapt a task without such examples"
        )
    return LinearHead(
        weights[HEAD_WEIGHT].astype(np.float32),
        weights[HEAD_BIAS].astype(np.float32),
        tuple(labels),
        bool(header.get("pairs")),
        header.get("objective", "classification"),
    )
