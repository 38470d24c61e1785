"""The sparse backward: against float64 with the winning channels given, for every kernel, layout and spread."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

import convmin
import numpy
import pytest
import torch
from gradients import NAMES, SPREADS, Case, check_bounds, dense, exact, make_case, unit
from plans import plan_backward
from support import DTYPES, FILLS, STORAGES, Problem, random_problem

WIDE = Problem(n=2, c=64, h=19, w=131, k=128)  # 3 x 3 at stride 1, wide enough for the window kernels
PAIRS = Problem(n=3, c=18, h=194, w=258, k=12, padding=(1, 1))  # so many tiles that 16-bit elements are loaded in pairs
# Segments of one channel and of many, runs of a pixel and of many segments; by scalars, by vectors, and copied.
DEPTHWISE = Problem(n=4, c=24, h=60, w=61, k=24, groups=24, stride=(2, 1), padding=(1, 1))
DEEP = Problem(n=2, c=72, h=28, w=28, k=96, padding=(1, 1))
POINTWISE = Problem(n=8, c=64, h=28, w=28, k=512, r=1, s=1)
MANY = Problem(n=2, c=16, h=20, w=31, k=1100, r=1, s=1)  # the list takes two passes to sort
PROBLEMS = [
    DEPTHWISE,
    DEPTHWISE.replace(c=48, stride=(1, 3), dilation=(2, 1)),
    DEEP,
    DEEP.replace(c=144, groups=2, stride=(2, 2)),
    DEEP.replace(c=75, k=7),
    MANY,
    Problem(),
    Problem(n=None, padding=(1, 2), scale=-0.7),
    Problem(n=0),
    Problem(n=0, c=64, w=70, k=32),
    Problem(c=9, k=12, groups=3, stride=(2, 1), dilation=(1, 2)),
    Problem(c=96, h=15, w=15, k=96, groups=96, padding=(1, 1), stride=(2, 2)),
    Problem(c=48, k=24, groups=24, r=5, s=5, padding=(2, 2)),
    Problem(c=600, k=300, groups=300, h=5, w=30, padding=(1, 1)),
    Problem(c=64, k=32, groups=4, h=12, w=20, stride=(2, 1), padding=(1, 1)),
    Problem(k=300, r=1, s=1, c=70, h=30, w=31),
    Problem(k=33000, r=1, s=1, c=3),
    Problem(n=3, c=3, h=40, w=41, k=64, r=7, s=7, stride=(2, 2), padding=(3, 3)),
    Problem(c=1, h=30, w=60, k=5, r=9, s=9, padding=(4, 4)),
    Problem(h=40, w=50, dilation=(6, 9), padding=(12, 3), stride=(3, 2)),
    Problem(n=1, c=2, h=1, w=70, k=7, r=1, s=3, padding=(2, 4)),
    Problem(n=40, c=20, h=7, w=7, k=40, padding=(1, 1)),
    WIDE,
    WIDE.replace(padding=(1, 1)),
    WIDE.replace(padding=(2, 2), c=33, k=129, w=128),
    WIDE.replace(c=16, k=200, w=64, n=1),
    WIDE.replace(c=72, k=500, w=134, padding=(1, 1)),
    WIDE.replace(c=70, k=35, groups=5, h=40),
    WIDE.replace(n=None, c=128, k=17, h=33, w=256),
    PAIRS,
    PAIRS.replace(n=2, c=47, k=130, h=134, w=190, padding=(0, 2)),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("storage", ["contiguous", "channels_last"])
@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_against_float64(problem: Problem, storage: str, dtype: torch.dtype, device: str) -> None:
    problem = problem.replace(dtype=dtype, storage=storage, weight_storage=storage)
    check_bounds(make_case(problem, device))


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("storage", ["contiguous", "channels_last"])
@pytest.mark.parametrize(
    "problem",
    [
        Problem(c=9, k=12, groups=3),
        WIDE,
        Problem(k=300, r=1, s=1),
        DEPTHWISE,
        DEEP,
        MANY,
        PAIRS.replace(dtype=torch.half),
    ],
    ids=str,
)
def test_spreads_of_the_winners(problem: Problem, storage: str, spread: str, device: str) -> None:
    """Runs of a channel of every length, from one pixel to all, and channels that no pixel has."""
    check_bounds(make_case(problem.replace(storage=storage, weight_storage=storage), device, spread))


@pytest.mark.parametrize("layout", ["expanded", "transposed"])
@pytest.mark.parametrize("problem", [Problem(), WIDE], ids=str)
def test_layouts_of_the_gradient(problem: Problem, layout: str, device: str) -> None:
    """sum() sends a gradient of stride 0."""
    check_bounds(make_case(problem, device, layout=layout))


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("problem", [Problem(), WIDE, DEPTHWISE, DEEP], ids=str)
def test_storages(problem: Problem, storage: str, device: str) -> None:
    check_bounds(make_case(problem.replace(storage=storage, weight_storage=storage), device))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("fill", FILLS)
def test_hostile_numbers(fill: str, dtype: torch.dtype, device: str) -> None:
    for problem in (Problem(padding=(1, 1)), WIDE.replace(n=1, padding=(1, 1))):
        check_bounds(make_case(problem.replace(dtype=dtype, fill=fill), device, "forward"))


@pytest.mark.parametrize("scale", [0.0, -2.0, float("inf"), float("nan")])
def test_scales(scale: float, device: str) -> None:
    check_bounds(make_case(Problem(scale=scale), device))


@pytest.mark.parametrize("problem", [Problem(padding=(1, 1)), WIDE.replace(padding=(1, 1))], ids=str)
def test_infinite_gradients(problem: Problem, device: str) -> None:
    """An overflowed loss: what an infinite gradient reaches is infinite or NaN, and nothing else is."""
    case = make_case(problem, device)
    case.grad.view(-1)[:: case.grad.numel() // 3] = float("inf")
    check_bounds(case)


def test_threads_change_nothing() -> None:
    """On the CPU, too, the order of the sums depends on the problem alone."""
    before = torch.get_num_threads()
    try:
        for problem in (WIDE, Problem(c=12, k=8, groups=4), Problem(n=40, c=3, h=40, w=40, k=9)):
            case, results = make_case(problem, "cpu"), []
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                results.append(case.run())
            for other in results[1:]:
                assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
    finally:
        torch.set_num_threads(before)


def test_the_reference_is_autograds(device: str) -> None:
    """The float64 reference of these tests against PyTorch's own dense backward."""
    for problem in (Problem(), Problem(c=9, k=12, groups=3, stride=(2, 1), dilation=(1, 2), padding=(1, 3))):
        case = make_case(problem.replace(dtype=torch.float64), device)
        for mine, theirs in zip(case.exact(), case.dense(), strict=True):
            torch.testing.assert_close(mine, theirs.cpu(), rtol=1e-11, atol=1e-11)


def check_errors(cases: Iterable[Case], reference: Callable[[Case], Sequence[numpy.ndarray]]) -> None:
    """Mean and largest error of every gradient, over several seeds. Slack: half a unit in the last place of the result,
    which is rounded in any case, and twice the deviation of two means of so many errors: where one channel has all of
    it, its bias is a single sum a seed."""
    # Of each gradient and seed: [mine, eager's, the result's rounding].
    errors: list[list[numpy.ndarray]] = [[], [], []]
    for case in cases:
        half_unit = unit(case.x.dtype) / 2
        for pool, mine, theirs, true in zip(errors, case.run(), case.dense(), reference(case), strict=True):
            assert mine is not None
            off = [abs(t.double().cpu().numpy() - true).ravel() for t in (mine, theirs)]
            pool.append(numpy.stack([*off, half_unit * abs(true).ravel()]))
    for name, pool in zip(NAMES, errors, strict=True):
        pooled = numpy.concatenate(pool, axis=1)
        mean, largest = pooled.mean(1), pooled.max(1)
        chance = 2 / max(1, numpy.count_nonzero(pooled[2])) ** 0.5
        assert mean[0] <= (1.02 + chance) * mean[1] + mean[2], name
        assert largest[0] <= 1.3 * largest[1] + largest[2], name


def in_float64(case: Case) -> list[numpy.ndarray]:
    return [t.numpy() for t in case.exact()]


@pytest.mark.parametrize("dtype", DTYPES[:1] + DTYPES[2:], ids=str)
@pytest.mark.parametrize("spread", ["random", "one"])
def test_errors_are_below_eagers(spread: str, dtype: torch.dtype, device: str) -> None:
    for problem in (WIDE.replace(n=2), Problem(n=4, c=32, h=30, w=30, k=64, r=1, s=1)):
        check_errors(
            (make_case(problem.replace(dtype=dtype, seed=seed), device, spread) for seed in range(6)), in_float64
        )


@pytest.mark.parametrize("spread", ["forward", "one", "two"])
@pytest.mark.parametrize(
    "problem",
    [
        POINTWISE,
        Problem(n=2, c=3, h=128, w=128, k=64, r=7, s=7, stride=(2, 2), padding=(3, 3)),
        Problem(n=2, c=24, h=40, w=40, k=48, r=5, s=5, padding=(2, 2)),
        Problem(n=2, c=72, h=24, w=24, k=64, r=7, s=7, padding=(3, 3)),
    ],
    ids=str,
)
def test_errors_of_long_sums_are_below_eagers(problem: Problem, spread: str, device: str) -> None:
    """A channel of many that wins most pixels, and windows of which many elements reach a pixel of the input."""
    check_errors((make_case(problem.replace(seed=seed), device, spread) for seed in range(6)), in_float64)


def in_long_double(case: Case) -> list[numpy.ndarray]:
    """The gradients of a 1x1 convolution, of float64."""
    size = case.problem.k, case.problem.c
    grad, x, weight = (t.cpu().numpy().astype(numpy.longdouble) for t in (case.grad, case.x, case.weight.view(size)))
    index = case.index.cpu().long().flatten().numpy()
    grad = (grad * case.problem.scale).ravel()
    pixels = numpy.moveaxis(x, 1, -1)  # [n, h, w, c]
    terms = grad[:, None] * pixels.reshape(-1, size[1])
    grad_weight, grad_bias = numpy.zeros(size, numpy.longdouble), numpy.zeros(size[0], numpy.longdouble)
    for k in numpy.unique(index):
        grad_weight[k], grad_bias[k] = terms[index == k].sum(0), grad[index == k].sum()
    grad_input = numpy.moveaxis((grad[:, None] * weight[index]).reshape(pixels.shape), -1, 1)
    return [grad_input, grad_weight.reshape(case.weight.shape), grad_bias]


@pytest.mark.skipif(numpy.finfo(numpy.longdouble).eps > 1e-18, reason="long double is double here")
@pytest.mark.parametrize("spread", ["one", "two"])
def test_errors_in_float64_are_below_eagers(spread: str, device: str) -> None:
    cases = [make_case(POINTWISE.replace(dtype=torch.float64, seed=seed), device, spread) for seed in range(6)]
    check_errors(cases, in_long_double)
    for seed, case in enumerate(cases):  # a constant gradient: every addition of a run rounds the same way
        case.grad.fill_(1 / (2 * seed + 3))
    check_errors(cases, in_long_double)


@pytest.mark.parametrize("mask", [(a, b, c) for a in (True, False) for b in (True, False) for c in (True, False)])
@pytest.mark.parametrize("problem", [Problem(), WIDE], ids=str)
def test_output_mask(problem: Problem, mask: tuple[bool, bool, bool], device: str) -> None:
    """What isn't asked for is not there; the rest is the same to the bit.

    But where grad_weight isn't asked for, another of CUDA's kernels may sum grad_bias.
    """
    case = make_case(problem, device)
    everything, results = case.run(), case.run(mask)
    assert tuple(part is not None for part in results) == mask
    for name, part, whole in zip(NAMES, results, everything, strict=True):
        if name == "grad_bias" and device == "cuda" and not mask[1]:
            check_bounds(case, (*everything[:2], part if mask[2] else whole))
        else:
            assert part is None or torch.equal(part, whole), name


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("weight_storage", ["contiguous", "channels_last"])
@pytest.mark.parametrize("storage", ["contiguous", "channels_last"])
def test_layouts_are_eagers(storage: str, weight_storage: str, dtype: torch.dtype, device: str) -> None:
    """Both gradients are channels_last where either operand is; those of an empty batch lie as the operands do."""
    small = Problem(c=8, k=12, groups=2, stride=(2, 1), dilation=(1, 2))
    for problem in (WIDE, small, small.replace(n=None), DEEP, Problem(c=8, k=12, r=1, s=1), Problem(n=0)):
        if problem.n is None and storage == "channels_last":
            continue  # an image alone is none
        case = make_case(problem.replace(dtype=dtype, storage=storage, weight_storage=weight_storage), device)
        if problem.n == 0 and storage == "channels_last":
            case.x = torch.empty_like(case.x, memory_format=torch.channels_last)
        results = case.run()
        check_bounds(case, results)
        if device == "cuda" and dtype == torch.float64 and problem.n != 0:
            continue  # cuDNN has no channels_last of float64
        for mine, theirs in zip(results, case.dense(), strict=True):
            # Dimensions of one element have any stride: the convolution's depends on the back end.
            assert mine is not None and _strides(mine) == _strides(theirs), problem


def _strides(t: torch.Tensor) -> list[int]:
    return [stride for stride, extent in zip(t.stride(), t.shape, strict=True) if extent > 1]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("spread", ["random", "one", "two"])
def test_repeats_to_the_bit(spread: str, dtype: torch.dtype, device: str) -> None:
    for problem in (WIDE, Problem(c=12, k=8, groups=4), Problem(k=300, r=1, s=1), DEPTHWISE, DEEP, MANY):
        case = make_case(problem.replace(dtype=dtype), device, spread)
        first = case.run()
        for _ in range(4):
            torch.rand(1 << 20, device=device)  # other contents in the memory that the next call gets
            assert all(torch.equal(a, b) for a, b in zip(first, case.run(), strict=True))


def test_deterministic_algorithms_are_accepted(device: str) -> None:
    layer = convmin.ConvScaleMin2d(3, 8, 3, device=device)
    torch.use_deterministic_algorithms(True)
    try:
        layer(torch.rand(2, 3, 9, 9, device=device)).sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)
    assert layer.weight.grad is not None


@pytest.mark.parametrize("seed", range(20))
def test_random_problems(seed: int, device: str) -> None:
    rng = random.Random(seed)
    for _ in range(3):
        problem = random_problem(rng, 300_000)
        layout = rng.choice(("contiguous", "expanded", "transposed"))
        check_bounds(make_case(problem, device, rng.choice(SPREADS[1:]), layout))


@pytest.mark.cuda
def test_an_index_beyond_the_channels_selects_nothing() -> None:
    """There is no error to raise without waiting for the device, and nothing out of bounds is read."""
    for problem in (Problem(), WIDE, Problem(c=9, k=12, groups=3), DEPTHWISE, DEEP):
        for fraction in (3, 1):
            case = make_case(problem, "cuda")
            case.index.view(-1)[::fraction] = 255
            check_bounds(case)


@pytest.mark.cuda
def test_a_negative_index_selects_nothing() -> None:
    case = make_case(MANY, "cuda")
    case.index.view(-1)[::3] = -1
    check_bounds(case)


@pytest.mark.cuda
def test_slices() -> None:
    """A copy of the input beyond 128 MiB is made in parts, whose sums are added before they are rounded."""
    problem = Problem(n=3, c=16, h=1000, w=1000, k=9, stride=(3, 3))
    for dtype in (torch.float32, torch.float16):
        problem = problem.replace(dtype=dtype, n=3 if dtype == torch.float32 else 6)
        assert plan_backward(problem)["slices"] == 2
        for spread in ("random", "one"):
            case = make_case(problem, "cuda", spread)
            mine = case.run((False, True, True))
            assert all(torch.equal(a, b) for a, b in zip(mine[1:], case.run((False, True, True))[1:], strict=True))
            double = Case(case.grad.double(), case.x.double(), case.weight.double(), case.index, problem)
            for result, true in zip(mine[1:], double.run((False, True, True))[1:], strict=True):
                # Sums of 300 thousand normal terms: of a size of 1000, rounded once.
                torch.testing.assert_close(result.double(), true, rtol=2 * unit(dtype), atol=1e-2)


def test_an_index_beyond_the_channels_is_an_error_on_the_cpu() -> None:
    case = make_case(Problem(), "cpu")
    case.index.view(-1)[7] = 16
    with pytest.raises(IndexError, match=r"conv2d_scale_min_backward: expected indices below 16, .* got 16"):
        case.run()


def test_bad_arguments(device: str) -> None:
    case = make_case(Problem(), device)

    def error(words: str, **changes: torch.Tensor) -> None:
        broken = Case(**{**vars(case), **changes})
        with pytest.raises(RuntimeError, match=f"conv2d_scale_min_backward: expected {words}"):
            broken.run()

    error(r"grad_output of shape \[2, 1, 7, 9\] .* got \[2, 1, 7, 8\]", grad=case.grad[..., 1:])
    error(r"indices of shape \[2, 1, 7, 9\] .* got \[2, 1, 6, 9\]", index=case.index[:, :, 1:])
    error("grad_output of the input's dtype Float, got Double", grad=case.grad.double())
    error("indices of dtype Byte, Short or Int, got Long", index=case.index.long())


@pytest.mark.cuda
@pytest.mark.large
def test_more_elements_than_32_bits_count() -> None:
    """The last image's gradients are those of the image alone."""
    if torch.cuda.mem_get_info()[0] < 20e9:
        pytest.skip("needs 20 GB of GPU memory")
    problem = Problem(n=33, c=64, h=1024, w=1024, k=24, dtype=torch.float16)
    for r in (1, 3):
        weight = torch.randn(24, 64, r, r, device="cuda").half()
        x = torch.empty(33, 64, 1024, 1024, device="cuda", dtype=torch.float16).random_(-3, 4)
        size = (33, 1, 1025 - r, 1025 - r)
        grad = torch.zeros(size, device="cuda", dtype=torch.float16)
        grad[32] = 1
        index = torch.randint(24, size, device="cuda", dtype=torch.uint8)
        whole = Case(grad, x, weight, index, problem).run()
        part = Case(grad[32:], x[32:], weight, index[32:], problem).run()
        assert torch.equal(whole[0][32:], part[0]) and not whole[0][:32].any()
        torch.testing.assert_close(whole[1:], part[1:], rtol=2e-3, atol=1e-2)


def test_dense_and_exact_agree_on_what_an_index_means(device: str) -> None:
    case = make_case(Problem(k=300, dtype=torch.float64), device, "forward")
    for a, b in zip(exact(**vars(case)), dense(**vars(case)), strict=True):
        torch.testing.assert_close(a, b.cpu(), rtol=1e-11, atol=1e-11)
