"""``torch.vmap``: a batching rule for each operator.

A mapped input is folded into the batch, so one call serves all of it. Weights that are mapped have a minimum each, and
their gradients a sum each, where the operator takes one over everything it is given: they take a call each, which needs
no more memory than the results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

ops = torch.ops.convmin


def _front(value: Any, dim: int | None) -> Any:
    return value if dim is None else value.movedim(dim, 0)


def _fold(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    """``[N, ...]`` or ``[...]`` under a map of ``size`` as one batch of ``size * N`` or ``size``."""
    tensor = tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
    return tensor.flatten(0, 1) if tensor.dim() == 5 else tensor


def _unfold(tensor: Tensor, size: int, dim: int) -> Tensor:
    """Back again: ``dim`` is the number of dimensions of an unmapped result."""
    return tensor.unflatten(0, (size, -1)) if dim == 4 else tensor


def _each(op: Callable[..., Any], size: int, in_dims: Sequence[Any], arguments: Sequence[Any]) -> tuple[Any, Any]:
    """One call per element of the map; its results side by side."""
    dims = [dim if isinstance(value, Tensor) else None for value, dim in zip(arguments, in_dims, strict=True)]
    fronts = [_front(value, dim) for value, dim in zip(arguments, dims, strict=True)]
    calls = [
        op(*(front if dim is None else front[i] for front, dim in zip(fronts, dims, strict=True))) for i in range(size)
    ]
    if isinstance(calls[0], Tensor):
        return torch.stack(calls), 0
    results = [torch.stack(parts) if isinstance(parts[0], Tensor) else None for parts in zip(*calls, strict=True)]
    return tuple(results), tuple(None if result is None else 0 for result in results)


def _values(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
    input, weight, bias, *rest = arguments
    if in_dims[1] is not None or in_dims[2] is not None:
        return _each(ops.conv2d_scale_min.default, info.batch_size, in_dims, arguments)
    logical = input.dim() - 1
    values = ops.conv2d_scale_min.default(_fold(input, in_dims[0], info.batch_size), weight, bias, *rest)
    return _unfold(values, info.batch_size, logical), 0


def _with_indices(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
    input, weight, bias, *rest = arguments
    if in_dims[1] is not None or in_dims[2] is not None:
        return _each(ops.conv2d_scale_min_with_indices.default, info.batch_size, in_dims, arguments)
    logical = input.dim() - 1
    folded = _fold(input, in_dims[0], info.batch_size)
    both = ops.conv2d_scale_min_with_indices.default(folded, weight, bias, *rest)
    return tuple(_unfold(result, info.batch_size, logical) for result in both), (0, 0)


def _backward(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
    grad, input, weight, indices, *rest, mask = arguments
    size, op = info.batch_size, ops.conv2d_scale_min_backward.default
    # The gradient of a weight is a sum over the batch, and each element of the map has one of its own.
    if in_dims[2] is not None or mask[1] or mask[2]:
        return _each(op, size, in_dims, arguments)
    logical = input.dim() - (in_dims[1] is not None)
    folded = [_fold(tensor, dim, size) for tensor, dim in ((grad, in_dims[0]), (input, in_dims[1]))]
    grad_input, _, _ = op(*folded, weight, _fold(indices, in_dims[3], size), *rest, mask)
    return (_unfold(grad_input, size, logical), None, None), (0, None, None)


def register() -> None:
    """Once, when the package is imported."""
    for name, rule in (
        ("conv2d_scale_min", _values),
        ("conv2d_scale_min_with_indices", _with_indices),
        ("conv2d_scale_min_backward", _backward),
    ):
        torch.library.register_vmap(f"convmin::{name}", rule)
