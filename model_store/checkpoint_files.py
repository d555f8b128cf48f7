"""The files of a checkpoint's folder: written whole or not at all, and checked by digest."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from model_store.errors import CheckpointInvalid
from model_store.manifest import CARD, GRAPH, MANIFEST, SLOW_WEIGHTS


def check_free(folder: Path, extra_files: Sequence[str] = ()) -> None:
    """For those who have long work to do before they write a checkpoint.

    Raises:
        CheckpointInvalid: The folder holds a checkpoint or one of the files that it would hold.
    """
    names = [*extra_files, GRAPH, SLOW_WEIGHTS, CARD, MANIFEST]
    if folder.exists() and not folder.is_dir():
        raise CheckpointInvalid(f"{folder} exists, and is no folder")
    if len(set(names)) < len(names) or any(Path(name).name != name or name in {"", ".."} for name in names):
        raise CheckpointInvalid(f"extra files need names of their own, without folders: {', '.join(names)}")
    if (folder / MANIFEST).exists():
        raise CheckpointInvalid(f"{folder} holds a checkpoint: it is never overwritten")
    for name in names:
        if (folder / name).exists():
            raise CheckpointInvalid(f"{folder / name} exists: it is not overwritten")


def publish(folder: Path, files: Mapping[str, bytes]) -> None:
    """Puts files in place, the manifest last: what has none is no checkpoint."""
    is_new = not folder.exists()
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent if is_new else folder))
    placed: list[Path] = []
    try:
        for name, data in files.items():
            _write_durably(partial / name, data)
        if is_new:
            partial.chmod(0o755)  # mkdtemp's folders are the owner's alone
            partial.rename(folder)
            return
        for name in files:
            placed.append((partial / name).rename(folder / name))  # noqa: PERF401 - kept as far as it came
        partial.rmdir()
    except BaseException:
        for path in placed:
            path.unlink(missing_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        raise


def check_digest(path: Path, expected: str) -> None:
    """A check that a file is the one that the checkpoint was made with.

    Raises:
        CheckpointInvalid: It is not, or cannot be read.
    """
    try:
        found = digest_of(path)
    except OSError as error:
        raise CheckpointInvalid(f"cannot read {path}: {error}") from error
    if found != expected:
        raise CheckpointInvalid(f"{path} is not the file that the checkpoint was made with: its SHA-256 differs")


def digest_of(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
