"""The answers of the HTTP API on the checkpoints that a server has loaded."""

from typing import Any

from pydantic import BaseModel, Field


class CheckpointResponse(BaseModel):
    """A checkpoint that the server has loaded."""

    name: str
    fingerprint: str
    learner: str
    placement: str = Field(description="Placement of the fast weights: head, modulations, low_rank or full.")
    fast_layers: int = Field(description="Number of the encoder's top layers that have fast weights.")
    steps: int
    languages: list[str] = Field(
        [], description="Languages of the tasks that it was meta-trained on, as far as they are known."
    )
    encoder: dict[str, Any]
    device: str
    runtime: str
    limits: dict[str, int]


class CheckpointList(BaseModel):
    """The checkpoints that the server has loaded."""

    checkpoints: list[CheckpointResponse] = Field(description="The default one first.")


class CheckpointCandidate(BaseModel):
    """A loaded checkpoint that `auto` compared."""

    name: str
    fingerprint: str
    leave_one_out_accuracy: float | None = Field(
        description="Its leave-one-out accuracy on the support set; null where no class has two examples."
    )
    leave_one_out: dict[str, float] | None = Field(
        None,
        description="Its leave-one-out figures, where the task has several labels, scores or an order.",
        exclude_if=lambda figures: figures is None,
    )
    error: str | None = Field(None, description="Why this checkpoint cannot adapt on the support set, if it cannot.")


class CheckpointChoice(BaseModel):
    """The choice of `auto` between the loaded checkpoints."""

    reason: str = Field(description="Why the checkpoint was chosen, in a sentence.")
    candidates: list[CheckpointCandidate] = Field(description="All loaded checkpoints, the default one first.")
