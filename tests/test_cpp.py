"""C++ users: a program that links the operator library and no Python gets the operator's results."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import convmin
import pytest
import torch
from support import run_python

SOURCE = Path(__file__).parent / "cpp" / "load_op.cpp"
COMPILER = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


def run(command: list[str]) -> str:
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="module", params=["compiler", "cmake"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built against libtorch and libconvmin alone: by one command, and by find_package(convmin)."""
    if COMPILER is None:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.mktemp("cpp")
    if request.param == "compiler":
        compile_and_link(folder / "load_op")
        return folder / "load_op"
    if shutil.which("cmake") is None:
        pytest.skip("no cmake")
    run(["cmake", "-S", str(SOURCE.parent), "-B", str(folder), f"-DCMAKE_PREFIX_PATH={prefix_path()}"])
    run(["cmake", "--build", str(folder)])
    return folder / "load_op"


def prefix_path() -> str:
    finished = run_python("-m", "convmin", "cmake")
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


def compile_and_link(executable: Path) -> None:
    package = Path(torch.__file__).parent
    library, include = package / "lib", package / "include"
    command = [str(COMPILER), "-std=c++20", "-O0", str(SOURCE), "-o", str(executable)]
    command += [f"-I{convmin.include_dir()}", f"-I{include}", f"-I{include / 'torch/csrc/api/include'}"]
    command += [f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"]
    # As CMake's TORCH_LIBRARIES: all of libtorch by name, so that the loader needs no path of libconvmin's to find it.
    # The program names no symbol of most of these; what it needs is that they register operators.
    names = ["torch", "torch_cpu", "c10", "torch_cuda", "c10_cuda"]
    present = [name for name in names if (library / f"lib{name}.so").exists()]
    command += [f"-L{library}", f"-L{convmin.library_dir()}", "-Wl,--no-as-needed", "-lconvmin"]
    command += [*(f"-l{name}" for name in present), f"-Wl,-rpath,{convmin.library_dir()}", f"-Wl,-rpath,{library}"]
    run(command)


def test_it_gives_the_operators_results(program: Path) -> None:
    """The schema, the defaults and the order of the header's arguments."""
    finished = subprocess.run([str(program)], capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    lines = {line.split()[0]: line.split()[1:] for line in finished.stdout.splitlines()}

    def numbers(shape: tuple[int, ...], modulus: int, shift: int) -> torch.Tensor:
        return (torch.arange(torch.Size(shape).numel()) % modulus - shift).float().view(shape)

    x, weight, bias = numbers((2, 4, 7, 8), 11, 5), numbers((6, 4, 3, 3), 7, 3), numbers((6,), 5, 2)
    reference = convmin.reference.conv2d_scale_min_with_indices(x, weight, None, 2.0)
    expected = {
        "header": convmin.reference.conv2d_scale_min(x, weight, bias, -0.5, (2, 1), (1, 0)),
        "values": reference[0],
        "indices": reference[1],
        "boxed": convmin.reference.conv2d_scale_min(x, weight, bias, 2.0),
    }
    for name, tensor in expected.items():
        assert [float(number) for number in lines[name]] == tensor.double().flatten().tolist(), name
    assert lines["error"] == ["caught"]


def test_no_python_is_linked(program: Path) -> None:
    """Neither by the program nor by the operator library."""
    for binary in (program, convmin.library_dir() / "libconvmin.so"):
        finished = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, timeout=60)
        assert finished.returncode == 0, finished.stderr
        assert "libtorch_cpu" in finished.stdout
        assert "libpython" not in finished.stdout and "libtorch_python" not in finished.stdout


CONSUMER = """
cmake_minimum_required(VERSION 3.18)
project(consumer CXX)
find_package(convmin {version})
message(STATUS "found ${{convmin_FOUND}}: ${{convmin_NOT_FOUND_MESSAGE}}")
"""


@pytest.mark.skipif(shutil.which("cmake") is None, reason="no cmake")
@pytest.mark.parametrize(
    ("version", "torch_version", "words"),
    [
        ("", None, "found 1"),
        ("0.2", None, "found 0"),
        ("", "1.0.0", "was built for torch"),
        ("", "", "no torch in"),
    ],
    ids=["right", "version", "torch", "no torch"],
)
def test_find_package(version: str, torch_version: str | None, words: str, tmp_path: Path) -> None:
    """A version too new, or another torch, is refused with the reason, and so is a folder that holds none."""
    (tmp_path / "CMakeLists.txt").write_text(CONSUMER.format(version=version))
    command = ["cmake", "-S", str(tmp_path), "-B", str(tmp_path / "b"), f"-DCMAKE_PREFIX_PATH={convmin.library_dir()}"]
    if torch_version is not None:
        root = tmp_path / "torch"
        (root / "include/ATen").mkdir(parents=True)
        command.append(f"-Dconvmin_TORCH_ROOT={root}")
    if torch_version:
        (root / "include/ATen/ATen.h").touch()
        (root / "version.py").write_text(f"__version__ = '{torch_version}'\n")
    assert words in run(command)
