"""The definition in plain PyTorch: what the fused operator has to equal. Slow, any device."""

import torch
from torch import Tensor
from torch.nn import functional as F

from convmin.functional import IntOrPair


def conv2d_scale_min(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    scale: float = 1.0,
    stride: IntOrPair = 1,
    padding: str | IntOrPair = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> Tensor:
    """``min over channels of (conv2d(input, weight, bias) * scale)``, the channel dimension kept with size 1.

    Arguments, result and errors as :func:`convmin.conv2d_scale_min`.

    Example:
        >>> conv2d_scale_min(torch.ones(1, 2, 3, 3), torch.ones(4, 2, 3, 3), scale=-1.0).item()
        -18.0
    """
    product = F.conv2d(input, weight, bias, stride, padding, dilation, groups) * scale  # type: ignore[arg-type]
    return product.amin(-3, keepdim=True)


def conv2d_scale_min_with_indices(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    scale: float = 1.0,
    stride: IntOrPair = 1,
    padding: str | IntOrPair = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> tuple[Tensor, Tensor]:
    """:func:`conv2d_scale_min` and, as int64, the lowest channel that attains it (the first NaN where there is one).

    Example:
        >>> weight = torch.tensor([2.0, 1.0, 1.0]).view(3, 1, 1, 1)
        >>> conv2d_scale_min_with_indices(torch.ones(1, 1, 1, 1), weight)[1].item()
        1
    """
    product = F.conv2d(input, weight, bias, stride, padding, dilation, groups) * scale  # type: ignore[arg-type]
    values = product.amin(-3, keepdim=True)
    attains = (product == values) | product.isnan()
    return values, attains.to(torch.uint8).argmax(-3, keepdim=True)
