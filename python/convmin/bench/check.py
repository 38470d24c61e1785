"""Right results before times: every peer against float64, held to a few times the error of PyTorch's own operators."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from convmin.bench.cases import Problem, settings
from convmin.bench.peers import sequence

SLACK = 4.0  # this looks for wrong results; the tests hold the error bound
_CHUNK_BYTES = 1 << 30  # of float64 convolution output at once
_CPU_FLOP = 4e9  # on the CPU only the first images are checked, of about so much work


@dataclass
class Truth:
    """float64 results of the first images, and the error that PyTorch's operators have against them.

    Attributes:
        images: how many; all of them on CUDA and in training.
        tensors: value, and the winning channels, or in training the gradients of input, weight and bias.
        eager: their error in the case's own dtype; of TF32 at least what its operands' rounding does, which PyTorch
            escapes where its convolution happens to be in full.
    """

    images: int
    tensors: list[Tensor]
    eager: list[float]
    mode: str

    def error(self, result: tuple[Tensor, ...]) -> list[float]:
        """The value's largest error; then the share of pixels with another winner, or each gradient's error relative to
        its norm."""
        if not all(torch.is_tensor(tensor) for tensor in result) or len(result) != len(self.tensors):
            return [math.inf] * len(self.tensors)
        pairs = enumerate(zip(result, self.tensors, strict=True))
        return [_error(self.mode, i, tensor, exact) for i, (tensor, exact) in pairs]

    def limits(self, eps: float) -> list[float]:
        """What an error may be: a few times eager's, and a rounding of the result."""
        largest = float(self.tensors[0].abs().max()) if self.tensors[0].numel() else 0.0
        return [SLACK * error + eps * (largest if i == 0 else 1.0) for i, error in enumerate(self.eager)]


def truth(problem: Problem) -> Truth:
    """In chunks of images, so that the convolution's output is never whole in float64."""
    shape = problem.case.shape
    mode, images = problem.case.mode, shape.n
    if problem.x.device.type == "cpu" and mode != "training":
        images = min(images, max(1, int(_CPU_FLOP * shape.n / shape.flop)))
    with settings(problem.case, tune=False):
        exact = _whole([_chunk(problem, part, torch.float64) for part in _parts(problem, images)])
        own = _whole([_chunk(problem, part, problem.x.dtype) for part in _parts(problem, images)])
        allowed = [own]
        if problem.case.dtype == "tf32":
            rounded = replace(problem, x=to_tf32(problem.x), weight=to_tf32(problem.weight))
            allowed.append(_whole([_chunk(rounded, part, torch.float64) for part in _parts(problem, images)]))
    errors = [max(_error(mode, i, result[i], true) for result in allowed) for i, true in enumerate(exact)]
    return Truth(images, exact, errors, mode)


def to_tf32(tensor: Tensor) -> Tensor:
    """The nearest float32 with 10 bits of mantissa; ties go to the even one."""
    bits = tensor.detach().view(torch.int32)
    rounded = (bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF
    return torch.where(tensor.isfinite(), rounded.view(torch.float32), tensor.detach())


def _parts(problem: Problem, images: int) -> Iterator[slice]:
    shape = problem.case.shape
    each = max(1, int(_CHUNK_BYTES // (8 * shape.k * math.prod(shape.output))))
    for first in range(0, images, each):
        yield slice(first, min(first + each, images))


def _chunk(problem: Problem, part: slice, dtype: torch.dtype) -> list[Tensor]:
    x, weight, bias = (t.detach().to(dtype) for t in (problem.x[part], problem.weight, problem.bias))
    function = sequence(problem)
    if problem.grad_output is None:
        return [tensor.double() for tensor in function(x, weight, bias)]
    inputs = [tensor.requires_grad_(True) for tensor in (x, weight, bias)]
    (y,) = function(*inputs)
    gradients = torch.autograd.grad(y, inputs, problem.grad_output[part].to(dtype))
    return [tensor.detach().double() for tensor in (y, *gradients)]


def _whole(chunks: list[list[Tensor]]) -> list[Tensor]:
    """Values, winners and gradients of the input side by side, gradients of weight and bias added up."""
    columns = list(zip(*chunks, strict=True))
    return [torch.cat(column) if i < 2 else torch.stack(column).sum(0) for i, column in enumerate(columns)]


def _error(mode: str, index: int, tensor: Tensor, exact: Tensor) -> float:
    if index < 2:
        tensor = tensor[: exact.shape[0]]
    if tensor.shape != exact.shape:
        return math.inf
    if not exact.numel():
        return 0.0
    if index == 0:
        return float((tensor - exact).abs().max())
    if mode == "indices":  # near-ties fall either way, for eager as for anyone
        return float((tensor != exact).double().mean())
    # A near-tie that falls the other way moves a pixel's whole gradient to another channel, for eager as for anyone:
    # so norms, not the largest difference.
    return float(torch.linalg.vector_norm(tensor - exact) / torch.linalg.vector_norm(exact).clamp_min(1e-300))
