"""Accuracy: every kernel against float64 and against PyTorch's own convolution in the same class, on every kind of
shape and of number. The tolerances and their reasons are in oracle.py."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Sequence
from itertools import combinations, product
from typing import Any

import convmin
import pytest
import torch
from conftest import TARGETS
from convmin import _C
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from plans import DEVICES, accepts, describe
from random_problems import SIGMAS
from runner import Refused, check_problem
from support import DTYPES, FILLS, FORWARD_FILLS, HOSTILE_FILLS, STORAGES, Problem, fp32_class

Target = tuple[str, str | None]

# (stride, padding, dilation)
GEOMETRIES = (
    ((1, 1), (0, 0), (1, 1)),
    ((1, 1), (1, 1), (1, 1)),
    ((2, 2), (1, 1), (1, 1)),
    ((1, 2), (0, 3), (1, 1)),
    ((1, 1), (2, 2), (2, 2)),
    ((3, 1), (3, 0), (1, 3)),
)
AXES: dict[str, Sequence[Any]] = {
    "k": (1, 5, 16, 31, 64, 128, 300),
    "c": (1, 3, 8, 33, 64),
    "kernel": ((1, 1), (3, 3), (5, 5), (1, 7), (4, 2)),
    "geometry": GEOMETRIES,
    "groups": ("one", "two", "depthwise"),
    "dtype": DTYPES,
    "storage": STORAGES[:2],
    "scale": (2.0, -0.3),
    "bias": (True, False),
}


def pairwise(axes: dict[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Few combinations in which every two values of different axes meet. Greedy, the same every time."""
    rng = random.Random(0)
    names = list(axes)
    missing = {
        (a, i, b, j) for a, b in combinations(names, 2) for i in range(len(axes[a])) for j in range(len(axes[b]))
    }

    def pairs(choice: dict[str, int]) -> set[tuple[str, int, str, int]]:
        return {(a, choice[a], b, choice[b]) for a, b in combinations(names, 2)}

    cases = []
    while missing:
        a, i, b, j = min(missing, key=repr)
        candidates = [{name: rng.randrange(len(axes[name])) for name in names} | {a: i, b: j} for _ in range(40)]
        best = max(candidates, key=lambda candidate: len(pairs(candidate) & missing))
        missing -= pairs(best)
        cases.append({name: axes[name][index] for name, index in best.items()})
    return cases


def grid_problem(case: dict[str, Any]) -> Problem:
    channels = case["c"]
    groups = {"one": 1, "two": 2 if channels % 2 == 0 else 1, "depthwise": channels}[case["groups"]]
    stride, padding, dilation = case["geometry"]
    r, s = case["kernel"]
    return Problem(
        n=2,
        c=channels,
        h=2 + dilation[0] * r + stride[0] * 8,
        w=3 + dilation[1] * s + stride[1] * 9,
        k=-(-case["k"] // groups) * groups,
        r=r,
        s=s,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=case["bias"],
        scale=case["scale"],
        dtype=case["dtype"],
        storage=case["storage"],
        weight_storage=case["storage"],
    )


GRID = [grid_problem(case) for case in pairwise(AXES)]

# Rows as wide as a tensor-core kernel's tile and wider, and channels on both sides of its chunks: 64 in, 64 or 128 out.
WIDE_AXES: dict[str, Sequence[Any]] = {
    "k": (40, 64, 65, 128, 129, 300),
    "c": (24, 33, 64, 72, 128),
    "kernel": ((1, 1), (3, 3), (5, 5), (1, 7), (4, 2)),
    "padding": ((0, 0), (1, 1), (2, 3)),
    "dilation": ((1, 1), (2, 1), (1, 2)),
    "w": (70, 128, 131, 254),
    "h": (1, 5, 12),
    "dtype": (torch.float32, torch.float16, torch.bfloat16),
    "storage": STORAGES[:2],
    "scale": (2.0, -0.3),
    "bias": (True, False),
}


def wide_problem(case: dict[str, Any]) -> Problem:
    case = dict(case)
    r, s = case.pop("kernel")
    case["h"] += case["dilation"][0] * (r - 1)
    case["w"] += case["dilation"][1] * (s - 1) - 2 * case["padding"][1]
    return Problem(n=2, r=r, s=s, weight_storage=case["storage"], **case)


WIDE = [wide_problem(case) for case in pairwise(WIDE_AXES)]


def check(problem: Problem, target: Target, precision: str = "ieee", sigmas: float = 4.0) -> None:
    device, kernel = target
    try:
        check_problem(problem, device, kernel, precision, sigmas)
    except Refused as refusal:
        pytest.skip(str(refusal))


# What the oracle does in some hundredths of a second.
CPU_PRODUCTS = 20_000_000


def with_classes(problems: list[Problem]) -> list[Any]:
    """Each problem on each target that takes it, in each class that it has: TF32 exists for float32 on CUDA alone."""
    return [
        pytest.param(
            target, problem, precision, id=f"{target[0]}-{target[1] or 'auto'}-{precision}-{problem}", marks=marks
        )
        for target in TARGETS
        for marks in [[pytest.mark.cuda] if target[0] == "cuda" else []]
        for problem in problems
        for precision in ("ieee", "tf32")
        if precision == "ieee" or (target[0] == "cuda" and problem.dtype == torch.float32)
        if accepts(target[1], problem, precision) and (target[0] == "cuda" or problem.products < CPU_PRODUCTS)
    ]


@pytest.mark.parametrize(("on", "problem", "precision"), with_classes(GRID))
def test_grid(on: Target, problem: Problem, precision: str) -> None:
    """Shapes: a tail of channels, taps or pixels that a kernel drops, repeats or mixes up."""
    check(problem, on, precision)


@pytest.mark.parametrize(("on", "problem", "precision"), with_classes(WIDE))
def test_wide_rows(on: Target, problem: Problem, precision: str) -> None:
    """The same for kernels that want whole tiles: strips, chunks of channels, blocks of output channels, halos."""
    check(problem, on, precision)


# Depthwise layers and their kin, and very few output channels: rows that a thread keeps and others, channels that make
# whole vectors and others, from few pixels (many threads share a pixel's channels) to many.
THREADED_AXES: dict[str, Sequence[Any]] = {
    # input channels, output channels, groups
    "channels": (
        (24, 24, 24),
        (13, 13, 13),
        (320, 320, 320),
        (12, 24, 6),
        (35, 21, 7),
        (8, 1, 1),
        (72, 2, 1),
        (33, 3, 1),
        (320, 4, 1),
    ),
    "kernel": ((1, 1), (3, 3), (5, 5), (7, 7), (1, 7), (4, 2)),
    "geometry": GEOMETRIES,
    "side": (2, 6, 21),
    "dtype": (torch.float32, torch.float16, torch.bfloat16),
    "storage": STORAGES[:3],
    "weight_storage": STORAGES[:2],
    "fill": ("normal", "integers", *HOSTILE_FILLS),
    "scale": (2.0, -0.3, 0.0),
    "bias": (True, False),
}


def threaded_problem(case: dict[str, Any]) -> Problem:
    case = dict(case)
    (c, k, groups), (r, s), geometry, side = (case.pop(name) for name in ("channels", "kernel", "geometry", "side"))
    stride, padding, dilation = geometry
    h, w = dilation[0] * r + side * stride[0], dilation[1] * s + (side + 1) * stride[1]
    return Problem(
        n=2, c=c, h=h, w=w, k=k, r=r, s=s, groups=groups, stride=stride, padding=padding, dilation=dilation, **case
    )


THREADED = [threaded_problem(case) for case in pairwise(THREADED_AXES)] + [
    # One or two output channels whose threads keep rows of the input; and a pixel's channels over several warps.
    Problem(n=1, c=c, h=side, w=side + 1, k=k, r=r, s=s, padding=(r // 2, s // 2), dtype=dtype, storage=storage)
    for (c, k), (r, s), (side, dtype), storage in product(
        ((72, 1), (520, 2)),
        ((3, 3), (5, 5), (7, 7), (3, 2)),
        ((5, torch.float32), (22, torch.float16), (11, torch.bfloat16)),
        STORAGES[:2],
    )
]


@pytest.mark.parametrize(("on", "problem", "precision"), with_classes(THREADED))
def test_few_channels(on: Target, problem: Problem, precision: str) -> None:
    """Shapes and numbers where tensor cores are no use: groups of few channels, and very few output channels."""
    check(problem, on, precision)


# Pixels for more than one round of a GPU's largest tiles. With so few output channels many minima are positive: padding
# must not win, nor what a minimum starts from.
LARGE = [
    Problem(n=1, h=256, w=256, dtype=dtype, storage=storage, weight_storage=storage, **case)
    for dtype, storage, case in product(
        (torch.float32, torch.float16, torch.bfloat16),
        STORAGES[:2],
        (
            {"c": 16, "k": 1, "r": 1, "s": 1},
            {"c": 72, "k": 3, "padding": (1, 1), "bias": False},
            {"c": 40, "k": 1, "padding": (1, 1), "bias": False},
            {"c": 32, "k": 130, "r": 1, "s": 1},
        ),
    )
]


@pytest.mark.parametrize(("on", "problem", "precision"), with_classes(LARGE))
def test_large_images(on: Target, problem: Problem, precision: str) -> None:
    """The same in the tiles that large images get."""
    check(problem, on, precision)


# Few pixels with long sums, which blocks may share; channels that fill vectors or don't, in images of odd sizes.
DEEP = [
    Problem(n=3, h=7, w=w, dtype=dtype, storage=storage, weight_storage=storage, **case)
    for dtype, storage, (w, case) in product(
        (torch.float32, torch.float16, torch.bfloat16),
        (*STORAGES[:2], "offset"),
        (
            (7, {"c": 300, "k": 200, "padding": (1, 1)}),
            (14, {"c": 515, "k": 70, "r": 1, "s": 1, "scale": -0.5}),
            (20, {"c": 272, "k": 264, "groups": 2, "padding": (1, 0), "stride": (1, 2)}),
        ),
    )
]


@pytest.mark.parametrize(("on", "problem", "precision"), with_classes(DEEP))
def test_deep_layers(on: Target, problem: Problem, precision: str) -> None:
    """Sums cut into parts and put together again; inputs that a kernel copies before it multiplies."""
    check(problem, on, precision)


# Images too large for one slab of the CPU's cache: rows cut by stride, padding, dilation and window.
TALL = [
    Problem(n=n, c=c, h=h, w=w, k=k, dtype=dtype, storage=storage, weight_storage=storage, **geometry)
    for n, c, h, w, k, dtype, storage, geometry in (
        (1, 2, 90, 70, 600, torch.float32, "contiguous", {"padding": (1, 1)}),
        (2, 3, 190, 70, 400, torch.float32, "channels_last", {"padding": (2, 0), "stride": (1, 2), "r": 5}),
        (1, 2, 211, 90, 520, torch.float32, "transposed", {"stride": (2, 2), "padding": (1, 2), "s": 4}),
        (1, 16, 120, 61, 256, torch.float32, "contiguous", {"r": 1, "s": 1, "padding": (9, 3)}),
        (1, 2, 90, 70, 600, torch.bfloat16, "contiguous", {"padding": (4, 4), "dilation": (4, 3)}),
        (1, 4, 95, 70, 512, torch.float16, "channels_last", {"groups": 2, "padding": (0, 1)}),
        (1, 2, 80, 70, 300, torch.float64, "contiguous", {"padding": (3, 3), "dilation": (1, 3), "r": 4}),
        (None, 1, 5000, 2, 600, torch.float32, "contiguous", {"r": 7, "s": 2, "padding": (3, 0)}),
    )
]


@pytest.mark.parametrize("problem", TALL, ids=str)
def test_images_of_several_slabs(target: Target, problem: Problem) -> None:
    """Every row of the output comes from its slab, with the neighbouring rows and the right padding."""
    if target[0] == "cpu":
        _, rows = convmin.explain(*problem.tensors(), problem.scale, **problem.kwargs()).tile
        assert rows < problem.output_size[0], "one slab: not what this is about"
    for fill in ("normal", "integers"):
        with contextlib.suppress(Refused):
            check_problem(problem.replace(fill=fill), *target)


HOSTILE = [
    Problem(n=2, c=16, h=13, w=14, k=33, padding=(1, 1), fill=fill, dtype=dtype, storage=storage, weight_storage=weight)
    for fill in HOSTILE_FILLS + FORWARD_FILLS
    for dtype in DTYPES
    for storage, weight in ((STORAGES[0], STORAGES[0]), (STORAGES[1], STORAGES[0]), (STORAGES[1], STORAGES[1]))
]


@pytest.mark.parametrize(("on", "problem", "precision"), with_classes(HOSTILE))
def test_hostile_numbers(on: Target, problem: Problem, precision: str) -> None:
    """Range: a conversion to a narrower type that overflows or loses small numbers, a NaN or infinity that spreads."""
    check(problem, on, precision)


WIDE_HOSTILE = [problem.replace(n=1, c=64, h=9, w=136, k=128) for problem in HOSTILE]


@pytest.mark.parametrize(("on", "problem", "precision"), with_classes(WIDE_HOSTILE))
def test_hostile_numbers_in_wide_rows(on: Target, problem: Problem, precision: str) -> None:
    """The same where tensor cores compute: operands of few bits, and what is done about those out of range."""
    check(problem, on, precision)


# Work enough that float32 is worth multiplying as float16 with mma.sync, too.
LARGE_HOSTILE = [
    problem.replace(n=1, c=64, h=64, w=136, k=128) for problem in HOSTILE if problem.dtype == torch.float32
]
# And as much for every pixel that wgmma does the same, with narrow rows.
LARGE_HOSTILE += [problem.replace(n=6, c=256, h=28, w=28, k=256) for problem in LARGE_HOSTILE]
# Twice that, for which channels_last is copied, too.
LARGE_HOSTILE += [
    problem.replace(n=6, c=256, h=28, w=28, k=512)
    for problem in HOSTILE
    if problem.dtype == torch.float32 and (problem.storage, problem.weight_storage) == (STORAGES[1], STORAGES[1])
]
# For mma.sync: input and weight in one layout.
ALIKE_HOSTILE = [
    problem for problem in HOSTILE if problem.dtype != torch.float64 and problem.storage == problem.weight_storage
]
# What it gives warps that do nothing but load, by quads of pixels or one by one.
SPECIALIZED_HOSTILE = [problem.replace(n=1, c=64, h=136, w=w, k=128) for problem in ALIKE_HOSTILE for w in (136, 135)]
# Tiles that are equal parts of an image, smaller than they could be.
SPECIALIZED_HOSTILE += [
    problem.replace(n=24, h=56, w=56, stride=(2, 2)) for problem in SPECIALIZED_HOSTILE if problem.w == 136
]
# What it gives blocks that share a tile's sums, of which each sees some of a pixel's channels: the same ways.
SHARED_HOSTILE = [problem.replace(n=1, c=512, h=28, w=w, k=512) for problem in ALIKE_HOSTILE for w in (28, 27)]
# What it gives blocks that share a tile's output channels, some of whose warps do nothing but load.
SPLIT_HOSTILE = [problem.replace(n=10, c=160, h=33, w=w, k=384) for problem in ALIKE_HOSTILE for w in (33, 32)]


def test_blocks_share_tiles_of_hostile_numbers() -> None:
    for problem in SHARED_HOSTILE:
        plan = _C.plan(describe(problem, "tf32"), DEVICES["H200"].as_dict(), "sm80")
        assert plan["parts"] > 1 and plan["tile"][2] == 32
    for problem in SPLIT_HOSTILE:
        plan = _C.plan(describe(problem, "tf32"), DEVICES["H200"].as_dict(), "sm80")
        exempt = problem.w == 32 and problem.storage == "channels_last" and problem.dtype != torch.float32
        assert plan["splits"] > 1 and (plan["tile"] == (256, 128, 32) or exempt)


@pytest.mark.parametrize(
    ("on", "problem", "precision"),
    with_classes(LARGE_HOSTILE)
    + [
        case
        for case in with_classes(SPECIALIZED_HOSTILE + SHARED_HOSTILE + SPLIT_HOSTILE)
        if case.values[0][1] == "sm80"
    ],
)
def test_hostile_numbers_in_large_images(on: Target, problem: Problem, precision: str) -> None:
    """The same where a narrower type than TF32 computes, and what it can't is left to the portable kernel."""
    check(problem, on, precision)


@pytest.mark.parametrize("storage", STORAGES)
def test_memory_layouts(target: Target, storage: str) -> None:
    """Strides and offsets, of the input, of the weight and of both."""
    small = Problem(n=3, c=8, h=12, w=13, k=20, padding=(1, 0), fill="integers")
    wide = Problem(n=2, c=32, h=4, w=140, k=70, r=1, s=3, fill="integers")
    # Equal channels of both make equal products, whose roundings add up rather than cancel: the order of summation
    # then decides which of two good implementations is the better one.
    other = "transposed" if storage == "broadcast_channels" else storage
    for problem, dtype in product((small, wide) if target[0] == "cuda" else (small,), DTYPES):
        for changes in (
            {"storage": storage},
            {"weight_storage": storage},
            {"storage": storage, "weight_storage": other, "fill": "normal"},
        ):
            with contextlib.suppress(Refused):  # misaligned, say: the planner's choice takes it, and is a target too
                check_problem(problem.replace(dtype=dtype, **changes), *target, "tf32")


@st.composite
def problems(draw: st.DrawFn, wide: bool) -> Problem:
    """Any shape, or one that a tensor-core kernel may take; hypothesis shrinks a failing one to the smallest."""
    groups = 1 if wide else draw(st.sampled_from((1, 1, 1, 2, 3, 5)))
    one_to_three = st.tuples(st.integers(1, 3), st.integers(1, 3))
    problem = Problem(
        n=draw(st.one_of(st.none(), st.integers(0, 4))),
        c=groups * draw(st.integers(16, 140) if wide else st.integers(1, 40)),
        h=draw(st.integers(1, 9 if wide else 30)),
        w=draw(st.integers(60, 300) if wide else st.integers(1, 40)),
        k=groups * draw(st.integers(20, 300) if wide else st.integers(1, 140)),
        r=draw(st.integers(1, 5)),
        s=draw(st.integers(1, 7)),
        stride=(1, 1) if wide else draw(one_to_three),
        padding=draw(st.tuples(st.integers(0, 4), st.integers(0, 4))),
        dilation=draw(one_to_three),
        groups=groups,
        bias=draw(st.booleans()),
        scale=draw(st.sampled_from((1.0, 2.0, -1.0, 0.3))),
        dtype=draw(st.sampled_from(DTYPES)),
        storage=draw(st.sampled_from(STORAGES)),
        weight_storage=draw(st.sampled_from(STORAGES)),
        fill=draw(st.sampled_from(FILLS)),
        seed=draw(st.integers(0, 1 << 20)),
    )
    assume(min(problem.output_size) >= 1)
    assume(problem.products <= (200_000_000 if wide else 1_000_000))
    return problem


@given(data=st.data())
@settings(max_examples=60)
def test_drawn_shapes(target: Target, data: st.DataObject) -> None:
    """What no one thought of."""
    device, kernel = target
    problem = data.draw(problems(wide=kernel not in (None, "simt", "direct")))
    with contextlib.suppress(Refused):
        check_problem(problem, device, kernel, "tf32", SIGMAS)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_kernels_agree_to_the_bit_where_sums_are_exact(target: Target, dtype: torch.dtype) -> None:
    """On small integers nothing rounds before the end, so no order of summation and no precision class may show."""
    device, kernel = target
    for problem in (*GRID[::6], *WIDE[::9]) if device == "cuda" else GRID[::6]:
        problem = problem.replace(dtype=dtype, fill="integers", scale=-0.5)
        try:
            check_problem(problem, device, kernel, "tf32")
        except Refused:
            continue
        x, weight, bias = problem.tensors()
        expected = convmin.reference.conv2d_scale_min(
            x.double(), weight.double(), None if bias is None else bias.double(), -0.5, **problem.kwargs()
        )
        x, weight, bias = problem.tensors(device)
        with convmin.force_kernel(kernel or ""), fp32_class("tf32"):
            values = convmin.conv2d_scale_min(x, weight, bias, -0.5, **problem.kwargs())
        assert torch.equal(values.cpu(), expected.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_overflow_gives_infinity(device: str, dtype: torch.dtype) -> None:
    """Sums beyond the accumulator are infinite, with the sign of the exact result."""
    x = torch.full((1, 2, 3, 3), 1e38, dtype=dtype, device=device)
    weight = torch.ones(2, 2, 3, 3, dtype=dtype, device=device)
    assert convmin.conv2d_scale_min(x, weight).item() == float("inf")
    weight[1] = -1
    assert convmin.conv2d_scale_min(x, weight).item() == -float("inf")


def test_float16_overflows_at_the_end_only(device: str) -> None:
    """A convolution beyond 65504 whose scaled result fits float16 is finite: one rounding, at the end."""
    x = torch.full((1, 8, 3, 3), 1000.0, dtype=torch.float16, device=device)
    weight = torch.ones(1, 8, 3, 3, dtype=torch.float16, device=device)
    assert convmin.conv2d_scale_min(x, weight, scale=2.0**-4).item() == 4500.0
    # 65520 is halfway between float16's largest number and the next: it rounds to infinity, anything below does not.
    bias = torch.tensor([16.0], dtype=torch.float16, device=device)
    x = torch.full((1, 1, 1, 1), 65504.0, dtype=torch.float16, device=device)
    weight = torch.ones(1, 1, 1, 1, dtype=torch.float16, device=device)
    assert convmin.conv2d_scale_min(x, weight, bias).item() == float("inf")
    assert convmin.conv2d_scale_min(x, weight, bias * 0.5).item() == 65504.0


def test_float16_subnormals_survive(device: str) -> None:
    """Products below float16's smallest number add up; the output's subnormals are rounded, not flushed."""
    x = torch.full((1, 64, 1, 1), 2.0**-14, dtype=torch.float16, device=device)
    weight = torch.full((1, 64, 1, 1), 2.0**-14, dtype=torch.float16, device=device)
    assert convmin.conv2d_scale_min(x, weight).item() == 2.0**-22
