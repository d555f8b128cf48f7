"""The stages that make features of texts, as data: what a manifest stores, checked as it is declared here.

Free of torch. A further stage is declared here, computed by ``Encoder``, and drawn in the graph of a runtime. Its
default in ``Stages`` is None, and a manifest leaves it out then: checkpoints without it keep their fingerprints.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from annotated_types import Ge

_CHECKS = {"extra": "forbid", "strict": True, "revalidate_instances": "always"}
"""The way in which pydantic reads a stage."""


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


class Stages(NamedTuple):
    """The stages in their order, which a manifest has as a list."""

    transformer: TransformerStage
    pooling: PoolingStage


def encoder_stages(
    *, max_tokens: int = 256, prompt: str = "", mode: PoolingMode = "mean", normalize: bool = True
) -> Stages:
    """The stages of an encoder by their fields; see ``TransformerStage`` and ``PoolingStage``."""
    return Stages(TransformerStage(max_tokens=max_tokens, prompt=prompt), PoolingStage(mode=mode, normalize=normalize))
