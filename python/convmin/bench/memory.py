"""Peak memory of a call."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import torch


def peak_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """Memory that the call needs at its height, its result included, beyond what was in use before it.

    CUDA: of PyTorch's allocator. CPU: resident memory of the process, whoever asked for it, by Linux's own high-water
    mark; None where the system won't reset that.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        result = call()
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device)
        del result
        return peak - before
    _return_free_memory()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # 5: the high-water mark becomes what is resident now
    except OSError:
        return None
    before = _status("VmHWM")
    result = call()
    peak = _status("VmHWM")
    del result
    return peak - before


def _return_free_memory() -> None:
    """Memory that was freed but is still mapped would be used again without being seen."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:  # a libc other than glibc
        return


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")
