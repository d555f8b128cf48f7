"""Work that one of several workers does."""

from pathlib import Path

import pytest

from service.turn import Turn


def test_one_of_several_workers_has_the_turn_and_another_one_when_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    first, second = Turn("work"), Turn("work")
    assert first.is_ours()
    assert first.is_ours()
    assert not second.is_ours()
    assert first._held is not None
    first._held.close()  # as the system does when a process ends
    assert second.is_ours()


def test_a_server_of_one_process_always_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    assert Turn("work").is_ours()
    assert Turn("work").is_ours()
