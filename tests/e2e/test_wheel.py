"""The wheel, installed: what it holds, and that the client and the command line work without the server part."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.light_install import PROJECT, ROOT, blocker, with_requirements
from tests.socket_server import socket_server
from tests.waiting import LIMIT_S

PACKAGES = ("handful", "metalearn", "metatrain", "model_store", "service")

CLIENTS = """
import asyncio, sys
from handful import AsyncClient, Client, HandfulError

with Client(sys.argv[1]) as client:
    print(client.predict("bank", "a card").predictions[0].label)
    try:
        client.task("other")
    except HandfulError as error:
        print(error.code)

async def main():
    async with AsyncClient(sys.argv[1]) as client:
        print((await client.predict("bank", "a card")).predictions[0].label)
        print([task.task async for task in client.tasks()])

asyncio.run(main())
"""


def test_constraints_name_every_requirement_with_a_version_that_it_allows() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    versions = {canonicalize_name(name): version for name, version in pinned.items()}
    listed = [
        *PROJECT["dependencies"],
        *(line for extra in PROJECT["optional-dependencies"].values() for line in extra),
    ]
    for requirement in map(Requirement, listed):
        if requirement.name != PROJECT["name"]:
            assert versions[canonicalize_name(requirement.name)] in requirement.specifier, requirement.name


def test_the_server_part_requires_nothing_of_what_minilm_alone_needs() -> None:
    extras = PROJECT["optional-dependencies"]
    server, minilm = (with_requirements([Requirement(line) for line in extras[name]]) for name in ("server", "minilm"))
    assert {"sentence-transformers", "scikit-learn", "scipy"} <= minilm - server


def test_the_server_part_requires_nothing_of_what_other_encoders_and_plots_need() -> None:
    extras = PROJECT["optional-dependencies"]
    server = with_requirements([Requirement(line) for line in (*PROJECT["dependencies"], *extras["server"])])
    assert server.isdisjoint({"transformers", "matplotlib", "pillow", "fonttools", "scipy", "scikit-learn", "pandas"})
    assert {"transformers"} <= with_requirements([Requirement(line) for line in extras["encoders"]])
    assert {"matplotlib"} <= with_requirements([Requirement(line) for line in extras["train"]])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: a build leaves files in its folder, and takes up what an older one has left."""
    source, made = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(made), str(source)]
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *build], timeout=LIMIT_S, check=True)
    (found,) = made.iterdir()
    return found


@pytest.mark.slow
def test_the_wheel_has_every_file_of_the_packages(wheel: Path) -> None:
    files = {path for name in PACKAGES for path in (ROOT / name).rglob("*") if path.is_file()}
    with zipfile.ZipFile(wheel) as opened:
        held = {name for name in opened.namelist() if ".dist-info/" not in name}
    assert held == {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}


@pytest.mark.slow
def test_the_wheel_works_without_the_server_part(wheel: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], timeout=LIMIT_S, check=True)
    python, handful = environment / "bin" / "python", environment / "bin" / "handful"
    install = ["--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *install], timeout=LIMIT_S, check=True)
    # The requirements are those that the tests run with; the hook hides what is not required
    (site,) = environment.glob("lib/python*/site-packages")
    others = [folder for folder in sys.path if folder.endswith("-packages")]
    (site / "requirements.pth").write_text("\n".join(others))
    (site / "sitecustomize.py").write_text(blocker())

    def run(*words: str | Path, status: int = 0) -> str:
        done = subprocess.run(
            words, cwd=tmp_path, env={"COLUMNS": "200"}, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert run(handful, "--version") == f"handful {PROJECT['version']}\n"
    assert run(python, "-c", "import handful; print(handful.__file__)").startswith(str(site))
    assert "pip install 'handful[server]'" in run(handful, "serve", status=1)
    (tmp_path / "support.csv").write_text("text,label\na card,card\nthe card,card\na fee,fee\nthe fee,fee\n")
    with socket_server(tiny_checkpoint, f"sqlite:{tmp_path / 'handful.db'}") as server:
        run(handful, "adapt", "bank", "--support", "support.csv", "--url", server.url)
        assert '"task":"bank"' in run(handful, "tasks", "list", "--url", server.url)
        answers = run(python, "-c", CLIENTS, server.url).splitlines()
    assert answers[1::2] == ["task_not_found", "['bank']"]
    assert answers[0] == answers[2]
