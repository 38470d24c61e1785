"""The planner of the gradients, for GPUs that are not there."""

from __future__ import annotations

import math
import random
from itertools import product

import pytest
import torch
from convmin import _C
from plans import DEVICES, describe, large_problem, plan_backward
from sanitize import backward_problem, backward_problems, backward_variant_of
from support import Problem


def test_the_sanitizer_meets_every_variant_of_the_backward() -> None:
    """Vectors and scalars, copies, teams of every size and all of the window kernels."""
    problems = backward_problems()
    covered = {backward_variant_of(problem, plan_backward(problem)) for problem in problems}
    assert {variant[0] for variant in covered} == {"runs", "window"}
    assert {plan_backward(problem)["grad_input"] for problem in problems} == {"general", "groups", "window"}
    assert {plan_backward(problem).get("sort_passes") for problem in problems} >= {1, 2}
    for kind in ("runs", "window"):
        assert {v[1] for v in covered if v[0] == kind} == {"float32", "float16", "bfloat16"} | (
            {"float64"} if kind == "runs" else set()
        )
    assert {v[2] for v in covered if v[0] == "runs"} == {4, 8, 16, 32}
    rng = random.Random(3)
    for _ in range(2000):
        problem = backward_problem(rng)
        variant = backward_variant_of(problem, plan_backward(problem))
        assert variant in covered, f"{variant}: {problem}"


@pytest.mark.parametrize("name", DEVICES)
def test_gradients_fit_the_device(name: str) -> None:
    """Every pixel in a slice, every column in a team; and a workspace that has a limit."""
    rng = random.Random(name)
    for _ in range(1000):
        problem = large_problem(rng)
        if rng.random() < 0.3:
            problem = problem.replace(c=problem.c * 64, k=problem.k * rng.choice((1, 64)))
        plan = plan_backward(problem, name, (False, True, rng.random() < 0.5))
        assert plan["accepted"], plan["reason"]
        pixels = (1 if problem.n is None else problem.n) * math.prod(problem.output_size)
        size = 8 if problem.dtype == torch.float64 else 4
        if plan["grad_weight"] == "window":
            assert plan["workspace_bytes"] <= 16 * pixels + 2**26
            continue
        assert plan["slices"] * plan["slice_pixels"] >= pixels and plan["slice_pixels"] <= 2**22
        vector = 16 // problem.dtype.itemsize if plan["vectors"] else 1
        parts = 2 if plan["vectors"] else 3
        assert plan["team"] in (4, 8, 16, 32)
        assert plan["team"] * plan["team_chunks"] * parts * vector >= problem.reduction
        assert plan["segment_pixels"] % max(plan["team"], 16) == 0
        segments = -(-plan["slice_pixels"] // plan["segment_pixels"])
        assert segments <= 16384
        # A copy, the pieces, lists and their counts, and the sums of several slices.
        sums = problem.k * (problem.reduction * 2 + 64) * size if plan["slices"] > 1 else 0
        assert plan["workspace_bytes"] <= 2**27 + 2**27 + 16 * 2**22 + problem.k + sums + 2**23


def test_the_window_kernel_gives_way_where_it_reads_the_input_often() -> None:
    """The headline's pixels are read nine times from shared memory; for 512 channels there would be four ranges of
    sums, each of which stages the input again."""
    headline = Problem(n=64, c=64, h=256, w=256, k=128)
    deep = Problem(n=32, c=256, h=64, w=64, k=512, padding=(1, 1))
    for dtype, storage in product((torch.float32, torch.float16, torch.bfloat16), ("contiguous", "channels_last")):
        changes = {"dtype": dtype, "storage": storage}
        assert plan_backward(headline.replace(**changes))["grad_weight"] == "window"
        assert plan_backward(headline.replace(**changes, r=1, s=1))["grad_weight"] == "runs"
        depthwise = Problem(n=8, c=96, h=112, w=112, k=96, groups=96, stride=(2, 2), padding=(1, 1), **changes)
        plan = plan_backward(depthwise)
        assert (plan["grad_weight"], plan["team"], plan["slice_images"]) == ("runs", 4, 0)
        assert plan_backward(headline.replace(**changes), wanted=(False, False, True))["grad_weight"] == "runs"
    assert plan_backward(deep.replace(dtype=torch.bfloat16, storage="channels_last"))["grad_weight"] == "runs"


def test_pairs_of_elements_are_aligned() -> None:
    """Two 16-bit elements a load: pairs of channels, or of a row's pixels, that lie in the image as a whole."""
    headline = Problem(n=64, c=64, h=256, w=256, k=128, dtype=torch.bfloat16)
    last = {"storage": "channels_last"}
    for changes, pairs in (
        ({}, True),
        ({"dtype": torch.float16, "padding": (1, 1)}, True),
        (last, True),
        ({**last, "w": 255}, True),
        ({"c": 33}, True),
        ({"dtype": torch.float32}, False),
        ({"w": 255}, False),
        ({**last, "c": 33}, False),
    ):
        plan = plan_backward(headline.replace(**changes))
        assert (plan["grad_weight"], plan["pairs"]) == ("window", pairs), changes
    description, device = describe(headline), DEVICES["H200"].as_dict()
    for changed in ({"input_alignment": 2}, {"input_strides": (64 * 257 * 255, 257 * 255, 255, 1)}):
        plan = _C.plan_backward({**description, **changed}, device, (False, True, True))
        assert plan["grad_weight"] == "window" and not plan["pairs"], changed
    assert not plan_backward(headline.replace(n=1, h=24, w=66))["pairs"]  # a block for each tile either way


def test_gradients_of_large_inputs_come_in_slices() -> None:
    """At most 2^22 pixels a list; a copy of the input takes at most 128 MiB, where its channels are apart."""
    problem = Problem(n=64, c=128, h=112, w=112, k=128, stride=(2, 2), padding=(1, 1))
    for changes, slices, images in (
        ({}, 4, 16),
        ({"dtype": torch.bfloat16}, 2, 32),
        ({"storage": "channels_last"}, 1, 0),
        ({"c": 4}, 1, 0),
        ({"n": 1, "h": 3000, "w": 3000}, 1, 0),
        ({"n": 40, "c": 1, "h": 8192, "w": 8192, "k": 2, "r": 1, "s": 1}, 161, 0),
    ):
        plan = plan_backward(problem.replace(**changes))
        assert plan["accepted"] and plan["grad_weight"] == "runs"
        assert (plan["slices"], plan["slice_images"]) == (slices, images), changes
