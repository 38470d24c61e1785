"""The kernel for depthwise layers: its windows, and ways to share patches and channels out over warps."""

from __future__ import annotations

import random
from itertools import product

import pytest
import torch
from convmin import _C
from plans import DEVICES, describe
from runner import check_problem
from support import DTYPES, Problem

H200 = DEVICES["H200"].as_dict()


def layer(c: int, h: int, w: int, window: int, step: int = 1, **changes: object) -> Problem:
    problem = Problem(n=2, c=c, h=h, w=w, k=c, r=window, s=window, stride=(step, step), groups=c)
    return problem.replace(padding=(window // 2, window // 2)).replace(**changes)


WINDOWS = ((3, 1), (5, 1), (7, 1), (3, 2), (5, 2))  # and strides

# Of each: channels that fill no warp, one, and several stages; pixels that fill no patch, and many tiles; no padding,
# and as much as a window.
LAYERS = [
    layer(c, h, w, window, step, padding=padding, n=n)
    for (window, step), (c, h, w, n, padding) in product(
        WINDOWS,
        (
            (2, 9, 8, 1, (0, 1)),
            (33, 7, 7, 3, (1, 3)),
            (40, 14, 15, 2, (2, 2)),
            (72, 28, 29, 2, (0, 0)),
            (240, 12, 28, 1, (3, 7)),
            (520, 8, 7, 2, (1, 1)),
            (96, 57, 130, 2, (1, 0)),
        ),
    )
]
HOSTILE = ("mixed_channels", "overflow16", "cancelling", "one_nan", "one_inf", "one_negative_inf", "subnormal", "zeros")


@pytest.mark.cuda
@pytest.mark.parametrize("storage", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("problem", LAYERS, ids=str)
def test_windows(problem: Problem, dtype: torch.dtype, storage: str) -> None:
    problem = problem.replace(dtype=dtype, storage=storage)
    vectors = problem.c % (16 // dtype.itemsize) == 0
    kernel = "depthwise" if storage == "contiguous" or vectors else None
    check_problem(problem, "cuda", kernel, "ieee")
    check_problem(problem.replace(fill="integers", scale=-0.5, bias=False), "cuda", kernel, "ieee")


@pytest.mark.cuda
@pytest.mark.parametrize("fill", HOSTILE)
@pytest.mark.parametrize("storage", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_hostile_numbers(dtype: torch.dtype, storage: str, fill: str) -> None:
    for problem in (layer(72, 14, 15, 3), layer(264, 9, 11, 5, 2), layer(40, 20, 13, 7)):
        for scale in (1.0, -0.3, 0.0, float("inf")):
            problem = problem.replace(dtype=dtype, storage=storage, fill=fill, scale=scale)
            check_problem(problem, "cuda", "depthwise", "ieee")


@pytest.mark.cuda
@pytest.mark.parametrize("storage", ["offset", "sliced", "transposed", "batch_inner", "broadcast_batch", "overlapping"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_strides(dtype: torch.dtype, storage: str) -> None:
    """Pixel by pixel, input and weight lie as they like."""
    for problem in (layer(72, 14, 15, 3), layer(40, 21, 13, 5, 2)):
        problem = problem.replace(dtype=dtype, storage=storage, weight_storage=storage)
        check_problem(problem, "cuda", "depthwise", "ieee")


def random_layer(rng: random.Random) -> Problem:
    c = rng.choice((2, 24, 32, 96, 144, 240, 576, 960, 2000))
    size = (rng.choice((1, 4, 7, 14, 28, 57, 112, 300)), rng.choice((1, 5, 7, 14, 28, 56, 112, 1000)))
    problem = layer(c, *size, *rng.choice(WINDOWS), n=rng.choice((1, 2, 8, 64, 1000)))
    problem = problem.replace(padding=(rng.randint(3, 7), rng.randint(3, 7)), dtype=rng.choice(DTYPES))
    return problem.replace(storage=rng.choice(("contiguous", "channels_last")))


@pytest.mark.parametrize("name", DEVICES)
def test_plans_fit_the_device(name: str) -> None:
    device, rng = DEVICES[name], random.Random(name)
    accepted = 0
    for _ in range(1000):
        problem = random_layer(rng)
        plan = _C.plan(describe(problem), device.as_dict(), "depthwise")
        if not plan["accepted"]:
            expected = ("needs compute", "float64", "whole vectors", "2^30", "2^31")
            assert any(words in plan["reason"] for words in expected)
            continue
        accepted += 1
        rows, columns, channels = plan["tile_rows"], plan["tile_columns"], plan["tile"][1]
        assert plan["tile"] == (rows * columns, channels, problem.r**2)
        assert rows % 4 == columns % 4 == channels % 32 == 0
        assert plan["threads"] == rows // 4 * (columns // 4) * channels <= 512
        n, (oh, ow) = problem.n or 1, problem.output_size
        splits = plan["splits"]
        assert plan["blocks"] == n * -(-oh // rows) * -(-ow // columns) * splits < 2**31
        assert splits <= -(-problem.c // channels)
        if splits > 1:
            assert device.major == 9 and plan["cluster"] == splits <= 8
        # A stage's input and weight, twice where there is more than one of them.
        halo = ((rows - 1) * problem.stride[0] + problem.r) * ((columns - 1) * problem.stride[1] + problem.s)
        stages = 1 if problem.c <= channels * splits else 2
        least = stages * channels * (halo + problem.r**2) * problem.dtype.itemsize
        assert plan["stages"] == stages and least < plan["shared_memory"] <= device.shared_memory_per_block
        assert plan["workspace_bytes"] == 0 and plan["precision"] == "ieee"
    assert (accepted > 400) == (device.major >= 8)


def test_refusals() -> None:
    plain = layer(64, 14, 14, 3, n=8)
    for changes, words in (
        ({"groups": 32}, "one channel each"),
        ({"k": 128}, "one channel each"),
        ({"s": 5}, "window"),
        ({"r": 4, "s": 4}, "window"),
        ({"stride": (2, 1)}, "window"),
        ({"stride": (3, 3)}, "window"),
        ({"r": 7, "s": 7, "stride": (2, 2)}, "window"),
        ({"dilation": (1, 2)}, "dilated"),
        ({"n": 0}, "empty"),
        ({"dtype": torch.float64}, "float64"),
        ({"c": 63, "k": 63, "groups": 63, "storage": "channels_last"}, "whole vectors"),
    ):
        plan = _C.plan(describe(plain.replace(**changes)), H200, "depthwise")
        assert not plan["accepted"] and words in plan["reason"], changes
    assert "8.0" in _C.plan(describe(plain), DEVICES["T4"].as_dict(), "depthwise")["reason"]


def test_layers_that_go_to_it() -> None:
    """And those that don't: of few channels, of many pixels with small windows, or of windows that are apart."""
    small, large, brain = layer(96, 28, 28, 3), layer(96, 112, 112, 3, n=8), torch.bfloat16
    taken = (small, small.replace(stride=(2, 2)), layer(240, 28, 28, 5, n=64), layer(64, 56, 56, 7, n=64))
    taken += (large.replace(storage="channels_last"), large.replace(dtype=brain))
    for problem in taken:
        assert _C.plan(describe(problem), H200)["kernel"] == "depthwise", problem
    left = (layer(16, 28, 28, 3), large, large.replace(stride=(2, 2)), layer(40, 112, 112, 5, n=8))
    for problem in left:
        assert _C.plan(describe(problem), H200)["kernel"] == "direct", problem
