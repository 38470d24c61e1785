"""Measures cases, one after the other, within a time budget, and hands each result on as soon as it is there."""

from __future__ import annotations

import contextlib
import gc
import itertools
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from convmin import introspection
from convmin.bench import budget as budgets
from convmin.bench import check, machine, memory
from convmin.bench.cases import ROUNDING, Case, make, settings
from convmin.bench.peers import PEERS, Call, Unavailable, operator, start_compiler
from convmin.bench.timing import take_turns


@dataclass
class Options:
    """How to measure.

    Attributes:
        device: where.
        peers: names, in the order in which they are prepared.
        rounds, seconds: at most, for the timing of a case.
        compile_seconds: at most, for preparing one peer.
        kernel: convmin's, instead of the plan's choice; a case that it can't take is left out. "": the plan's choice.
    """

    device: torch.device
    peers: list[str]
    rounds: int = 50
    seconds: float = 5.0
    compile_seconds: float = 90.0
    kernel: str = ""


def measure_all(
    cases: list[Case], options: Options, budget: budgets.Budget, done: Callable[[dict[str, Any]], None]
) -> None:
    """Calls ``done`` with the result of each case; one that no time is left for has "left_out" and no peers.

    Within a time budget all cases are measured with the quick peers first; then again with those that compile as well,
    and then with those that also search, for as long as the time lasts and evenly over modes, dtypes and families. The
    later result of a case takes the place of the earlier one.
    """
    if any(name in ("compile", "max-autotune") for name in options.peers):
        start_compiler(options.device)
    passes = levels(options.peers) if budget.limited else [options.peers]
    first = []
    for case in cases:
        result = attempt(case, replace(options, peers=passes[0]), budget)
        if "left_out" not in result:
            first.append(case)
            result["peers"] = {name: result["peers"].get(name, {"left_out": "time budget"}) for name in options.peers}
        done(result)
    for before, names in itertools.pairwise(passes):
        new = [name for name in names if name not in before]
        for case in spread(first):
            if budget.left() < budgets.LEAST + sum(budget.expected(name, PEERS[name].seconds) for name in new):
                return
            result = attempt(case, replace(options, peers=names), budget)
            if "left_out" not in result:
                result["peers"] |= {name: {"left_out": "time budget"} for name in options.peers if name not in names}
                done(result)


def levels(names: list[str]) -> list[list[str]]:
    """The quick peers; they and those that take seconds; all.

    Example:
        >>> levels(["eager", "max-autotune", "compile"])
        [['eager'], ['eager', 'compile'], ['eager', 'max-autotune', 'compile']]
    """
    steps = ([name for name in names if PEERS[name].seconds < limit] for limit in (1, 10, math.inf))
    return [list(step) for step in dict.fromkeys(tuple(step) for step in steps) if step]


def spread(cases: list[Case]) -> list[Case]:
    """One of each mode, dtype, layout and family in turn, shuffled within them."""
    groups: dict[tuple[str, ...], list[Case]] = {}
    for case in cases:
        groups.setdefault((case.mode, case.dtype, case.layout, case.shape.family), []).append(case)
    for group in groups.values():
        random.Random(0).shuffle(group)
    return [case for turn in itertools.zip_longest(*groups.values()) for case in turn if case is not None]


def attempt(case: Case, options: Options, budget: budgets.Budget) -> dict[str, Any]:
    """measure(), or why there is no result."""
    reason = "time budget"
    if budget.left() >= budgets.LEAST:
        try:
            forced = introspection.force_kernel(options.kernel) if options.kernel else contextlib.nullcontext()
            with budgets.at_most(budget.left()), forced:
                return measure(case, options, budget)
        except budgets.TooLong:
            gc.collect()  # what the interrupted work held
        except Exception as error:  # out of memory, or a GPU that has failed: the report shall tell
            reason = _first_line(error)
            gc.collect()
        if options.device.type == "cuda":
            with contextlib.suppress(RuntimeError):
                torch.cuda.empty_cache()
    return describe(case) | {"left_out": reason, "peers": {}}


def describe(case: Case) -> dict[str, Any]:
    shape = case.shape
    return {
        "shape": shape.name,
        "family": shape.family,
        "sizes": str(shape),
        "dtype": case.dtype,
        "layout": case.layout,
        "mode": case.mode,
        "images": shape.n,
        "pixels": shape.n * shape.output[0] * shape.output[1],
        "gflop": case.flop / 1e9,
        "mbytes": case.bytes_moved / 1e6,
    }


def measure(case: Case, options: Options, budget: budgets.Budget) -> dict[str, Any]:
    """Every peer on one case: prepared, checked against float64, then timed in turns."""
    start = time.perf_counter()
    problem = make(case, options.device)
    truth = check.truth(problem)
    limits = truth.limits(ROUNDING[case.dtype])
    result = describe(case)
    with settings(case):
        result["kernel"] = introspection.explain(*problem.inputs, *problem.options).kernel  # type: ignore[arg-type]
    result["eager_error"] = truth.eager
    entries: dict[str, dict[str, Any]] = {name: {} for name in options.peers}
    result["peers"] = entries
    calls: dict[str, Call] = {}
    torch._dynamo.reset()  # once a case: it forgets what all peers have compiled, and without it they reach a limit
    with settings(case):
        for name in options.peers:
            entry, expected = entries[name], budget.expected(name, PEERS[name].seconds)
            if expected > budget.left():
                entry["left_out"] = f"time budget ({expected:.0f} s expected)"
                continue
            before = _allocated(options.device)
            began = time.perf_counter()
            try:
                with budgets.at_most(min(options.compile_seconds, budget.left())):
                    call = PEERS[name].build(problem)
                    errors = _errors(name, call, truth)
                    call()  # the second is the first that a compiler leaves alone
                    _synchronize(options.device)
            except Unavailable as reason:
                entry["left_out"] = str(reason)
                continue
            except budgets.TooLong as reason:
                if budget.left() <= 0:
                    raise
                entry["left_out"] = str(reason)
                budget.note(name, time.perf_counter() - began)
                continue
            except Exception as error:  # a peer that fails is a finding, and the others go on
                entry |= {"left_out": _first_line(error), "failed": True}
                continue
            entry["prepared_s"] = time.perf_counter() - began
            budget.note(name, entry["prepared_s"])
            entry["errors"] = errors
            entry["wrong"] = not all(error <= limit for error, limit in zip(errors, limits, strict=True))
            if entry["wrong"]:
                continue
            peak = memory.peak_bytes(call, options.device)
            entry["peak_mib"] = None if peak is None else (peak + _allocated(options.device) - before) / 2**20
            calls[name] = call
        del truth
        if calls:
            result["clocks"] = machine.under_load(calls.values(), options.device, min(0.3, options.seconds / 10))
            seconds = max(0.2, min(options.seconds, budget.left() / 2))
            for name, times in take_turns(calls, options.device, options.rounds, seconds).items():  # type: ignore[arg-type]
                entries[name]["ms"] = times
                entries[name]["tflops"] = case.flop / times["median"] / 1e9
    result["took_s"] = time.perf_counter() - start
    return result


def _errors(name: str, call: Call, truth: check.Truth) -> list[float]:
    result = call()
    return truth.error((operator(name, (result[0][: truth.images],)), *result[1:]))


def _allocated(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160] if lines else ''}"
