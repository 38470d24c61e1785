"""The command line: ``python -m convmin bench``."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from pathlib import Path
from typing import Any

import torch

from convmin import introspection
from convmin.bench import machine, optional, plots, report, runner
from convmin.bench.budget import Budget
from convmin.bench.cases import DTYPES, LAYOUTS, MODES, Case
from convmin.bench.peers import PEERS
from convmin.bench.shapes import FAMILIES, SETS, cpu_friendly, select

DESCRIPTION = f"""PyTorch's own operators, torch.compile, cuDNN's fused graph and convmin side by side, in one process.

Peers take turns in a shuffled order. Each is checked against float64 before it is timed; one that is wrong is reported
and not timed. On CUDA the L2 cache is overwritten before each call, and the GPU's own clock measures.

sets      {", ".join(SETS)} (forward and backward)
families  {", ".join(FAMILIES)}

  python -m convmin bench --shapes headline --out results
  python -m convmin bench --shapes sweep --time-budget 600 --out results
  python -m convmin bench --compare before/benchmark.json results/benchmark.json
"""


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m convmin bench", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_argument_group("what to measure")
    what.add_argument(
        "--shapes", nargs="+", metavar="NAME", help="sets, families or shapes (default: headline; on the CPU small)"
    )
    what.add_argument(
        "--mode", nargs="+", choices=MODES, help="default: forward, and training for the set of that name"
    )
    what.add_argument("--dtype", nargs="+", choices=DTYPES, help="default: tf32 and bfloat16; float32 on the CPU")
    what.add_argument("--layout", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    what.add_argument("--peers", nargs="+", choices=PEERS, help="default: all; on the CPU those that make sense there")
    kernels = introspection.build_info()["kernels"]
    what.add_argument("--kernel", choices=kernels, default="", help="of convmin's this one, not the plan's choice")
    what.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    what.add_argument("--max-gflop", type=float, help="leave larger shapes out; 25 on the CPU unless said otherwise")
    how = parser.add_argument_group("for how long")
    how.add_argument(
        "--time-budget", type=float, metavar="S", help="end after so many seconds; what does not fit is named"
    )
    how.add_argument("--seconds", type=float, default=5.0, metavar="S", help="timing of one case, about (default: 5)")
    how.add_argument("--rounds", type=int, default=50, help="of one case, at most (default: 50)")
    how.add_argument(
        "--compile-seconds", type=float, default=90.0, metavar="S", help="for one peer to compile (default: 90)"
    )
    result = parser.add_argument_group("what to do with it")
    result.add_argument(
        "--out", type=Path, help="folder for benchmark.json, benchmark.md and pictures; written every few seconds"
    )
    result.add_argument("--commit", help="to record, where the code lies in no git checkout")
    result.add_argument(
        "--report", nargs="+", type=Path, metavar="JSON", help="measure nothing: merge these into --out"
    )
    result.add_argument(
        "--compare", nargs=2, type=Path, metavar=("BEFORE", "AFTER"), help="measure nothing: show changes"
    )
    result.add_argument(
        "--tolerance", type=float, default=0.05, help="of --compare; exit status 1 beyond it (default: 0.05)"
    )
    options = parser.parse_args(argv)
    cpu = torch.device(options.device).type == "cpu"
    options.shapes = options.shapes or (["small"] if cpu else ["headline"])
    options.dtype = options.dtype or (["float32"] if cpu else ["tf32", "bfloat16"])
    options.peers = options.peers or [name for name in PEERS if not cpu or name not in ("cudnn-graph", "max-autotune")]
    if options.report and not options.out:
        parser.error("--report needs --out")
    try:
        if not cases(options):
            parser.error(f"all of {', '.join(options.shapes)} are larger than --max-gflop; give a higher one")
    except ValueError as error:
        parser.error(str(error))
    return options


def cases(options: argparse.Namespace) -> list[Case]:
    """Shapes innermost, so that a run that ends early has all shapes in some arithmetic."""
    limit = options.max_gflop or (25.0 if torch.device(options.device).type == "cpu" else float("inf"))
    wanted: dict[str, list[str]] = {mode: [] for mode in MODES}
    for name in options.shapes:
        for mode in options.mode or ["training" if name == "training" else "forward"]:
            wanted[mode].append(name)
    found = [
        Case(shape, dtype, layout, mode)
        for mode, names in wanted.items()
        for dtype in options.dtype
        for layout in options.layout
        for shape in cpu_friendly(select(names), limit)
    ]
    return list(dict.fromkeys(found))


def line(result: dict[str, Any]) -> str:
    """What a run prints of a case as soon as it is measured."""
    if "left_out" in result:
        return f"{' '.join(report.key(result))}: left out, {result['left_out']}"
    words = []
    for name, entry in result["peers"].items():
        if "ms" in entry:
            words.append(f"{name} {entry['ms']['median']:.3f}")
        elif entry.get("wrong"):
            words.append(f"{name} WRONG")
    ratio = report.speed_up(result, *(name for name in result["peers"] if name not in ("convmin", "conv")))
    against = "" if ratio is None else f", {ratio:.2f} x the fastest other"
    return f"{' '.join(report.key(result))} [{result['kernel']}] ms: {', '.join(words)}{against}"


def measure(options: argparse.Namespace) -> dict[str, Any]:
    device = torch.device(options.device)
    chosen = cases(options)
    budget = Budget(options.time_budget)
    document: dict[str, Any] = {
        "environment": machine.environment(device),
        "options": {name: str(value) for name, value in vars(options).items() if value is not None},
        "peers": options.peers,
        "ceilings": [],
        "results": [],
    }
    if options.commit:
        document["environment"]["commit"] = options.commit
    dtypes = list(dict.fromkeys(case.dtype for case in chosen))
    document["ceilings"].append(machine.ceilings(dtypes, device))
    tqdm = optional.module("tqdm")
    bar = tqdm.tqdm(total=len(chosen), unit="case", leave=False, disable=None) if tqdm is not None else None

    results: dict[tuple[str, ...], dict[str, Any]] = {}
    saved = 0.0

    def done(result: dict[str, Any]) -> None:
        nonlocal saved
        if bar is not None:
            bar.update(report.key(result) not in results)
        results[report.key(result)] = result
        document["results"] = list(results.values())
        if bar is not None:
            bar.write(line(result), file=sys.stdout)
        else:
            print(line(result))
        sys.stdout.flush()
        if options.out and time.perf_counter() - saved > 5:
            report.save(document, options.out)
            saved = time.perf_counter()

    how = runner.Options(
        device, options.peers, options.rounds, options.seconds, options.compile_seconds, options.kernel
    )
    try:
        runner.measure_all(chosen, how, budget, done)
    except KeyboardInterrupt:
        document["environment"]["interrupted"] = "by the user: what had been measured is here"
    finally:
        if bar is not None:
            bar.close()
    if budget.left() > 0:
        with contextlib.suppress(RuntimeError):  # a GPU that has failed
            document["ceilings"].append(machine.ceilings(dtypes, device))
    return document


def finish(document: dict[str, Any], out: Path | None) -> None:
    print("\n" + report.summary(document))
    if out is not None:
        report.save(document, out)
        pictures = plots.draw(document, out)
        report.save(document, out)  # with the pictures
        print(f"{out}: benchmark.json, benchmark.md{''.join(f', {path.name}' for path in pictures)}")
        if not pictures:
            print("no pictures: they need matplotlib, and a case that was timed")


def main(argv: list[str] | None = None) -> int:
    """Runs what the arguments say; returns the exit status: 1 where convmin is wrong, fails, or has become slower."""
    options = parse(argv)
    try:
        loaded = [report.load(path) for path in options.compare or options.report or ()]
        merged = report.merge(loaded) if options.report else None
    except (OSError, ValueError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    if options.compare:
        before, after = loaded
        text, regressions = report.compare(before, after, options.tolerance)
        print(text)
        return 1 if regressions else 0
    if merged is not None:
        finish(merged, options.out)
        return 0
    start = time.perf_counter()
    document = measure(options)
    finish(document, options.out)
    print(f"{time.perf_counter() - start:.0f} s")
    mine = [result["peers"].get("convmin", {}) for result in document["results"]]
    return 1 if any(entry.get("wrong") or entry.get("failed") for entry in mine) else 0


if __name__ == "__main__":
    sys.exit(main())
