"""Tensor-parallel inference: each process holds some of the output channels, and the minima meet at the end.

    torchrun --nproc-per-node 2 examples/tensor_parallel.py

The minimum over all channels is the minimum of the parts' minima. DTensor knows this of the operator: with a weight
that is sharded along its output channels the result is Partial("min"), one pixel-sized reduction away from the whole.
Whether a NaN of one process survives that reduction is up to the back end; Gloo's loses it.
"""

from __future__ import annotations

import convmin
import torch
import torch.distributed as dist
from processes import join, leave
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor, init_device_mesh


def shard(layer: convmin.ConvScaleMin2d) -> convmin.ConvScaleMin2d:
    """Leaves each process its share of the layer's output channels."""
    mesh = init_device_mesh(layer.weight.device.type, (dist.get_world_size(),))
    for name, parameter in list(layer.named_parameters()):
        part = distribute_tensor(parameter.data, mesh, [Shard(0)])
        setattr(layer, name, torch.nn.Parameter(part, requires_grad=False))
    return layer


def forward(layer: convmin.ConvScaleMin2d, images: torch.Tensor) -> tuple[torch.Tensor, DTensor]:
    """The whole result and, before the minima met, the processes' own."""
    mesh = layer.weight.device_mesh  # type: ignore[operator, union-attr]
    with torch.no_grad():
        parts = layer(DTensor.from_local(images, mesh, [Replicate()]))
    return parts.full_tensor(), parts


def main() -> None:
    """Compares the sharded layer with the whole one."""
    device = join()
    torch.manual_seed(0)
    whole = convmin.ConvScaleMin2d(16, 64, 3, 2.0, padding=1).to(device)
    images = torch.rand(4, 16, 64, 64, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.no_grad():
        expected = whole(images)
    values, parts = forward(shard(whole), images)
    if dist.get_rank() == 0:
        error = float((values - expected).abs().max())
        print(f"{dist.get_world_size()} processes, {parts.placements[0]}, {parts.to_local().shape}: error {error:.1e}")
    leave()


if __name__ == "__main__":
    main()
