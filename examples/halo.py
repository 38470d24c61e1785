"""Images too large for one device: each process holds a strip of rows, and neighbours lend each other the rows between.

    torchrun --nproc-per-node 2 examples/halo.py --size 2048

A window of R rows sees (R - 1) * dilation rows beyond its own. Each process sends its outermost rows to its neighbours,
puts theirs around its strip (zeros at the image's edge) and calls the operator without vertical padding. The results
are the rows of the whole image's result, and stay where they are. For inference: gradients don't cross the strips.
"""

from __future__ import annotations

import argparse

import convmin
import torch
import torch.distributed as dist
from processes import join, leave


def exchange(strip: torch.Tensor, above: int, below: int) -> torch.Tensor:
    """``[N, C, rows, W]`` with the ``above`` rows before it and the ``below`` rows after it."""
    rank, last = dist.get_rank(), dist.get_world_size() - 1
    if torch.is_grad_enabled() and strip.requires_grad:
        raise ValueError("exchange: expected a strip that wants no gradient, which would not cross to its neighbours")
    if strip.shape[-2] < max(above, below):
        raise ValueError(f"exchange: expected strips of at least {max(above, below)} rows, got {strip.shape[-2]}")
    n, c, _, w = strip.shape
    before, after = strip.new_zeros(n, c, above, w), strip.new_zeros(n, c, below, w)
    transfers = []
    if rank > 0:
        if below:
            transfers.append(dist.P2POp(dist.isend, strip[:, :, :below].contiguous(), rank - 1))
        if above:
            transfers.append(dist.P2POp(dist.irecv, before, rank - 1))
    if rank < last:
        if above:
            transfers.append(dist.P2POp(dist.isend, strip[:, :, -above:].contiguous(), rank + 1))
        if below:
            transfers.append(dist.P2POp(dist.irecv, after, rank + 1))
    for request in dist.batch_isend_irecv(transfers) if transfers else []:
        request.wait()
    return torch.cat([before, strip, after], dim=-2)


def forward(layer: convmin.ConvScaleMin2d, strip: torch.Tensor) -> torch.Tensor:
    """This process's rows of ``layer`` applied to the whole image. The layer has stride 1 and padding='same'."""
    if layer.padding != "same" or layer.padding_mode != "zeros" or layer.kernel_size[1] % 2 == 0:
        raise ValueError(f"forward: expected padding='same' by zeros and a window of odd width, got {layer}")
    reach = (layer.kernel_size[0] - 1) * layer.dilation[0]
    above = reach // 2
    columns = (layer.kernel_size[1] - 1) * layer.dilation[1] // 2
    return convmin.conv2d_scale_min(
        exchange(strip, above, reach - above),
        layer.weight,
        layer.bias,
        layer.scale_factor,
        padding=(0, columns),
        dilation=layer.dilation,
        groups=layer.groups,
    )


def strip_of(image: torch.Tensor) -> torch.Tensor:
    """This process's rows of an image; the first processes take one more, where they can't be shared evenly."""
    return image.tensor_split(dist.get_world_size(), dim=-2)[dist.get_rank()]


def main() -> None:
    """Compares the strips with the whole image's result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="rows and columns of the image")
    size = parser.parse_args().size
    device = join()
    torch.manual_seed(0)
    layer = convmin.ConvScaleMin2d(16, 32, 3, 2.0, padding="same").to(device)
    image = torch.rand(1, 16, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.no_grad():
        strip = strip_of(image)
        mine = forward(layer, strip)
        error = (mine - strip_of(layer(image))).abs().max()
    dist.all_reduce(error, dist.ReduceOp.MAX)
    if dist.get_rank() == 0:
        print(f"{dist.get_world_size()} strips of {tuple(strip.shape)}: error {float(error):.1e}")
    leave()


if __name__ == "__main__":
    main()
