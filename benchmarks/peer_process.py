"""Other projects' methods, each in a process of an environment of its own."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.episodes import Episode, write_episodes
from benchmarks.methods import encoder_folder

PEERS = ("setfit", "fastfit")

_ROOT = Path(__file__).resolve().parent.parent


def run_peer(peer: str, python: str, episodes: Sequence[Episode], out: Path, *options: str) -> Path:
    """Lets a method answer what its file of outcomes has no line of yet, and returns that file.

    Args:
        peer: One of ``PEERS``.
        python: Python of an environment with ``peers/requirements-PEER.txt``.
        episodes: The episodes to answer.
        out: Folder of the file.
        options: Further ones of ``peers/run_PEER.py``.

    Raises:
        CalledProcessError: The process failed; its output has the reason.
    """
    out = out.resolve()
    outcomes = out / f"{peer}.jsonl"
    write_episodes(out / "episodes.json", episodes)
    subprocess.run(
        [
            *(python, "-m", f"benchmarks.peers.run_{peer}", "--episodes", str(out / "episodes.json")),
            *("--out", str(outcomes), "--encoder", str(encoder_folder()), *options),
        ],
        check=True,
        stdout=sys.stderr,  # tables alone go to standard output
        cwd=_ROOT,  # where it finds this package
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"},
    )
    return outcomes
