"""Shows what convmin does, on the photographs that scikit-learn ships.

Checks convmin.ConvScaleMin2d against nn.Conv2d, prints time and memory beside eager PyTorch and torch.compile, and
writes a picture: the dark lines of the photographs and their directions, found by one call of the operator.

    make demo
    python examples/demo.py --device cpu --output lines.png
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import convmin
import line_filters
import numpy as np
import torch
import torch.nn.functional as F
from convmin.bench.memory import peak_bytes
from convmin.bench.timing import AnyCall, take_turns
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from tqdm import tqdm


@dataclass
class Workload:
    """A convolution layer, and photographs, or features of photographs, to run it on."""

    title: str
    conv: nn.Conv2d
    scale: float
    input: Tensor

    def eager(self, x: Tensor) -> Tensor:
        return (self.conv(x) * self.scale).min(dim=1, keepdim=True).values

    def fused(self) -> convmin.ConvScaleMin2d:
        return convmin.ConvScaleMin2d.from_conv(self.conv, self.scale)


def pick_device(named: str | None) -> torch.device:
    if named is not None:
        return torch.device(named)
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if convmin.build_info()["cuda_version"] is None:
        print("There is a GPU, but convmin was built for the CPU only: the build's output says why.", file=sys.stderr)
        return torch.device("cpu")
    return torch.device("cuda")


def photographs() -> list[np.ndarray]:
    return [np.array(image) for image in load_sample_images().images]


def make_workloads(images: list[np.ndarray], device: torch.device) -> list[Workload]:
    """The filter bank on whole photographs, and a network's 3x3 layer on features of them."""
    torch.manual_seed(0)
    batch = torch.stack([torch.from_numpy(image) for image in images]).permute(0, 3, 1, 2).to(device).float() / 255
    bank = line_filters.filter_bank()
    lines = nn.Conv2d(3, len(bank), line_filters.SIZE, bias=False)
    lines.weight.data.copy_(bank)
    half = line_filters.SIZE // 2
    padded = F.pad(batch, (half, half, half, half), mode="reflect")

    stem, layer = nn.Conv2d(3, 64, 3, padding=1), nn.Conv2d(64, 128, 3)
    crops = batch[:, :, 80:336, 200:456].repeat(8 if device.type == "cuda" else 1, 1, 1, 1)
    features = stem.to(device)(crops).relu()
    n, c, h, w = features.shape
    return [
        Workload(
            f"line filters: {len(bank)} of {line_filters.SIZE}x{line_filters.SIZE} on {len(images)} photographs",
            lines.to(device),
            1.0,
            padded,
        ),
        Workload(f"layer: 128 filters of 3x3 on features [{n}, {c}, {h}, {w}]", layer.to(device), 2.0, features),
    ]


def check(workload: Workload) -> str:
    """Holds convmin to the error that PyTorch's own convolution has against float64; scale of both signs."""
    x, conv = workload.input[:2], workload.conv
    exact_conv = F.conv2d(x.double(), conv.weight.double(), None if conv.bias is None else conv.bias.double())
    worst = {"convmin": 0.0, "eager": 0.0}
    for scale in (workload.scale, -workload.scale):
        exact = (exact_conv * scale).amin(dim=1, keepdim=True)
        signed = Workload(workload.title, conv, scale, x)
        for name, result in (("convmin", signed.fused()(x)), ("eager", signed.eager(x))):
            worst[name] = max(worst[name], (result.double() - exact).abs().max().item())
    if not worst["convmin"] <= 1.5 * worst["eager"]:  # sums in another order: neither is always ahead
        raise SystemExit(f"{workload.title}: wrong: error {worst['convmin']:.1e}, PyTorch's own {worst['eager']:.1e}")
    return f"largest error against float64: convmin {worst['convmin']:.1e}, nn.Conv2d {worst['eager']:.1e}"


def compare(workload: Workload, doing: Callable[[str], None]) -> list[str]:
    """The table's lines for one workload."""
    x = workload.input
    layers = {"eager": workload.eager, "torch.compile": torch.compile(workload.eager), "convmin": workload.fused()}
    calls: dict[str, AnyCall] = {}
    lines = {name: f"  {name:<15}" for name in layers}
    for name, layer in layers.items():
        doing(f"warming up {name}")
        try:
            layer(x)
        except Exception as error:  # torch.compile needs a compiler or Triton, and not every machine has one that works
            lines[name] += f"failed: {str(error).strip().splitlines()[0][:80]}"
        else:
            calls[name] = partial(layer, x)
    doing("timing")
    times = {name: ms["median"] for name, ms in take_turns(calls, x.device, seconds=6.0).items()}
    doing("measuring memory")
    for name, call in calls.items():
        peak = peak_bytes(call, x.device)
        memory = "unknown" if peak is None else f"{peak / 2**20:.1f} MiB"
        speed = times["eager"] / times[name]
        lines[name] += f"{times[name]:>12.2f} ms{memory:>15}{speed:>11.2f}x"
    return [f"  {'':<15}{'time':>15}{'memory':>15}{'speed':>12}", *lines.values()]


def picture(images: list[np.ndarray], workload: Workload, path: Path) -> None:
    minimum, winner = convmin.conv2d_scale_min_with_indices(workload.input, workload.conv.weight)
    line_filters.draw(images, list(minimum[:, 0].cpu().numpy()), list(winner[:, 0].cpu().numpy()), path)


def main() -> None:
    parser = argparse.ArgumentParser(description="convmin on real photographs")
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    parser.add_argument("--output", type=Path, default=Path("demo.png"), help="the picture (default: demo.png)")
    arguments = parser.parse_args()
    device = pick_device(arguments.device)
    warnings.filterwarnings("ignore", module="torch")  # advice on settings, in the midst of the progress bar
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    start = time.perf_counter()

    images = photographs()
    workloads = make_workloads(images, device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    lines = [f"convmin {convmin.__version__}, torch {torch.__version__}, {where}"]
    with tqdm(total=6 * len(workloads) + 1, bar_format="{desc} {bar:30} {n_fmt}/{total_fmt}", leave=False) as progress:

        def doing(what: str) -> None:
            progress.set_description_str(f"{what:<26}")
            progress.update()

        for workload in workloads:
            doing("checking against float64")
            lines += ["", workload.title, f"  {check(workload)}"]
            lines += compare(workload, doing)
        doing("drawing")
        picture(images, workloads[0], arguments.output)
    print("\n".join(lines))
    whose = "PyTorch's allocator" if device.type == "cuda" else "the process's resident memory"
    print(f"\nTime: median of calls that take turns. Memory: peak of {whose} beyond what was in use before the call.")
    print(f"Picture: {arguments.output} ({time.perf_counter() - start:.0f} s in all)")


if __name__ == "__main__":
    with torch.inference_mode():
        main()
