"""PyTorch's own sequence of operators, torch.compile and convmin side by side.

    python -m benchmarks.bench --shapes headline_small kernelbench_old --dtype float32 float16 --out results

Contenders take turns in a shuffled order, so that a warm or a busy machine favours none. Each is checked against
float64 before it is timed; one that is wrong is reported and not timed. On CUDA the L2 cache is overwritten before each
call, and the GPU's own clock measures; "back to back" is wall time a call over a row of calls with warm caches,
launches included.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import random
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import convmin
import torch
from torch import Tensor

from benchmarks.shapes import Shape, cpu_friendly, select

Call = Callable[[], Tensor]
LAYOUTS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}
SCALE = 2.0
L2_FLUSH_BYTES = 256 << 20  # several times the largest L2 cache
ROW = 10  # calls in a back-to-back measurement


def environment(device: torch.device) -> dict[str, Any]:
    """What a reader needs to judge the figures, or to get them again."""

    def git(*arguments: str) -> str:
        finished = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, cwd=Path(__file__).parent, check=False
        )
        return finished.stdout.strip()

    cuda = device.type == "cuda"
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else ""),
        "convmin": convmin.build_info(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,
        "device": torch.cuda.get_device_name(device) if cuda else processor(),
        "threads": None if cuda else torch.get_num_threads(),
        "python": platform.python_version(),
    }


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def tensors(shape: Shape, dtype: torch.dtype, layout: str, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Input, weight and bias, as nn.Conv2d would initialize the latter two."""
    generator = torch.Generator(device).manual_seed(0)
    bound = (shape.c // shape.groups * shape.r * shape.s) ** -0.5

    def uniform(*size: int, low: float, high: float) -> Tensor:
        return torch.empty(size, device=device).uniform_(low, high, generator=generator).to(dtype)

    x = uniform(shape.n, shape.c, shape.h, shape.w, low=0.0, high=1.0)
    weight = uniform(shape.k, shape.c // shape.groups, shape.r, shape.s, low=-bound, high=bound)
    memory_format = LAYOUTS[layout]
    bias = uniform(shape.k, low=-bound, high=bound)
    return x.contiguous(memory_format=memory_format), weight.contiguous(memory_format=memory_format), bias


def contenders(names: list[str], shape: Shape) -> dict[str, Callable[..., Tensor]]:
    """Functions of (input, weight, bias)."""
    rest = (SCALE, shape.stride, shape.padding, 1, shape.groups)

    def eager(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return convmin.reference.conv2d_scale_min(x, weight, bias, *rest)

    def fused(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return convmin.conv2d_scale_min(x, weight, bias, *rest)

    known: dict[str, Callable[[], Callable[..., Tensor]]] = {
        "eager": lambda: eager,
        "compile": lambda: torch.compile(eager, dynamic=False),
        "max-autotune": lambda: torch.compile(eager, dynamic=False, mode="max-autotune-no-cudagraphs"),
        "convmin": lambda: fused,
    }
    torch._dynamo.reset()
    return {name: known[name]() for name in names}


def max_error(function: Callable[..., Tensor], arguments: tuple[Tensor, Tensor, Tensor], exact: Tensor) -> float:
    """Of the first image's result, against float64."""
    return float((function(*arguments)[:1].double() - exact).abs().max())


def once(call: Call, flush: Tensor | None) -> float:
    """Milliseconds of one call, caches cold on CUDA."""
    if flush is None:
        start = time.perf_counter()
        call()
        return (time.perf_counter() - start) * 1e3
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    flush.zero_()  # its time also hides the host's part of what follows
    begin.record()
    call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


def back_to_back(call: Call, cuda: bool) -> float:
    """Milliseconds a call in a row of calls."""
    start = time.perf_counter()
    for _ in range(ROW):
        call()
    if cuda:
        torch.cuda.synchronize()
    return (time.perf_counter() - start) * 1e3 / ROW


def summary(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)

    def at(share: float) -> float:
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]

    return {
        "median": statistics.median(ordered),
        "min": ordered[0],
        "p10": at(0.1),
        "p90": at(0.9),
        "rounds": len(ordered),
    }


def measure(
    shape: Shape, dtype: torch.dtype, layout: str, device: torch.device, options: argparse.Namespace
) -> dict[str, Any]:
    """All contenders on one shape."""
    arguments = tensors(shape, dtype, layout, device)
    functions = contenders(options.contenders, shape)
    first = (arguments[0][:1], *arguments[1:])
    rest = (SCALE, shape.stride, shape.padding, 1, shape.groups)
    exact = convmin.reference.conv2d_scale_min(*(t.double() for t in first), *rest)
    result: dict[str, Any] = {
        "shape": shape.name,
        "sizes": str(shape),
        "gflop": shape.flop / 1e9,
        "mbytes": shape.bytes_moved(dtype.itemsize) / 1e6,
        "dtype": str(dtype).removeprefix("torch."),
        "layout": layout,
        "kernel": convmin.explain(*arguments, *rest).kernel,
        "contenders": {},
    }
    errors = {name: max_error(function, arguments, exact) for name, function in functions.items()}
    # Four times eager's error, and the rounding of the output: this looks for wrong results; the tests hold the bound.
    limit = 4 * max_error(convmin.reference.conv2d_scale_min, (*first, *rest), exact)  # type: ignore[arg-type]
    limit += torch.finfo(dtype).eps * float(exact.abs().max())
    calls: dict[str, Call] = {}
    for name, function in functions.items():
        result["contenders"][name] = {"max_error": errors[name], "wrong": not errors[name] <= limit}
        if errors[name] <= limit:
            calls[name] = lambda function=function: function(*arguments)  # type: ignore[misc]

    cuda = device.type == "cuda"
    flush = torch.empty(L2_FLUSH_BYTES, dtype=torch.uint8, device=device) if cuda else None
    rng = random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in calls}
    rows: dict[str, list[float]] = {name: [] for name in calls}
    start = time.perf_counter()
    done = 0
    while done < 3 or (done < options.rounds and time.perf_counter() - start < options.seconds):
        for name in rng.sample(list(calls), len(calls)):
            times[name].append(once(calls[name], flush))
            if done < 3 and (cuda or times[name][-1] * ROW < 1e3 * options.seconds):
                rows[name].append(back_to_back(calls[name], cuda))
        done += 1
    for name in calls:
        entry = result["contenders"][name]
        entry["ms"] = summary(times[name])
        entry["tflops"] = shape.flop / entry["ms"]["median"] / 1e9
        entry["back_to_back_ms"] = min(rows[name]) if rows[name] else None
    return result


def markdown(report: dict[str, Any]) -> str:
    """Tables for people; speed-up is of medians, against eager."""
    lines = ["# convmin benchmark", ""]
    lines += [f"- {name}: {value}" for name, value in report["environment"].items() if value is not None]
    lines += [f"- float32 class: {report['precision']}", "", "Milliseconds: median (10th to 90th percentile).", ""]
    names = report["contenders"]
    columns = ["shape", "dtype", "layout", *names, "speed-up", "TFLOP/s", "max error"]
    lines += ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for result in report["results"]:
        entries = result["contenders"]
        cells = [f"{result['shape']} ({result['sizes']})", result["dtype"], result["layout"]]
        for name in names:
            ms = entries[name].get("ms")
            cells.append(f"{ms['median']:.3f} ({ms['p10']:.3f} to {ms['p90']:.3f})" if ms else "wrong result")
        mine, eager = entries.get("convmin", {}), entries.get("eager", {})
        both = "ms" in mine and "ms" in eager
        cells.append(f"{eager['ms']['median'] / mine['ms']['median']:.2f}" if both else "")
        cells.append(f"{mine['tflops']:.2f}" if "ms" in mine else "")
        cells.append(" / ".join(f"{entries[name]['max_error']:.1e}" for name in names))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=["headline", "kernelbench_old"], help="families or names")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", nargs="+", default=["float32"])
    parser.add_argument("--layout", nargs="+", default=["nchw"], choices=LAYOUTS)
    parser.add_argument("--precision", default="tf32", choices=("tf32", "ieee"), help="class of float32 on CUDA")
    parser.add_argument(
        "--contenders",
        nargs="+",
        default=["eager", "convmin"],
        choices=("eager", "compile", "max-autotune", "convmin"),
    )
    parser.add_argument("--rounds", type=int, default=50, help="at most, for each shape")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each shape, about")
    parser.add_argument("--max-gflop", type=float, help="leave larger shapes out; 25 on the CPU unless said otherwise")
    parser.add_argument("--out", type=Path, help="folder for benchmark.json and benchmark.md")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Runs what the arguments say, prints the tables, and returns the report."""
    options = parse(argv)
    device = torch.device(options.device)
    torch.backends.cudnn.allow_tf32 = options.precision == "tf32"
    torch.backends.cudnn.benchmark = True  # eager at its best
    limit = options.max_gflop or (25.0 if device.type == "cpu" else float("inf"))
    shapes = cpu_friendly(select(options.shapes), limit)
    report: dict[str, Any] = {
        "environment": environment(device),
        "precision": options.precision if device.type == "cuda" else "ieee",
        "contenders": options.contenders,
        "results": [],
    }
    with torch.inference_mode():
        for shape in shapes:
            for dtype in options.dtype:
                for layout in options.layout:
                    report["results"].append(measure(shape, getattr(torch, dtype), layout, device, options))
    text = markdown(report)
    print(text)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "benchmark.json").write_text(json.dumps(report, indent=2) + "\n")
        (options.out / "benchmark.md").write_text(text)
    return report


if __name__ == "__main__":
    main()
