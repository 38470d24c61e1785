"""Dependencies point one way: ptx <- common <- {architectures} <- launch <- csrc <- python <- tests, benchmarks."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEADER = "conv_scale_min.h"  # the kernels' one public header
ARCHITECTURES = ("simt", "direct", "depthwise", "sm80", "sm90", "backward")
ROOMS = {"ptx": ["ptx"], "common": ["ptx", "common"], **{a: ["ptx", "common", a] for a in ARCHITECTURES}}
FOREIGN = re.compile(r"(torch|ATen|c10|caffe2|pybind11)/|Python\.h")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
INLINE_ASSEMBLY = re.compile(r"\basm\b\s*(volatile)?\s*\(")
SOURCES = {".h", ".cuh", ".cu", ".cpp", ".inl"}


def sources(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in SOURCES)


def includes(path: Path) -> list[str]:
    return [name for _, name in INCLUDE.findall(path.read_text())]


def room(path: str) -> str:
    return path.split("/")[0] if "/" in path else ""


def kernel_violations(root: Path) -> list[str]:
    """Torch or Python in the kernels, and kernels that look upwards or sideways."""
    found = []
    for path in sources(root / "kernels"):
        where = path.relative_to(root / "kernels").as_posix()
        allowed = ROOMS.get(room(where))
        for name in includes(path):
            if FOREIGN.search(name):
                found.append(f"{where} includes {name}: no torch or Python here")
            inside = (root / "kernels" / name).exists()
            if inside and allowed is not None and name != HEADER and room(name) not in allowed:
                found.append(f"{where} includes {name}: {room(where)} may use {allowed}")
        if room(where) != "ptx" and INLINE_ASSEMBLY.search(path.read_text()):
            found.append(f"{where}: inline assembly outside ptx")
    return found


def csrc_violations(root: Path) -> list[str]:
    """The glue sees the kernels through their header, and the back ends do not see each other."""
    found = []
    for path in sources(root / "csrc"):
        where = path.relative_to(root / "csrc").as_posix()
        for name in includes(path):
            if (root / "kernels" / name).exists() and not (root / "csrc" / name).exists() and name != HEADER:
                found.append(f"{where} includes {name}: only {HEADER} of the kernels")
            if {room(where), room(name)} == {"cpu", "cuda"}:
                found.append(f"{where} includes {name}: cpu and cuda are apart")
            if room(where) != "python" and ("pybind11" in name or "Python.h" in name):
                found.append(f"{where} includes {name}: the operator library needs no Python")
        if INLINE_ASSEMBLY.search(path.read_text()):
            found.append(f"{where}: inline assembly outside kernels/ptx")
    return found


def python_violations(root: Path) -> list[str]:
    """At run time the package needs torch alone."""
    found = []
    for path in sorted((root / "python").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in names:
                top = name.split(".")[0]
                if top not in ("torch", "convmin") and top not in sys.stdlib_module_names:
                    found.append(f"{path.relative_to(root).as_posix()} imports {name}")
    return found


def test_kernels() -> None:
    assert sources(ROOT / "kernels"), "nothing was looked at"
    assert kernel_violations(ROOT) == []


def test_csrc() -> None:
    assert sources(ROOT / "csrc")
    assert csrc_violations(ROOT) == []


def test_python() -> None:
    assert python_violations(ROOT) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("kernels/common/a.cuh", "#include <torch/library.h>"),
        ("kernels/simt/a.cu", "#include <ATen/core/Tensor.h>"),
        ("kernels/simt/a.cu", "#include <Python.h>"),
        ("kernels/ptx/a.cuh", '#include "common/check.h"'),
        ("kernels/common/a.cuh", '#include "simt/plan.h"'),
        ("kernels/sm90/a.cuh", '#include "simt/plan.h"'),
        ("kernels/simt/a.cuh", '  asm volatile("nop;");'),
        ("csrc/cuda/a.cpp", '#include "simt/plan.h"'),
        ("csrc/cpu/a.cpp", '#include "cuda/b.h"'),
        ("csrc/checks.cpp", "#include <pybind11/pybind11.h>"),
        ("python/convmin/a.py", "import numpy as np"),
        ("python/convmin/a.py", "def f():\n    from benchmarks.shapes import headline"),
    ],
)
def test_each_violation_is_found(path: str, text: str, tmp_path: Path) -> None:
    for existing in ("kernels/simt/plan.h", "kernels/common/check.h", "csrc/cuda/b.h", path):
        (tmp_path / existing).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / existing).touch()
    (tmp_path / path).write_text(text + "\n")
    assert kernel_violations(tmp_path) or csrc_violations(tmp_path) or python_violations(tmp_path)
