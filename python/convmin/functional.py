"""The operator as functions."""

import numbers
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import handle_torch_function, has_torch_function_variadic

IntOrPair = int | Sequence[int]
_values = torch.ops.convmin.conv2d_scale_min.default
_values_and_indices = torch.ops.convmin.conv2d_scale_min_with_indices.default


def as_pair(op: str, name: str, value: Any) -> list[int]:
    """``3`` -> ``[3, 3]``; a sequence as a list, whose length and values the operator itself checks."""
    if isinstance(value, int):
        return [value, value]
    values = [value, value] if isinstance(value, torch.SymInt | numbers.Integral) else value
    if not isinstance(values, Sequence) or not all(isinstance(v, torch.SymInt | numbers.Integral) for v in values):
        raise TypeError(f"{op}: expected {name} to be an int or a pair of ints, got {value!r}")
    # NumPy's become Python's; symbols stay.
    plain: list[Any] = [v if isinstance(v, int | torch.SymInt) else int(v) for v in values]
    return plain * (2 if len(plain) == 1 else 1)


def as_number(op: str, name: str, value: Any) -> Any:
    """A number as it is, NumPy's as a float. Of a tensor a number could be made, but not one with its gradient."""
    if isinstance(value, (float, int, torch.SymFloat, torch.SymInt)):  # a union is slower
        return value
    if not isinstance(value, numbers.Real):
        raise TypeError(f"{op}: expected {name} to be a number, got {type(value).__name__}")
    return float(value)


def check_types(op: str, input: object, weight: object, bias: object, groups: object) -> None:
    """Names the argument that isn't what it has to be, where the dispatcher would print its schema."""
    if not (isinstance(input, Tensor) and isinstance(weight, Tensor) and (bias is None or isinstance(bias, Tensor))):
        wrong = "input" if not isinstance(input, Tensor) else "weight" if not isinstance(weight, Tensor) else "bias"
        got = {"input": input, "weight": weight, "bias": bias}[wrong]
        raise TypeError(f"{op}: expected {wrong} to be a Tensor, got {type(got).__name__}")
    if not isinstance(groups, (int, torch.SymInt, numbers.Integral)):
        raise TypeError(f"{op}: expected groups to be an int, got {groups!r}")


def resolve(
    op: str,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scale: float,
    stride: IntOrPair,
    padding: str | IntOrPair,
    dilation: IntOrPair,
    groups: int,
) -> tuple[Tensor, Tensor, Tensor | None, float, list[int], list[int], list[int], int]:
    """The operator's arguments. 'same' pads the input where it needs one more zero on the far side."""
    check_types(op, input, weight, bias, groups)
    scale = as_number(op, "scale", scale)
    strides, dilations = as_pair(op, "stride", stride), as_pair(op, "dilation", dilation)
    if not isinstance(padding, str):
        return input, weight, bias, scale, strides, as_pair(op, "padding", padding), dilations, groups
    if padding == "valid":
        return input, weight, bias, scale, strides, [0, 0], dilations, groups
    if padding != "same":
        raise RuntimeError(f"{op}: expected padding to be 'same', 'valid' or integers, got {padding!r}")
    if any(step != 1 for step in strides):
        raise RuntimeError(f"{op}: expected stride 1 with padding='same', got stride={stride}")
    if weight.dim() != 4:
        raise RuntimeError(f"{op}: expected weight of shape [K, C/groups, R, S], got {list(weight.shape)}")
    totals = [step * (extent - 1) for step, extent in zip(dilations, weight.shape[2:], strict=True)]
    extra_h, extra_w = (total % 2 for total in totals)
    if extra_h or extra_w:
        input = F.pad(input, (0, extra_w, 0, extra_h))
    return input, weight, bias, scale, strides, [total // 2 for total in totals], dilations, groups


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
    if has_torch_function_variadic(input, weight, bias):  # a torch.fx proxy, a tensor subclass
        arguments = (input, weight, bias, scale, stride, padding, dilation, groups)
        return handle_torch_function(conv2d_scale_min, (input, weight, bias), *arguments)
    # A graph holds what it is called with, and no attempts. Of a tensor the operator would make a number, silently.
    if not torch.compiler.is_compiling() and type(scale) in (float, int):
        try:  # small calls feel what resolve() costs
            strides: Any = [stride, stride] if type(stride) is int else stride
            paddings: Any = [padding, padding] if type(padding) is int else padding
            dilations: Any = [dilation, dilation] if type(dilation) is int else dilation
            return _values(input, weight, bias, scale, strides, paddings, dilations, groups)
        except torch.OutOfMemoryError:
            raise
        except (TypeError, RuntimeError):
            pass  # 'same' and 'valid', other sequences; and mistakes, whose argument is named here
    resolved = resolve("conv2d_scale_min", input, weight, bias, scale, stride, padding, dilation, groups)
    return _values(*resolved)


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
    if has_torch_function_variadic(input, weight, bias):  # a torch.fx proxy, a tensor subclass
        arguments = (input, weight, bias, scale, stride, padding, dilation, groups)
        return handle_torch_function(conv2d_scale_min_with_indices, (input, weight, bias), *arguments)
    # A graph holds what it is called with, and no attempts. Of a tensor the operator would make a number, silently.
    if not torch.compiler.is_compiling() and type(scale) in (float, int):
        try:  # small calls feel what resolve() costs
            strides: Any = [stride, stride] if type(stride) is int else stride
            paddings: Any = [padding, padding] if type(padding) is int else padding
            dilations: Any = [dilation, dilation] if type(dilation) is int else dilation
            return _values_and_indices(input, weight, bias, scale, strides, paddings, dilations, groups)
        except torch.OutOfMemoryError:
            raise
        except (TypeError, RuntimeError):
            pass  # 'same' and 'valid', other sequences; and mistakes, whose argument is named here
    resolved = resolve("conv2d_scale_min_with_indices", input, weight, bias, scale, stride, padding, dilation, groups)
    return _values_and_indices(*resolved)
