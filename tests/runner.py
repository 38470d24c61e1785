"""Runs one problem through the operator and puts it before the oracle and PyTorch's own sequence."""

from __future__ import annotations

import contextlib
from typing import Any

import convmin
import torch
from convmin.bench.check import to_tf32
from oracle import Comparison, check_against_eager, check_bounds, check_exact, hangs_on_few, solve
from support import Problem, eager, fp32_class

# Kernels that add products one by one in float32, as the CPU does; the others use tensor cores.
SCALAR_KERNELS = ("simt", "direct", "depthwise", "cpu")

# Of few large terms, or of terms so alike in all pixels that partial sums go the same way there: an order's luck is
# then that of all pixels, and their number says nothing.
ALIKE_FILLS = ("mixed_channels", "cancelling")


class Refused(Exception):
    """The forced kernel can't take the problem; says why."""


def refusal(
    kernel: str, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, scale: float, **kwargs: Any
) -> str | None:
    """Why the kernel can't take the problem, if it can't."""
    with convmin.force_kernel(kernel):
        try:
            convmin.explain(x, weight, bias, scale, **kwargs)
        except RuntimeError as error:
            return str(error)
    return None


def forced(
    kernel: str | None,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    scale: float = 1.0,
    **kwargs: Any,
) -> contextlib.AbstractContextManager[None]:
    """Has the kernel compute this call, or the planner's choice where the kernel can't or there is none."""
    if kernel is None or refusal(kernel, x, weight, bias, scale, **kwargs) is not None:
        return contextlib.nullcontext()
    return convmin.force_kernel(kernel)


def call(
    problem: Problem, device: str, kernel: str | None = None
) -> tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor, torch.Tensor, torch.Tensor]:
    """(input, weight, bias), values of the plain operator, and values and indices of the other one."""
    tensors = problem.tensors(device)
    arguments = (*tensors, problem.scale)
    reason = refusal(kernel, *arguments, **problem.kwargs()) if kernel else None
    if reason:
        raise Refused(reason)
    with convmin.force_kernel(kernel or ""):
        plain = convmin.conv2d_scale_min(*arguments, **problem.kwargs())
        values, indices = convmin.conv2d_scale_min_with_indices(*arguments, **problem.kwargs())
    return tensors, plain, values, indices


def references(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, problem: Problem
) -> list[torch.Tensor]:
    """PyTorch's own results: for the tensors as they lie, and in both layouts. Where cuDNN has no engine for one of
    them, as for some strides of float64, it says so, and the others have to do."""
    scale, kwargs = problem.scale, problem.kwargs()
    batched = x if x.dim() == 4 else x[None]
    layouts = [torch.contiguous_format, torch.channels_last]
    if x.device.type == "cpu" and problem.has_empty_columns:
        layouts.pop()
    copies = [(batched.contiguous(memory_format=layout), weight.contiguous(memory_format=layout)) for layout in layouts]
    inputs = [(x, weight), *copies] if len(layouts) == 2 else copies
    results = []
    for tensors in inputs:
        try:
            results.append(eager(*tensors, bias, scale, **kwargs)[0])
        except RuntimeError as error:
            if x.device.type == "cpu" or "cudnn" not in str(error).lower():
                raise
    return results


def in_other_orders(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, problem: Problem
) -> list[torch.Tensor]:
    """PyTorch's own results of the same sums with the channels of each group in other orders."""
    channels = weight.shape[1]
    generator = torch.Generator().manual_seed(0)
    results = []
    for order in (torch.arange(channels).flip(0), *(torch.randperm(channels, generator=generator) for _ in range(3))):
        of_all = (torch.arange(problem.groups)[:, None] * channels + order).flatten()
        results += references(x.index_select(-3, of_all.to(x.device)), weight[:, order.to(x.device)], bias, problem)
    return results


def check_problem(
    problem: Problem, device: str, kernel: str | None = None, precision: str = "ieee", sigmas: float = 4.0
) -> Comparison | None:
    """Everything that section 1 of the contract says of one call's numbers. Raises Refused, or AssertionError."""
    precision = precision if device == "cuda" else "ieee"  # the CPU has no other
    with fp32_class(precision):
        (x, weight, bias), plain, values, indices = call(problem, device, kernel)
        shape = (1, *problem.output_size) if problem.n is None else (problem.n, 1, *problem.output_size)
        assert plain.shape == values.shape == indices.shape == shape
        assert plain.device == indices.device == x.device
        assert torch.equal(plain.nan_to_num(nan=12345.0), values.nan_to_num(nan=12345.0)), "asking for indices matters"
        used = kernel or convmin.explain(x, weight, bias, problem.scale, **problem.kwargs()).kernel
        arguments = (bias, problem.scale)
        oracle = solve(
            x, weight, *arguments, precision=precision, tensor_cores=used not in SCALAR_KERNELS, **problem.kwargs()
        )
        check_bounds(values, indices, oracle)
        if problem.fill == "integers" and problem.scale in (2.0, 1.0, 0.5, -1.0):
            check_exact(values, indices, oracle)
        if values.numel() == 0:
            return None
        theirs = references(x, weight, bias, problem)
        if hangs_on_few(oracle) or problem.fill in ALIKE_FILLS:
            theirs += in_other_orders(x, weight, bias, problem)
        if precision == "tf32" and x.dtype == torch.float32:
            # PyTorch computes some convolutions of the tf32 class in full float32. What the class allows then is the
            # exact result of operands rounded to TF32.
            rounded = solve(to_tf32(x), to_tf32(weight), *arguments, **problem.kwargs())
            theirs.append(rounded.value.to(x.dtype))
        return check_against_eager(values, theirs, oracle, sigmas)
