"""One process of tests/test_distributed.py: sharded tensors and the examples against the single-device result."""

from __future__ import annotations

import sys
from pathlib import Path

import convmin
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor, init_device_mesh

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))

import data_parallel
import halo
import processes
import tensor_parallel


class Minimum(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.amin(1, keepdim=True)


def numbers(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape))) - 0.5


def shardings(device: torch.device) -> None:
    """Every placement gives the result; those that the operator knows are kept, so nothing is gathered for them."""
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    x, weight, bias = (t.to(device) for t in (numbers(4, 3, 9, 9), numbers(8, 3, 3, 3), numbers(8)))

    def place(tensor: torch.Tensor, *placements: object) -> DTensor:
        return distribute_tensor(tensor, mesh, list(placements))

    cases = [
        (Replicate(), Replicate(), "Replicate"),
        (Shard(0), Replicate(), "Shard(dim=0)"),
        (Replicate(), Shard(0), "Partial(min)"),
        (Shard(1), Shard(1), ""),
        (Shard(2), Replicate(), ""),
        (Shard(0), Shard(0), ""),
    ]
    for where_x, where_weight, kept in cases:
        where_bias = where_weight if where_weight == Shard(0) else Replicate()
        arguments = place(x, where_x), place(weight, where_weight), place(bias, where_bias)
        for scale, stride in ((2.0, 1), (-1.0, 2), (2.0, 2)):  # the same layouts: other numbers give other shapes
            with torch.no_grad():
                values = convmin.conv2d_scale_min(*arguments, scale, stride)
                expected = convmin.conv2d_scale_min(x, weight, bias, scale, stride)
            assert values.shape == expected.shape
            torch.testing.assert_close(values.full_tensor(), expected)
            assert kept in repr(values.placements), (where_x, where_weight, values.placements)
    uneven = place(weight[:5], Shard(0))  # a process would have no channel to take the minimum of
    with torch.no_grad():
        values = convmin.conv2d_scale_min(place(x, Replicate()), uneven)
    torch.testing.assert_close(values.full_tensor(), convmin.conv2d_scale_min(x, weight[:5]))
    grouped = convmin.conv2d_scale_min(
        place(numbers(2, 6, 5, 5).to(device), Replicate()), place(weight, Shard(0)), groups=2
    )
    expected = convmin.conv2d_scale_min(numbers(2, 6, 5, 5).to(device), weight, groups=2)
    torch.testing.assert_close(grouped.full_tensor(), expected)

    plain = [t.clone().requires_grad_() for t in (x, weight, bias)]
    convmin.conv2d_scale_min(*plain, 2.0).square().sum().backward()
    # Where the output channels are sharded, gradients want them gathered first.
    for where_x, where_weight in ((Replicate(), Shard(0)), (Shard(0), Replicate())):
        placed = place(x, where_x), place(weight, where_weight), place(bias, where_weight)
        leaves = [t.requires_grad_() for t in placed]
        convmin.conv2d_scale_min(*leaves, 2.0).square().sum().backward()
        for mine, theirs in zip(leaves, plain, strict=True):
            torch.testing.assert_close(mine.grad.full_tensor(), theirs.grad)
    values, indices = convmin.conv2d_scale_min_with_indices(*leaves)
    assert values.placements == indices.placements == (Shard(0),)

    try:
        convmin.conv2d_scale_min(place(x, Replicate()), place(weight[:, 1:], Shard(0)))
    except RuntimeError as error:
        assert "expected weight of shape [K, 3/groups" in str(error), error
    else:
        raise AssertionError("a wrong shape went through")

    if dist.get_world_size() == 4:  # images over one axis of the mesh, output channels over the other
        grid = init_device_mesh(device.type, (2, 2))
        images = distribute_tensor(x, grid, [Shard(0), Replicate()])
        filters = distribute_tensor(weight, grid, [Replicate(), Shard(0)])
        with torch.no_grad():
            values = convmin.conv2d_scale_min(images, filters)
        assert repr(values.placements) == "(Shard(dim=0), Partial(min))", values.placements
        torch.testing.assert_close(values.full_tensor(), convmin.conv2d_scale_min(x, weight))


def training(device: torch.device) -> None:
    """DDP and FSDP2 train to the parameters of one process that sees all images."""
    rank, world = dist.get_rank(), dist.get_world_size()
    images = numbers(2 * world, 3, 12, 12).to(device)
    alone = data_parallel.build_model().to(device)
    data_parallel.train(alone, images, steps=3)
    for fsdp in (False, True):
        model = data_parallel.distribute(data_parallel.build_model(), device, fsdp)
        data_parallel.train(model, images[2 * rank : 2 * rank + 2], steps=3)
        for name, value in data_parallel.parameters(model).items():
            torch.testing.assert_close(value, alone.state_dict()[name].cpu(), rtol=1e-4, atol=1e-5)

    plain = nn.Sequential(nn.Sequential(nn.Conv2d(3, 8, 3), Minimum()), nn.Conv2d(1, 2, 1)).to(device)
    for parameter in plain.parameters():
        dist.broadcast(parameter.data, 0)
    expected = plain(images)
    assert len(convmin.fuse(plain).fused) == 1
    fully_shard(plain[0])  # fused first, then sharded by the modules whose forward runs
    torch.testing.assert_close(fully_shard(plain)(images), expected)


def inference(device: torch.device) -> None:
    """Output channels over the processes, and rows over the processes, each as in its example."""
    torch.manual_seed(0)
    layer = convmin.ConvScaleMin2d(4, 8, (4, 3), 2.0, padding="same", dilation=(2, 1)).to(device)
    image = numbers(2, 4, 41, 16).to(device)
    with torch.no_grad():
        whole = layer(image)
        rows = halo.forward(layer, halo.strip_of(image))
        torch.testing.assert_close(rows, halo.strip_of(whole))
    plain = convmin.ConvScaleMin2d.from_conv(nn.Conv2d(4, 8, 3), -1.5).to(device)
    with torch.no_grad():
        expected = plain(image)
    values, parts = tensor_parallel.forward(tensor_parallel.shard(plain), image)
    torch.testing.assert_close(values, expected)
    assert "Partial(min)" in repr(parts.placements)


def main() -> None:
    torch.set_num_threads(1)
    device = processes.join()
    torch.backends.cudnn.allow_tf32 = False
    for check in (shardings, training, inference):
        check(device)
        dist.barrier()
        if dist.get_rank() == 0:
            print("passed:", check.__name__, device.type, flush=True)
    processes.leave()


if __name__ == "__main__":
    main()
