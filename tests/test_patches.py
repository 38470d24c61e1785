"""Hopper's kernel for patches of any convolution: ways to lay tiles, and to share them, that small problems don't
meet."""

from __future__ import annotations

from itertools import product
from typing import Any

import convmin
import pytest
import torch
from convmin import _C
from plans import DEVICES, describe
from runner import check_problem
from support import STORAGES, Problem, fp32_class

H200 = DEVICES["H200"].as_dict()
HALF, BRAIN, FLOAT = torch.float16, torch.bfloat16, torch.float32

# Blocks have equal shares of all tiles' output channels, which end somewhere within a tile.
EQUAL_SHARES = [
    Problem(n=60, c=24, h=130, w=5, k=136, r=2, s=3, padding=(2, 0), dilation=(3, 2), dtype=HALF),
    Problem(n=60, c=16, h=130, w=3, k=264, r=1, s=3, stride=(2, 1), padding=(1, 2), dilation=(2, 2)),
    Problem(n=60, c=16, h=130, w=7, k=264, r=1, s=3, stride=(2, 2), padding=(1, 0), dilation=(3, 2), dtype=BRAIN),
    Problem(n=60, c=48, h=80, w=3, k=400, r=1, s=3, padding=(2, 0), groups=2),
    Problem(n=60, c=64, h=60, w=5, k=528, r=1, s=3, dilation=(3, 2), groups=2, dtype=HALF),
]
# Shares end within sums: of the one block of output channels, or of several.
CUT_SUMS = [
    Problem(n=60, c=400, h=130, w=3, k=66, r=1, s=3, stride=(2, 2), padding=(2, 0), groups=2, bias=False, dtype=HALF),
    Problem(n=60, c=136, h=130, w=7, k=33, r=1, s=3, stride=(2, 2), padding=(2, 0), dilation=(3, 1), bias=False),
    Problem(n=9, c=400, h=80, w=3, k=272, r=2, s=3, padding=(2, 1), dilation=(1, 2), groups=2),
    Problem(n=21, c=400, h=20, w=3, k=528, padding=(2, 1), dilation=(1, 2), groups=2, bias=False),
    Problem(n=60, c=200, h=130, w=5, k=33, r=2, s=3, dilation=(3, 2), bias=False),
    Problem(n=9, c=264, h=130, w=5, k=400, r=1, s=3, stride=(1, 3), padding=(2, 1), dilation=(1, 2)),
    Problem(n=60, c=264, h=130, w=5, k=200, r=1, s=3, stride=(2, 1), padding=(1, 0), dilation=(2, 2), dtype=HALF),
    Problem(n=40, c=200, h=130, w=3, k=72, padding=(1, 1), dilation=(2, 2)),
    Problem(n=60, c=264, h=20, w=61, k=33, r=1, s=3, stride=(1, 3), padding=(2, 0), dilation=(2, 1), dtype=HALF),
    Problem(n=60, c=264, h=130, w=5, k=72, r=1, s=3, stride=(2, 2), padding=(2, 2), dilation=(2, 1)),
    Problem(n=9, c=264, h=130, w=5, k=400, padding=(2, 0), dilation=(2, 2), bias=False, dtype=BRAIN),
    Problem(n=60, c=200, h=80, w=3, k=200, r=2, s=3, padding=(2, 1), dilation=(3, 2), bias=False, dtype=HALF),
]
# Tiles run on over rows and images.
RUNS_ON = [
    Problem(n=40, c=16, h=26, w=10, k=136, r=3, s=1, padding=(2, 0), dtype=HALF),
    Problem(n=20, c=32, h=60, w=12, k=72, r=1, s=3, padding=(0, 2), dtype=BRAIN),
    Problem(n=5, c=32, h=130, w=26, k=72, r=1, s=3, dilation=(1, 2)),
    Problem(n=20, c=72, h=60, w=13, k=72, r=1, s=3, padding=(0, 1), dilation=(1, 2)),
    Problem(n=20, c=72, h=130, w=3, k=64, padding=(3, 1), dilation=(2, 2), dtype=BRAIN),
    Problem(n=5, c=136, h=5, w=26, k=72, r=5, s=5, padding=(2, 5), dilation=(2, 2), dtype=HALF),
    Problem(n=20, c=64, h=7, w=17, k=64, r=5, s=5, padding=(1, 2), dilation=(2, 1)),
    Problem(n=40, c=72, h=7, w=17, k=33, r=5, s=5, padding=(0, 8), dilation=(1, 2)),
    Problem(n=20, c=16, h=300, w=5, k=33, dilation=(1, 2), dtype=BRAIN),
    Problem(n=9, c=32, h=300, w=3, k=200, r=1, s=3, padding=(0, 1), dilation=(1, 2)),
    Problem(n=20, c=64, h=300, w=5, k=136, padding=(2, 0), dilation=(2, 2)),  # multiplied as float16
    Problem(n=9, c=24, h=130, w=26, k=72, r=1, s=2, stride=(1, 3), padding=(0, 1)),
    Problem(n=2, c=16, h=9, w=3, k=33, r=1, s=3, stride=(3, 2), dtype=HALF),
    Problem(n=40, c=24, h=130, w=13, k=33, r=1, s=2, stride=(1, 3), padding=(0, 1), dtype=BRAIN),
    Problem(n=5, c=32, h=7, w=3, k=144, r=3, s=1, stride=(4, 4), dilation=(2, 1), groups=2, dtype=BRAIN),
]
# Taps of several planes: all strides and dilations by each other, fewer taps than the stride, the largest stride.
STRIDED = [
    Problem(n=9, c=16, h=130, w=3, k=72, r=1, s=3, stride=(1, 3), padding=(1, 0)),
    Problem(n=40, c=16, h=130, w=7, k=72, r=2, s=1, stride=(2, 2), padding=(2, 1), dtype=BRAIN),
    Problem(n=2, c=32, h=9, w=20, k=64, r=5, s=1, stride=(2, 2), padding=(2, 2), dilation=(3, 2), dtype=HALF),
    Problem(n=2, c=16, h=60, w=59, k=40, r=9, s=9, stride=(8, 8), padding=(4, 4)),
    Problem(n=2, c=72, h=33, w=40, k=96, r=2, s=2, stride=(2, 2), dtype=BRAIN),
    Problem(n=1, c=40, h=50, w=61, k=72, r=7, s=7, stride=(2, 2), padding=(3, 3), dtype=HALF),
    *(
        Problem(n=2, c=40, h=41, w=38, k=72, r=4, s=5, stride=(a, b), padding=(2, 3), dilation=(c, d))
        for (a, b), (c, d) in product(((2, 3), (3, 4), (4, 6)), ((1, 2), (2, 3), (3, 4)))
    ),
]
# Blocks that share a tile as a cluster do so through their shared memory: output channels, sums, or both.
CLUSTERS = [
    Problem(n=2, c=40, h=7, w=17, k=33, r=5, s=2, padding=(1, 0), dilation=(2, 1)),
    Problem(n=1, c=264, h=13, w=13, k=33, r=5, s=1, padding=(0, 2), dilation=(3, 2)),
    Problem(n=40, c=80, h=7, w=3, k=400, r=1, s=1, stride=(4, 4), padding=(0, 2), groups=2, dtype=HALF),
    Problem(n=40, c=32, h=20, w=3, k=400, r=1, s=1, stride=(1, 3), padding=(1, 0), groups=2, dtype=HALF),
    Problem(n=5, c=16, h=7, w=26, k=264, r=5, s=1, stride=(1, 3), padding=(1, 1), dilation=(2, 1), dtype=HALF),
    Problem(n=2, c=136, h=9, w=3, k=200, r=5, s=3, dtype=BRAIN),
    Problem(n=1, c=144, h=7, w=3, k=144, r=5, s=2, padding=(1, 0), dilation=(2, 2), groups=2, dtype=BRAIN),
    Problem(n=5, c=136, h=7, w=10, k=136, r=5, s=1, padding=(1, 1), dilation=(2, 1)),
    Problem(n=1, c=144, h=13, w=60, k=144, r=5, s=2, stride=(4, 4), padding=(1, 2), dilation=(3, 2), groups=2),
    # Of more blocks than every GPU's clusters have.
    Problem(n=1, c=1040, h=20, w=3, k=144, r=3, s=1, padding=(0, 1), dtype=HALF),
    Problem(n=2, c=520, h=9, w=17, k=33, r=5, s=3, padding=(1, 0), dtype=BRAIN),
    Problem(n=2, c=16, h=13, w=26, k=520, padding=(0, 1)),
    Problem(n=5, c=400, h=7, w=26, k=520, r=1, s=3, padding=(1, 0), dtype=HALF),
    Problem(n=5, c=136, h=7, w=26, k=400, r=5, s=3, padding=(0, 1), groups=2),
    Problem(n=5, c=1040, h=14, w=26, k=400, r=3, s=2, dtype=HALF),
    Problem(n=5, c=1560, h=7, w=17, k=33, r=5, s=3, stride=(4, 4)),
]
# More of them meet through memory.
CROWDS = [
    Problem(n=5, c=3120, h=7, w=17, k=33, r=5, s=3, stride=(4, 4)),
    Problem(n=1, c=32, h=20, w=5, k=1040, r=5, s=3, padding=(1, 1), dilation=(3, 2), groups=2),
    Problem(n=1, c=40, h=9, w=3, k=1300),
    Problem(n=1, c=72, h=13, w=7, k=520, r=5, s=2, stride=(4, 4), padding=(1, 0), dilation=(3, 2)),
    Problem(n=5, c=16, h=130, w=5, k=520, r=5, s=3, dilation=(3, 2)),
]
# Images of a 1 x 1 kernel follow each other without a gap, as pixels of one row.
JOINED = [
    Problem(n=5, c=72, h=7, w=9, k=80, r=1, s=1, dtype=BRAIN),
    Problem(n=40, c=48, h=6, w=7, k=66, r=1, s=1, groups=2, bias=False),
    Problem(n=3, c=33, h=9, w=5, k=130, r=1, s=1, dtype=HALF),
    Problem(n=64, c=264, h=28, w=28, k=520, r=1, s=1),  # multiplies as float16
]
FILLS = ("normal", "integers", "mixed_pixels", "mixed_regions", "overflow16", "underflow16", "one_nan")


def stored(problems: list[Problem]) -> list[Problem]:
    return [problem.replace(storage=a, weight_storage=a) for problem in problems for a in STORAGES[:2]]


def class_of(problem: Problem) -> str:
    return "tf32" if problem.dtype == FLOAT else "ieee"


def plan_of(problem: Problem, device: _C.Device = H200) -> _C.Plan:
    return _C.plan(describe(problem, "tf32"), device, "sm90_patch")


def test_tiles_run_on() -> None:
    problems = stored(RUNS_ON)
    plans = [plan_of(problem) for problem in problems]
    assert all(plan["tile_rows"] == 0 for plan in plans)
    of_float32 = (plan for plan, problem in zip(plans, problems, strict=True) if problem.dtype == FLOAT)
    assert {plan["tile"][2] for plan in of_float32} == {32, 64}, "as TF32, and scaled as float16"


def test_blocks_have_equal_shares() -> None:
    plans = [plan_of(problem) for problem in stored(EQUAL_SHARES)]
    assert all(plan["grains"] == 1 for plan in plans)
    assert len({plan["tile_rows"] == 0 for plan in plans}) == 2


def test_shares_end_within_sums() -> None:
    """Large tiles that run on and do not, small ones that do; minima that meet and do not."""
    met = set()
    for problem in stored(CUT_SUMS):
        plan = plan_of(problem)
        assert plan["grains"] == -(-problem.c // problem.groups // plan["tile"][2]) > 1, problem
        met.add((*plan["tile"][:2], plan["tile_rows"] == 0))
        met.add(plan["splits"] > 1)
    assert met >= {*product((256,), (64, 128), (False, True)), *product((128,), (64, 128), (True,)), False, True}


def test_images_are_joined() -> None:
    for problem in stored(JOINED):
        plan, row = (plan_of(p) for p in (problem, problem.replace(n=1, h=1, w=problem.n * problem.h * problem.w)))
        for field in ("tile", "tile_rows", "tile_columns", "splits", "parts", "grains", "blocks"):
            assert plan[field] == row[field], (problem, field)
    assert plan_of(JOINED[-1])["tile"][2] == 64


def test_clusters_share_tiles() -> None:
    """Of each way to share and each size of a tile; nothing is left in memory then. Without clusters all meet there."""
    met, large = set(), set()
    for problem in stored(CLUSTERS):
        plan = plan_of(problem)
        large.add(plan["cluster"] > 8)
        assert plan["cluster"] == plan["splits"] * plan["parts"] > 1, problem
        met.add((plan["splits"] > 1, plan["parts"] > 1))
        met.add(plan["tile"][:2])
        alone = plan_of(problem, {**H200, "clusters": (0,) * 15})
        assert alone["cluster"] == 0
        if problem.storage == "channels_last" and plan["tile"][2] * problem.dtype.itemsize == 128:
            vectors = problem.c // problem.groups % (16 // problem.dtype.itemsize) == 0
            assert not vectors or plan["workspace_bytes"] == 0
    assert met == {(True, False), (False, True), (True, True), *product((128, 256), (64, 128))}
    assert large == {False, True}


def test_crowds_meet_in_memory() -> None:
    plans = [plan_of(problem) for problem in stored(CROWDS)]
    assert all(plan["cluster"] == 0 and plan["splits"] * plan["parts"] > 8 for plan in plans)
    assert {(plan["splits"] > 1, plan["parts"] > 1) for plan in plans} == {(True, False), (False, True), (True, True)}
    assert all(plan["grains"] == 0 for plan in plans)


def cases() -> list[Any]:
    problems = stored(EQUAL_SHARES + CUT_SUMS + RUNS_ON + STRIDED + CLUSTERS + CROWDS + JOINED)
    return [
        pytest.param(problem.replace(fill=fill), class_of(problem), id=f"{problem}-{fill}")
        for problem, fill in product(problems, FILLS)
    ]


@pytest.mark.cuda
@pytest.mark.parametrize(("problem", "precision"), cases())
def test_patches(problem: Problem, precision: str) -> None:
    """A tap of another plane, a pixel of the next row, a block's share or part that is lost or comes twice."""
    check_problem(problem, "cuda", "sm90_patch", precision)


# Sums and output channels both, of the largest tile: what takes the most registers and the most shared memory.
LARGEST = [
    problem.replace(storage="channels_last", weight_storage="channels_last")
    for problem in (
        Problem(n=16, c=512, h=32, w=32, k=256, stride=(2, 2), padding=(1, 1), dtype=BRAIN),
        Problem(n=16, c=512, h=32, w=32, k=256, stride=(2, 2), padding=(1, 1), dtype=HALF),
        Problem(n=20, c=1024, h=14, w=14, k=256, r=1, s=1),
    )
]


def test_clusters_of_the_largest_tile() -> None:
    for problem in LARGEST:
        plan = plan_of(problem)
        assert plan["tile"][:2] == (256, 128) and plan["cluster"] > 1 and plan["splits"] > 1 and plan["parts"] > 1


@pytest.mark.cuda
@pytest.mark.parametrize("problem", LARGEST, ids=str)
def test_largest_tile(problem: Problem) -> None:
    check_problem(problem, "cuda", "sm90_patch", class_of(problem))


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [HALF, FLOAT], ids=str)
def test_cut_sums_repeat_to_the_bit(dtype: torch.dtype) -> None:
    """Whichever of two blocks is the second to come, as other streams delay them."""
    problem = Problem(n=60, c=264, h=130, w=5, k=200, r=1, s=3, stride=(2, 1), padding=(1, 0), dtype=dtype)
    assert plan_of(problem)["grains"] > 1
    x, weight, bias = problem.tensors("cuda")
    streams = [torch.cuda.Stream() for _ in range(3)]
    with fp32_class("tf32"), convmin.force_kernel("sm90_patch"):
        first = convmin.conv2d_scale_min(x, weight, bias, problem.scale, **problem.kwargs())
        torch.cuda.synchronize()
        for _ in range(20):
            results = []
            for stream in streams:
                with torch.cuda.stream(stream):
                    results.append(convmin.conv2d_scale_min(x, weight, bias, problem.scale, **problem.kwargs()))
            torch.cuda.synchronize()
            assert all(torch.equal(result, first) for result in results)
