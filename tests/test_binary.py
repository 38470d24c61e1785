"""What the compiler made of the kernels, read from the built library: no GPU is needed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import convmin
import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = convmin.library_dir() / "libconvmin_kernels.so"

pytestmark = pytest.mark.skipif(convmin.build_info()["cuda_version"] is None, reason="built without CUDA")


def find_tool(name: str) -> str | None:
    """From CUDA_HOME, PATH, the usual place, or the copy that Triton brings."""
    places = [Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin" / name]
    try:
        import triton

        places.append(Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name)
    except ImportError:
        pass
    return shutil.which(name) or next((str(path) for path in places if path.exists()), None)


@pytest.fixture(scope="module")
def resource_usage() -> str:
    tool = find_tool("cuobjdump")
    if tool is None:
        pytest.skip("no cuobjdump: neither a CUDA Toolkit that has it nor Triton")
    finished = subprocess.run([tool, "-res-usage", str(LIBRARY)], capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def kernels(report: str) -> Iterator[tuple[str, str, dict[str, int]]]:
    """(architecture, function, resource -> number) of every kernel in a report."""
    architecture = function = ""
    for line in report.splitlines():
        if match := re.match(r"arch = (\S+)", line):
            architecture = match[1]
        elif match := re.match(r"\s*Function (\S+):", line):
            function = match[1]
        elif "REG:" in line:
            numbers = {name: int(number) for name, number in re.findall(r"(\w+)(?:\[\d+\])?:(\d+)", line)}
            yield architecture, function, numbers


# Bytes of local memory a thread. None where kernels were tuned; elsewhere what docs/sm80.md tells of the whole list.
ALLOWED = {"sm_86": 8, "sm_89": 8, "sm_100": 40, "sm_120": 40}


def spilling(report: str) -> list[str]:
    """Kernels that keep more in local memory than is known, by spilling or by an array indexed at run time."""
    found = []
    for architecture, function, numbers in kernels(report):
        if numbers["STACK"] > ALLOWED.get(architecture, 0) or numbers["LOCAL"]:
            found.append(f"{function} for {architecture}: stack {numbers['STACK']}, local {numbers['LOCAL']} bytes")
    return found


def test_no_kernel_spills(resource_usage: str) -> None:
    """Local memory costs a fast kernel its speed without a word."""
    names = [function for _, function, _ in kernels(resource_usage)]
    assert any("convmin" in name for name in names), "the report holds no kernel of ours"
    assert spilling(resource_usage) == []


def test_wgmma_does_not_wait() -> None:
    """Where ptxas isn't sure that all threads come to a wgmma together, it has each wait for the one before: the right
    numbers, slower by half, and said in its report alone.
    """
    reports = list((ROOT / "build" / "kernels").rglob("*.ptxas.txt"))
    if not reports:
        pytest.skip("the kernels were built elsewhere")
    waiting = [line for report in reports for line in report.read_text().splitlines() if "serialized" in line]
    assert waiting == []


def test_a_spill_is_found() -> None:
    report = "arch = sm_90a\n Function _Z1kv:\n  REG:255 STACK:16 SHARED:0 LOCAL:0 CONSTANT[0]:616 TEXTURE:0\n"
    assert spilling(report) == ["_Z1kv for sm_90a: stack 16, local 0 bytes"]
    assert spilling(report.replace("STACK:16", "STACK:0")) == []
    assert spilling(report.replace("sm_90a", "sm_120")) == []
    assert (
        len(spilling(report.replace("sm_90a", "sm_89"))) == len(spilling(report.replace("STACK:16", "STACK:48"))) == 1
    )


def test_every_architecture_is_there(resource_usage: str) -> None:
    """build_info() tells what the library holds."""
    present = {architecture for architecture, _, _ in kernels(resource_usage)}
    for name in convmin.build_info()["cuda_archs"]:
        assert f"sm_{name.removesuffix('+PTX').replace('.', '')}" in present


def instructions(wanted: str, least: float) -> dict[str, list[str]]:
    """Each function's instructions that match, in order, for the oldest architecture built that is no older."""
    tool = find_tool("cuobjdump")
    versions = {name: float(name.removesuffix("+PTX").rstrip("af")) for name in convmin.build_info()["cuda_archs"]}
    archs = [name for name, version in versions.items() if version >= least]
    if tool is None or not archs:
        pytest.skip(f"no cuobjdump, or nothing built for {least} or newer")
    architecture = f"sm_{min(archs, key=versions.__getitem__).removesuffix('+PTX').replace('.', '')}"
    finished = subprocess.run(
        [tool, "-sass", "-arch", architecture, str(LIBRARY)], capture_output=True, text=True, timeout=300
    )
    assert finished.returncode == 0, finished.stderr
    found: dict[str, list[str]] = {}
    for match in re.finditer(rf"Function : (\S+)|({wanted})", finished.stdout):
        if match[1]:
            ours = found.setdefault(match[1], [])
        else:
            ours.append(match[2])
    return found


def test_mma_sync_kernels_multiply_on_tensor_cores() -> None:
    """HMMA in each of them, as often as its tile has fragments in half a step, for the oldest architecture built."""
    multiplying = instructions(r"HMMA\.", 8.0)
    for kernel, count, least in (
        ("conv_scale_min_sm80I", 54, 16),  # 3 element types x 4 gathers x 4 tiles, and 6 for float32 as float16
        ("conv_scale_min_sm80_specializedI", 18, 64),  # 3 types of operands x 3 gathers x channels shared or not
        ("conv_scale_min_sm80_windowI", 9, 8),  # 3 element types x 3 widths
    ):
        ours = {name: found for name, found in multiplying.items() if kernel in name}
        assert len(ours) == count
        for name, found in ours.items():
            assert len(found) >= least, name


def test_wgmma_is_not_waited_for_one_by_one() -> None:
    """Where the compiler loses track of the registers that wgmma writes it waits after each, and says so in passing.
    Where it ends a group of them before the commit it commits an empty one, which says so nowhere, and a wait for all
    groups but the last is one for all.
    """
    if not any(name.startswith("9.0a") for name in convmin.build_info()["cuda_archs"]):
        pytest.skip("nothing built for 9.0a")
    found = instructions(r"HGMMA\.\S+ \w+|WARPGROUP\.DEPBAR", 9.0)
    multiplying = {name: ours for name, ours in found.items() if any(one.startswith("HGMMA") for one in ours)}
    assert len(multiplying) >= 32, "of the patches alone, 4 types of operands x 2 widths x 2 heights x with an index"
    for name, ours in multiplying.items():
        assert 3 * ours.count("WARPGROUP.DEPBAR") < len(ours), name
        if "sm90_patch" in name:  # the strips' longer chains have one after a loop
            assert not any(one.endswith(" RZ") for one in ours), name


def test_it_builds_without_tensor_cores() -> None:
    """For GPUs before Ampere alone: what chooses among the kernels has no more of them than the portable ones."""
    nvcc = find_tool("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc")
    root = Path(__file__).parent.parent
    flags = ["-std=c++17", "-Ikernels", "-Xcompiler", "-Wall,-Wextra,-Werror", "-Werror", "all-warnings"]
    flags += ["-DCONVMIN_WITHOUT_SM80", "-DCONVMIN_WITHOUT_SM90", "-gencode=arch=compute_75,code=sm_75"]
    finished = subprocess.run(
        [nvcc, *flags, "-c", "kernels/launch.cu", "-o", os.devnull],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr


def test_static_shared_memory_is_portable(resource_usage: str) -> None:
    """48 KB is what a kernel may declare; more has to be asked for at launch."""
    for _, function, numbers in kernels(resource_usage):
        assert numbers["SHARED"] <= 48 << 10, function


def test_the_kernel_library_needs_neither_torch_nor_python() -> None:
    """So that it is built once and reused over their versions."""
    finished = subprocess.run(["ldd", str(LIBRARY)], capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stderr
    assert not re.search(r"torch|c10|python", finished.stdout)
