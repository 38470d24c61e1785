"""CUDA targets and the CUDA compiler. Needs neither torch nor a GPU, so that tests can import it anywhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

DEFAULT_ARCHS = "8.0 9.0a"

# Binary code for 9.0 runs on 9.0 alone, so the variant with wgmma and setmaxnreg loses nothing, and the Hopper kernels
# need it. (10.0 is another matter: its binary code runs on 10.3 too, that of 10.0a does not.)
_ALWAYS_ACCELERATED = {(9, 0)}


class BuildError(Exception):
    """A build that can't go on; the message says what to do."""


@dataclass(frozen=True, order=True)
class Arch:
    """One compilation target, such as 9.0a.

    Attributes:
        major, minor: compute capability.
        suffix: '', 'a' (features of this chip alone) or 'f' (of its family).
        ptx: also embed PTX, which newer GPUs compile when they load it.
    """

    major: int
    minor: int
    suffix: str = ""
    ptx: bool = False

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}{self.suffix}{'+PTX' if self.ptx else ''}"

    @property
    def tag(self) -> str:
        """A name fit for a folder: sm90a, sm90a_ptx."""
        return f"sm{self.major}{self.minor}{self.suffix}{'_ptx' if self.ptx else ''}"

    def nvcc_flags(self) -> list[str]:
        number = f"{self.major}{self.minor}"
        flags = [f"-gencode=arch=compute_{number}{self.suffix},code=sm_{number}{self.suffix}"]
        if self.ptx:  # PTX of an 'a' target runs nowhere else, so PTX is always that of the plain one
            flags.append(f"-gencode=arch=compute_{number},code=compute_{number}")
        return flags


def parse_arch_list(text: str) -> tuple[Arch, ...]:
    """Reads TORCH_CUDA_ARCH_LIST, as PyTorch writes it.

    >>> [str(arch) for arch in parse_arch_list("8.0;9.0a+PTX")]
    ['8.0', '9.0a+PTX']
    >>> [str(arch) for arch in parse_arch_list("9.0, 8.0 8.0")]
    ['8.0', '9.0a']
    """
    archs: dict[tuple[int, int, str], Arch] = {}
    for item in re.split(r"[\s;,]+", text.strip()):
        match = re.fullmatch(r"(\d+)\.(\d)([af]?)(\+PTX)?", item)
        if match is None:
            raise BuildError(
                f"TORCH_CUDA_ARCH_LIST: {item!r} is not a compute capability. "
                f"Write numbers such as 8.0, 9.0a or 9.0+PTX, separated by spaces or semicolons; got {text!r}"
            )
        major, minor, suffix, ptx = int(match[1]), int(match[2]), match[3], match[4] is not None
        if (major, minor) < (7, 0):
            raise BuildError(f"TORCH_CUDA_ARCH_LIST: convmin needs compute capability 7.0 or newer, got {item}")
        if (major, minor) in _ALWAYS_ACCELERATED:
            suffix = suffix or "a"
        key = major, minor, suffix
        archs[key] = Arch(major, minor, suffix, ptx or (key in archs and archs[key].ptx))
    return tuple(sorted(archs.values()))


def archs_for_gpus(capabilities: Iterable[tuple[int, int]]) -> tuple[Arch, ...]:
    """The targets for these GPUs: from Hopper on, each chip's own instructions ('a').

    >>> [str(arch) for arch in archs_for_gpus([(9, 0), (8, 6), (9, 0)])]
    ['8.6', '9.0a']
    """
    return tuple(Arch(major, minor, "a" if major >= 9 else "") for major, minor in sorted(set(capabilities)))


@dataclass(frozen=True)
class Toolkit:
    """An nvcc and what belongs to it."""

    nvcc: Path
    version: tuple[int, int]
    include_dirs: tuple[Path, ...]
    library_dirs: tuple[Path, ...]

    @property
    def version_text(self) -> str:
        return f"{self.version[0]}.{self.version[1]}"

    def check(self, archs: Iterable[Arch]) -> None:
        """Raises where this nvcc is too old, or too new, for one of the targets."""
        output = _output(self.nvcc, "--list-gpu-arch")
        known = sorted({int(number) for number in re.findall(r"compute_(\d+)", output)})
        for arch in archs:
            if arch.major * 10 + arch.minor not in known:
                listed = ", ".join(f"{number // 10}.{number % 10}" for number in known)
                raise BuildError(
                    f"nvcc {self.version_text} ({self.nvcc}) can't compile for compute capability {arch}: it knows "
                    f"{listed}. Use another CUDA Toolkit (CUDA_HOME), or other targets (TORCH_CUDA_ARCH_LIST)"
                )


def _output(*command: str | Path) -> str:
    """What the command prints, stdout and stderr together."""
    done = subprocess.run(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.stdout


def find_nvcc() -> Path | None:
    """nvcc from CUDA_HOME, PATH, PyPI's packages, or the customary folder, in this order."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    if home:
        nvcc = Path(home, "bin", "nvcc")
        if not nvcc.is_file():
            raise BuildError(f"CUDA_HOME is {home}, but there is no {nvcc}. Correct or unset it")
        return nvcc
    on_path = shutil.which("nvcc")
    if on_path:
        return Path(on_path)
    sites = [Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")]
    candidates = [path for site in sites for path in sorted(site.glob("nvidia/cu*/bin/nvcc"), reverse=True)]
    candidates.append(Path("/usr/local/cuda/bin/nvcc"))
    return next((path for path in candidates if path.is_file()), None)


def nvcc_requirement(cuda: str) -> str | None:
    """What pip must install to have the nvcc of this CUDA version; None where PyPI has none.

    cuda-toolkit pins the parts to one another. nvidia-cuda-nvcc alone draws the newest of each, whose PTX its ptxas
    then refuses. The packages for CUDA 12 hold ptxas without nvcc.

    >>> nvcc_requirement("13.0")
    'cuda-toolkit[nvcc,cccl]==13.0.*'
    >>> nvcc_requirement("12.8")
    """
    return f"cuda-toolkit[nvcc,cccl]=={cuda}.*" if int(cuda.split(".")[0]) >= 13 else None


def inspect(nvcc: Path) -> Toolkit:
    """Asks nvcc for its version and folders. (The folder that nvcc lies in won't do: it may be a wrapper script.)"""
    version = re.search(r"release (\d+)\.(\d+)", _output(nvcc, "--version"))
    plan = _output(nvcc, "--dryrun", "-x", "cu", os.devnull)
    top = re.search(r"^#\$ TOP=(.+)$", plan, re.MULTILINE)
    if version is None or top is None:
        raise BuildError(f"{nvcc} does not behave as nvcc: it prints {plan[:500]!r}")
    root = Path(top[1].strip())
    named = re.search(r'^#\$ INCLUDES="-I([^"]+)"', plan, re.MULTILINE)
    return Toolkit(
        nvcc=nvcc,
        version=(int(version[1]), int(version[2])),
        include_dirs=_existing([Path(named[1])] if named else [], [root / "include"]),
        library_dirs=_existing([root / "lib64", root / "lib"]),
    )


def _existing(*groups: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(path.resolve() for paths in groups for path in paths if path.is_dir()))
