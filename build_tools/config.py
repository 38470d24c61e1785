"""What to build, with which compilers, for which torch: the environment read once, into plain data."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from .cuda import (
    DEFAULT_ARCHS,
    Arch,
    BuildError,
    Toolkit,
    archs_for_gpus,
    find_nvcc,
    inspect,
    nvcc_requirement,
    parse_arch_list,
)

OLDEST_TORCH = (2, 10)
OLDEST_PYTHON = (3, 10)
FIRST_TORCH_WITH_CPP20 = (2, 12)  # its headers demand C++20; those of 2.10 and 2.11 are written for C++17

INSTALL_COMMAND = "pip install --no-build-isolation ."
ROOT = Path(__file__).resolve().parent.parent
KERNEL_LIBRARY = "libconvmin_kernels.so"
KERNEL_HEADER = "kernels/conv_scale_min.h"


@dataclass(frozen=True)
class Torch:
    """The torch that the glue is compiled against."""

    version: str
    cuda: str | None
    include_dirs: tuple[Path, ...]
    library_dir: Path
    capabilities: tuple[tuple[int, int], ...]  # of the GPUs present

    @property
    def release(self) -> tuple[int, int]:
        major, minor = self.version.split(".")[:2]
        return int(major), int(minor)

    @property
    def cpp_standard(self) -> str:
        return "c++20" if self.release >= FIRST_TORCH_WITH_CPP20 else "c++17"


@dataclass(frozen=True)
class Config:
    """One build.

    Attributes:
        toolkit: compiles kernels, and its headers serve the glue; None in a CPU-only build.
        archs: the targets of the kernels; empty in a CPU-only build.
        kernels_cuda: CUDA version of the compiler that makes, or made, the kernels; None in a CPU-only build.
        prebuilt: folder of a kernel library that is there already; None where it is compiled here.
    """

    version: str
    torch: Torch
    cxx: tuple[str, ...]
    jobs: int
    toolkit: Toolkit | None
    archs: tuple[Arch, ...]
    kernels_cuda: str | None
    prebuilt: Path | None

    @property
    def kernels_tag(self) -> str:
        """Names the folder of the kernel library: nothing of torch or Python is in it."""
        if self.toolkit is None:
            return "cpu"
        return "-".join([f"cu{self.toolkit.version_text}", *(arch.tag for arch in self.archs)])

    @property
    def glue_tag(self) -> str:
        tags = [f"torch{self.torch.version}", f"cp{sys.version_info.major}{sys.version_info.minor}"]
        return "-".join(tags + ([] if self.toolkit else ["cpuonly"]))

    @property
    def archs_text(self) -> str:
        return ";".join(str(arch) for arch in self.archs)

    def describe(self) -> str:
        target = f"CUDA {self.kernels_cuda} for {self.archs_text}" if self.toolkit else "CPU only"
        return f"{self.version}, {target}, torch {self.torch.version}, {shlex.join(self.cxx)}, {self.jobs} jobs"


def kernel_interface() -> str:
    """What must agree between a kernel library and those who call it."""
    return hashlib.sha256((ROOT / KERNEL_HEADER).read_bytes()).hexdigest()[:16]


def say(message: str) -> None:
    print(f"convmin: {message}", file=sys.stderr, flush=True)


def find_torch() -> Torch:
    """The installed torch. Raises where there is none, or one too old."""
    if sys.version_info < OLDEST_PYTHON:
        raise BuildError(f"Python 3.10 or newer is needed, this is {sys.version.split()[0]} ({sys.executable})")
    try:
        import torch
    except ImportError as error:
        raise BuildError(
            "it is compiled against the PyTorch that it will run with, and this build sees none "
            f"({error}). Install torch, then build without isolation:\n\n"
            f"    pip install torch ninja pybind11 setuptools\n    {INSTALL_COMMAND}\n"
        ) from error
    package = Path(torch.__file__).parent
    found = Torch(
        version=str(torch.__version__),
        cuda=torch.version.cuda,
        include_dirs=(package / "include", package / "include/torch/csrc/api/include"),
        library_dir=package / "lib",
        capabilities=tuple(torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())),
    )
    if found.release < OLDEST_TORCH:
        raise BuildError(f"torch 2.10 or newer is needed, this is {found.version}. Upgrade: pip install -U torch")
    return found


def find_cxx() -> tuple[str, ...]:
    """$CXX, which may hold a launcher and options ("ccache g++"), else g++ or whatever C++ compiler is there."""
    named = tuple(shlex.split(os.environ.get("CXX", "")))
    for command in [named] if named else [("g++",), ("c++",), ("clang++",)]:
        if shutil.which(command[0]):
            return command
    raise BuildError(
        f"CXX={os.environ['CXX']}: no such compiler"
        if named
        else "no C++ compiler found (g++, c++, clang++). On Debian and Ubuntu: apt install g++. Or set CXX"
    )


def _jobs() -> int:
    text = os.environ.get("MAX_JOBS") or str(os.cpu_count() or 1)
    if not text.isdecimal() or int(text) < 1:
        raise BuildError(f"MAX_JOBS must be a positive number, got {text!r}")
    return int(text)


def _prebuilt_kernels() -> Path | None:
    named = os.environ.get("CONVMIN_KERNELS_DIR")
    if not named:
        return None
    folder = Path(named).resolve()
    for name in (KERNEL_LIBRARY, "build.json"):
        if not (folder / name).is_file():
            raise BuildError(f"CONVMIN_KERNELS_DIR={named}: there is no {name}")
    return folder


def _find_toolkit(torch: Torch, wanted: str | None) -> Toolkit | str:
    """The CUDA compiler, or the reason why this is a CPU-only build."""
    if wanted == "0":
        return "FORCE_CUDA=0"
    if torch.cuda is None:
        return f"torch {torch.version} is not a CUDA build"
    nvcc = find_nvcc()
    if nvcc is None:
        remedy = f"install the CUDA Toolkit {torch.cuda}"
        if requirement := nvcc_requirement(torch.cuda):
            remedy += f", or: pip install '{requirement}'"
        return f"no nvcc in CUDA_HOME, on PATH or among the environment's packages ({remedy})"
    return inspect(nvcc)


def _targets(torch: Torch) -> tuple[Arch, ...]:
    named = os.environ.get("TORCH_CUDA_ARCH_LIST", "").strip()
    return parse_arch_list(named) if named else archs_for_gpus(torch.capabilities) or parse_arch_list(DEFAULT_ARCHS)


def detect(version: str) -> Config:
    """Reads the environment and raises BuildError for what can't be built."""
    torch = find_torch()
    wanted = os.environ.get("FORCE_CUDA") or None
    if wanted not in (None, "0", "1"):
        raise BuildError(f"FORCE_CUDA must be 0 or 1, got {wanted!r}")
    toolkit = _find_toolkit(torch, wanted)
    archs: tuple[Arch, ...] = ()
    prebuilt = _prebuilt_kernels()
    if prebuilt is not None:
        recorded = json.loads((prebuilt / "build.json").read_text())
        if recorded.get("interface") != kernel_interface():
            raise BuildError(f"the kernels in {prebuilt} were built from another {KERNEL_HEADER}: build them again")
        archs = tuple(parse_arch_list(arch)[0] for arch in recorded["archs"])
        kernels_cuda = recorded["cuda"]
        if not archs:
            toolkit = f"the kernels in {prebuilt} are CPU-only"
    elif isinstance(toolkit, Toolkit):
        archs = _targets(torch)
        kernels_cuda = toolkit.version_text
        toolkit.check(archs)
        if torch.cuda is not None and toolkit.version[0] > int(torch.cuda.split(".")[0]):
            say(f"nvcc is of CUDA {toolkit.version_text}, torch of {torch.cuda}: the driver must know the newer one")
    if isinstance(toolkit, str):
        if wanted == "1":
            raise BuildError(f"FORCE_CUDA=1, but CUDA can't be built: {toolkit}")
        say(f"CPU-only build: {toolkit}")
        return Config(version, torch, find_cxx(), _jobs(), None, (), None, prebuilt)
    return Config(version, torch, find_cxx(), _jobs(), toolkit, archs, kernels_cuda, prebuilt)
