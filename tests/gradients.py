"""Gradients in float64 with the winning channels given: what the sparse backward is judged by."""

from __future__ import annotations

import dataclasses
import math

import convmin
import torch
from support import Problem
from torch import Tensor
from torch.nn import functional as F

Gradients = tuple[Tensor, Tensor, Tensor]
NAMES = ("grad_input", "grad_weight", "grad_bias")

# How the winners are spread over the pixels: as a forward finds them, evenly, and as no good hash would like them.
SPREADS = ("forward", "random", "one", "two", "regions", "last")


def winners(spread: str, problem: Problem, size: torch.Size, generator: torch.Generator) -> Tensor:
    """Channels [n, 1, oh, ow], on the CPU, in the type that the forward gives."""
    k = problem.k
    oh, ow = size[-2:]
    if spread == "random":
        index = torch.randint(k, size, generator=generator)
    elif spread == "one":
        index = torch.full(size, k // 2)
    elif spread == "two":
        index = (torch.arange(math.prod(size)) % 2 * (k - 1)).view(size)
    elif spread == "regions":
        index = (torch.arange(oh).view(-1, 1) // 5 + torch.arange(ow) // 7).mul(3).remainder(k).expand(size)
    else:
        index = torch.full(size, k - 1)
    return index.to(torch.uint8 if k <= 256 else torch.int16 if k <= 32768 else torch.int32)


def pixels_of(t: Tensor) -> Tensor:
    """[n, 1, oh, ow] -> [n, oh * ow]"""
    return t.reshape(len(t), -1)


def exact(grad: Tensor, x: Tensor, weight: Tensor, index: Tensor, problem: Problem) -> Gradients:
    """In float64 on the CPU, sparse like the operator: what has no gradient takes no part, so that an infinity does not
    meet a zero in it. An index that is no channel selects nothing."""
    if x.numel() == 0:
        return x.cpu().double(), torch.zeros_like(weight, dtype=torch.float64).cpu(), torch.zeros(problem.k).double()
    unbatched = x.dim() == 3
    grad, x, index = (t.cpu().unsqueeze(0) if unbatched else t.cpu() for t in (grad, x, index))
    n, c, h, w = x.shape
    k, per_group, r, s = weight.shape
    g = pixels_of(grad).double() * problem.scale
    winner = pixels_of(index).long()
    is_channel = (winner >= 0) & (winner < k)
    g, winner = torch.where(is_channel, g, 0.0), torch.where(is_channel, winner, 0)
    window = {"dilation": problem.dilation, "padding": problem.padding, "stride": problem.stride}
    columns = per_group * r * s
    # [n, groups, pixels, columns of a group]
    unfolded = F.unfold(x.double(), (r, s), **window).view(n, problem.groups, columns, -1).transpose(2, 3)
    group = winner // (k // problem.groups)
    mine = unfolded.gather(1, group.view(n, 1, -1, 1).expand(-1, 1, -1, columns)).squeeze(1)
    terms = (g.unsqueeze(2) * mine).reshape(-1, columns)
    counted = is_channel.flatten()
    grad_weight = torch.zeros(k, columns, dtype=torch.float64).index_add_(0, winner.flatten()[counted], terms[counted])
    grad_bias = torch.zeros(k, dtype=torch.float64).index_add_(0, winner.flatten()[counted], g.flatten()[counted])
    spread = torch.zeros(n, problem.groups, g.shape[1], columns, dtype=torch.float64)
    products = g.unsqueeze(2) * weight.cpu().double().reshape(k, columns)[winner]
    products = torch.where(counted.view(n, -1, 1), products, 0.0)
    spread.scatter_(1, group.view(n, 1, -1, 1).expand(-1, 1, -1, columns), products.unsqueeze(1))
    folded = F.fold(spread.transpose(2, 3).reshape(n, c * r * s, -1), (h, w), (r, s), **window)
    return (folded[0] if unbatched else folded), grad_weight.view(weight.shape), grad_bias


def dense(grad: Tensor, x: Tensor, weight: Tensor, index: Tensor, problem: Problem) -> Gradients:
    """PyTorch's own convolution backward of the gradient spread over all channels, in the tensors' dtype."""
    unbatched = x.dim() == 3
    grad, x, index = (t.unsqueeze(0) if unbatched else t for t in (grad, x, index))
    spread = grad.new_zeros(grad.shape[0], problem.k, *grad.shape[2:])
    spread.scatter_(1, index.long(), grad * problem.scale)
    dx, dw, db = torch.ops.aten.convolution_backward(
        spread, x, weight, [problem.k], problem.stride, problem.padding, problem.dilation, False, [0, 0],
        problem.groups, [True, True, True]
    )  # fmt: skip
    return (dx[0] if unbatched else dx), dw, db


@dataclasses.dataclass
class Case:
    """One call of the backward with what it is called with."""

    grad: Tensor
    x: Tensor
    weight: Tensor
    index: Tensor
    problem: Problem

    def run(self, mask: tuple[bool, bool, bool] = (True, True, True)) -> tuple[Tensor | None, ...]:
        p = self.problem
        return torch.ops.convmin.conv2d_scale_min_backward(
            self.grad, self.x, self.weight, self.index, p.scale, p.stride, p.padding, p.dilation, p.groups, mask
        )

    def exact(self) -> Gradients:
        return exact(self.grad, self.x, self.weight, self.index, self.problem)

    def magnitudes(self) -> Gradients:
        """The sums of the terms' magnitudes: what rounding errors are measured by."""
        problem = self.problem.replace(scale=abs(self.problem.scale))
        return exact(self.grad.abs(), self.x.abs(), self.weight.abs(), self.index, problem)

    def dense(self) -> Gradients:
        return dense(self.grad, self.x, self.weight, self.index, self.problem)


def make_case(problem: Problem, device: str, spread: str = "random", layout: str = "contiguous") -> Case:
    """`layout` of grad_output and the index: "contiguous", "expanded" (stride 0) or "transposed"."""
    generator = torch.Generator().manual_seed(problem.seed + 1)
    x, weight, bias = problem.tensors(device)
    size = torch.Size([*x.shape[:-3], 1, *problem.output_size])
    if spread == "forward":
        with torch.no_grad():
            _, index = convmin.conv2d_scale_min_with_indices(x, weight, bias, problem.scale, **problem.kwargs())
    else:
        index = winners(spread, problem, size, generator).to(device)
    grad = torch.randn(size, generator=generator).to(problem.dtype).to(device)
    if layout == "expanded":
        grad = grad.flatten()[:1].reshape([1] * len(size)).expand(size) if grad.numel() else grad
    elif layout == "transposed":
        grad, index = (t.transpose(-1, -2).contiguous().transpose(-1, -2) for t in (grad, index))
    return Case(grad, x, weight, index, problem)


def unit(dtype: torch.dtype) -> float:
    """Half of the distance from 1 to the next number."""
    return torch.finfo(dtype).eps / 2


def check_bounds(case: Case, results: tuple[Tensor | None, ...] | None = None) -> None:
    """Every element within rounding errors of the sums, in the type that sums are kept in, and of the result.

    The factor of the sums' unit: their terms are added in several levels, each a walk of about the square root of its
    length; 40 is beyond what walks of a million terms do.
    """
    results = results or case.run()
    dtype = case.x.dtype
    accum = torch.float64 if dtype == torch.float64 else torch.float32
    for name, mine, true, size in zip(NAMES, results, case.exact(), case.magnitudes(), strict=True):
        assert mine is not None and mine.dtype == dtype and mine.shape == true.shape, name
        mine = mine.double().cpu()
        finite = true.isfinite() & (true.abs() < torch.finfo(dtype).max * 0.999)
        error = (mine - true).abs()
        # float64's reference errs as much as the kernel does.
        bound = (
            40 * unit(accum) * size + unit(dtype) * (1 + 1e-3) * true.abs() + torch.finfo(dtype).tiny * unit(dtype) * 4
        )
        wrong = finite & ~(error <= bound)
        assert not wrong.any(), (
            f"{name}: {int(wrong.sum())} of {wrong.numel()} wrong, the first at {wrong.nonzero()[0].tolist()}: "
            f"{mine[wrong][0]} for {true[wrong][0]}, bound {bound[wrong][0]}; {case.problem}"
        )
        odd = ~true.isfinite()
        assert torch.equal(mine[odd].isnan(), true[odd].isnan()), f"{name}: NaN; {case.problem}"
        infinite = true.isinf()
        assert torch.equal(mine[infinite], true[infinite]), f"{name}: infinities; {case.problem}"
