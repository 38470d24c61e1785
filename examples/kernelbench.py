"""Applies KernelBench's rules to any file in its form: Model, ModelNew, get_inputs, get_init_inputs.

    python examples/kernelbench.py examples/kernelbench_32.py
    python examples/kernelbench.py examples/kernelbench_32.py --device cpu --set batch_size=1 height=64 width=64

Both models are made from one seed. Five trials with fresh random inputs have to agree, element by element, within 1e-4
(absolute and relative) in float32 and 1e-2 in narrower types; then both are timed in turns, from a cold L2 cache.

1e-4 is for float32 in full. With TF32, PyTorch's setting for convolutions on CUDA, cuDNN itself is up to 9e-4 away from
the exact result of problem 32, so no other TF32 kernel can be within 1e-4 of it; that row is held to the tolerance of
the narrower types, and against the model in full float32.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType

import torch
from convmin.bench.timing import AnyCall, take_turns
from torch import Tensor, nn

DTYPES = {"float32": torch.float32, "tf32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
TOLERANCE = {"float32": 1e-4, "tf32": 1e-2, "float16": 1e-2, "bfloat16": 1e-2}
TRIALS, SEED, ROUNDS = 5, 42, 100


def load(path: Path, settings: dict[str, int]) -> ModuleType:
    """The file as a module, with some of its constants replaced."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    missing = [name for name in ("Model", "ModelNew", "get_inputs", "get_init_inputs") if not hasattr(module, name)]
    if missing:
        raise SystemExit(f"{path} has no {', '.join(missing)}")
    for name, value in settings.items():
        if not hasattr(module, name):
            raise SystemExit(f"{path} has no constant {name}")
        setattr(module, name, value)
    return module


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def make(module: ModuleType, name: str, precision: str, device: torch.device) -> nn.Module:
    torch.manual_seed(SEED)
    return getattr(module, name)(*module.get_init_inputs()).to(device, DTYPES[precision]).eval()


def inputs(module: ModuleType, precision: str, device: torch.device, seed: int) -> list[Tensor]:
    torch.manual_seed(seed)
    with device:
        values = module.get_inputs()
    return [value.to(device, DTYPES[precision]) if torch.is_tensor(value) else value for value in values]


def agree(module: ModuleType, precision: str, device: torch.device) -> tuple[int, float]:
    """How many trials pass, and the largest difference of all."""
    reference, answer = (make(module, name, precision, device) for name in ("Model", "ModelNew"))
    passed, largest = 0, 0.0
    for trial in range(TRIALS):
        arguments = inputs(module, precision, device, SEED + trial)
        with tf32(False):
            expected = reference(*arguments)
        with tf32(precision == "tf32"):
            result = answer(*arguments)
        if result.shape != expected.shape:
            print(f"expected a result of shape {list(expected.shape)}, got {list(result.shape)}", file=sys.stderr)
            return 0, float("inf")
        largest = max(largest, float((result.double() - expected.double()).abs().max()))
        passed += torch.allclose(result, expected, rtol=TOLERANCE[precision], atol=TOLERANCE[precision])
    return passed, largest


def milliseconds(module: ModuleType, precision: str, device: torch.device, seconds: float) -> dict[str, float]:
    """Medians of both models."""
    arguments = inputs(module, precision, device, SEED)
    calls: dict[str, AnyCall] = {
        name: partial(make(module, name, precision, device), *arguments) for name in ("Model", "ModelNew")
    }
    with tf32(precision == "tf32"):
        for call in calls.values():
            call()
            call()
        times = take_turns(calls, device, ROUNDS, seconds)
    return {name: ms["median"] for name, ms in times.items()}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", nargs="+", choices=DTYPES, help="default: float32, and on CUDA all")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=N", help="constants of the file to replace")
    parser.add_argument("--seconds", type=float, default=5.0, help="of timing for a precision, about")
    options = parser.parse_args(argv)
    device = torch.device(options.device)
    module = load(options.file, {name: int(value) for name, _, value in (word.partition("=") for word in options.set)})
    torch.backends.cudnn.benchmark = True
    print(
        f"{'precision':<10}{'correct':>10}{'difference':>13}{'tolerance':>11}{'Model':>13}{'ModelNew':>13}{'faster':>9}"
    )
    right = True
    with torch.no_grad():
        for precision in options.precision or (list(DTYPES) if device.type == "cuda" else ["float32"]):
            passed, largest = agree(module, precision, device)
            line = f"{precision:<10}{f'{passed} of {TRIALS}':>10}{largest:>13.1e}{TOLERANCE[precision]:>11.0e}"
            if passed == TRIALS:
                ms = milliseconds(module, precision, device, options.seconds)
                line += f"{ms['Model']:>10.3f} ms{ms['ModelNew']:>10.3f} ms{ms['Model'] / ms['ModelNew']:>8.2f}x"
            print(line, flush=True)
            right &= passed == TRIALS
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
