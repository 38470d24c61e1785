"""What a reader needs to judge the figures, or to get them again: versions, clocks, and the machine's own limits."""

from __future__ import annotations

import datetime
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from convmin.bench import optional
from convmin.bench.cases import DTYPES
from convmin.bench.timing import flusher, once
from convmin.introspection import build_info

_CLOCKS = ("clocks.sm", "clocks.mem", "power.draw", "temperature.gpu")


def _output(*command: str, cwd: Path | None = None) -> str:
    try:
        finished = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return finished.stdout.strip() if finished.returncode == 0 else ""


def commit() -> str:
    """Of the checkout that this package lies in, "+changes" where it has some; "" for an installed package."""
    folder = Path(__file__).parent
    if _output("git", "ls-files", "--error-unmatch", Path(__file__).name, cwd=folder) == "":
        return ""  # a repository that merely contains the environment
    return _output("git", "rev-parse", "HEAD", cwd=folder) + (
        "+changes" if _output("git", "status", "--porcelain", "--untracked-files=no", cwd=folder) else ""
    )


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, names and settings; None where something does not apply."""
    cuda = device.type == "cuda"
    triton, cudnn = optional.module("triton"), optional.module("cudnn") if cuda else None
    limits = "driver_version,clocks.max.sm,power.limit"
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": commit() or None,
        "convmin": build_info()["version"],
        "kernels": ", ".join(build_info()["kernels"]) or None,
        "torch": torch.__version__,
        "cuda": torch.version.cuda if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,
        "cudnn-frontend": getattr(cudnn, "__version__", None),
        "triton": getattr(triton, "__version__", None),
        "device": torch.cuda.get_device_name(device) if cuda else processor(),
        "driver, highest SM clock, power limit": nvidia_smi(limits, device) if cuda else None,
        "threads": None if cuda else torch.get_num_threads(),
        "python": platform.python_version(),
        "system": f"{platform.system()}-{platform.machine()}",
    }


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _smi_command(fields: str, device: torch.device) -> list[str]:
    uuid = torch.cuda.get_device_properties(device).uuid  # type: ignore[attr-defined]
    return ["nvidia-smi", f"--id=GPU-{uuid}", f"--query-gpu={fields}", "--format=csv,noheader"]


def nvidia_smi(fields: str, device: torch.device) -> str | None:
    return _output(*_smi_command(fields, device)) or None


def under_load(
    calls: Iterable[Callable[[], object]], device: torch.device, seconds: float = 0.3
) -> dict[str, str] | None:
    """Warms up: the calls in turn, for so long or twice each. On CUDA with clocks and power as they were meanwhile."""
    process = None
    if device.type == "cuda":
        try:
            process = subprocess.Popen(
                _smi_command(",".join(_CLOCKS), device), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        except OSError:
            process = None
    start = time.perf_counter()
    turns = 0
    calls = list(calls)
    while turns < 2 or time.perf_counter() - start < seconds or (process is not None and process.poll() is None):
        for call in calls:
            call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        turns += 1
        if time.perf_counter() - start > 2 + seconds:  # nvidia-smi hangs, or the calls are long
            break
    if process is None:
        return None
    try:
        text, _ = process.communicate(timeout=1)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None
    values = [value.strip() for value in text.split(",")]
    return dict(zip(_CLOCKS, values, strict=False)) if len(values) == len(_CLOCKS) else None


def ceilings(dtypes: Iterable[str], device: torch.device) -> dict[str, float]:
    """TFLOP/s of torch.matmul by dtype, and the bytes per nanosecond (read and written) of a copy.

    What the library multiplies in another type is held to that one: float32 of TF32's class goes through float16.
    """
    cuda = device.type == "cuda"
    size, bytes_copied = (8192, 1 << 30) if cuda else (1024, 1 << 26)
    flush = flusher(device)
    wanted = dict.fromkeys(dtypes)
    if cuda and "tf32" in wanted:
        wanted["float16"] = None
    rates: dict[str, float] = {}
    backend = torch.backends.cuda.matmul
    before = backend.allow_tf32
    for dtype in wanted:
        backend.allow_tf32 = dtype == "tf32"
        a, b = (torch.randn(size, size, device=device).to(DTYPES[dtype]) for _ in range(2))
        rates[dtype] = 2 * size**3 / _median(lambda a=a, b=b: a @ b, flush) / 1e9  # type: ignore[misc]
    backend.allow_tf32 = before
    source = torch.empty(bytes_copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    rates["copy"] = 2 * bytes_copied / _median(lambda: target.copy_(source), flush) / 1e6
    return rates


def _median(call: Callable[[], object], flush: torch.Tensor | None) -> float:
    for _ in range(2):
        call()
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < 3 or (len(times) < 15 and time.perf_counter() - start < 0.5):
        times.append(once(call, flush))
    return statistics.median(times)


def limit_ms(flop: int, bytes_moved: int, dtype: str, rates: dict[str, float]) -> float | None:
    """The least time that this machine's best matrix product and copy leave: whichever of the two takes longer."""
    if "copy" not in rates or dtype not in rates:
        return None
    rate = max(rates[dtype], rates.get("float16", 0.0)) if dtype == "tf32" else rates[dtype]
    return max(flop / rate / 1e9, bytes_moved / rates["copy"] / 1e6)
