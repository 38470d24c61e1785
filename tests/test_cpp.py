"""C++ users: a program that links the operator library and no Python gets the operator's results."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import convmin
import pytest
import torch
from cpp_program import COMPILER, SOURCES, compile_program
from support import run_python


def run(command: list[str]) -> str:
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="module", params=["compiler", "cmake"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built against libtorch and libconvmin alone: by one command, and by find_package(convmin)."""
    folder = tmp_path_factory.mktemp("cpp")
    if request.param == "compiler":
        return compile_program("load_op.cpp", folder)
    if COMPILER is None:
        pytest.skip("no C++ compiler")
    if shutil.which("cmake") is None:
        pytest.skip("no cmake")
    run(["cmake", "-S", str(SOURCES), "-B", str(folder), f"-DCMAKE_PREFIX_PATH={prefix_path()}"])
    run(["cmake", "--build", str(folder)])
    return folder / "load_op"


def prefix_path() -> str:
    finished = run_python("-m", "convmin", "cmake")
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


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


PACKAGE = """
import sys, zipfile, convmin, torch
class Plain(torch.nn.Conv2d):
    def forward(self, x):
        return (super().forward(x) * 2.0).amin(1, keepdim=True)
layer = {layer}.eval()
if isinstance(layer, Plain):
    convmin.enable_inductor_fusion()
x = torch.rand(2, 3, 16, 16)
with torch.no_grad():
    for parameter in layer.parameters():
        parameter.copy_(torch.arange(parameter.numel()).remainder(7).sub(3).view_as(parameter))
    program = torch.export.export(layer, (x,), dynamic_shapes=({{0: torch.export.Dim("batch", min=1, max=64)}},))
    package = torch._inductor.aoti_compile_and_package(program, package_path=sys.argv[1])
    run = torch._inductor.aoti_load_package(package)
    for n in (2, 5):
        x = torch.rand(n, 3, 16, 16)
        torch.testing.assert_close(run(x), layer(x))
with zipfile.ZipFile(sys.argv[1]) as files:
    text = b"".join(files.read(name) for name in files.namelist() if name.endswith((".cpp", ".json")))
assert b"conv2d_scale_min" in text and b"convolution(" not in text
"""


def test_ahead_of_time_inductor(tmp_path: Path) -> None:
    """A package for serving, the batch left open, run from Python and by a program without Python: the operator is
    called by its schema. On the CPU, as the generated code's call is the same on CUDA, where building it takes a CUDA
    Toolkit. In a process of its own, since a package whose compiler and C++ library don't match those of torch crashes:
    no fault of ours where nn.Conv2d's does so too."""
    path = tmp_path / "layer.pt2"

    def package(layer: str) -> subprocess.CompletedProcess[str]:
        return run_python("-c", PACKAGE.format(layer=layer), str(path))

    ours = package("convmin.ConvScaleMin2d(3, 8, 3, 2.0, padding=1)")
    if ours.returncode < 0 and package("torch.nn.Conv2d(3, 8, 3, padding=1)").returncode < 0:
        pytest.skip("packages crash here, nn.Conv2d's too")
    assert ours.returncode == 0, ours.stderr
    unedited = run_python("-c", PACKAGE.format(layer="Plain(3, 8, 3, padding=1)"), str(tmp_path / "plain.pt2"))
    assert unedited.returncode == 0, unedited.stderr

    server = compile_program("run_package.cpp", tmp_path)
    finished = subprocess.run([str(server), str(path), "3"], capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    x = torch.arange(3 * 3 * 16 * 16).remainder(11).sub(5).float().view(3, 3, 16, 16)
    weight = torch.arange(8 * 27).remainder(7).sub(3).float().view(8, 3, 3, 3)
    bias = torch.arange(8).remainder(7).sub(3).float()
    expected = convmin.reference.conv2d_scale_min(x, weight, bias, 2.0, padding=1)  # whole numbers, so exact
    assert [float(number) for number in finished.stdout.split()] == expected.flatten().tolist()
    linked = subprocess.run(["ldd", str(server)], capture_output=True, text=True, timeout=60).stdout
    assert "libtorch_cpu" in linked and "libpython" not in linked


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")
def test_slices_of_a_call(tmp_path: Path) -> None:
    """Images 2 at a time: input by its stride, values and indices by their pixels; an error ends it."""
    program = tmp_path / "slices"
    run(
        [
            str(COMPILER),
            "-std=c++17",
            f"-I{SOURCES.parents[1] / 'kernels'}",
            str(SOURCES / "slices.cpp"),
            "-o",
            str(program),
        ]
    )
    expected = []
    for size in (4, 2):  # of an element; an index of 300 channels has 2 bytes
        slices = [(2, i * 2 * 1000 * size, i * 70 * size, i * 70 * 2) for i in range(3)]
        expected.append([number for each in slices for number in each] + [0])
        expected.append([number for each in slices[:2] for number in (*each[:3], -1)] + [7])
    assert [[int(word) for word in line.split()] for line in run([str(program)]).splitlines()] == expected


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
