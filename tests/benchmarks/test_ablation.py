"""The ablation leaves parts out of the checkpoint itself."""

from pathlib import Path

import pytest

from benchmarks.ablation import CHECKPOINT, GROUPS, SHIPPED, made
from model_store.checkpoint import read_manifest, read_slow_weights, resolve_checkpoint


@pytest.mark.slow
def test_the_whole_is_the_checkpoint_and_each_part_left_out_changes_it(tmp_path: Path) -> None:
    shipped = resolve_checkpoint(CHECKPOINT)
    expected_manifest = read_manifest(shipped)
    whole, *others = (read_manifest(made(name, tmp_path, tmp_path, steps=0)) for name in GROUPS[SHIPPED])
    assert whole.encoder.stages == expected_manifest.encoder.stages
    assert whole.hyperparameters == expected_manifest.hyperparameters
    weights, expected = read_slow_weights(tmp_path / SHIPPED), read_slow_weights(shipped)
    assert weights.keys() == expected.keys()
    assert all(weights[key].equal(expected[key]) for key in expected)
    for other in others:
        assert (other.encoder.stages, other.hyperparameters) != (whole.encoder.stages, whole.hyperparameters)
