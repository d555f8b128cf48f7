"""Files to read, written for a test."""

import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

Write = Callable[[str, str | bytes], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a file and returns its name; the name ``-`` stands for standard input."""
    monkeypatch.chdir(tmp_path)

    def write_one(name: str, content: str | bytes) -> str:
        data = content if isinstance(content, bytes) else content.encode()
        if name == "-":
            monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))
        else:
            Path(name).write_bytes(data)
        return name

    return write_one
