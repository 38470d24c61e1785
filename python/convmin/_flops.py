"""``torch.utils.flop_counter``: a multiplication and an addition per product, as it counts convolutions."""

from __future__ import annotations

from math import prod
from typing import Any

import torch

Shape = tuple[int, ...]


def _convolution(weight: Shape, output: Shape) -> int:
    return 2 * prod(output) * prod(weight)


def register() -> None:
    """Once, when ``torch.utils.flop_counter`` is imported."""
    from torch.utils.flop_counter import register_flop_formula

    ops = torch.ops.convmin

    @register_flop_formula(ops.conv2d_scale_min)
    def values(input: Shape, weight: Shape, *rest: Any, out_shape: Shape, **kwargs: Any) -> int:
        return _convolution(weight, out_shape)

    @register_flop_formula(ops.conv2d_scale_min_with_indices)
    def with_indices(input: Shape, weight: Shape, *rest: Any, out_shape: tuple[Shape, Shape], **kwargs: Any) -> int:
        return _convolution(weight, out_shape[0])

    @register_flop_formula(ops.conv2d_scale_min_backward)
    def backward(grad: Shape, input: Shape, weight: Shape, *rest: Any, out_shape: Any, **kwargs: Any) -> int:
        # One channel's window per pixel, whatever the number of channels.
        wanted = sum(bool(shape) for shape in out_shape[:2])
        return wanted * _convolution((1, *weight[1:]), grad)
