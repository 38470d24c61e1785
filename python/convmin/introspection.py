"""What was built, which kernel takes a problem and why, and how to force another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from convmin import _C
from convmin.functional import IntOrPair, resolve

if TYPE_CHECKING:
    from convmin._C import BuildInfo, Device
else:
    BuildInfo = Device = dict


def build_info() -> BuildInfo:
    """Versions, CUDA architectures and kernels of this build.

    Example:
        >>> sorted(build_info())
        ['cuda_archs', 'cuda_version', 'kernels', 'torch_version', 'version']
    """
    return _C.build_info()


@contextmanager
def force_kernel(name: str) -> Iterator[None]:
    """Makes every call on a CUDA tensor use the named kernel, process-wide, until the block ends.

    For tests and benchmarks. A kernel that can't take a problem then raises RuntimeError and says why. The environment
    variable ``CONVMIN_FORCE_KERNEL`` does the same for a whole process. CPU tensors have one path and ignore it.

    Raises:
        ValueError: no kernel has that name; the message lists those that exist.

    Example:
        >>> with force_kernel("simt"):
        ...     pass
    """
    previous = torch.ops.convmin._force_kernel(name)
    try:
        yield
    finally:
        torch.ops.convmin._force_kernel(previous)


@dataclass(frozen=True)
class DeviceProperties:
    """What a plan needs to know of a GPU, which need not be there.

    Args:
        major, minor: compute capability.
        sm_count: number of multiprocessors.
        shared_memory_per_block: bytes, with opt-in.
        shared_memory_per_sm: bytes.
        registers_per_sm: 32-bit registers.
        clusters: Hopper: how many clusters of 2, 3, ... 16 blocks run at once, where each block fills a
            multiprocessor; zeros, which missing ones are: plan without clusters.

    Raises:
        ValueError: more than 15 numbers in ``clusters``.
    """

    major: int
    minor: int
    sm_count: int
    shared_memory_per_block: int
    shared_memory_per_sm: int
    registers_per_sm: int
    clusters: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        missing = 15 - len(self.clusters)
        if missing < 0:
            raise ValueError(f"clusters: expected a number for each of 2, 3, ... 16 blocks, got {len(self.clusters)}")
        object.__setattr__(self, "clusters", (*self.clusters, *(0,) * missing))

    @classmethod
    def of(cls, device: torch.device) -> DeviceProperties:
        """The properties of an installed GPU."""
        return cls(**_C.query_device(torch.cuda.current_device() if device.index is None else device.index))

    def as_dict(self) -> Device:
        return cast(Device, asdict(self))


@dataclass(frozen=True)
class Explanation:
    """Which kernel runs, how, and why. ``print`` it.

    Args:
        kernel: its name; 'cpu' for CPU tensors.
        precision: 'ieee' or 'tf32' for float32, else the dtype that sums are kept in.
        tile: (output pixels, output channels, reduction elements) of a thread block; for the CPU (images, output rows)
            of a slab.
        reason: why this kernel and this tile.
        rejections: (kernel, why not), fastest first, of the kernels that would have been faster.
        details: the rest of the plan, by name.
    """

    kernel: str
    precision: str
    tile: tuple[int, ...]
    reason: str
    rejections: tuple[tuple[str, str], ...] = ()
    details: dict[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"kernel     {self.kernel}: {self.reason}", f"precision  {self.precision}", f"tile       {self.tile}"]
        lines += [f"{name:<10} {value}" for name, value in self.details.items()]
        lines += [f"not {kernel:<6} {why}" for kernel, why in self.rejections]
        return "\n".join(lines)


def explain(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    scale: float = 1.0,
    stride: IntOrPair = 1,
    padding: str | IntOrPair = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
    with_indices: bool = False,
    device: DeviceProperties | None = None,
) -> Explanation:
    """The plan for a call of :func:`convmin.conv2d_scale_min` with these arguments, without running it.

    Args:
        input, weight, bias, scale, stride, padding, dilation, groups: as in the call; data is not read, so tensors of
            the meta device will do.
        with_indices: plan for :func:`convmin.conv2d_scale_min_with_indices`.
        device: plan for this GPU rather than for the input's device.

    Raises:
        RuntimeError: the call would raise it too.

    Example:
        >>> print(explain(torch.rand(2, 64, 64, 64), torch.rand(128, 64, 3, 3)).kernel)
        cpu
    """
    input, weight, bias, *options = resolve("explain", input, weight, bias, scale, stride, padding, dilation, groups)
    meta = [None if tensor is None else tensor.to("meta") for tensor in (input, weight, bias)]
    output = torch.ops.convmin.conv2d_scale_min.default(*meta, *options)
    if input.dim() == 3:
        input = input.unsqueeze(0)
    if device is None and input.device.type != "cuda":
        return _explain_cpu(input, weight, output)
    return _explain_cuda(input, weight, bias, output, options, with_indices, device)


def _explain_cpu(input: Tensor, weight: Tensor, output: Tensor) -> Explanation:
    compute = torch.float64 if input.dtype == torch.float64 else torch.float32
    channels_last = input.is_contiguous(memory_format=torch.channels_last) and not input.is_contiguous()
    oh, ow = output.shape[-2:]
    images, rows = _C.plan_slabs(input.shape[0], weight.shape[0], oh, ow, compute.itemsize)
    return Explanation(
        kernel="cpu",
        precision="ieee" if input.dtype == torch.float32 else str(compute).removeprefix("torch."),
        tile=(images, rows),
        reason=f"ATen's convolution on slabs of {images} image(s) x {rows} output row(s), scale and minimum fused",
        details={"layout": "channels_last" if channels_last else "contiguous"},
    )


def _explain_cuda(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    output: Tensor,
    options: list[Any],
    with_indices: bool,
    device: DeviceProperties | None,
) -> Explanation:
    scale, stride, padding, dilation, groups = options
    plan = _C.plan(
        {
            "dtype": str(input.dtype).removeprefix("torch."),
            "precision": "tf32" if torch.ops.convmin._allows_tf32() else "ieee",
            "has_bias": bias is not None,
            "with_indices": with_indices,
            "input": tuple(input.shape),  # type: ignore[typeddict-item]
            "weight": tuple(weight.shape),  # type: ignore[typeddict-item]
            "output": tuple(output.shape[-2:]),  # type: ignore[typeddict-item]
            "stride": tuple(stride),
            "padding": tuple(padding),
            "dilation": tuple(dilation),
            "groups": groups,
            "input_strides": input.stride(),  # type: ignore[typeddict-item]
            "weight_strides": weight.stride(),  # type: ignore[typeddict-item]
            "input_alignment": _alignment(input),
            "weight_alignment": _alignment(weight),
            "scale": scale,
        },
        (device or DeviceProperties.of(input.device)).as_dict(),
        torch.ops.convmin._forced_kernel(),
    )
    if not plan["accepted"]:
        raise RuntimeError(f"explain: no kernel can take this problem: {plan['reason']}")
    sums = {torch.float32: plan["precision"], torch.float64: "float64"}.get(input.dtype, "float32")
    return Explanation(
        kernel=plan["kernel"],
        precision=sums,
        tile=plan["tile"],
        reason=plan["reason"],
        rejections=tuple(plan["rejections"]),
        details={
            "gather": plan["gather"],
            "grid": f"{plan['blocks']} blocks x {plan['threads']} threads, channels in {plan['splits']} split(s)"
            + (f", clusters of {plan['cluster']}" if plan["cluster"] > 1 else "")
            + (", equal shares of all tiles" if plan["grains"] > 0 else "")
            + (f", {plan['images']} images at a time" if plan["images"] < input.shape[0] else ""),
            "memory": f"{plan['shared_memory']} B shared a block, {plan['workspace_bytes']} B workspace",
        },
    )


def _alignment(tensor: Tensor) -> int:
    """Bytes, at most 16, that the tensor's address is a multiple of; a meta tensor's would be its storage offset's."""
    address: int = tensor.storage_offset() * tensor.itemsize if tensor.is_meta else tensor.data_ptr()  # type: ignore[assignment]
    return min(16, address & -address) or 16
