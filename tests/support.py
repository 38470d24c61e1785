"""Problems to run the operator on: their shapes, how their tensors lie in memory, and what numbers fill them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import convmin
import torch
import torch.nn.functional as F

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

# How the input and the weight lie in memory. All but the first two leave the fast layouts on purpose.
STORAGES = (
    "contiguous",
    "channels_last",
    "offset",  # first element 1, 3 or 7 elements into its storage: misaligned for every vector width
    "sliced",  # every other element of the innermost dimension
    "transposed",  # rows and columns swapped in memory
    "batch_inner",  # the batch (or the output channel) varies fastest
    "broadcast_batch",  # stride 0
    "broadcast_channels",
    "broadcast_columns",
    "overlapping",  # neighbouring rows share elements
)

BENIGN_FILLS = ("normal", "uniform", "integers")
# What loses precision or range. "integers" above is exact in every dtype, so every kernel has to agree to the bit.
HOSTILE_FILLS = (
    "zeros",
    "mixed_channels",  # each input channel has its own magnitude, 1e-30 to 1e30 (float16: 1e-6 to 1e4)
    "mixed_pixels",
    "mixed_regions",  # 4 x 4 blocks of pixels
    "mixed_filters",  # each filter has its own magnitude
    "related_filters",  # the same, but within 100 of each other
    "huge_channel",  # one input channel far above the others
    "silenced_channel",  # the same, and every weight on it is zero: nothing of it may show
    "silenced_ordinary",  # every fourth channel silent and of ordinary size, the others small
    "balanced_channels",  # channels of all magnitudes below 65504, and weights that bring their products to one
    "overflow16",  # around and above float16's largest number, in the input and in the weight
    "underflow16",  # float16's subnormals and below
    "subnormal",  # the dtype's own subnormals
    "cancelling",  # sums that are small against their terms
    "one_nan",
    "one_inf",
    "one_negative_inf",
)
FILLS = BENIGN_FILLS + HOSTILE_FILLS
# Of the forward alone, since sums of gradients overflow: every third input at 65520, the least that float16 has not, or
# at 1e38 (float16: at 65504).
FORWARD_FILLS = ("largest",)


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


@dataclasses.dataclass(frozen=True)
class Problem:
    """One call of the operator. `n` None is an unbatched input."""

    n: int | None = 2
    c: int = 8
    h: int = 9
    w: int = 11
    k: int = 16
    r: int = 3
    s: int = 3
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    bias: bool = True
    scale: float = 2.0
    dtype: torch.dtype = torch.float32
    storage: str = "contiguous"
    weight_storage: str = "contiguous"
    fill: str = "normal"
    seed: int = 0

    @property
    def output_size(self) -> tuple[int, int]:
        return (
            (self.h + 2 * self.padding[0] - self.dilation[0] * (self.r - 1) - 1) // self.stride[0] + 1,
            (self.w + 2 * self.padding[1] - self.dilation[1] * (self.s - 1) - 1) // self.stride[1] + 1,
        )

    @property
    def products(self) -> int:
        """Multiply-adds of the whole convolution."""
        oh, ow = self.output_size
        return (1 if self.n is None else self.n) * oh * ow * self.k * self.reduction

    @property
    def reduction(self) -> int:
        return self.c // self.groups * self.r * self.s

    @property
    def has_empty_columns(self) -> bool:
        """Some column of the output sees nothing but padding. oneDNN up to 3.13 crashes on such channels_last problems
        (uxlfoundation/oneDNN issue 5942), so nobody may hand it one."""
        offsets = [j * self.dilation[1] - self.padding[1] for j in range(self.s)]
        starts = [column * self.stride[1] for column in range(self.output_size[1])]
        return any(not any(0 <= start + offset < self.w for offset in offsets) for start in starts)

    def replace(self, **changes: Any) -> Problem:
        return dataclasses.replace(self, **changes)

    def kwargs(self) -> dict[str, Any]:
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}

    def tensors(self, device: str | torch.device = "cpu") -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Input, weight and bias. The numbers depend on the seed alone, not on the device."""
        generator = torch.Generator().manual_seed(self.seed)
        x = torch.randn(1 if self.n is None else self.n, self.c, self.h, self.w, generator=generator)
        weight = torch.randn(self.k, self.c // self.groups, self.r, self.s, generator=generator)
        weight /= max(self.reduction, 1) ** 0.5
        bias = torch.randn(self.k, generator=generator)
        x, weight, bias = _fill(self.fill, x.double(), weight.double(), bias.double(), self.dtype, generator)
        x = place(x.to(self.dtype).to(device), self.storage)
        weight = place(weight.to(self.dtype).to(device), self.weight_storage)
        return x[0] if self.n is None else x, weight, bias.to(self.dtype).to(device) if self.bias else None

    def __str__(self) -> str:
        default = Problem()
        shape = f"{'' if self.n is None else self.n}x{self.c}x{self.h}x{self.w}->{self.k} {self.r}x{self.s}"
        rest = [
            f"{field.name}={str(getattr(self, field.name)).replace('torch.', '')}"
            for field in dataclasses.fields(self)
            if field.name not in "nchwkrs" and getattr(self, field.name) != getattr(default, field.name)
        ]
        return " ".join([shape, *rest])


def _magnitudes(shape: list[int], dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    low, high = (-6.0, 4.0) if dtype == torch.float16 else (-30.0, 30.0)
    return 10.0 ** (low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64))


def _fill(
    fill: str,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    dtype: torch.dtype,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Turns standard normal tensors into those of the named kind."""
    n, c, h, w = x.shape

    def integers(t: torch.Tensor, limit: int) -> torch.Tensor:
        return torch.randint(-limit, limit + 1, t.shape, generator=generator).double()

    def huge_channel(magnitude: float) -> int:
        channel = int(torch.randint(max(c, 1), (1,), generator=generator))
        x[:, channel : channel + 1] *= magnitude
        return channel

    half = dtype == torch.float16
    if fill == "uniform":
        x = torch.rand(x.shape, generator=generator, dtype=torch.float64)
    elif fill == "integers":
        x, weight, bias = integers(x, 3), integers(weight, 2), integers(bias, 4)
    elif fill == "zeros":
        x, weight, bias = x * 0, weight, bias * 0
    elif fill == "mixed_channels":
        x = x * _magnitudes([1, c, 1, 1], dtype, generator)
    elif fill == "mixed_pixels":
        x = x * _magnitudes([n, 1, h, w], dtype, generator)
    elif fill == "mixed_regions":
        blocks = _magnitudes([n, 1, (h + 3) // 4, (w + 3) // 4], dtype, generator)
        x = x * blocks.repeat_interleave(4, 2)[:, :, :h].repeat_interleave(4, 3)[:, :, :, :w]
    elif fill == "mixed_filters":
        weight = weight * _magnitudes([weight.shape[0], 1, 1, 1], dtype, generator)
    elif fill == "related_filters":
        shape = [weight.shape[0], 1, 1, 1]
        weight = weight / 100.0 ** torch.rand(shape, generator=generator, dtype=torch.float64)
    elif fill == "huge_channel":
        huge_channel(1e4 if half else 1e30)
    elif fill == "silenced_channel":
        channel = huge_channel(1e4 if half else 1e30)
        weight[:, channel % max(weight.shape[1], 1)] = 0
    elif fill == "silenced_ordinary":
        small = 1e-3 if half else 1e-6
        silent = torch.arange(weight.shape[1]) % 4 == 0
        weight[:, silent] = 0
        x = x * torch.where(silent.repeat(c // max(len(silent), 1)), 1.0, small).view(1, c, 1, 1)
        bias = bias * small
    elif fill == "balanced_channels":
        powers = 2.0 ** torch.randint(-4 if half else -17, 5 if half else 14, (weight.shape[1],), generator=generator)
        x = x * powers.repeat(c // max(len(powers), 1)).view(1, c, 1, 1)
        weight = weight / powers.view(1, -1, 1, 1)
    elif fill == "overflow16":
        x = x.sign() * (60000.0 if half else 65520.0) * (1 if half else torch.rand(x.shape, generator=generator) + 0.99)
        weight = weight * (0.01 if half else 1e5)
    elif fill == "largest":
        largest = torch.tensor([65504.0] if half else [65520.0, 1e38], dtype=torch.float64)
        chosen = torch.rand(x.shape, generator=generator) < 1 / 3
        x = torch.where(chosen, x.sign() * largest[torch.randint(len(largest), x.shape, generator=generator)], x)
        weight = weight * 1e-3
    elif fill == "underflow16":
        x = x * 10.0 ** (-8 + 4 * torch.rand(x.shape, generator=generator, dtype=torch.float64))
        bias = bias * 1e-7
    elif fill == "subnormal":
        x = x * 4 * torch.finfo(dtype).tiny * 10.0 ** -(3 * torch.rand(x.shape, generator=generator))
        bias = bias * 0
    elif fill == "cancelling":
        x = x.abs() + 10
        weight = weight - weight.mean((1, 2, 3), keepdim=True)
    elif fill in ("one_nan", "one_inf", "one_negative_inf") and x.numel() > 0:
        at = int(torch.randint(x.numel(), (1,), generator=generator))
        x.view(-1)[at] = {"one_nan": float("nan"), "one_inf": float("inf"), "one_negative_inf": -float("inf")}[fill]
    return x, weight, bias


def place(t: torch.Tensor, storage: str) -> torch.Tensor:
    """`t` [a, b, h, w] as a view that lies in memory as named. Broadcasts and overlaps keep part of its numbers."""
    a, b, h, w = t.shape
    if storage == "contiguous" or t.numel() == 0:
        return t
    if storage == "channels_last":
        return t.contiguous(memory_format=torch.channels_last)
    if storage == "offset":
        offset = (1, 3, 7)[(h + w) % 3]
        return torch.cat([t.new_full((offset,), float("nan")), t.reshape(-1)])[offset:].view(t.shape)
    if storage == "sliced":
        wide = t.new_full((a, b, h, 2 * w), float("nan"))
        wide[..., ::2] = t
        return wide[..., ::2]
    if storage == "transposed":
        return t.transpose(2, 3).contiguous().transpose(2, 3)
    if storage == "batch_inner":
        return t.movedim(0, 3).contiguous().movedim(3, 0)
    if storage == "broadcast_batch":
        return t[:1].expand(t.shape)
    if storage == "broadcast_channels":
        return t[:, :1].expand(t.shape)
    if storage == "broadcast_columns":
        return t[..., :1].expand(t.shape)
    if storage == "overlapping":
        step = max(1, w // 2)
        return t.contiguous().as_strided(t.shape, (b * h * w, h * w, step, 1)) if h > 1 else t
    raise ValueError(f"unknown storage {storage!r}")


def eager(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, scale: float = 1.0, **kwargs: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """PyTorch's own sequence of operators: values and indices."""
    minimum = torch.min(F.conv2d(x, weight, bias, **kwargs) * scale, dim=-3, keepdim=True)
    return minimum.values, minimum.indices


def run_python(*arguments: str, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
    """A Python process of its own that finds this convmin."""
    paths = [str(Path(convmin.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=timeout, env=env)


@contextlib.contextmanager
def fp32_class(name: str) -> Iterator[None]:
    """Has PyTorch's convolutions, and so the operator, compute float32 in the "tf32" or the "ieee" class."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = name == "tf32"
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def random_problem(
    rng: random.Random, max_products: int = 1_000_000, fills: tuple[str, ...] = BENIGN_FILLS + HOSTILE_FILLS
) -> Problem:
    """Any problem that conv2d takes, of at most `max_products` multiply-adds."""
    while True:
        groups = rng.choice((1, 1, 1, 1, 2, 3, 4, 8))
        depthwise = groups > 1 and rng.random() < 0.4
        r, s = rng.choice(((1, 1), (3, 3), (3, 3), (5, 5), (1, 7), (4, 2), (2, 2), (7, 1), (3, 1)))
        problem = Problem(
            n=rng.choice((None, 0, 1, 1, 2, 3, 5)) if rng.random() < 0.5 else rng.randint(1, 4),
            c=groups if depthwise else groups * rng.choice((1, 2, 3, 4, 8, 9, 16, 33, 64)),
            h=rng.randint(1, 24) if rng.random() < 0.9 else rng.randint(25, 200),
            w=rng.randint(1, 24) if rng.random() < 0.9 else rng.randint(25, 200),
            k=groups * rng.choice((1, 1, 2, 3, 5, 8, 16, 17, 31, 32, 33, 64, 65, 128, 129, 257, 300)),
            r=r,
            s=s,
            stride=(rng.choice((1, 1, 1, 2, 3)), rng.choice((1, 1, 1, 2, 3))),
            padding=(rng.choice((0, 0, 1, 2, 3)), rng.choice((0, 0, 1, 2, 4))),
            dilation=(rng.choice((1, 1, 1, 2, 3)), rng.choice((1, 1, 1, 2))),
            groups=groups,
            bias=rng.random() < 0.7,
            scale=rng.choice((2.0, 1.0, 0.5, -1.0, -3.7, 0.1, 0.0, 1e-3, 100.0)),
            dtype=rng.choice(DTYPES),
            storage=rng.choice(STORAGES) if rng.random() < 0.6 else rng.choice(STORAGES[:2]),
            weight_storage=rng.choice(STORAGES) if rng.random() < 0.3 else rng.choice(STORAGES[:2]),
            fill=rng.choice(fills),
            seed=rng.randrange(1 << 30),
        )
        if min(problem.output_size) >= 1 and problem.products <= max_products:
            return problem
