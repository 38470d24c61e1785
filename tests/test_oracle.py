"""The tests' own instruments can fail: each way in which a kernel may be wrong is caught by the checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from convmin.bench.check import to_tf32
from oracle import check_against_eager, check_bounds, check_exact, errors, hangs_on_few, solve
from runner import in_other_orders
from support import FILLS, Problem, eager

Result = tuple[torch.Tensor, torch.Tensor]
BASE = Problem(n=2, c=16, h=14, w=15, k=33, padding=(1, 1))


def correct(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, scale: float, **kwargs: Any) -> Result:
    """Accumulated in float32 or wider, rounded once."""
    wide = [t.to(torch.float64 if t.dtype == torch.float64 else torch.float32) for t in (x, weight, bias)]
    values, indices = eager(*wide, scale, **kwargs)
    return values.to(x.dtype), indices


def shifted_tap(x: torch.Tensor, weight: torch.Tensor, *rest: Any, **kwargs: Any) -> Result:
    return correct(x, weight.roll(1, 3), *rest, **kwargs)


def missing_tap(x: torch.Tensor, weight: torch.Tensor, *rest: Any, **kwargs: Any) -> Result:
    weight = weight.clone()
    weight[:, -1, -1, -1] = 0
    return correct(x, weight, *rest, **kwargs)


def bias_after_scale(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, scale: float, **kwargs: Any) -> Result:
    return correct(x, weight, bias / scale, scale, **kwargs)


def tf32_operands(x: torch.Tensor, weight: torch.Tensor, *rest: Any, **kwargs: Any) -> Result:
    return correct(to_tf32(x), to_tf32(weight), *rest, **kwargs)


def float16_operands(x: torch.Tensor, weight: torch.Tensor, *rest: Any, **kwargs: Any) -> Result:
    return correct(x.half().float(), weight.half().float(), *rest, **kwargs)


def scaled_float16_operands(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, scale: float, **kwargs: Any
) -> Result:
    """float16 with a power of two for each filter: enough range for the weight, not for the input."""
    powers = 2.0 ** torch.floor(torch.log2(weight.abs().amax((1, 2, 3), keepdim=True)))
    wide = eager(x.half().double(), ((weight / powers).half() * powers).double(), bias.double(), scale, **kwargs)
    return wide[0].float(), wide[1]


def equally_scaled_float16_operands(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, scale: float, **kwargs: Any
) -> Result:
    """The same with one power of two for all filters, as the Hopper kernel has where they are within 128 of each other:
    the largest weight comes to lie between 2^14 and 2^15."""
    power = 2.0 ** (torch.floor(torch.log2(weight.abs().max())) - 14)
    wide = eager(x.half().double(), ((weight / power).half() * power).double(), bias.double(), scale, **kwargs)
    return wide[0].float(), wide[1]


def truncated_tf32(x: torch.Tensor, weight: torch.Tensor, *rest: Any, **kwargs: Any) -> Result:
    def truncated(t: torch.Tensor) -> torch.Tensor:
        return (t.contiguous().view(torch.int32) & ~0x1FFF).view(torch.float32)

    return correct(truncated(x), truncated(weight), *rest, **kwargs)


def rounded_twice(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, scale: float, **kwargs: Any) -> Result:
    wide = torch.nn.functional.conv2d(x.float(), weight.float(), bias.float(), **kwargs)
    minimum = torch.min(wide.to(x.dtype) * scale, 1, keepdim=True)
    return minimum.values, minimum.indices


def bare_fminf(x: torch.Tensor, *rest: Any, **kwargs: Any) -> Result:
    values, indices = correct(x, *rest, **kwargs)
    return values.nan_to_num(nan=0.0), indices


def padded_channel(*args: Any, **kwargs: Any) -> Result:
    values, indices = correct(*args, **kwargs)
    return values.clamp(max=0.0), indices


def index_off_by_one(*args: Any, **kwargs: Any) -> Result:
    values, indices = correct(*args, **kwargs)
    return values, (indices - 1).clamp(min=0)


def last_of_ties(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, scale: float, **kwargs: Any) -> Result:
    values, indices = correct(x, weight.flip(0), bias.flip(0), scale, **kwargs)
    return values, weight.shape[0] - 1 - indices


def flushed(x: torch.Tensor, *rest: Any, **kwargs: Any) -> Result:
    return correct(torch.where(x.abs() < 2.0**-14, 0.0, x), *rest, **kwargs)


def check(implementation: Callable[..., Result], problem: Problem, precision: str = "ieee") -> None:
    x, weight, bias = problem.tensors()
    arguments = (x, weight, bias, problem.scale)
    values, indices = implementation(*arguments, **problem.kwargs())
    oracle = solve(*arguments, **problem.kwargs(), precision=precision)
    check_bounds(values, indices, oracle)
    if problem.fill == "integers":
        check_exact(values, indices, oracle)
    reference = eager if precision == "ieee" else tf32_operands
    check_against_eager(values, [reference(*arguments, **problem.kwargs())[0]], oracle)


PROBLEMS = [
    BASE,
    BASE.replace(fill="uniform", bias=True),
    BASE.replace(fill="integers"),
    BASE.replace(fill="mixed_regions"),
    BASE.replace(fill="mixed_channels"),
    BASE.replace(fill="silenced_channel"),
    BASE.replace(fill="one_nan"),
    BASE.replace(fill="one_negative_inf"),
    BASE.replace(fill="underflow16"),
    BASE.replace(dtype=torch.float64),
    BASE.replace(dtype=torch.float16, scale=0.3),
    BASE.replace(dtype=torch.bfloat16, scale=-3.7),
]


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_a_correct_implementation_passes(problem: Problem) -> None:
    check(correct, problem)


@pytest.mark.parametrize(
    ("mutant", "problem"),
    [
        (shifted_tap, BASE),
        (shifted_tap, BASE.replace(dtype=torch.bfloat16)),
        (missing_tap, BASE.replace(fill="integers")),
        (bias_after_scale, BASE),
        (tf32_operands, BASE),
        (tf32_operands, BASE.replace(fill="mixed_regions")),
        (float16_operands, BASE.replace(fill="underflow16")),
        (float16_operands, BASE.replace(fill="silenced_channel")),
        (rounded_twice, BASE.replace(dtype=torch.float16, scale=0.3)),
        (rounded_twice, BASE.replace(dtype=torch.bfloat16, scale=0.3)),
        (bare_fminf, BASE.replace(fill="one_nan")),
        (padded_channel, BASE.replace(k=1, fill="uniform", scale=-1.0)),
        (index_off_by_one, BASE),
        (last_of_ties, BASE.replace(fill="integers", scale=-1.0)),
        (flushed, BASE.replace(fill="underflow16")),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_wrong_implementation_is_caught(mutant: Callable[..., Result], problem: Problem) -> None:
    with pytest.raises(AssertionError):
        check(mutant, problem)


def test_the_oracle_agrees_with_a_plain_loop() -> None:
    """Padding, stride, dilation and groups by the definition, one multiply-add at a time."""
    problem = Problem(n=2, c=4, h=6, w=7, k=6, r=2, s=3, stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2)
    x, weight, bias = problem.replace(dtype=torch.float64).tensors()
    assert bias is not None
    oracle = solve(x, weight, bias, -0.5, **problem.kwargs())
    oh, ow = problem.output_size
    for pixel in range(2 * oh * ow):
        n, h, w = pixel // (oh * ow), pixel // ow % oh, pixel % ow
        sums = bias.tolist()
        for k in range(problem.k):
            for c in range(2):
                for r in range(problem.r):
                    for s in range(problem.s):
                        ih, iw = 2 * h + r - 1, w + 2 * s - 2
                        if 0 <= ih < problem.h and 0 <= iw < problem.w:
                            sums[k] += float(x[n, k // 3 * 2 + c, ih, iw] * weight[k, c, r, s])
        results = [-0.5 * total for total in sums]
        assert float(oracle.value[pixel]) == pytest.approx(min(results), rel=1e-13)
        assert int(oracle.index[pixel]) == results.index(min(results))


def test_one_pixel_is_judged_by_more_than_one_order() -> None:
    """Of a single pixel's sum one order may be right by luck: another, as good on average, must pass."""
    problem = Problem(n=2, c=8, h=3, w=4, k=1, r=1, s=1, scale=-0.3, fill="mixed_pixels")
    x, weight, bias = problem.tensors()
    assert bias is not None
    oracle = solve(x, weight, bias, problem.scale, **problem.kwargs())
    generator = torch.Generator().manual_seed(0)
    products, results = x * weight, []
    for _ in range(64):
        total = torch.zeros_like(products[:, :1])
        for channel in torch.randperm(problem.c, generator=generator).tolist():
            total = total + products[:, channel, None]
        results.append((total + bias) * problem.scale)
    results.sort(key=lambda result: float(errors(result, oracle).max()))
    lucky, usual = results[0], results[len(results) // 2]
    assert hangs_on_few(oracle)
    with pytest.raises(AssertionError):
        check_against_eager(usual, [lucky], oracle)
    check_against_eager(usual, [lucky, *in_other_orders(x, weight, bias, problem)], oracle)


def test_orders_of_cancelling_sums_err_alike_in_all_pixels() -> None:
    """The order that errs most in one half of the pixels does so in the other: no number of pixels evens that out."""
    problem = Problem(n=2, c=96, h=14, w=14, k=8, padding=(1, 1), fill="cancelling", bias=False)
    x, weight, _ = problem.tensors()
    columns = F.unfold(x, 3, padding=1).permute(1, 0, 2).reshape(problem.reduction, -1).double()
    rows = weight.reshape(problem.k, -1).double()
    exact = (rows @ columns).amin(0)
    generator = torch.Generator().manual_seed(0)
    means = []
    for _ in range(6):
        sums = torch.zeros(problem.k, exact.numel())
        channels = torch.randperm(problem.c, generator=generator)
        for i in (channels[:, None] * 9 + torch.arange(9)).flatten().tolist():
            sums = torch.addcmul(sums.double(), rows[:, i, None], columns[None, i]).float()
        means.append((sums.amin(0).double() - exact).abs().reshape(2, -1).mean(1).tolist())
    best, worst = min(means), max(means)
    assert worst[1] > 1.2 * best[1], means


TF32_PROBLEMS = [BASE.replace(fill=fill) for fill in FILLS if fill != "subnormal"]


@pytest.mark.parametrize("problem", TF32_PROBLEMS, ids=str)
def test_tf32_operands_pass_in_their_class(problem: Problem) -> None:
    check(tf32_operands, problem, "tf32")


@pytest.mark.parametrize("fill", ["normal", "uniform", "integers", "related_filters"])
@pytest.mark.parametrize("operands", [scaled_float16_operands, equally_scaled_float16_operands])
def test_float16_operands_pass_as_tf32_within_their_range(operands: Callable[..., Result], fill: str) -> None:
    """As many mantissa bits: on ordinary numbers nobody can tell them apart."""
    check(operands, BASE.replace(fill=fill), "tf32")


@pytest.mark.parametrize(
    ("mutant", "fill"),
    [
        (truncated_tf32, "uniform"),
        (scaled_float16_operands, "mixed_channels"),
        (scaled_float16_operands, "mixed_regions"),
        (scaled_float16_operands, "underflow16"),
        (scaled_float16_operands, "overflow16"),
        (scaled_float16_operands, "silenced_ordinary"),
        (scaled_float16_operands, "balanced_channels"),
        (equally_scaled_float16_operands, "mixed_filters"),
        (shifted_tap, "normal"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_too_little_precision_or_range_for_tf32_is_caught(mutant: Callable[..., Result], fill: str) -> None:
    with pytest.raises(AssertionError):
        check(mutant, BASE.replace(fill=fill), "tf32")
