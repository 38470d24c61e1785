"""Builds the libraries with ninja (build_tools/graph.py) and puts them into the package; setuptools does the rest."""

from __future__ import annotations

import sys
from pathlib import Path

import setuptools
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))  # a PEP 517 build doesn't

from build_tools.config import detect, find_torch  # noqa: E402
from build_tools.cuda import BuildError  # noqa: E402


class BuildLibraries(build_ext):
    """build_ext with ninja in the place of distutils' compiler."""

    installed: list[str]

    def run(self) -> None:
        try:
            from build_tools.graph import build

            outputs = build(detect(self.distribution.get_version()))
        except ModuleNotFoundError as error:
            raise SystemExit(f"convmin: {error}. First: pip install ninja pybind11") from error
        except BuildError as error:
            raise SystemExit(f"\nconvmin: {error}") from error
        in_place = self.inplace or self.editable_mode
        package = ROOT / "python" / "convmin" if in_place else Path(self.build_lib, "convmin")
        self.installed = [str(path) for path in outputs.install(package)]

    def get_outputs(self) -> list[str]:
        return getattr(self, "installed", [])

    def get_output_mapping(self) -> dict[str, str]:
        return {}


if int(setuptools.__version__.split(".")[0]) < 77:  # it would stumble over the license in pyproject.toml
    raise SystemExit(f"convmin: setuptools {setuptools.__version__} is too old. First: pip install -U setuptools")

# pip downloads what a package needs at run time (torch: gigabytes) between preparing its metadata and building it, so
# a build that can't work has to say so at the metadata.
if {"dist_info", "bdist_wheel", "editable_wheel"} & set(sys.argv):
    try:
        find_torch()
    except BuildError as error:
        raise SystemExit(f"\nconvmin: {error}") from error

setup(
    ext_modules=[Extension("convmin._C", sources=[])],  # by name only: makes the wheel one for this platform and Python
    cmdclass={"build_ext": BuildLibraries},
)
