"""Shapes to measure, by family (layers of one network, one extreme) and by set (what one run is for)."""

from __future__ import annotations

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Shape:
    """One convolution: input [n, c, h, w], weight [k, c / groups, r, s]; stride and padding are the same both ways.

    Of float32 inputs a share of rows, ``outside``, holds a value that float16 can't: there a kernel that multiplies
    float32 as float16 has to do something else.
    """

    name: str
    family: str
    n: int
    c: int
    h: int
    w: int
    k: int
    r: int
    s: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    outside: float = 0.0

    @property
    def output(self) -> tuple[int, int]:
        """Height and width of the result."""
        return (
            (self.h + 2 * self.padding - self.r) // self.stride + 1,
            (self.w + 2 * self.padding - self.s) // self.stride + 1,
        )

    @property
    def flop(self) -> int:
        """Two per multiply-add of the convolution."""
        return 2 * self.n * math.prod(self.output) * self.k * (self.c // self.groups) * self.r * self.s

    def bytes_moved(self, element_size: int) -> int:
        """What has to be read and written at least: input, weight, bias and the result; nothing of the convolution."""
        weight = self.k * (self.c // self.groups * self.r * self.s + 1)
        return element_size * (self.n * self.c * self.h * self.w + weight + self.n * math.prod(self.output))

    def __str__(self) -> str:
        extra = f"/{self.stride}" * (self.stride > 1) + f" g{self.groups}" * (self.groups > 1)
        extra += f", {self.outside:.0%} of rows outside" * (self.outside > 0)
        return f"{self.n}x{self.c}x{self.h}x{self.w}->{self.k} {self.r}x{self.s}{extra}"


# (name, c, size, k, kernel, stride, groups): square images, padded so that stride 1 keeps the size.
_LAYERS: dict[str, list[tuple[str, int, int, int, int, int, int]]] = {
    "resnet": [
        ("stem", 3, 224, 64, 7, 2, 1),
        ("stage1", 64, 56, 64, 3, 1, 1),
        ("stage1-expand", 64, 56, 256, 1, 1, 1),
        ("stage2-down", 128, 56, 128, 3, 2, 1),
        ("stage2", 128, 28, 128, 3, 1, 1),
        ("stage3", 256, 14, 256, 3, 1, 1),
        ("stage3-reduce", 1024, 14, 256, 1, 1, 1),
        ("stage4", 512, 7, 512, 3, 1, 1),
    ],
    "vgg": [
        ("block1-first", 3, 224, 64, 3, 1, 1),
        ("block1", 64, 224, 64, 3, 1, 1),
        ("block2", 128, 112, 128, 3, 1, 1),
        ("block3", 256, 56, 256, 3, 1, 1),
        ("block4", 512, 28, 512, 3, 1, 1),
    ],
    "unet": [
        ("down1", 64, 256, 64, 3, 1, 1),
        ("down2", 128, 128, 128, 3, 1, 1),
        ("bottom", 512, 32, 512, 3, 1, 1),
        ("up1", 128, 256, 64, 3, 1, 1),
    ],
    "efficientnet": [
        ("stem", 3, 224, 32, 3, 2, 1),
        ("expand", 16, 112, 96, 1, 1, 1),
        ("depthwise3", 96, 112, 96, 3, 2, 96),
        ("depthwise5", 240, 28, 240, 5, 1, 240),
        ("project", 240, 14, 80, 1, 1, 1),
    ],
}
BATCHES = (1, 8, 64)


def _families() -> dict[str, list[Shape]]:
    families = {
        "headline": [Shape("headline", "headline", 64, 64, 256, 256, 128, 3, 3)],
        # The same workload at sizes that a CPU or a short run can take.
        "headline_small": [
            Shape("headline-n1", "headline_small", 1, 64, 256, 256, 128, 3, 3),
            Shape("headline-n2", "headline_small", 2, 64, 256, 256, 128, 3, 3),
            Shape("headline-64px", "headline_small", 8, 64, 64, 64, 128, 3, 3),
        ],
        # KernelBench, level 2, problem 32, before and after its sizes grew.
        "kernelbench_old": [Shape("kernelbench-old", "kernelbench_old", 128, 3, 32, 32, 16, 3, 3)],
        "tiny": [
            Shape("tiny-1x1", "tiny", 1, 16, 8, 8, 16, 1, 1),
            Shape("tiny-3x3", "tiny", 1, 3, 16, 16, 8, 3, 3),
        ],
        "images": [
            Shape("4k-rgb", "images", 1, 3, 2160, 3840, 32, 3, 3, padding=1),
            Shape("4k-features", "images", 1, 32, 2160, 3840, 64, 3, 3, padding=1),
            Shape("4k-filters", "images", 1, 1, 2160, 3840, 24, 15, 15, padding=7),
        ],
        "thin": [
            Shape("thin", "thin", 8, 64, 4, 16384, 128, 3, 3, padding=1),
            Shape("tall", "thin", 8, 64, 16384, 4, 128, 3, 3, padding=1),
            Shape("one-row", "thin", 8, 64, 1, 65536, 128, 1, 3),
        ],
        "channels": [
            Shape("one-channel-out", "channels", 8, 64, 128, 128, 1, 3, 3, padding=1),
            Shape("129-out", "channels", 8, 64, 128, 128, 129, 3, 3, padding=1),
            Shape("1000-out", "channels", 8, 64, 64, 64, 1000, 3, 3, padding=1),
            Shape("33-in", "channels", 8, 33, 128, 128, 128, 3, 3, padding=1),
            Shape("1024-in", "channels", 8, 1024, 32, 32, 128, 3, 3, padding=1),
        ],
        # The headline where rows leave float16's range.
        "range": [
            Shape(f"range-{share:.0%}", "range", 64, 64, 256, 256, 128, 3, 3, outside=share) for share in (0.01, 1.0)
        ],
        # The headline's layer from one image to 64, and on one image of 32 pixels a side to 2048.
        "batch": [Shape(f"batch-{n}", "batch", n, 64, 256, 256, 128, 3, 3) for n in (1, 2, 4, 8, 16, 32, 64)],
        "pixels": [
            Shape(f"pixels-{size}", "pixels", 1, 64, size, size, 128, 3, 3)
            for size in (32, 64, 128, 256, 512, 1024, 2048)
        ],
    }
    for family, layers in _LAYERS.items():
        families[family] = [
            Shape(f"{family}-{name}-n{n}", family, n, c, size, size, k, kernel, kernel, stride, kernel // 2, groups)
            for n in BATCHES
            for name, c, size, k, kernel, stride, groups in layers
        ]
    return families


FAMILIES = _families()

# What a run is for. "training" runs forward and backward, the others forward.
SETS: dict[str, list[str]] = {
    "small": ["kernelbench_old", "tiny", "headline_small"],
    "sweep": [*_LAYERS, "images", "thin", "channels", "kernelbench_old"],
    "size": ["batch", "pixels"],
    "training": [
        "headline",
        "kernelbench-old",
        "headline-64px",
        "resnet-stage1-n64",
        "resnet-stage2-n8",
        "resnet-stage2-down-n8",
        "vgg-block1-n8",
        "vgg-block2-n8",
        "unet-down1-n8",
        "unet-bottom-n8",
        "efficientnet-expand-n8",
        "efficientnet-depthwise3-n8",
    ],
}


def select(names: list[str]) -> list[Shape]:
    """The shapes of the named sets and families, or single shapes by name; "all" for everything.

    Raises:
        ValueError: no set, family or shape has that name; the message lists sets and families.

    Example:
        >>> [shape.name for shape in select(["headline"])]
        ['headline']
    """
    by_name = {shape.name: [shape] for shapes in FAMILIES.values() for shape in shapes}
    known = {**by_name, **FAMILIES, "all": [shape for shapes in FAMILIES.values() for shape in shapes]}
    names = [part for name in names for part in SETS.get(name, [name])]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"no such shape or family: {', '.join(unknown)}; sets: {', '.join(SETS)}; "
            f"families: all, {', '.join(FAMILIES)}"
        )
    return list(dict.fromkeys(shape for name in names for shape in known[name]))


def cpu_friendly(shapes: list[Shape], gflop: float = 25.0) -> list[Shape]:
    """Those of at most so many GFLOP: 25 take about a second on two slow cores."""
    return [shape for shape in shapes if shape.flop <= gflop * 1e9]
