"""Models with convolution, scale and minimum in them, as users write them: what fusing finds and what it leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

Forward = Callable[[Any, torch.Tensor], torch.Tensor]


class Net(nn.Module):
    """A model with a convolution, a parameter and a number; `body` is its forward."""

    def __init__(self, body: Forward, **options: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, **options)
        self.weight = nn.Parameter(torch.rand(8, 3, 3, 3) - 0.5)
        self.factor = 2.0
        self.per_channel = nn.Parameter(torch.rand(8, 1, 1))
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(self, x)


def unpacked(net: Net, x: torch.Tensor) -> torch.Tensor:
    values, _ = torch.min(net.conv(x) * 0.5, 1, True)
    return values


def in_place(net: Net, x: torch.Tensor) -> torch.Tensor:
    y = net.conv(x)
    y *= 3
    return y.min(dim=1, keepdim=True)[0]


FUSED: dict[str, Forward] = {
    "min.values": lambda net, x: torch.min(net.conv(x) * 2.0, dim=1, keepdim=True).values,
    "min()[0]": lambda net, x: torch.min(net.conv(x) * 2.0, dim=1)[0],
    "unpacked": unpacked,
    "method": lambda net, x: net.conv(x).mul(2).min(1, keepdim=True).values,
    "amin": lambda net, x: torch.amin(torch.mul(2.0, net.conv(x)), 1, keepdim=True),
    "amin of a tuple": lambda net, x: net.conv(x).amin((1,)),
    "amin from behind": lambda net, x: net.conv(x).amin(dim=-3, keepdim=True),
    "no scale": lambda net, x: net.conv(x).min(dim=1).values,
    "number on the left": lambda net, x: (-0.7 * net.conv(x)).amin(1, True),
    "attribute": lambda net, x: (net.conv(x) * net.factor).amin(1, True),
    "quotient": lambda net, x: (net.conv(x) / 3).amin(1, True),
    "torch.div": lambda net, x: torch.div(net.conv(x), 4.0).amin(1, True),
    "in place": in_place,
    "negated": lambda net, x: (-net.conv(x) * 2).amin(1, True),
    "max": lambda net, x: torch.max(net.conv(x) * 2.0, dim=1, keepdim=True).values,
    "amax": lambda net, x: (net.conv(x) / -5).amax(1),
    "minus min of minus": lambda net, x: -((-net.conv(x)).min(1, keepdim=True)[0]),
    "function": lambda net, x: (F.conv2d(x, net.weight, stride=2, padding=1) * 2).amin(1, True),
    "function with words": lambda net, x: F.conv2d(input=x, weight=net.weight, padding="same").amin(1, True),
    "computed weight": lambda net, x: (F.conv2d(x, net.weight * 2, net.per_channel.flatten()) * 2).amin(1, True),
    "followed by more": lambda net, x: torch.sigmoid((net.conv(x) * 2).amin(1, True)) + 1,
}


def twice(net: Net, x: torch.Tensor) -> torch.Tensor:
    y = net.conv(x)
    return y.amin(1, True) + y.mean()


def with_indices(net: Net, x: torch.Tensor) -> torch.Tensor:
    values, indices = torch.min(net.conv(x), 1, True)
    return values + indices


LEFT: dict[str, tuple[Forward, str]] = {
    "used twice": (twice, "used 2 times"),
    "scaled by a parameter": (lambda net, x: (net.conv(x) * net.per_channel).amin(1, True), "scaled by a tensor"),
    "no minimum": (lambda net, x: torch.relu(net.conv(x)), "followed by relu"),
    "returned": (lambda net, x: net.conv(x), "followed by the output"),
    "mean": (lambda net, x: (net.conv(x) * 2).mean(1), "followed by mean"),
    "other dimension": (lambda net, x: net.conv(x).amin(2), "over dim=2, not over channels"),
    "two dimensions": (lambda net, x: net.conv(x).amin((1, 2)), "not over channels"),
    "all of it": (lambda net, x: net.conv(x).min(), "not taken over channels alone"),
    "of two tensors": (lambda net, x: torch.min(net.conv(x), x[:, :1, 1:-1, 1:-1]), "not taken over channels alone"),
    "indices": (with_indices, "indices are used"),
    "number over it": (lambda net, x: (2.0 / net.conv(x)).amin(1, True), "divides a number by it"),
    "tiny divisor": (lambda net, x: (net.conv(x) / 1e-35).amin(1, True), "divided by 1e-35"),
    "rounded quotient": (lambda net, x: torch.div(net.conv(x), 2, rounding_mode="floor").amin(1), "rounding_mode"),
    "scaled twice": (lambda net, x: (net.conv(x) * 2 * 3).amin(1, True), "scaled twice"),
    "squared": (lambda net, x: (lambda y: (y * y).amin(1))(net.conv(x)), "scaled by a tensor"),
}
