"""What a build makes of its environment: compilers, targets and torch found or named as missing, before any work."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
from build_tools import config, cuda

NVCC = Path("/somewhere/nvcc")
VARIABLES = ("CXX", "CUDA_HOME", "CUDA_PATH", "FORCE_CUDA", "TORCH_CUDA_ARCH_LIST", "MAX_JOBS", "CONVMIN_KERNELS_DIR")


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch for CUDA 13.0, nvcc 13.0 on PATH, no GPU, nothing in the environment."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    torch = config.Torch("2.14.1", "13.0", (), Path("/somewhere"), ())
    monkeypatch.setattr(config, "find_torch", lambda: torch)
    monkeypatch.setattr(config, "find_nvcc", lambda: NVCC)
    monkeypatch.setattr(config, "inspect", lambda nvcc: cuda.Toolkit(nvcc, (13, 0), (), ()))
    monkeypatch.setattr(
        cuda, "_output", lambda *_: "compute_75 compute_80 compute_86 compute_90 compute_100 compute_120"
    )


def fails(text: str) -> None:
    with pytest.raises(cuda.BuildError) as error:
        config.detect("0.1.0")
    assert text in str(error.value)


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA where torch and a compiler have it; for the GPUs that are there, else for 8.0 and 9.0a."""
    assert config.detect("0.1.0").archs_text == "8.0;9.0a"
    torch = config.Torch("2.14.1", "13.0", (), Path("/somewhere"), ((8, 6), (9, 0), (8, 6)))
    monkeypatch.setattr(config, "find_torch", lambda: torch)
    assert config.detect("0.1.0").archs_text == "8.6;9.0a"


def test_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """pip's isolated environment has none: the command that works is told."""
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(cuda.BuildError) as error:
        config.find_torch()
    assert "pip install --no-build-isolation ." in str(error.value)


@pytest.mark.parametrize(
    ("compiler", "torch_cuda", "reason"),
    [
        (None, "13.0", "no nvcc in CUDA_HOME"),
        (None, "12.8", "install the CUDA Toolkit 12.8"),
        (NVCC, None, "not a CUDA build"),
    ],
)
def test_without_cuda(
    compiler: Path | None,
    torch_cuda: str | None,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A build for the CPU alone says so and why; where CUDA is demanded it is an error."""
    monkeypatch.setattr(config, "find_nvcc", lambda: compiler)
    torch = config.Torch("2.14.1", torch_cuda, (), Path("/somewhere"), ())
    monkeypatch.setattr(config, "find_torch", lambda: torch)
    built = config.detect("0.1.0")
    assert built.toolkit is None and built.archs == () and "CPU only" in built.describe()
    assert "CPU-only build" in (told := capsys.readouterr().err) and reason in told
    monkeypatch.setenv("FORCE_CUDA", "1")
    fails("FORCE_CUDA=1, but CUDA can't be built: ")
    fails(reason)


def test_cuda_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_CUDA", "0")
    assert config.detect("0.1.0").toolkit is None
    monkeypatch.setenv("FORCE_CUDA", "yes")
    fails("FORCE_CUDA must be 0 or 1, got 'yes'")


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("TORCH_CUDA_ARCH_LIST", "8.0;nine", "'nine' is not a compute capability"),
        ("TORCH_CUDA_ARCH_LIST", "6.1", "needs compute capability 7.0 or newer, got 6.1"),
        ("TORCH_CUDA_ARCH_LIST", "7.0", "nvcc 13.0 (/somewhere/nvcc) can't compile for compute capability 7.0"),
        ("MAX_JOBS", "many", "MAX_JOBS must be a positive number, got 'many'"),
        ("MAX_JOBS", "0", "MAX_JOBS must be a positive number"),
        ("CXX", "no-such-compiler -m64", "CXX=no-such-compiler -m64: no such compiler"),
        ("CONVMIN_KERNELS_DIR", "/nowhere", "there is no libconvmin_kernels.so"),
    ],
)
def test_wrong_variables(variable: str, value: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is named, with what it may be."""
    monkeypatch.setenv(variable, value)
    fails(text)


def test_cuda_home_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(config, "find_nvcc", cuda.find_nvcc)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    fails(f"CUDA_HOME is {tmp_path}, but there is no {tmp_path}/bin/nvcc")


def test_variables_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in (("TORCH_CUDA_ARCH_LIST", "12.0+PTX 8.0"), ("MAX_JOBS", "3"), ("CXX", "env g++")):
        monkeypatch.setenv(variable, value)
    built = config.detect("0.1.0")
    assert (built.archs_text, built.jobs, built.cxx) == ("8.0;12.0+PTX", 3, ("env", "g++"))


def test_kernels_that_are_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Reused where they were built from the same interface."""
    (tmp_path / "libconvmin_kernels.so").touch()
    recorded = {"interface": config.kernel_interface(), "archs": ["8.0", "9.0a"], "cuda": "13.0"}
    (tmp_path / "build.json").write_text(json.dumps(recorded))
    monkeypatch.setenv("CONVMIN_KERNELS_DIR", str(tmp_path))
    assert config.detect("0.1.0").prebuilt == tmp_path
    (tmp_path / "build.json").write_text(json.dumps(recorded | {"interface": "another"}))
    fails("were built from another kernels/conv_scale_min.h: build them again")
