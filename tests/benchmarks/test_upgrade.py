"""The benchmark of a change of checkpoint, small: no query fails, and no answer is of mixed weights."""

import argparse
from pathlib import Path

import pytest

from benchmarks.upgrade import upgraded


@pytest.mark.slow
def test_tasks_change_their_checkpoint_while_queries_arrive(
    tiny_checkpoint: Path, other_checkpoint: Path, tmp_path: Path
) -> None:
    given = argparse.Namespace(
        tasks=12,
        old=str(tiny_checkpoint),
        new=str(other_checkpoint),
        queries_per_second=20,
        tasks_per_second=20,
        quiet_seconds=1,
        first_use_seconds=2,
        limit_seconds=300,
        store=None,
        prepare_only=False,
    )
    quiet, background, first_use = upgraded(given, tmp_path)
    assert [(part.failed, part.mixed) for part in (quiet, background, first_use)] == [(0, 0)] * 3
    assert (quiet.moved, background.moved, background.stayed) == (0, 12, 0)
    asked = {answer.task for answer in first_use.answers}
    assert first_use.moved >= len(asked) > 0
    assert {answer.version for answer in first_use.answers} == {2}
