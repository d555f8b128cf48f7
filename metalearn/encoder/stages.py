"""The stages that make features of texts, as data: what a manifest stores, checked as it is declared here.

Free of torch. A further stage is declared here, computed by ``Encoder``, and drawn in the graph of a runtime.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Le

_CHECKS = {"extra": "forbid", "strict": True, "revalidate_instances": "always", "allow_inf_nan": False}
"""The way in which pydantic reads a stage."""


Weights = tuple[Annotated[float, Ge(0)], ...]
"""Weights of states, not all of them zero."""

PoolingMode = Literal["mean", "first", "last"]
"""The mean over tokens, or one token alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerStage:
    """How the transformer reads a text.

    Attributes:
        stage: Names the stage in a manifest.
        max_tokens: Length, special tokens included, above which the middle of a text is left out.
        prompt: Stands before every text, for encoders that were trained with one.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _CHECKS
    stage: Literal["transformer"] = "transformer"
    max_tokens: Annotated[int, Ge(8)] = 256
    prompt: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolingStage:
    """How the states of a text's tokens become one vector.

    Attributes:
        stage: Names the stage in a manifest.
        mode: The mean over tokens, or a text's first or last one; of a pair, its second text's are pooled.
        normalize: Whether the vector is scaled to unit length.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _CHECKS
    stage: Literal["pooling"] = "pooling"
    mode: PoolingMode = "mean"
    normalize: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Views:
    """The frozen view (features of the encoder as it came) and the tuned view (of meta-trained layers) side by side.

    The defaults are what meta-training begins with, where it starts from no checkpoint that has others; see docs/log.md
    for how these and others did on validation tasks.

    Attributes:
        stage: Names the stage in a manifest.
        view_weight: Weight of the frozen view in inner products; the tuned view has the rest.
        layer_weights: Weights of the frozen view's states: after the last layer, the one before it, and so on.
        tuned_layer_weights: The layer weights of the tuned view.
        token_similarity: Weight of the similarity of a pair's tokens, as further columns; 0 for without.

    Raises:
        ValueError: All weights of one kind are zero.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _CHECKS
    stage: Literal["views"] = "views"
    view_weight: Annotated[float, Ge(0), Le(1)] = 0.5
    layer_weights: Weights = (1.0, 0.5, 0.5)
    tuned_layer_weights: Weights = (1.0,)
    token_similarity: Annotated[float, Ge(0)] = 0.0

    def __post_init__(self) -> None:
        for name in ("layer_weights", "tuned_layer_weights"):
            if not any(getattr(self, name)):
                raise ValueError(f"{name}: every weight is zero")


Stage = TransformerStage | PoolingStage | Views
Stages = tuple[Stage, ...]


def in_order(stages: Stages) -> Stages:
    """The same stages.

    Raises:
        ValueError: A stage is missing, or they are in another order.
    """
    found = [stage.stage for stage in stages]
    if found not in (["transformer", "pooling"], ["transformer", "pooling", "views"]):
        raise ValueError(f"the stages are {', '.join(found)}; they are transformer, pooling, and views or not")
    return stages


def encoder_stages(
    *,
    max_tokens: int = 256,
    prompt: str = "",
    mode: PoolingMode = "mean",
    normalize: bool = True,
    views: Views | None = None,
) -> Stages:
    """The stages of an encoder.

    Args:
        max_tokens: See ``TransformerStage``.
        prompt: See ``TransformerStage``.
        mode: See ``PoolingStage``.
        normalize: See ``PoolingStage``.
        views: The views of an encoder with meta-trained layers beside its own.
    """
    stages: Stages = (
        TransformerStage(max_tokens=max_tokens, prompt=prompt),
        PoolingStage(mode=mode, normalize=normalize),
    )
    return stages if views is None else (*stages, views)


def transformer_stage(stages: Stages) -> TransformerStage:
    """The stage that reads texts."""
    return next(stage for stage in stages if isinstance(stage, TransformerStage))


def pooling_stage(stages: Stages) -> PoolingStage:
    """The stage that pools tokens."""
    return next(stage for stage in stages if isinstance(stage, PoolingStage))


def views_of(stages: Stages) -> Views:
    """The views; the defaults where the stages have none."""
    return next((stage for stage in stages if isinstance(stage, Views)), Views())
