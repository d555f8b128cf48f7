"""The imports of an installation without the server part, enforced where more is installed."""

import importlib.metadata
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

_BLOCKER = """
import sys

class _Blocker:
    blocked = frozenset({blocked!r})

    def find_spec(self, name, path=None, target=None):
        package = name.partition(".")[0]
        if package in self.blocked:
            raise ModuleNotFoundError(f"No module named {{package!r}}", name=package)

sys.meta_path.insert(0, _Blocker())
"""


def blocker() -> str:
    """The source of an import hook that hides every installed package but the light requirements and theirs."""
    light = with_requirements([Requirement(line) for line in PROJECT["dependencies"]]) | {PROJECT["name"]}
    blocked = {
        module
        for module, distributions in importlib.metadata.packages_distributions().items()
        if light.isdisjoint(map(canonicalize_name, distributions))
    }
    assert {"fastapi", "numpy", "pydantic_settings", "redis", "torch", "uvicorn"} <= blocked
    return _BLOCKER.format(blocked=sorted(blocked))


def with_requirements(requirements: list[Requirement]) -> set[str]:
    """Names of distributions and of all that they require."""
    found = set[str]()
    while requirements:
        requirement = requirements.pop()
        name = canonicalize_name(requirement.name)
        if name in found:
            continue
        found.add(name)
        further = map(Requirement, importlib.metadata.requires(name) or ())
        requirements += [each for each in further if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found
