"""The requests and answers of the HTTP API that are about moving a task to another checkpoint."""

from pydantic import BaseModel, ConfigDict, Field

from handful.wire import AdaptResponse


class ReadaptRequest(BaseModel):
    """Adapt again on a stored support set. The body may be empty."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    version: int | None = Field(
        None, ge=1, lt=2**63, description="The version whose support set to take; the newest where it is missing."
    )
    checkpoint: str | None = Field(
        None,
        description="Name or fingerprint of the checkpoint to adapt from, or `auto`, as in `adapt`; the default one "
        "where it is missing. One that is not loaded is refused.",
    )
    unless_worse: bool = Field(
        False,
        description="Refuse where the new version would be worse than the server's settings allow "
        "(HANDFUL_READAPT_MAX_DROP, HANDFUL_READAPT_MAX_DISAGREEMENT).",
        # Left out where it is missing, so that a request that is repeated after an update has the digest that it had
        exclude_if=lambda unless_worse: not unless_worse,
    )


class ReadaptComparison(BaseModel):
    """The new version beside the one that it is made from, on the support set without each example in turn."""

    former_checkpoint: str | None = Field(
        None, description="Fingerprint of the checkpoint that the version with the support set was made from."
    )
    former_leave_one_out_accuracy: float | None = Field(
        None, description="Leave-one-out accuracy of the version with the support set."
    )
    former_leave_one_out: dict[str, float] | None = Field(
        None,
        description="Leave-one-out figures of that version, where its task has several labels, scores or an order.",
        exclude_if=lambda figures: figures is None,
    )
    agreement: float | None = Field(
        None,
        description="Share of the examples that both checkpoints answer alike without the example; null where they "
        "are the same, where the former one is not loaded, where no class has two examples, and for scores.",
    )


class ReadaptResponse(ReadaptComparison, AdaptResponse):
    """The version that a readapt made."""


class ReadaptPreview(ReadaptComparison):
    """The version that a readapt would make. Nothing is stored."""

    task: str
    version: int = Field(description="The version whose support set would be taken.")
    checkpoint: str = Field(description="Fingerprint of the checkpoint that it would be made from.")
    leave_one_out_accuracy: float | None
    leave_one_out: dict[str, float] | None = Field(
        None,
        description="Leave-one-out figures, where the task has several labels, scores or an order.",
        exclude_if=lambda figures: figures is None,
    )
    worse: str | None = Field(description="Why `unless_worse` would refuse it, in a sentence; null where it would not.")
