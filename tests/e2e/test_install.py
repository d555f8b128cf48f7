"""The scripts that install: which torch they take, and what they remove."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.waiting import LIMIT_S

ROOT = Path(__file__).parents[2]
NOWHERE = "http://127.0.0.1:9"
no_gpu = pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="this machine has a GPU")

# Stands for the Python of an environment without torch: notes what pip is asked for, and answers a dry run
STAND_IN = """#!{python}
import json, os, pathlib, subprocess, sys
words = sys.argv[1:]
if words[:2] == ["-m", "pip"]:
    with open({log!r}, "a") as log:
        log.write(json.dumps(words[2:]) + "\\n")
    if "--report" in words:
        print(json.dumps({{"install": [{{"metadata": {{"requires_dist": {needs!r}}}}}]}}))
elif words[:1] == ["-c"] and "version(" in words[1]:
    sys.exit({has_torch!r} is False)
elif words[:1] == ["-c"] and "platlib" in words[1]:
    print({site!r})
else:
    sys.exit(subprocess.run([sys.executable, *words], stdin=sys.stdin).returncode)
"""


def install(
    folder: Path, needs: list[str], *, has_torch: bool = False, **variables: str
) -> tuple[list[list[str]], str]:
    """Runs the script with a stand-in for Python; gives what pip was asked for, and the script's words."""
    log, python = folder / "pip.log", folder / "python"
    site = str(folder / "site")
    python.write_text(STAND_IN.format(python=sys.executable, log=str(log), needs=needs, has_torch=has_torch, site=site))
    python.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "TORCH_CPU_INDEX": NOWHERE, **variables}
    done = subprocess.run(
        ["deploy/install.sh", python],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=True,
    )
    return [json.loads(line) for line in log.read_text().splitlines()], done.stderr


@pytest.fixture
def cpu_index(tmp_path: Path) -> Iterator[str]:
    """Address of an index that has torch."""
    (tmp_path / "whl/torch").mkdir(parents=True)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "whl"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@no_gpu
def test_torch_comes_without_cuda_where_there_is_no_gpu(tmp_path: Path, cpu_index: str) -> None:
    asked, words = install(tmp_path, ["nvidia-cublas>=13"], TORCH_CPU_INDEX=cpu_index)
    assert asked[1][-3:] == ["--index-url", cpu_index, "torch"]
    assert asked[2][-1] == ".[server]"
    assert "gigabytes" not in words
    assert cpu_index in words


@no_gpu
def test_a_torch_with_cuda_is_announced_where_no_index_without_answers(tmp_path: Path) -> None:
    asked, words = install(tmp_path, ["filelock", "nvidia-cublas>=13"])
    assert "TORCH_INDEX=ADDRESS" in words
    assert "gigabytes" in words
    assert [words[-1] for words in asked] == ["torch", ".[server]"]


@no_gpu
def test_an_index_without_torch_is_not_taken(tmp_path: Path, cpu_index: str) -> None:
    asked, _ = install(tmp_path, ["nvidia-cublas>=13"], TORCH_CPU_INDEX=f"{cpu_index}/torch")
    assert [words[-1] for words in asked] == ["torch", ".[server]"]


def test_torch_comes_with_cuda_where_there_is_a_gpu(tmp_path: Path, cpu_index: str) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho GPU 0\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    asked, words = install(tmp_path, ["nvidia-cublas>=13"], TORCH_CPU_INDEX=cpu_index, PATH=path)
    assert [words[-1] for words in asked] == ["torch", ".[server]"]
    assert "gigabytes" in words
    assert "no GPU" not in words


def test_torch_comes_with_cuda_where_that_is_asked_for(tmp_path: Path, cpu_index: str) -> None:
    asked, words = install(tmp_path, ["nvidia-cublas>=13"], TORCH_CPU_INDEX=cpu_index, TORCH_INDEX="pip")
    assert [words[-1] for words in asked] == ["torch", ".[server]"]
    assert "gigabytes" in words


def test_a_torch_without_cuda_is_installed_with_its_size(tmp_path: Path, cpu_index: str) -> None:
    needs = ["filelock", 'nvidia-cublas>=13; platform_machine == "nonesuch"']
    asked, words = install(tmp_path, needs, TORCH_CPU_INDEX=cpu_index)
    assert "1 GB on the disk" in words
    assert "TORCH_INDEX" not in words
    assert [words[-1] for words in asked] == ["torch", ".[server]"]
    assert "--dry-run" in asked[0]
    assert "--no-compile" in asked[1]


def test_torch_comes_from_the_index_that_is_set(tmp_path: Path) -> None:
    asked, words = install(tmp_path, ["nvidia-cublas>=13"], TORCH_INDEX="https://index.example/cpu")
    assert "gigabytes" not in words
    assert asked[0][-3:] == ["--index-url", "https://index.example/cpu", "torch"]
    assert asked[1][-1] == ".[server]"


def test_an_environment_with_torch_is_brought_up_to_date_in_silence(tmp_path: Path) -> None:
    asked, words = install(tmp_path, ["nvidia-cublas>=13"], has_torch=True)
    assert words == ""
    assert [words[-1] for words in asked] == [".[server]"]


def test_what_serving_has_no_use_for_is_removed(tmp_path: Path) -> None:
    kept = ["torch/__init__.py", "torch/bin/torch_shm_manager", "torch/lib/libtorch.so", "onnx/backend/base.py"]
    removed = ["torch/include/a.h", "torch/test/a_test", "torch/bin/test_api", "onnx/backend/test/data/x.pb"]
    for name in (*kept, *removed):
        file = tmp_path / "site" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    install(tmp_path, [], has_torch=True)
    left = {path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*") if path.is_file()}
    assert left == set(kept)
