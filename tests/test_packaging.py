"""The wheel works where there is neither compiler nor source tree, and the sdist holds what a build needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import convmin
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
# The kind and the targets that are built already, which takes no time.
KIND = "cpu" if convmin.build_info()["cuda_version"] is None else "cuda"
TARGETS = {"TORCH_CUDA_ARCH_LIST": " ".join(convmin.build_info()["cuda_archs"])} if KIND == "cuda" else {}


def run(*command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    finished = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=900, cwd=cwd, env=env
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dist = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build_tools.wheel", "--dist", dist, KIND, env={**os.environ, **TARGETS})
    (path,) = dist.iterdir()
    return path


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel; torch is seen through a .pth file, as nothing shall be downloaded."""
    # Not importorskip("pip"): setuptools' hook on that import would change this process's distutils.
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode != 0:
        pytest.skip("no pip")
    folder = tmp_path_factory.mktemp("clean") / "env"
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    (site,) = folder.glob("lib/python*/site-packages")
    pip = ["-m", "pip", "--disable-pip-version-check", "--python", python]
    # PYTHONPATH would show pip the source tree's own metadata: "already satisfied".
    elsewhere = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run(sys.executable, *pip, "install", "--no-deps", "--no-index", wheel, cwd=folder, env=elsewhere)
    (site / "torch.pth").write_text(f"{Path(torch.__file__).parents[1]}\n")
    return python


def isolated(python: Path, *arguments: str | Path, cwd: Path) -> str:
    """Nothing of this process's environment; no compiler on PATH."""
    env = {"PATH": str(python.parent), "HOME": str(cwd)}
    assert all(shutil.which(name, path=env["PATH"]) is None for name in ("g++", "c++", "clang++", "nvcc"))
    return run(python, "-I", *arguments, cwd=cwd, env=env)


def test_its_name_says_what_it_fits(wheel: Path) -> None:
    torch_series = ".".join(torch.__version__.split(".")[:2])
    assert f"torch{torch_series}-cp{sys.version_info.major}{sys.version_info.minor}-" in wheel.name
    assert wheel.name.split("+")[1].startswith("cpu." if KIND == "cpu" else "cu1")


def test_it_holds_everything_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "python" / "convmin"
    sources = {
        f"convmin/{path.relative_to(package)}" for path in package.rglob("*.py*") if "__pycache__" not in str(path)
    }
    libraries = {"convmin/libconvmin.so", "convmin/libconvmin_kernels.so"}
    others = {"convmin/py.typed", "convmin/include/convmin/ops.h", "convmin/include/convmin/conv_scale_min.h"}
    cmake = {f"convmin/share/cmake/convmin/convmin{name}.cmake" for name in ("Config", "ConfigVersion")}
    assert {name for name in names if ".dist-info/" not in name and "/_C." not in name} | {"convmin/_C.pyi"} == (
        sources | libraries | others | cmake
    )


def test_it_works_without_compiler_and_source_tree(clean: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests" / "smoke.py", tmp_path)
    output = isolated(clean, tmp_path / "smoke.py", cwd=tmp_path)
    assert f"in {clean.parents[1]}" in output and "right on cpu" in output
    assert "kernel" in isolated(clean, "-m", "convmin", "info", cwd=tmp_path)


def test_its_benchmark_runs(clean: Path, tmp_path: Path) -> None:
    words = ["--shapes", "tiny-1x1", "--device", "cpu", "--layout", "nchw", "--peers", "eager", "convmin"]
    isolated(clean, "-m", "convmin", "bench", *words, "--seconds", "0.1", "--out", tmp_path / "out", cwd=tmp_path)
    assert (tmp_path / "out" / "benchmark.md").is_file()


def test_the_sdist_holds_every_source(tmp_path: Path) -> None:
    """Every file that git tracks, but for git's own and the CI's."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    tracked = set(run("git", "ls-files").splitlines())
    tracked = {name for name in tracked if (ROOT / name).is_file() and not name.startswith((".ci/", ".git"))}
    run(sys.executable, "-m", "build_tools.wheel", "--dist", tmp_path, "sdist")
    (path,) = tmp_path.iterdir()
    with tarfile.open(path) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert tracked - held == set()
    assert not [name for name in held if name.endswith((".so", ".pyc")) or name.startswith("build/")]


def test_unknown_kinds_are_named() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "build_tools.wheel", "egg"], capture_output=True, text=True, cwd=ROOT, env=os.environ
    )
    assert finished.returncode == 2 and "expected some of cuda, cpu, sdist, got egg" in finished.stderr
