"""The operators in terms of PyTorch's own, for what knows no others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from convmin import reference


def decompositions() -> dict[Any, Callable[..., Any]]:
    """How each operator is written with PyTorch's own: a table for ``ExportedProgram.run_decompositions``.

    What comes out runs where convmin is not installed, and goes through exporters that know PyTorch's operators, as
    ONNX's does (Conv, Mul, ReduceMin). The convolution's output exists in memory again.

    Example:
        >>> layer = torch.nn.Sequential(convmin.ConvScaleMin2d(3, 8, 3, 2.0)).eval()
        >>> program = torch.export.export(layer, (torch.rand(1, 3, 8, 8),))
        >>> plain = program.run_decompositions({**torch.export.default_decompositions(), **decompositions()})
        >>> [node.target.name() for node in plain.graph.nodes if node.op == "call_function"]
        ['aten::convolution', 'aten::mul.Tensor', 'aten::amin']
        >>> torch.onnx.export(plain, f="model.onnx")  # doctest: +SKIP
    """
    ops = torch.ops.convmin
    return {
        ops.conv2d_scale_min.default: reference.conv2d_scale_min,
        ops.conv2d_scale_min_with_indices.default: _with_indices,
    }


def _with_indices(input: Tensor, weight: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    values, indices = reference.conv2d_scale_min_with_indices(input, weight, *rest)
    channels = weight.shape[0]
    narrow = torch.uint8 if channels <= 256 else torch.int16 if channels <= 32768 else torch.int32
    return values, indices.to(narrow)
