"""Forward and backward of PyTorch's own operators, torch.compile and convmin side by side.

    python -m benchmarks.training --shapes headline resnet --dtype float32 bfloat16 --layout nchw channels_last

A step is the forward and the gradients of input, weight and bias. As in benchmarks.bench, contenders take turns in a
shuffled order, with cold L2 on CUDA. Gradients are checked before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import convmin
import torch
from torch import Tensor

from benchmarks.shapes import Shape, cpu_friendly, select

Call = Callable[[], tuple[Tensor, ...]]
LAYOUTS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}
CONTENDERS = ("eager", "compile", "convmin")
SCALE = 2.0
L2_FLUSH_BYTES = 256 << 20  # several times the largest L2 cache


def leaves(shape: Shape, dtype: torch.dtype, layout: str, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Input, weight and bias that want gradients, as nn.Conv2d would initialize the latter two."""
    generator = torch.Generator(device).manual_seed(0)
    bound = (shape.c // shape.groups * shape.r * shape.s) ** -0.5

    def uniform(*size: int, low: float, high: float) -> Tensor:
        return torch.empty(size, device=device).uniform_(low, high, generator=generator).to(dtype)

    memory_format = LAYOUTS[layout]
    x = uniform(shape.n, shape.c, shape.h, shape.w, low=0.0, high=1.0).contiguous(memory_format=memory_format)
    weight = uniform(shape.k, shape.c // shape.groups, shape.r, shape.s, low=-bound, high=bound)
    weight = weight.contiguous(memory_format=memory_format)
    return x.requires_grad_(), weight.requires_grad_(), uniform(shape.k, low=-bound, high=bound).requires_grad_()


def steps(names: list[str], shape: Shape, arguments: tuple[Tensor, Tensor, Tensor]) -> dict[str, Call]:
    """What each contender does in a training step: (values, gradients of input, weight and bias)."""
    rest = (SCALE, shape.stride, shape.padding, 1, shape.groups)

    def eager(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return convmin.reference.conv2d_scale_min(x, weight, bias, *rest)

    def fused(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return convmin.conv2d_scale_min(x, weight, bias, *rest)

    if "compile" in names:
        torch._dynamo.reset()
    functions = {"eager": eager, "compile": torch.compile(eager, dynamic=False), "convmin": fused}
    grad = torch.rand_like(fused(*arguments))

    def step(function: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        values = function(*arguments)
        return (values.detach(), *torch.autograd.grad(values, arguments, grad))

    return {name: lambda name=name: step(functions[name]) for name in names}  # type: ignore[misc]


def agree(mine: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> bool:
    """Roughly: a near-tie may have another winner, and so another gradient. The tests hold the bound."""
    return all(
        float((a.double() - b.double()).norm()) <= 0.1 * float(b.double().norm())
        for a, b in zip(mine, theirs, strict=True)
    )


def once(call: Call, flush: Tensor | None) -> float:
    """Milliseconds of one step, caches cold on CUDA."""
    if flush is None:
        start = time.perf_counter()
        call()
        return (time.perf_counter() - start) * 1e3
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    flush.zero_()
    begin.record()
    call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


def peak_bytes(call: Call) -> int | None:
    """CUDA memory at a step's highest, inputs included."""
    if not torch.cuda.is_available():
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated()


def measure(
    shape: Shape,
    dtype: torch.dtype,
    layout: str,
    device: torch.device,
    names: list[str],
    rounds: int = 30,
    seconds: float = 2.0,
) -> dict[str, Any]:
    """Median milliseconds of each contender's step on one shape, and its peak memory; None where its gradients are
    wrong or it runs out of memory."""
    arguments = leaves(shape, dtype, layout, device)
    calls = steps(names, shape, arguments)
    expected = calls["eager"]() if "eager" in calls else None
    flush = torch.empty(L2_FLUSH_BYTES, dtype=torch.uint8, device=device) if device.type == "cuda" else None
    result: dict[str, Any] = {
        "shape": shape.name,
        "sizes": str(shape),
        "dtype": str(dtype).removeprefix("torch."),
        "layout": layout,
        "ms": dict.fromkeys(names),
        "peak_bytes": dict.fromkeys(names),
    }
    for name in names:
        try:
            if expected is not None and not agree(calls[name](), expected):
                del calls[name]
                continue
            result["peak_bytes"][name] = peak_bytes(calls[name])
        except torch.OutOfMemoryError:
            del calls[name]
    del expected
    rng = random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in calls}
    start = time.perf_counter()
    done = 0
    while calls and (done < 3 or (done < rounds and time.perf_counter() - start < seconds)):
        for name in rng.sample(list(calls), len(calls)):
            times[name].append(once(calls[name], flush))
        done += 1
    result["ms"] |= {name: statistics.median(values) for name, values in times.items()}
    return result


def row(result: dict[str, Any], names: list[str]) -> str:
    """One line of the table; speed-up against the faster of the others."""
    cells = [f"{result['shape']} ({result['sizes']})", result["dtype"], result["layout"]]
    cells += ["-" if result["ms"][name] is None else f"{result['ms'][name]:.3f}" for name in names]
    others = [ms for name, ms in result["ms"].items() if name != "convmin" and ms is not None]
    mine = result["ms"].get("convmin")
    cells.append(f"{min(others) / mine:.2f}" if mine and others else "")
    return "| " + " | ".join(cells) + " |"


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=["headline", "kernelbench_old"], help="families or names")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", nargs="+", default=["float32"])
    parser.add_argument("--layout", nargs="+", default=["nchw"], choices=LAYOUTS)
    parser.add_argument("--precision", default="tf32", choices=("tf32", "ieee"), help="class of float32 on CUDA")
    parser.add_argument("--contenders", nargs="+", default=["eager", "convmin"], choices=CONTENDERS)
    parser.add_argument("--rounds", type=int, default=30, help="at most, for each shape")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each shape, about")
    parser.add_argument("--max-gflop", type=float, help="leave larger shapes out; 10 on the CPU unless said otherwise")
    parser.add_argument("--out", type=Path, help="a file for the results as JSON")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Runs what the arguments say, prints a table as it goes, and returns the results."""
    options = parse(argv)
    device = torch.device(options.device)
    torch.backends.cudnn.allow_tf32 = options.precision == "tf32"
    torch.backends.cudnn.benchmark = True  # eager at its best
    limit = options.max_gflop or (10.0 if device.type == "cpu" else math.inf)
    columns = ["shape", "dtype", "layout", *options.contenders, "speed-up"]
    print("Milliseconds of forward and backward, median.\n")
    print("| " + " | ".join(columns) + " |\n|" + " --- |" * len(columns))
    results = []
    for shape in cpu_friendly(select(options.shapes), limit):
        for dtype in options.dtype:
            for layout in options.layout:
                result = measure(
                    shape, getattr(torch, dtype), layout, device, options.contenders, options.rounds, options.seconds
                )
                results.append(result)
                print(row(result, options.contenders), flush=True)
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n")
    return results


if __name__ == "__main__":
    main()
