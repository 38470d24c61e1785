"""Prints what pip shall install, read from pyproject.toml.

python -m build_tools.requirements [EXTRA...]   to build and run, with these extras
python -m build_tools.requirements --nvcc       the CUDA compiler, where there is a GPU and no compiler yet
"""

from __future__ import annotations

import sys
from pathlib import Path

from .cuda import find_nvcc, nvcc_requirement

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def requirements(extras: list[str]) -> list[str]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:  # Python 3.10 has no reader of its own, but pip does
        from pip._vendor import tomli as tomllib
    table = tomllib.loads(PYPROJECT.read_text())
    project = table["project"]
    found = {*table["build-system"]["requires"], *project["dependencies"]}
    for extra in extras:
        found.update(project["optional-dependencies"][extra])
    return sorted(found)


def missing_nvcc() -> list[str]:
    import torch

    if torch.version.cuda is None or not torch.cuda.is_available() or find_nvcc() is not None:
        return []
    requirement = nvcc_requirement(torch.version.cuda)
    return [requirement] if requirement else []


if __name__ == "__main__":
    for line in missing_nvcc() if sys.argv[1:] == ["--nvcc"] else requirements(sys.argv[1:]):
        print(line)
