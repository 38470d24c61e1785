"""Random problems of every kind against float64: `python tests/random_problems.py --count 2000 --device cuda`."""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter, defaultdict

import torch
from oracle import Comparison
from runner import Refused, check_problem
from support import random_problem

# So that among thousands of comparisons with PyTorch none fails by chance: 8 would do for normal errors, but a sum that
# begins with its largest term loses the small ones all in one direction, and whose sum does so differs by layout.
SIGMAS = 16.0
# Mean noise-relative error over all problems of a dtype, as a multiple of PyTorch's: hardly any sampling error is left
# in it, so this is the order of summation's slack alone.
POOLED_SLACK = 1.1


def run(count: int, device: str, seed: int, kernel: str | None, max_products: int) -> tuple[list[str], Counter[str]]:
    """The failures, each with what reproduces it, and how many problems there were of each kind."""
    rng = random.Random(seed)
    failures: list[str] = []
    kinds: Counter[str] = Counter()
    pools: dict[tuple[str, str], list[Comparison]] = defaultdict(list)
    for _ in range(count):
        problem = random_problem(rng, max_products)
        precision = rng.choice(("ieee", "tf32")) if device == "cuda" else "ieee"
        try:
            comparison = check_problem(problem, device, kernel, precision, SIGMAS)
        except Refused:
            kinds["refused"] += 1
            continue
        except (AssertionError, RuntimeError) as error:
            failures.append(f"{problem!r}, {device!r}, {kernel!r}, {precision!r}\n  {error}")
            if "CUDA error" in str(error):
                break  # nothing on this device can be trusted any more
            continue
        dtype = str(problem.dtype).removeprefix("torch.")
        if comparison is not None:
            pools[dtype, precision if dtype == "float32" else ""].append(comparison)
        kinds[dtype] += 1
        kinds[problem.storage] += 1
        kinds[problem.fill] += 1
    for name, pool in pools.items():
        mine, theirs = (sum(getattr(c, side) for c in pool) / len(pool) for side in ("mine", "theirs"))
        print(
            f"{' '.join(name):<12} mean noise-relative error {mine:.3f}, PyTorch's {theirs:.3f}, {len(pool)} problems"
        )
        if len(pool) >= 50 and mine > POOLED_SLACK * theirs:
            failures.append(f"{name}: the mean error over all problems exceeds PyTorch's")
    return failures, kinds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kernel", help="force this kernel")
    parser.add_argument("--max-products", type=int, help="multiply-adds of a problem at most")
    arguments = parser.parse_args()
    limit = arguments.max_products or (20_000_000 if arguments.device == "cuda" else 1_000_000)
    start = time.perf_counter()
    failures, kinds = run(arguments.count, arguments.device, arguments.seed, arguments.kernel, limit)
    for failure in failures[:20]:
        print(failure)
    print(", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items())))
    print(
        f"{arguments.count} problems on {arguments.device}, {len(failures)} broken, {time.perf_counter() - start:.1f} s"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
