"""Wheels and the sdist: make wheel.

python -m build_tools.wheel [--dist DIR] [cuda] [cpu] [sdist]

A wheel fits one Python and one minor release of torch, so its version says which, and whether CUDA is in:
convmin-0.1.0+cu130.torch2.14-cp311-cp311-linux_x86_64.whl. Without names: what this machine can build.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .config import ROOT, detect, find_torch
from .cuda import BuildError, Toolkit

KINDS = ("cuda", "cpu", "sdist")


def label(kind: str) -> str:
    """The local part of the version."""
    torch = find_torch()
    with_cuda = f"cu{(torch.cuda or '').replace('.', '')}" if kind == "cuda" else "cpu"
    return "{}.torch{}.{}".format(with_cuda, *torch.release)


def build(kind: str, dist: Path) -> Path:
    """One of them; returns the file."""
    if kind == "sdist":
        # It would add what an older one listed.
        (ROOT / "python" / "convmin.egg-info" / "SOURCES.txt").unlink(missing_ok=True)
        _setup("sdist", "--dist-dir", str(dist))
    else:
        os.environ["FORCE_CUDA"] = "1" if kind == "cuda" else "0"
        version = ["egg_info", f"--tag-build=+{label(kind)}"]
        # A folder of its own: what an older build left behind (a module that has gone since) would go into the wheel,
        # and another may be building at the same time.
        with tempfile.TemporaryDirectory(prefix="convmin-wheel-") as base:
            places = ["--bdist-dir", f"{base}/bdist", "--dist-dir", str(dist)]
            _setup(*version, "build", "--build-base", base, "bdist_wheel", *places)
    pattern = "convmin-*.tar.gz" if kind == "sdist" else f"convmin-*+{label(kind)}-*.whl"
    return max(dist.glob(pattern), key=lambda path: path.stat().st_mtime)


def _setup(*arguments: str) -> None:
    command = [sys.executable, "-W", "ignore", "setup.py", "-q", *arguments]
    if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
        raise SystemExit(f"convmin: {' '.join(command[3:])} failed")


def possible() -> list[str]:
    """All kinds, but cuda only where this machine compiles it."""
    try:
        with_cuda = isinstance(detect("").toolkit, Toolkit)
    except BuildError as error:
        raise SystemExit(f"convmin: {error}") from error
    return [kind for kind in KINDS if kind != "cuda" or with_cuda]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="cuda, cpu, sdist")
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="folder for them (default: dist)")
    options = parser.parse_args()
    unknown = [kind for kind in options.kinds if kind not in KINDS]
    if unknown:
        parser.error(f"expected some of {', '.join(KINDS)}, got {', '.join(unknown)}")
    for kind in options.kinds or possible():
        start = time.perf_counter()
        path = build(kind, options.dist.resolve())
        print(f"{path}  {path.stat().st_size / 2**20:.1f} MiB, {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
