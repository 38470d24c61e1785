"""The examples run, those of the README too, links lead somewhere, and the KernelBench runner rejects what it must."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
from support import run_python

ROOT = Path(__file__).resolve().parents[1]
PROBLEM = ROOT / "examples" / "kernelbench_32.py"
SMALL = ["--set", "batch_size=2", "height=16", "width=16", "--seconds", "0.1"]


@pytest.fixture(scope="module")
def kernelbench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kernelbench", ROOT / "examples" / "kernelbench.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_problem_32(kernelbench: ModuleType, device: str, capsys: pytest.CaptureFixture[str]) -> None:
    """ModelNew passes all trials, in float32 within 1e-4, and both models are timed."""
    assert kernelbench.main([str(PROBLEM), "--device", device, *SMALL]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert len(lines) == (1 if device == "cpu" else 4)
    assert lines[0].startswith("float32") and "1e-04" in lines[0]
    for line in lines:
        assert "5 of 5" in line and line.count(" ms") == 2


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("return self.conv(x)", "return self.conv(x) + 4e-4 * x[:, :1, 1:-1, 1:-1].sign()", "0 of 5"),
        ("return self.conv(x)", "return self.conv(x)[..., :1]", "0 of 5"),
    ],
    ids=["inexact", "shape"],
)
def test_a_wrong_answer_is_rejected(
    old: str, new: str, words: str, kernelbench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = PROBLEM.read_text()
    head, tail = text.split("class ModelNew")
    assert old in tail
    wrong = tmp_path / "wrong.py"
    wrong.write_text(f"{head}class ModelNew{tail.replace(old, new)}")
    assert kernelbench.main([str(wrong), "--device", "cpu", *SMALL]) == 1
    assert words in capsys.readouterr().out


def test_a_file_of_another_form_is_named(kernelbench: ModuleType, tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text("Model = None\n")
    with pytest.raises(SystemExit, match="ModelNew, get_inputs, get_init_inputs"):
        kernelbench.main([str(other)])
    shutil.copy(PROBLEM, other)
    with pytest.raises(SystemExit, match="no constant depth"):
        kernelbench.main([str(other), "--set", "depth=3"])


def test_readme_example() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    finished = run_python("-c", block)
    assert finished.returncode == 0 and "kernel" in finished.stdout, finished.stderr


def test_links() -> None:
    """Relative ones, in every page, pictures included."""
    pages = [path for path in ROOT.rglob("*.md") if ROOT / "build" not in path.parents and ".venv" not in path.parts]
    assert len(pages) > 5
    for page in pages:
        for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if not re.match(r"[a-z]+:", link):
                assert (page.parent / link).exists(), f"{page.relative_to(ROOT)}: {link}"


def test_commands() -> None:
    """python -m convmin, each of its commands, and what it says of a wrong one."""
    for arguments, words in ((["info"], "kernels"), (["bench", "--help"], "--compare"), (["cmake"], "torch")):
        finished = run_python("-m", "convmin", *arguments)
        assert finished.returncode == 0 and words in finished.stdout, finished.stderr
    finished = run_python("-m", "convmin", "info", "--shapes", "x")
    assert finished.returncode == 2 and "--shapes" in finished.stderr
    finished = run_python("-m", "convmin", "bench", "--shapes", "headlin")
    assert finished.returncode == 2 and "families: all, headline" in finished.stderr


def test_the_ladder_compiles(tmp_path: Path) -> None:
    """Every step, for the oldest GPU that has its instructions."""
    if shutil.which("nvcc") is None:
        pytest.skip("no nvcc")
    arguments = ["--build-only", "--arch", "8.0", "--folder", str(tmp_path)]
    finished = run_python(str(ROOT / "benchmarks/ladder/run.py"), *arguments)
    assert finished.returncode == 0, finished.stderr
    assert len(list(tmp_path.glob("*.so"))) == 4


def test_the_rate_of_mma_compiles(tmp_path: Path) -> None:
    """As its first lines say, for the oldest GPU that has its instructions. It includes the kernels' own header."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc")
    command = [nvcc, "-O3", "-std=c++17", "-arch=sm_80", "-Ikernels", "benchmarks/mma_rate.cu", "-o", tmp_path / "rate"]
    subprocess.run(command, cwd=ROOT, check=True)


@pytest.mark.cuda
def test_the_ladder_is_right(tmp_path: Path) -> None:
    """The runner itself checks each step against float64, and stops at one that is wrong."""
    if shutil.which("nvcc") is None:
        pytest.skip("no nvcc")
    out = tmp_path / "ladder.md"
    arguments = ["--images", "2", "--size", "77", "--seconds", "0.2", "--folder", str(tmp_path), "--out", str(out)]
    finished = run_python(str(ROOT / "benchmarks/ladder/run.py"), *arguments)
    assert finished.returncode == 0, finished.stderr
    assert all(step in out.read_text() for step in ("naive", "shared", "registers", "tensor_cores", "simt"))
