"""From the naive kernel to the library's: each step built, checked against float64 and timed, in one run.

    python benchmarks/ladder/run.py                    the headline, 64 images of 64 x 256 x 256 -> 128
    python benchmarks/ladder/run.py --images 4 --out ladder.md
    python benchmarks/ladder/run.py --build-only --arch 9.0a

The steps are small programs beside this file, written to be read. docs/ladder.md says what each was expected to bring.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "python")]

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from build_tools.cuda import Arch, archs_for_gpus, find_nvcc, parse_arch_list  # noqa: E402

STEPS = {
    "naive": "one thread a pixel, everything from global memory",
    "shared": "input tile and filter in shared memory",
    "registers": "4 pixels x 8 channels in a thread's registers",
    "tensor_cores": "wmma on float16 operands, weights kept in shared memory",
}
CHANNELS_IN, CHANNELS_OUT, SCALE = 64, 128, 2.0


class Problem(ctypes.Structure):
    """As in ladder.cuh."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "weight", "bias", "y", "workspace")),
        ("scale", ctypes.c_float),
        *((name, ctypes.c_int) for name in ("n", "c", "h", "w", "k")),
    )


@dataclass
class Row:
    """A step's result."""

    step: str
    what: str
    ms: float
    max_error: float


def build(arch: Arch, folder: Path) -> dict[str, Path]:
    """Compiles the steps, each to a library of its own."""
    nvcc = find_nvcc()
    if nvcc is None:
        raise SystemExit("the ladder needs nvcc: in CUDA_HOME, on PATH, or from pip (see README.md)")
    folder.mkdir(parents=True, exist_ok=True)
    built = {}
    for name in STEPS:
        built[name] = folder / f"{name}.so"
        command = [str(nvcc), "-O3", "-std=c++17", "-shared", "-Xcompiler", "-fPIC,-Wall,-Wextra", *arch.nvcc_flags()]
        command += ["-Werror", "all-warnings", str(Path(__file__).with_name(f"{name}.cu")), "-o", str(built[name])]
        subprocess.run(command, check=True)
    return built


def call(library: Path, x: Tensor, weight: Tensor, bias: Tensor) -> Callable[[], Tensor]:
    """The step as a function of nothing that returns its output."""
    launch = ctypes.CDLL(str(library)).launch
    launch.argtypes = [Problem, ctypes.c_void_p]
    n, c, h, w = x.shape
    y, workspace = x.new_empty((n, 1, h - 2, w - 2)), torch.empty_like(weight)
    pointers = [tensor.data_ptr() for tensor in (x, weight, bias, y, workspace)]
    problem = Problem(*pointers, SCALE, n, c, h, w, weight.shape[0])

    def run() -> Tensor:
        status = launch(problem, torch.cuda.current_stream().cuda_stream)
        if status != 0:
            raise RuntimeError(f"{library.stem}: CUDA error {status}")
        return y

    return run


def climb(images: int, size: int, seconds: float, folder: Path) -> list[Row]:
    """Builds, checks and times: PyTorch's operators, the steps, and the library's kernels."""
    import convmin
    from convmin.bench.timing import take_turns

    device = torch.device("cuda")
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(CHANNELS_IN, CHANNELS_OUT, 3).to(device).requires_grad_(False)
    x, weight, bias = torch.rand(images, CHANNELS_IN, size, size, device=device), layer.weight, layer.bias
    assert bias is not None
    exact = torch.cat(
        [convmin.reference.conv2d_scale_min(i[None].double(), weight.double(), bias.double(), SCALE) for i in x]
    )

    def precision(tf32: bool, function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def run() -> Tensor:
            torch.backends.cudnn.allow_tf32 = tf32
            return function()

        return run

    def forced(kernel: str) -> Callable[[], Tensor]:
        def run() -> Tensor:
            with convmin.force_kernel(kernel):
                return convmin.conv2d_scale_min(x, weight, bias, SCALE)

        return run

    torch.backends.cudnn.benchmark = True
    [arch] = archs_for_gpus([torch.cuda.get_device_capability()])
    eager = lambda: convmin.reference.conv2d_scale_min(x, weight, bias, SCALE)  # noqa: E731
    steps = {
        f"eager, {name}": ("cuDNN, then two passes over its output", precision(tf32, eager))
        for name, tf32 in (("float32 in full", False), ("TF32", True))
    }
    steps |= {name: (STEPS[name], call(path, x, weight, bias)) for name, path in build(arch, folder).items()}
    for kernel in convmin.build_info()["kernels"]:
        steps[f"convmin {kernel}"] = ("the library's kernel", precision(kernel != "simt", forced(kernel)))

    rows, calls = {}, {}
    for name, (what, function) in steps.items():
        try:
            result = function()
            torch.cuda.synchronize()
        except RuntimeError as error:  # a kernel that is not for this GPU
            print(f"{name}: {str(error).splitlines()[0]}", file=sys.stderr)
            continue
        error = float((result - exact).abs().max())
        if not error <= 5e-3:  # several times what TF32's operands cost
            raise SystemExit(f"{name}: wrong, error {error:.1e} against float64")
        rows[name], calls[name] = Row(name, what, 0.0, error), function
    for name, times in take_turns(calls, device, seconds=seconds).items():
        rows[name].ms = times["median"]
    return list(rows.values())


def markdown(rows: list[Row], images: int, size: int) -> str:
    flop = 2 * images * CHANNELS_IN * CHANNELS_OUT * 9 * (size - 2) ** 2
    lines = ["| step | what | ms | TFLOP/s | times faster than naive | max error |", "|---|---|---|---|---|---|"]
    first = next(row.ms for row in rows if row.step == "naive")
    for row in rows:
        numbers = f"{row.ms:.2f} | {flop / row.ms / 1e9:.1f} | {first / row.ms:.1f} | {row.max_error:.1e}"
        lines.append(f"| {row.step} | {row.what} | {numbers} |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--size", type=int, default=256, help="pixels a side")
    parser.add_argument("--seconds", type=float, default=10.0, help="of timing, about")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "ladder", help="for the compiled steps")
    parser.add_argument("--out", type=Path, help="file for the table")
    parser.add_argument("--build-only", action="store_true", help="needs no GPU")
    parser.add_argument("--arch", default="9.0a", help="of --build-only, such as 8.0")
    options = parser.parse_args(argv)
    if options.build_only:
        print(*build(parse_arch_list(options.arch)[0], options.folder).values(), sep="\n")
        return
    if not torch.cuda.is_available():
        raise SystemExit("the ladder needs a GPU (--build-only does not)")
    with torch.inference_mode():
        text = markdown(
            climb(options.images, options.size, options.seconds, options.folder), options.images, options.size
        )
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n\n{text}")
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
