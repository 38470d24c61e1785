"""Data-parallel training of a model with the fused layer: by DDP, or by FSDP2 with the parameters in shards.

    torchrun --nproc-per-node 2 examples/data_parallel.py
    torchrun --nproc-per-node 2 examples/data_parallel.py --fsdp

Runs on the GPUs by NCCL, where there is one for each process, else on the CPU by Gloo.
"""

from __future__ import annotations

import argparse

import convmin
import torch
import torch.distributed as dist
from processes import join, leave
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, init_device_mesh
from torch.nn.parallel import DistributedDataParallel


def build_model() -> nn.Sequential:
    """The same numbers in every process."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()),
        convmin.ConvScaleMin2d(8, 16, 3, 2.0, padding=1),
        nn.Conv2d(1, 1, 3, padding=1),
    )


def distribute(model: nn.Sequential, device: torch.device, fsdp: bool) -> nn.Module:
    """FSDP2 gathers a layer's parameters just before it runs, so the fused layer sees whole ones."""
    model = model.to(device)
    if not fsdp:
        return DistributedDataParallel(model)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for layer in model:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def train(model: nn.Module, images: torch.Tensor, steps: int = 5) -> float:
    """A few steps on this process's share of the images; returns the last loss there."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    last = 0.0
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model(images) - images.mean(1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()
        last = loss.item()
    return last


def parameters(model: nn.Module) -> dict[str, torch.Tensor]:
    """Whole parameters by the plain model's names, wherever they are."""
    state = model.module.state_dict() if isinstance(model, DistributedDataParallel) else model.state_dict()
    return {name: (value.full_tensor() if isinstance(value, DTensor) else value).cpu() for name, value in state.items()}


def main() -> None:
    """Trains, and says how far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fsdp", action="store_true", help="FSDP2 in the place of DDP")
    fsdp = parser.parse_args().fsdp
    device = join()
    model = distribute(build_model(), device, fsdp)
    images = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(dist.get_rank())).to(device)
    first, last = train(model, images, steps=1), train(model, images, steps=20)
    names = parameters(model)  # every process has to take part
    if dist.get_rank() == 0:
        how = "FSDP2" if fsdp else "DDP"
        print(f"{how}, {dist.get_world_size()} processes on {device.type}: loss {first:.4f} -> {last:.4f}")
        print("parameters:", ", ".join(names))
    leave()


if __name__ == "__main__":
    main()
