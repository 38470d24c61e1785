"""Compiles the C++ programs of tests/cpp: against libtorch and libconvmin alone, by the system's compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import convmin
import pytest
import torch

SOURCES = Path(__file__).parent / "cpp"
COMPILER = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


def compile_program(source: str, folder: Path) -> Path:
    """The executable, in the folder."""
    if COMPILER is None:
        pytest.skip("no C++ compiler")
    path = SOURCES / source
    package = Path(torch.__file__).parent
    library, include = package / "lib", package / "include"
    executable = folder / path.stem
    command = [COMPILER, "-std=c++20", "-O0", str(path), "-o", str(executable)]
    command += [f"-I{convmin.include_dir()}", f"-I{include}", f"-I{include / 'torch/csrc/api/include'}"]
    command += [f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"]
    # As CMake's TORCH_LIBRARIES: all of libtorch by name, so that the loader needs no path of libconvmin's to find it.
    # The program names no symbol of most of these; what it needs is that they register operators.
    names = ["torch", "torch_cpu", "c10", "torch_cuda", "c10_cuda"]
    present = [name for name in names if (library / f"lib{name}.so").exists()]
    command += [f"-L{library}", f"-L{convmin.library_dir()}", "-Wl,--no-as-needed", "-lconvmin"]
    command += [*(f"-l{name}" for name in present), f"-Wl,-rpath,{convmin.library_dir()}", f"-Wl,-rpath,{library}"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    return executable
