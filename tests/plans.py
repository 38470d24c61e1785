"""What the planner is asked: GPUs that need not be there, problems that need not be allocated."""

from __future__ import annotations

import random

import convmin
from convmin import _C
from support import Problem, random_problem

# Of 132 multiprocessors, as an H200 says: of 2, 3, ... 16 blocks.
CLUSTERS = (66, 39, 30, 22, 17, 15, 15, 9, 7, 7, 7, 7, 7, 7, 7)

# Compute capability, multiprocessors, shared memory per block (opt-in) and per multiprocessor; clusters.
DEVICES = {
    name: convmin.DeviceProperties(major, minor, sms, block, sm, 65536, *clusters)
    for name, (major, minor, sms, block, sm, *clusters) in {
        "V100": (7, 0, 80, 98304, 98304),
        "T4": (7, 5, 40, 65536, 65536),
        "A100": (8, 0, 108, 166912, 167936),
        "A10": (8, 6, 72, 101376, 102400),
        "RTX 3090": (8, 6, 82, 101376, 102400),
        "L4": (8, 9, 58, 101376, 102400),
        "RTX 4090": (8, 9, 128, 101376, 102400),
        "H100": (9, 0, 132, 232448, 233472, CLUSTERS),
        "H200": (9, 0, 132, 232448, 233472, CLUSTERS),
        "B200": (10, 0, 148, 232448, 233472),
        "B300": (10, 3, 148, 232448, 233472),
        "Thor": (11, 0, 20, 232448, 233472),
        "RTX 5090": (12, 0, 170, 101376, 102400),
        "GB10": (12, 1, 48, 101376, 102400),
    }.items()
}


def accepts(kernel: str | None, problem: Problem, precision: str = "ieee") -> bool:
    """Whether a Hopper GPU's plan can be the named kernel; the planner's own choice takes everything."""
    return kernel is None or _C.plan(describe(problem, precision), DEVICES["H200"].as_dict(), kernel)["accepted"]


def describe(problem: Problem, precision: str = "ieee", with_indices: bool = False) -> _C.Problem:
    """The planner's input, without tensors."""
    n = 1 if problem.n is None else problem.n

    def strides(a: int, b: int, h: int, w: int, channels_last: bool) -> tuple[int, int, int, int]:
        return (b * h * w, 1, w * b, b) if channels_last else (b * h * w, h * w, w, 1)

    input_last, weight_last = (s == "channels_last" for s in (problem.storage, problem.weight_storage))
    group_channels = problem.c // problem.groups
    return {
        "dtype": str(problem.dtype).removeprefix("torch."),
        "precision": precision,
        "has_bias": problem.bias,
        "with_indices": with_indices,
        "input": (n, problem.c, problem.h, problem.w),
        "weight": (problem.k, group_channels, problem.r, problem.s),
        "output": problem.output_size,
        "stride": problem.stride,
        "padding": problem.padding,
        "dilation": problem.dilation,
        "groups": problem.groups,
        "input_strides": strides(n, problem.c, problem.h, problem.w, input_last),
        "weight_strides": strides(problem.k, group_channels, problem.r, problem.s, weight_last),
        "input_alignment": 16,
        "weight_alignment": 16,
        "scale": problem.scale,
    }


def plan_backward(
    problem: Problem, device: str = "H200", wanted: tuple[bool, bool, bool] = (True, True, True)
) -> _C.BackwardPlan:
    return _C.plan_backward(describe(problem), DEVICES[device].as_dict(), wanted)


def large_problem(rng: random.Random) -> Problem:
    """Sizes that no test could allocate, too."""
    problem = random_problem(rng, max_products=10**9)
    if rng.random() < 0.5:
        problem = problem.replace(n=2 ** rng.randint(0, 12), h=rng.randint(16, 5000), w=rng.randint(16, 5000))
    return problem
