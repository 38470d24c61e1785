"""One measurement's subject: a shape, an arithmetic, a layout and a mode, and the tensors of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from convmin.bench.shapes import Shape

SCALE = 2.0
OUTSIDE = 1e5  # beyond float16's range
LAYOUTS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}
MODES = ("forward", "indices", "training")  # indices: the forward, and which channel is the smallest

# float32 comes in two arithmetics: "tf32" allows tensor cores on CUDA, "float32" is in full. They are one on the CPU.
DTYPES = {
    "tf32": torch.float32,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
}


# A result may differ by so much of itself: of TF32, whatever algorithm PyTorch's own picks, its operands' rounding.
ROUNDING = {"tf32": 2.0**-10, **{name: torch.finfo(dtype).eps for name, dtype in DTYPES.items() if name != "tf32"}}


@dataclass(frozen=True)
class Case:
    """What is measured; its key names it in reports and comparisons."""

    shape: Shape
    dtype: str
    layout: str
    mode: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.shape.name, self.dtype, self.layout, self.mode

    @property
    def flop(self) -> int:
        """Needed at least: the gradients are of the winning channel alone, 2 / K of the convolution's work."""
        backward = 2 * self.shape.flop // self.shape.k if self.mode == "training" else 0
        return self.shape.flop + backward

    @property
    def bytes_moved(self) -> int:
        """What has to be read and written at least. Training reads the input twice and writes its gradient."""
        once = self.shape.bytes_moved(DTYPES[self.dtype].itemsize)
        return once * (3 if self.mode == "training" else 1)

    def __str__(self) -> str:
        return " ".join(self.key)


@dataclass
class Problem:
    """A case's tensors: weight and bias as nn.Conv2d would initialize them, input from 0 to 1."""

    case: Case
    x: Tensor
    weight: Tensor
    bias: Tensor
    grad_output: Tensor | None

    @property
    def options(self) -> tuple[float, int, int, int, int]:
        """Scale, stride, padding, dilation, groups."""
        shape = self.case.shape
        return SCALE, shape.stride, shape.padding, 1, shape.groups

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.x, self.weight, self.bias


def make(case: Case, device: torch.device) -> Problem:
    """The same numbers in every process."""
    shape, dtype = case.shape, DTYPES[case.dtype]
    generator = torch.Generator(device).manual_seed(0)
    bound = (shape.c // shape.groups * shape.r * shape.s) ** -0.5

    def uniform(*size: int, low: float, high: float) -> Tensor:
        return torch.empty(size, device=device).uniform_(low, high, generator=generator).to(dtype)

    training = case.mode == "training"
    x = uniform(shape.n, shape.c, shape.h, shape.w, low=0.0, high=1.0)
    weight = uniform(shape.k, shape.c // shape.groups, shape.r, shape.s, low=-bound, high=bound)
    bias = uniform(shape.k, low=-bound, high=bound)
    if shape.outside > 0 and dtype == torch.float32:
        rows = torch.rand(shape.n, shape.h, device=device, generator=generator) < shape.outside
        x[:, 0, :, shape.w // 2].masked_fill_(rows, OUTSIDE)
    x, weight = (tensor.contiguous(memory_format=LAYOUTS[case.layout]) for tensor in (x, weight))
    grad_output = uniform(shape.n, 1, *shape.output, low=-1.0, high=1.0) if training else None
    for tensor in (x, weight, bias):
        tensor.requires_grad_(training)
    return Problem(case, x, weight, bias, grad_output)


@contextmanager
def settings(case: Case, tune: bool = True) -> Iterator[None]:
    """The case's precision class, cuDNN's autotuner (eager at its best), and no autograd where none is measured."""
    backend = torch.backends.cudnn
    before = backend.allow_tf32, backend.benchmark
    backend.allow_tf32, backend.benchmark = case.dtype == "tf32", tune
    try:
        with torch.inference_mode(case.mode != "training"):
            yield
    finally:
        backend.allow_tf32, backend.benchmark = before
