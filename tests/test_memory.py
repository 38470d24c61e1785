"""Memory: the convolution's output, which the operator exists to avoid, never exists."""

from __future__ import annotations

from pathlib import Path

import convmin
import pytest
import torch
from support import run_python

# 2 x 8 x 256 x 256 -> 256 channels: the input has 4 MB, the convolution's output 134 MB.
N, C, K, SIZE = 2, 8, 256, 256
CONVOLUTION_BYTES = N * K * SIZE * SIZE * 4

# /proc's high-water mark, as resource.getrusage() gives a child the mark of the parent that started it.
MEASURE = """
import sys, torch, convmin
def unedited(x, weight):
    return (torch.conv2d(x, weight, None, padding=1) * 2.0).amin(1, keepdim=True)
name, grad, dtype = sys.argv[1], sys.argv[2] == "grad", getattr(torch, sys.argv[3])
def run(n, c, k, size):
    x = torch.rand(n, c, size, size, dtype=dtype)
    weight = torch.rand(k, c, 3, 3, dtype=dtype, requires_grad=grad)
    if name == "convmin":
        return convmin.conv2d_scale_min(x, weight, None, 2.0, padding=1)
    if name in ("compiled", "fused"):
        return compiled(x, weight)
    return convmin.reference.conv2d_scale_min(x, weight, None, 2.0, padding=1)
def high_water():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
if name in ("compiled", "fused"):
    compiled = torch.compile(unedited, dynamic=True)
if name == "fused":
    convmin.enable_inductor_fusion()
run(1, 8, 32, 64)  # code and threads
before = high_water()
kept = run(*map(int, sys.argv[4:]))
print(high_water() - before)
"""
linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the measurement reads Linux's /proc")


def peak(name: str, grad: bool, dtype: str) -> int:
    """Bytes by which a process's peak memory grows during one call."""
    finished = run_python("-c", MEASURE, name, "grad" if grad else "none", dtype, *map(str, (N, C, K, SIZE)))
    assert finished.returncode == 0, finished.stderr
    return int(finished.stdout)


@linux
@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_cpu_peak(grad: bool, dtype: str) -> None:
    """A slab of the convolution, not the whole."""
    assert peak("convmin", grad, dtype) < CONVOLUTION_BYTES / 4


@linux
def test_the_measurement_sees_a_convolution() -> None:
    """The plain sequence does allocate it."""
    assert peak("reference", False, "float32") > CONVOLUTION_BYTES


@linux
def test_the_fusion_in_compiled_graphs_saves_it_too() -> None:
    """A model that nobody edited, compiled: with the convolution's output as it is, without it by the fusion."""
    assert peak("compiled", False, "float32") > 0.75 * CONVOLUTION_BYTES  # compiling left some memory to reuse
    assert peak("fused", False, "float32") < CONVOLUTION_BYTES / 4


@pytest.mark.cuda
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
def test_cuda_peak(dtype: torch.dtype, layout: torch.memory_format, grad: bool) -> None:
    """Values, the index where gradients are wanted, and a workspace of the weight's size."""
    x = torch.rand(N, C, SIZE, SIZE, dtype=dtype, device="cuda").contiguous(memory_format=layout)
    weight = torch.rand(K, C, 3, 3, dtype=dtype, device="cuda", requires_grad=grad)
    bias = torch.rand(K, dtype=dtype, device="cuda")
    convmin.conv2d_scale_min(x, weight, bias, 2.0, padding=1)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    kept = convmin.conv2d_scale_min(x, weight, bias, 2.0, padding=1)
    torch.cuda.synchronize()
    grown = torch.cuda.max_memory_allocated() - before
    needed = kept.numel() * (kept.element_size() + (1 if grad else 0)) + 4 * weight.numel() * 4
    assert grown <= needed + (256 << 10), f"{grown} bytes, {needed} explained"  # the allocator rounds up
    assert needed < CONVOLUTION_BYTES / 50
