"""KernelBench's level 2, problem 32 (convolution, multiplication, minimum over channels), and convmin's answer to it.

python examples/kernelbench.py examples/kernelbench_32.py
"""

from __future__ import annotations

import convmin
import torch
from torch import Tensor, nn

batch_size = 64
in_channels = 64
out_channels = 128
height = width = 256
kernel_size = 3
scale_factor = 2.0


class Model(nn.Module):
    """The task: three operators, and a tensor of 2.1 GB between each two."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, scale_factor: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size)
        self.scale_factor = scale_factor

    def forward(self, x: Tensor) -> Tensor:
        return torch.min(self.conv(x) * self.scale_factor, dim=1, keepdim=True)[0]


class ModelNew(nn.Module):
    """The answer: one operator, with the same parameters under the same names."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, scale_factor: float) -> None:
        super().__init__()
        self.conv = convmin.ConvScaleMin2d(in_channels, out_channels, kernel_size, scale_factor)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def get_inputs() -> list[Tensor]:
    return [torch.rand(batch_size, in_channels, height, width)]


def get_init_inputs() -> list[float]:
    return [in_channels, out_channels, kernel_size, scale_factor]
