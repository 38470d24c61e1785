"""The operator in float64 by matrix products, independent of any convolution, and what an answer may differ by.

Two kinds of check, both over every output pixel:

- `check_bounds`: the a priori error bound of a sum of rounded products, as an interval that the answer must lie in.
  Rigorous, so it never fails by bad luck, holds for hostile inputs pixel by pixel, and decides which index is legal.
- `check_against_eager`: the contract. Maximum and mean error are at most those of PyTorch's own convolution in the same
  class on the same input, both as they are and as multiples of each pixel's rounding noise. The second form sees an
  error in a region of small numbers that a region of large ones would hide in the first.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy
import torch
import torch.nn.functional as F
from support import pair

# Unit roundoffs: half the gap between 1 and the next number.
UNIT = {torch.float32: 2.0**-24, torch.float64: 2.0**-53, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
TF32_UNIT = 2.0**-11  # 10 mantissa bits, round to nearest
# Tensor cores align the products of a step to the largest and cut off what is below: up to 4 units an addition.
TENSOR_CORE_UNIT = 4 * UNIT[torch.float32]
# Multiply-adds up to which a float64 problem's oracle is summed in the x87's 64-bit mantissa.
EXTENDED_PRODUCTS = 1e6


@dataclasses.dataclass
class Oracle:
    """[pixels], or per channel [pixels, channels]. The exact minimum is `value + rest`."""

    value: torch.Tensor
    rest: torch.Tensor  # what float64 lost of it; other than zero for float64 problems only
    index: torch.Tensor  # lowest channel that attains the exact minimum, the first NaN where there is one
    low: torch.Tensor  # per channel: what is computed lies in [low, high]
    high: torch.Tensor
    noise: torch.Tensor  # the rounding error to expect of a plain implementation in this class
    rounding: torch.Tensor  # what the last operations, bias and scale, may lose in the accumulator's type
    regular: torch.Tensor  # finite, and no intermediate result can overflow
    dtype: torch.dtype
    sharp: bool  # errs less than what it judges, so that two answers can be compared by their distance to it


def accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def windows(x: torch.Tensor, weight: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    """Rows of the convolution's matrix: [groups, pixels, C/groups * R * S] in float64, for a batched input."""
    (sh, sw), (ph, pw), (dh, dw) = (pair(kwargs.get(k, d)) for k, d in (("stride", 1), ("padding", 0), ("dilation", 1)))
    groups = kwargs.get("groups", 1)
    padded = F.pad(x.double(), (pw, pw, ph, ph)).contiguous()
    n, c, height, width = padded.shape
    r, s = weight.shape[2:]
    oh, ow = (height - dh * (r - 1) - 1) // sh + 1, (width - dw * (s - 1) - 1) // sw + 1
    size, plane = (n, oh, ow, c, r, s), height * width
    view = padded.as_strided(size, (c * plane, sh * width, sw, plane, dh * width, dw)) if n else padded.new_empty(size)
    return view.reshape(n * oh * ow, groups, c // groups * r * s).transpose(0, 1)


def _affine(
    rows: torch.Tensor, filters: torch.Tensor, offset: torch.Tensor, factor: float, extended: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows @ filters + offset) * factor, [pixels, channels], as a float64 and what that lacks."""
    if not extended:
        value = ((rows @ filters).transpose(0, 1).flatten(1) + offset) * factor
        return value, torch.zeros_like(value)
    a, b, c = (t.cpu().numpy().astype(numpy.longdouble) for t in (rows, filters, offset))
    with numpy.errstate(invalid="ignore", over="ignore"):
        product = numpy.matmul(a, b).swapaxes(0, 1)
        exact = (product.reshape(-1, len(c)) + c) * factor
        value = exact.astype(numpy.float64)
        rest = numpy.where(numpy.isfinite(value), exact - value, 0).astype(numpy.float64)
    return torch.from_numpy(value).to(rows.device), torch.from_numpy(rest).to(rows.device)


def _first_minimum(value: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
    smallest = value == value.amin(1, keepdim=True)
    rests = torch.where(smallest, rest, math.inf)
    wins = torch.isnan(value) | (smallest & (rests == rests.amin(1, keepdim=True)))
    wins &= ~torch.isnan(value).any(1, keepdim=True) | torch.isnan(value)
    return wins.to(torch.uint8).argmax(1)  # the first of several


def solve(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float,
    *,
    precision: str = "ieee",
    tensor_cores: bool = False,
    **kwargs: Any,
) -> Oracle:
    """The oracle of one call with a finite scale. `precision` is float32's class; `tensor_cores` widens the bound by
    what their additions lose."""
    dtype = x.dtype
    tf32 = precision == "tf32" and dtype == torch.float32
    rows = windows(x if x.dim() == 4 else x[None], weight, **kwargs)
    groups, pixels, n = rows.shape
    filters = weight.double().reshape(groups, -1, n).transpose(1, 2)
    offset = bias.double() if bias is not None else rows.new_zeros(weight.shape[0])
    # The scale is a number of the accumulator's type, as in PyTorch's own multiplication by a Python number.
    factor = float(torch.tensor(scale, dtype=torch.float64).to(accumulator(dtype)))
    extended = dtype == torch.float64 and pixels * n * weight.shape[0] < EXTENDED_PRODUCTS
    value, rest = _affine(rows, filters, offset, factor, extended)
    products, _ = _affine(rows.abs(), filters.abs(), torch.zeros_like(offset), 1.0, False)
    unscaled = products + offset.abs()
    squares, _ = _affine(rows.square(), filters.square(), torch.zeros_like(offset), factor**2, False)
    amplitude = unscaled * abs(factor)

    # |computed - exact| <= gamma * amplitude: a term passes its product, at most n additions, the bias and the scale.
    # Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1. Twice that where the oracle errs as much.
    unit = UNIT[accumulator(dtype)]
    gamma = (n + 4) * 1.01 * (TENSOR_CORE_UNIT if tensor_cores else unit)
    gamma *= 2 if dtype == torch.float64 and not extended else 1
    tiny = torch.finfo(accumulator(dtype)).tiny * 2 * unit  # the subnormals' step
    floor = rows.new_tensor((n + 2) * tiny * abs(factor) + 2 * tiny)
    slack = gamma * amplitude + floor
    if tf32:  # both operands of every product are rounded; TF32's subnormals have a coarser step
        sums = rows.abs().sum(2, keepdim=True) + filters.abs().sum(1, keepdim=True)
        coarse = 2.0**-137 * sums.transpose(0, 1).flatten(1)
        slack = slack + (2.01 * TF32_UNIT * products + coarse) * abs(factor)
    slack = torch.where(torch.isfinite(unscaled), slack, 0.0)  # beside an infinite term no finite one counts
    low, high = value - slack, value + slack

    index = _first_minimum(value, rest)
    best, rest = (t.gather(1, index[:, None])[:, 0] for t in (value, rest))
    # (acc + bias) * scale rounds twice, acc * scale + bias * scale three times or, fused, twice.
    rounding = unit * (best.abs() + 2 * (offset * factor).abs()[index])
    limit = torch.finfo(accumulator(dtype)).max * 0.99
    regular = torch.isfinite(best) & (torch.maximum(unscaled, amplitude) < limit).all(1)

    # A random walk of n roundings of growing partial sums; operands rounded to TF32; bias and scale; the output.
    variance = squares * ((n * unit**2 / 6) + (2 / 3 * TF32_UNIT**2 if tf32 else 0.0)) + (unit * value).square()
    contenders = low <= high.amin(1, keepdim=True)
    noise = torch.where(contenders, variance, 0.0).amax(1).sqrt() + tiny
    if dtype != accumulator(dtype):
        noise = noise + 0.3 * torch.clamp(best.abs() * UNIT[dtype], min=torch.finfo(dtype).tiny * UNIT[dtype])
    sharp = dtype != torch.float64 or extended
    return Oracle(best, rest, index, low, high, noise, rounding, regular, dtype, sharp)


def check_bounds(values: torch.Tensor, indices: torch.Tensor | None, oracle: Oracle) -> None:
    """Every value lies within the a priori bound, NaN and infinities are where they belong, every index is one that
    rounding allows and that explains the value."""
    got = values.reshape(-1)
    assert got.dtype == oracle.dtype
    assert got.numel() == oracle.value.numel(), f"{got.numel()} pixels, expected {oracle.value.numel()}"
    nan = torch.isnan(oracle.value)
    _require(torch.isnan(got) == nan, nan | oracle.regular, "NaN is not where it belongs", got, oracle)
    infinite = torch.isinf(oracle.value)
    _require(got == oracle.value.to(got.dtype), infinite, "an infinity is lost", got, oracle)
    # Rounding is monotone, so the rounded interval bounds the rounded result, overflow included.
    low, high = (t.amin(1).to(got.dtype) for t in (oracle.low, oracle.high))
    _require((got >= low) & (got <= high), oracle.regular, "the a priori error bound is broken", got, oracle)
    if indices is None:
        return
    index = indices.reshape(-1).long()
    channels = oracle.low.shape[1]
    assert index.numel() == 0 or (int(index.min()) >= 0 and int(index.max()) < channels), "an index is out of range"
    _require(index == oracle.index, nan | infinite & (oracle.value < 0), "not the first NaN or -inf", index, oracle)
    low, high = (t.gather(1, index[:, None])[:, 0] for t in (oracle.low, oracle.high))
    least = oracle.high.amin(1)
    _require(low <= least, oracle.regular, "the index is of a channel that can't be the minimum", index, oracle)
    explained = (got >= low.to(got.dtype)) & (got <= high.to(got.dtype))
    _require(explained, oracle.regular, "the index's channel does not have the value", got, oracle)


def check_exact(values: torch.Tensor, indices: torch.Tensor | None, oracle: Oracle) -> None:
    """For inputs whose sums are exact: the very bits, and the lowest of the channels that attain the minimum."""
    expected = oracle.value.to(values.dtype)
    everywhere = torch.ones_like(oracle.regular)
    _require(values.reshape(-1) == expected, everywhere, "not exact", values.reshape(-1), oracle)
    if indices is not None:
        index = indices.reshape(-1).long()
        _require(index == oracle.index, everywhere, "not the lowest winning channel", index, oracle)


def _require(good: torch.Tensor, where: torch.Tensor, message: str, got: torch.Tensor, oracle: Oracle) -> None:
    bad = torch.nonzero(where & ~good)[:, 0]
    if bad.numel() == 0:
        return
    at = int(bad[0])
    raise AssertionError(
        f"{message} at {bad.numel()} of {got.numel()} pixels; first at {at}: got {got[at].item()!r}, exact value "
        f"{oracle.value[at].item()!r} (channel {int(oracle.index[at])}), bound "
        f"[{oracle.low[at].amin().item()!r}, {oracle.high[at].amin().item()!r}]"
    )


def errors(values: torch.Tensor, oracle: Oracle) -> torch.Tensor:
    """|values - exact| per pixel; infinite where it is not a number."""
    error = ((values.reshape(-1).double() - oracle.value) - oracle.rest).abs()
    return torch.where(torch.isnan(error), math.inf, error)


def slack_of_mean(weights: torch.Tensor, sigmas: float) -> float:
    """By how much the mean errors of two equally good implementations may differ: 1.1 for another order of summation,
    the rest for sampling. The mean of m half-normal errors scatters by 0.76 / sqrt(m) of itself, a ratio of two by
    1.07 / sqrt(m); m is the number of pixels that share the mean (Kish's effective size), not all where a few dominate.
    """
    effective = float(weights.sum() ** 2 / weights.square().sum())
    return 1.1 + 1.07 * sigmas / max(effective, 1.0) ** 0.5


def rivals(weights: torch.Tensor) -> int:
    """Pixels that the maximum may be of."""
    return int((weights >= 0.5 * weights.max()).sum())


def slack_of_max(weights: torch.Tensor, sigmas: float) -> float:
    """The same for maxima: the largest of m half-normal errors scatters by 1.3 / (2 ln m) of itself (Gumbel)."""
    return 1.1 + 0.9 * sigmas / math.log(rivals(weights) + 2)


def hangs_on_few(oracle: Oracle) -> bool:
    """Whether the largest error is that of a few pixels, so that one order of summation may be right by luck."""
    noise = oracle.noise[oracle.regular & torch.isfinite(oracle.value)]
    return noise.numel() > 0 and rivals(noise) < 8


@dataclasses.dataclass
class Comparison:
    """Mean noise-relative error, which may be averaged over problems."""

    mine: float
    theirs: float


def check_against_eager(
    values: torch.Tensor, references: list[torch.Tensor], oracle: Oracle, sigmas: float = 4.0
) -> Comparison | None:
    """Maximum and mean error are at most those of the worst reference: PyTorch's own results for this problem, which
    differ among themselves by the order of summation that a layout brings. `sigmas`: how unlikely a failure by chance
    has to be; more where there are more comparisons. None: no pixel can be compared, or the oracle errs as much as they
    do (a large float64 problem, which `check_bounds` alone judges)."""
    if not oracle.sharp:
        return None
    comparable = oracle.regular & torch.isfinite(oracle.value.to(oracle.dtype))
    for reference in references:
        comparable &= torch.isfinite(reference.reshape(-1))
    if not (references and comparable.any()):
        return None
    noise, rounding = oracle.noise[comparable].clamp(min=1e-290), oracle.rounding[comparable]
    mine = errors(values, oracle)[comparable]
    theirs = [errors(reference, oracle)[comparable] for reference in references]
    # The output's rounding error, half a unit in the last place, which a reference may fall short of by luck.
    unit = UNIT[oracle.dtype]
    last = torch.maximum(
        rounding, torch.clamp(oracle.value[comparable].abs() * unit, min=torch.finfo(oracle.dtype).tiny * unit)
    )
    for name, weight in (("absolute", torch.ones_like(noise)), ("noise-relative", 1 / noise)):
        means = [float((reference * weight).mean()) for reference in theirs]
        maxima = [float((reference * weight).max()) for reference in theirs]
        mean, largest = float((mine * weight).mean()), float((mine * weight).max())
        spread = noise * weight / (noise * weight).max()
        mean_limit = slack_of_mean(spread, sigmas) * max(means) + float((rounding * weight).mean())
        max_limit = slack_of_max(spread, sigmas) * max(maxima) + float((last * weight).max())
        context = f"{name} error over {mine.numel()} pixels; PyTorch's: mean {means}, max {maxima}"
        assert mean <= mean_limit, f"mean {mean:.3e}, limit {mean_limit:.3e}: {context}"
        assert largest <= max_limit, f"max {largest:.3e}, limit {max_limit:.3e}: {context}"
    return Comparison(mean, max(means))
