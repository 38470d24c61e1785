"""DTensor: how the operators run on tensors spread over devices."""

from __future__ import annotations

from typing import Any

import torch

Sharding = tuple[list[Any], list[Any]]  # placements of the results, of the arguments


def _divides(weight: Any) -> bool:
    """Every device gets output channels, since none has no minimum to give."""
    return all(weight.shape[0] % size == 0 for size in weight.mesh.shape)


def register() -> None:
    """Once, when ``torch.distributed.tensor`` is imported."""
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
    from torch.distributed.tensor._op_schema import RuntimeSchemaInfo
    from torch.distributed.tensor.experimental import register_sharding

    ops = torch.ops.convmin
    numbers = [None] * 5  # scale, stride, padding, dilation, groups

    def everywhere(tensors: int, results: int, rest: int) -> Sharding:
        return [Replicate()] * results, [*[Replicate()] * tensors, *[None] * rest]

    def bias_as(bias: Any, placement: Any) -> Any:
        return None if bias is None else placement

    @register_sharding(ops.conv2d_scale_min.default)
    def values(input: Any, weight: Any, bias: Any, *rest: Any) -> list[Sharding]:
        whole = [Replicate(), bias_as(bias, Replicate())]
        shardings: list[Sharding] = [([Replicate()], [Replicate(), *whole, *numbers])]
        if len(input.shape) == 4:
            shardings.append(([Shard(0)], [Shard(0), *whole, *numbers]))
        if rest[-1] == 1 and _divides(weight):
            parts = [Replicate(), Shard(0), bias_as(bias, Shard(0))]
            shardings.append(([Partial("min")], [*parts, *numbers]))
        return shardings

    @register_sharding(ops.conv2d_scale_min_with_indices.default)
    def with_indices(input: Any, weight: Any, bias: Any, *rest: Any) -> list[Sharding]:
        whole = [Replicate(), bias_as(bias, Replicate())]
        shardings: list[Sharding] = [([Replicate()] * 2, [Replicate(), *whole, *numbers])]
        if len(input.shape) == 4:
            shardings.append(([Shard(0)] * 2, [Shard(0), *whole, *numbers]))
        return shardings

    @register_sharding(ops.conv2d_scale_min_backward.default)
    def backward(grad: Any, input: Any, weight: Any, indices: Any, *rest: Any) -> list[Sharding]:
        mask = rest[-1]

        def wanted(*placements: Any) -> list[Any]:
            return [placement if want else None for placement, want in zip(placements, mask, strict=True)]

        whole = [Replicate()] * 4
        shardings: list[Sharding] = [(wanted(*[Replicate()] * 3), [*whole, *numbers, None])]
        if len(input.shape) == 4:
            split = [Shard(0), Shard(0), Replicate(), Shard(0)]
            shardings.append((wanted(Shard(0), Partial(), Partial()), [*split, *numbers, None]))
        return shardings

    # A decision is remembered by the tensors' layouts and by the arguments from this one on. register_sharding takes
    # the first integer, "groups", for it, and would give a call with another stride the shape of the first one.
    schemas = DTensor._op_dispatcher.sharding_propagator.op_to_schema_info
    for op, first in (
        (ops.conv2d_scale_min, 3),
        (ops.conv2d_scale_min_with_indices, 3),
        (ops.conv2d_scale_min_backward, 4),
    ):
        schemas[op.default] = RuntimeSchemaInfo(first, needs_pytree=True)
