"""The manifest of a checkpoint."""

from typing import NamedTuple

from metalearn.encoder.stages import PoolingStage, TransformerStage
from model_store.manifest import EncoderReference


class _WithOptional(NamedTuple):
    transformer: TransformerStage
    pooling: PoolingStage
    further: None = None


def test_a_stage_that_a_checkpoint_lacks_is_not_written() -> None:
    reference = EncoderReference.model_construct(stages=_WithOptional(TransformerStage(), PoolingStage()))
    assert [stage["stage"] for stage in reference.model_dump(mode="json")["stages"]] == ["transformer", "pooling"]
