"""The digits network of train_digits.py on several processes, each with a part of a batch (DistributedDataParallel).

    torchrun --standalone --nproc-per-node 2 examples/train_distributed.py

With GPUs, one for each process, it talks over NCCL, otherwise over gloo. Before it trains, it checks that the gradients
of the first batch, averaged over the processes, are those that one process computes from the whole of it.
"""

from __future__ import annotations

import argparse
import os

import convmin
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from train_digits import BATCH, Data, Network, load


def loss_of(model: nn.Module, data: Data, batch: Tensor) -> Tensor:
    return F.cross_entropy(model(data.images[batch]), data.labels[batch])


def gradients(model: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def largest_difference(network: nn.Module, wrapped: nn.Module, data: Data, batch: Tensor, mine: Tensor) -> float:
    """Between the averaged gradients and those of the whole batch in this process, relative to the largest gradient."""
    loss_of(wrapped, data, mine).backward()
    averaged = gradients(network)
    network.zero_grad()
    loss_of(network, data, batch).backward()
    alone = gradients(network)
    network.zero_grad()
    largest = max(float(g.abs().max()) for g in alone)
    return max(float((a - b).abs().max()) for a, b in zip(averaged, alone, strict=True)) / largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    gpus = torch.cuda.device_count() >= count and convmin.build_info()["cuda_version"] is not None
    if gpus:
        torch.cuda.set_device(rank)
    device = f"cuda:{rank}" if gpus else "cpu"
    dist.init_process_group("nccl" if gpus else "gloo")
    try:
        torch.manual_seed(0)
        data = load(device)
        network = Network(convmin.ConvScaleMin2d).to(device)
        wrapped = DistributedDataParallel(network, device_ids=[rank] if gpus else None)
        optimizer = torch.optim.Adam(network.parameters(), 2e-3)
        generator = torch.Generator().manual_seed(0)  # the same on every process: the batches are
        for epoch in range(options.epochs):
            for batch in torch.randperm(len(data.images), generator=generator).to(device).split(BATCH):
                mine = batch[: len(batch) // count * count].chunk(count)[rank]
                if epoch == 0 and len(optimizer.state) == 0:
                    difference = largest_difference(network, wrapped, data, batch, mine)
                    print(f"rank {rank}: gradients differ by {difference:.1e} of the largest", flush=True)
                    assert difference < 1e-5
                optimizer.zero_grad()
                loss_of(wrapped, data, mine).backward()
                optimizer.step()
        with torch.no_grad():
            accuracy = float((network(data.test_images).argmax(1) == data.test_labels).float().mean())
        if rank == 0:
            print(f"{dist.get_backend()}, {count} processes: accuracy {accuracy:.1%} after {options.epochs} epochs")
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
