"""That what parts are left out of is the default checkpoint itself."""

from pathlib import Path

import pytest

from benchmarks.ablation import GROUPS, SHIPPED, made
from model_store.checkpoint import DEFAULT_CHECKPOINT, read_manifest, read_slow_weights, resolve_checkpoint


@pytest.mark.slow
def test_the_whole_is_the_default_checkpoint_and_each_part_left_out_changes_it(tmp_path: Path) -> None:
    default = resolve_checkpoint(DEFAULT_CHECKPOINT)
    settings, hyperparameters = [], []
    for name in GROUPS[SHIPPED]:
        folder = made(name, tmp_path, tmp_path, steps=0)
        settings.append(read_manifest(folder).encoder.settings)
        hyperparameters.append(read_manifest(folder).hyperparameters)
    assert settings[0] == read_manifest(default).encoder.settings
    assert hyperparameters[0] == read_manifest(default).hyperparameters
    weights, expected = read_slow_weights(tmp_path / SHIPPED), read_slow_weights(default)
    assert weights.keys() == expected.keys()
    assert all(weights[key].equal(expected[key]) for key in expected)
    for left_out in zip(settings[1:], hyperparameters[1:], strict=True):
        assert left_out != (settings[0], hyperparameters[0])
