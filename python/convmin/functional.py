"""The operator as functions."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

IntOrPair = int | Sequence[int]


def as_pair(value: IntOrPair) -> list[int]:
    """``3`` -> ``[3, 3]``; a sequence as a list, checked by the operator itself."""
    return [value, value] if isinstance(value, int) else list(value) * (2 if len(value) == 1 else 1)


def resolve_padding(
    op: str, input: Tensor, weight: Tensor, padding: str | IntOrPair, stride: IntOrPair, dilation: IntOrPair
) -> tuple[Tensor, list[int]]:
    """Turns ``padding`` into two integers, padding the input where 'same' needs one more on the far side."""
    if not isinstance(padding, str):
        return input, as_pair(padding)
    if padding == "valid":
        return input, [0, 0]
    if padding != "same":
        raise RuntimeError(f"{op}: expected padding to be 'same', 'valid' or integers, got {padding!r}")
    if any(step != 1 for step in as_pair(stride)):
        raise RuntimeError(f"{op}: expected stride 1 with padding='same', got stride={stride}")
    if weight.dim() != 4:
        raise RuntimeError(f"{op}: expected weight of shape [K, C/groups, R, S], got {list(weight.shape)}")
    totals = [step * (extent - 1) for step, extent in zip(as_pair(dilation), weight.shape[2:], strict=True)]
    near = [total // 2 for total in totals]
    extra_h, extra_w = (total % 2 for total in totals)
    if extra_h or extra_w:
        input = F.pad(input, (0, extra_w, 0, extra_h))
    return input, near


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
    r"""Minimum over channels of a scaled convolution, without the convolution's output in memory.

    .. math:: y_{n,0,h,w} = \min_k \Big( scale \cdot \big( bias_k + \sum_{c,r,s}
              input_{n,c,\,h \cdot stride + r \cdot dilation - padding,\,\dots} \cdot weight_{k,c,r,s} \big) \Big)

    The same result as ``torch.min(F.conv2d(input, weight, bias, ...) * scale, dim=1, keepdim=True).values``, with the
    accumulation in float32 (float64 for double) and one rounding at the end. NaN in any channel gives NaN.

    Args:
        input: ``[N, C, H, W]`` or ``[C, H, W]``; float32, float64, float16 or bfloat16; any strides.
        weight: ``[K, C / groups, R, S]``, of the input's dtype and device.
        bias: ``[K]`` or None.
        scale: any float; negative, infinite and NaN ones mean what they mean in the formula.
        stride: of the window, in pixels; an int or a pair (vertical, horizontal).
        padding: zeros on each side, in pixels; an int, a pair, 'same' or 'valid'.
        dilation: distance of a window's elements, in pixels; an int or a pair.
        groups: number of blocks that input and output channels are divided into.

    Returns:
        ``[N, 1, OH, OW]``, or ``[1, OH, OW]`` for an unbatched input; the input's dtype and device.

    Raises:
        RuntimeError: shapes, dtypes or devices that don't fit together (the message names the argument), K = 0.
        NotImplementedError: a dtype that is not one of the four.

    Example:
        >>> x, w = torch.rand(2, 3, 8, 8), torch.rand(5, 3, 3, 3)
        >>> y = conv2d_scale_min(x, w, scale=2.0)
        >>> torch.allclose(y, (torch.nn.functional.conv2d(x, w) * 2.0).amin(1, keepdim=True), atol=1e-5)
        True
    """
    input, pads = resolve_padding("conv2d_scale_min", input, weight, padding, stride, dilation)
    return torch.ops.convmin.conv2d_scale_min.default(
        input, weight, bias, scale, as_pair(stride), pads, as_pair(dilation), groups
    )


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
    """:func:`conv2d_scale_min` and the channel that attains each minimum.

    Args: as :func:`conv2d_scale_min`.

    Returns:
        ``(values, indices)`` of one shape. ``indices`` holds the lowest channel that attains the minimum (the first NaN
        where there is one), as uint8 for K <= 256, int16 for K <= 32768, else int32. Convert it with ``.long()`` before
        indexing: PyTorch reads a uint8 index as a mask.

    Raises: as :func:`conv2d_scale_min`.

    Example:
        >>> x, w = torch.rand(1, 1, 4, 4), torch.stack([torch.ones(1, 3, 3), -torch.ones(1, 3, 3)])
        >>> conv2d_scale_min_with_indices(x, w)[1].flatten().tolist()
        [1, 1, 1, 1]
    """
    input, pads = resolve_padding("conv2d_scale_min_with_indices", input, weight, padding, stride, dilation)
    return torch.ops.convmin.conv2d_scale_min_with_indices.default(
        input, weight, bias, scale, as_pair(stride), pads, as_pair(dilation), groups
    )
