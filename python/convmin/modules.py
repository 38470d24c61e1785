"""The operator as a module."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convmin.functional import as_number, conv2d_scale_min

_Size2 = int | tuple[int, int]


class ConvScaleMin2d(nn.Conv2d):
    r"""``nn.Conv2d``, a multiplication and ``torch.min`` over channels as one fused layer.

    Parameters, their initialization and the state_dict are ``nn.Conv2d``'s, so that checkpoints of a model written with
    ``nn.Conv2d`` load, and the other way round.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype:
            as in ``nn.Conv2d``.
        scale_factor: the factor before the minimum; any number, but no tensor.

    Shape:
        ``[N, C, H, W]`` -> ``[N, 1, OH, OW]``, or ``[C, H, W]`` -> ``[1, OH, OW]``.

    Example:
        >>> layer = ConvScaleMin2d(64, 128, 3, 2.0)
        >>> layer(torch.rand(1, 64, 16, 16)).shape
        torch.Size([1, 1, 14, 14])
    """

    scale_factor: float

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _Size2,
        scale_factor: float = 1.0,
        stride: _Size2 = 1,
        padding: str | _Size2 = 0,
        dilation: _Size2 = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,  # type: ignore[arg-type]
            device=device,
            dtype=dtype,
        )
        self.scale_factor = float(as_number("ConvScaleMin2d", "scale_factor", scale_factor))

    @classmethod
    def from_conv(cls, conv: nn.Conv2d, scale_factor: float = 1.0) -> ConvScaleMin2d:
        """Wraps a convolution: the new layer holds the same parameter objects, not copies.

        Args:
            conv: an ``nn.Conv2d`` whose parameters exist (not lazy ones) and are its own (not computed from others).
                Its hooks stay with it.
            scale_factor: as in the constructor.

        Raises:
            TypeError: ``conv`` is not an ``nn.Conv2d`` with parameters, or ``scale_factor`` not a number.

        Example:
            >>> conv = nn.Conv2d(3, 8, 3)
            >>> ConvScaleMin2d.from_conv(conv, 0.5).weight is conv.weight
            True
        """
        if not isinstance(conv, nn.Conv2d) or isinstance(conv.weight, nn.parameter.UninitializedParameter):
            raise TypeError(f"from_conv: expected conv to be an initialized nn.Conv2d, got {type(conv).__name__}")
        for name in ("weight", "bias"):
            if name not in conv._parameters:  # weight_norm, pruning, parametrizations
                raise TypeError(f"from_conv: expected conv.{name} to be a parameter, got one that a hook computes")
        layer = cls(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            scale_factor,
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            conv.dilation,  # type: ignore[arg-type]
            conv.groups,
            conv.bias is not None,
            conv.padding_mode,
            device="meta",  # replaced at once
        )
        layer.weight = conv.weight
        layer.bias = conv.bias
        return layer.train(conv.training)

    def forward(self, input: Tensor) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            input = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = (0, 0)
        return conv2d_scale_min(
            input, self.weight, self.bias, self.scale_factor, self.stride, padding, self.dilation, self.groups
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scale_factor={self.scale_factor}"
