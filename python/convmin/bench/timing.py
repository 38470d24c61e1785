"""Times of calls that take turns in a shuffled order, so that a warm or a busy machine favours none."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

AnyCall = Callable[[], object]

L2_FLUSH_BYTES = 256 << 20  # several times the largest L2 cache
HOLD_CYCLES = 500_000  # that the GPU waits before a call, about 250 us: the host has issued it by then
ROW = 10, 200  # calls in a back-to-back measurement: no fewer, no more
LEAST_ROUNDS = 3


def flusher(device: torch.device) -> Tensor | None:
    """Memory to overwrite before a call, so that it finds cold caches; None on the CPU, whose caches are left alone."""
    return torch.empty(L2_FLUSH_BYTES, dtype=torch.uint8, device=device) if device.type == "cuda" else None


def once(call: AnyCall, flush: Tensor | None) -> float:
    """Milliseconds of one call. On CUDA the GPU's own clock measures, from a cold L2 cache; the host's part is over."""
    if flush is None:
        start = time.perf_counter()
        call()
        return (time.perf_counter() - start) * 1e3
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    flush.zero_()
    torch.cuda._sleep(HOLD_CYCLES)
    begin.record()
    call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


def back_to_back(call: AnyCall, row: int, cuda: bool) -> tuple[float, float]:
    """Milliseconds a call in a row of calls with warm caches: until the last is done, and until all are issued."""
    start = time.perf_counter()
    for _ in range(row):
        call()
    issued = time.perf_counter()
    if cuda:
        torch.cuda.synchronize()
    return (time.perf_counter() - start) * 1e3 / row, (issued - start) * 1e3 / row


def summary(times: list[float]) -> dict[str, float]:
    """Median and quantiles.

    Example:
        >>> summary([3.0, 1.0, 2.0])["median"]
        2.0
    """
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


def take_turns(
    calls: dict[str, AnyCall], device: torch.device, rounds: int = 50, seconds: float = 5.0
) -> dict[str, dict[str, float]]:
    """Of each call: a summary in milliseconds, and on the first rounds its back-to-back and issue times.

    Args:
        calls: warm ones, by name.
        device: where they run.
        rounds: at most so many, and at least three.
        seconds: no new round after so long.

    Returns:
        By name: median, min, p10, p90, rounds; back_to_back, issue and the calls in a row where a row of calls fitted
        into half of the time.
    """
    cuda = device.type == "cuda"
    flush = flusher(device)
    rng = random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in calls}
    rows: dict[str, list[tuple[float, float, int]]] = {name: [] for name in calls}
    start = time.perf_counter()
    done = 0
    while done < LEAST_ROUNDS or (done < rounds and time.perf_counter() - start < seconds):
        for name in rng.sample(list(calls), len(calls)):
            times[name].append(once(calls[name], flush))
            if done >= LEAST_ROUNDS:
                continue
            row = min(ROW[1], int(500 * seconds / max(times[name][-1] * LEAST_ROUNDS * len(calls), 1e-6)))
            if row >= ROW[0]:
                rows[name].append((*back_to_back(calls[name], row, cuda), row))
        done += 1
    results = {name: summary(values) for name, values in times.items()}
    for name, measured in rows.items():
        if measured:
            results[name]["back_to_back"], _, results[name]["row"] = min(measured)
            results[name]["issue"] = min(issued for _, issued, _ in measured)
    return results
