"""Tools that people use on their models: counters, profilers, checkpoints, parametrizations, pruning, torch.fx."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import convmin
import pytest
import torch
from support import Problem, run_python
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode


def test_flops_are_counted(device: str) -> None:
    """Forward as a convolution's; backward one channel's window a pixel, once for each gradient wanted."""
    x, weight, bias = Problem(n=2, c=8, k=16, groups=2).tensors(device)
    pixels, window = 2 * 7 * 9, 4 * 9
    for inputs, expected in (((x,), 1), ((x, weight), 2)):
        leaves = [t.requires_grad_() for t in inputs]
        with FlopCounterMode(display=False) as counter:
            values = convmin.conv2d_scale_min(x, weight, bias, groups=2)
            torch.autograd.grad(values.sum(), leaves)
        flops = counter.get_flop_counts()["Global"]
        by_name = {str(op): count for op, count in flops.items()}
        assert by_name["convmin.conv2d_scale_min_with_indices"] == 2 * pixels * 16 * window
        assert by_name["convmin.conv2d_scale_min_backward"] == 2 * pixels * window * expected
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        convmin.conv2d_scale_min(x, weight, bias, groups=2)
    assert counter.get_total_flops() == 2 * pixels * 16 * window


def test_the_profiler_names_it(device: str) -> None:
    """The operators, and on CUDA the kernels by names that a person finds."""
    x, weight, bias = Problem().tensors(device)
    weight.requires_grad_()
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        convmin.conv2d_scale_min(x, weight, bias).sum().backward()
        if device == "cuda":
            torch.cuda.synchronize()
    names = {event.key for event in profile.key_averages()}
    assert {"convmin::conv2d_scale_min", "convmin::conv2d_scale_min_backward"} <= names
    if device == "cuda":
        assert any("conv_scale_min_" in name for name in names), sorted(names)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing(reentrant: bool, device: str) -> None:
    """Recomputed in the backward pass, with the same gradients to the bit."""
    layer = nn.Sequential(convmin.ConvScaleMin2d(4, 8, 3, 2.0), nn.Sigmoid()).to(device)
    x = torch.rand(2, 4, 9, 9, device=device, requires_grad=True)
    inputs = [x, *layer.parameters()]
    plain = torch.autograd.grad(layer(x).sum(), inputs)
    checkpoint(layer, x, use_reentrant=reentrant).sum().backward()
    for grad, tensor in zip(plain, inputs, strict=True):
        assert tensor.grad is not None and torch.equal(tensor.grad, grad)


class Symmetric(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return (weight + weight.flip(-1)) / 2


def parametrized(layer: nn.Module) -> nn.Module:
    parametrize.register_parametrization(layer, "weight", Symmetric())
    return layer


CHANGES: dict[str, Callable[[nn.Module], Any]] = {
    "parametrize": parametrized,
    "weight_norm": lambda layer: parametrizations.weight_norm(layer),
    "spectral_norm": lambda layer: parametrizations.spectral_norm(layer),
    "orthogonal": lambda layer: parametrizations.orthogonal(layer),
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", amount=0.4),
    "pruned channels": lambda layer: prune.ln_structured(layer, "weight", amount=0.5, n=2, dim=0),
    "deepcopy": copy.deepcopy,
    "pickle": lambda layer: pickle.loads(pickle.dumps(layer)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_changed_modules(change: Callable[[nn.Module], Any]) -> None:
    """The layer computes with the weight that the change makes, trains, and copies."""
    layer = change(convmin.ConvScaleMin2d(3, 8, 3, 2.0, padding=1)).eval()
    x = torch.rand(2, 3, 9, 9)
    expected = convmin.reference.conv2d_scale_min(x, layer.weight, layer.bias, 2.0, padding=1)
    torch.testing.assert_close(layer(x), expected)
    layer(x).square().sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())
    if not layer.weight.is_leaf and not parametrize.is_parametrized(layer):
        return  # pruning keeps a computed tensor, which PyTorch doesn't copy
    other = copy.deepcopy(layer)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), layer(x))


def test_symbolic_tracing() -> None:
    """torch.fx sees the function as one call, with the layer's parameters."""
    model = nn.Sequential(convmin.ConvScaleMin2d(3, 8, 3, 2.0, padding=1), nn.ReLU())
    traced = torch.fx.symbolic_trace(model)
    assert convmin.conv2d_scale_min in [node.target for node in traced.graph.nodes]
    x = torch.rand(1, 3, 8, 8)
    assert torch.equal(traced(x), model(x))

    def both(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return convmin.conv2d_scale_min_with_indices(x, weight)[0]

    assert "conv2d_scale_min_with_indices" in torch.fx.symbolic_trace(both).code


def test_tensor_subclasses_see_the_call() -> None:
    """By __torch_function__, as functions of torch do."""
    seen = []

    class Logged(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(func)
            return super().__torch_function__(func, types, args, kwargs or {})

    x = torch.rand(1, 3, 8, 8).as_subclass(Logged)
    values = convmin.conv2d_scale_min(x, torch.rand(5, 3, 3, 3))
    assert seen[0] is convmin.conv2d_scale_min and isinstance(values, Logged)


LAZY = """
import sys, convmin, torch
heavy = ["torch.distributed.tensor", "torch.utils.flop_counter", "torch._inductor.config", "torch._dynamo"]
assert not [name for name in heavy if name in sys.modules and name not in before], "imported with convmin"
import torch.utils.flop_counter
assert torch.ops.convmin.conv2d_scale_min in torch.utils.flop_counter.flop_registry
import torch.distributed.tensor
from torch.distributed.tensor import DTensor
propagator = DTensor._op_dispatcher.sharding_propagator
assert torch.ops.convmin.conv2d_scale_min.default in propagator.op_strategy_funcs
assert torch.distributed.tensor.__spec__.loader is torch.distributed.tensor.__loader__
"""


def test_importing_it_is_quick() -> None:
    """What takes long to import waits for who needs it, and is told of the operators then; at once if it is there."""
    script = f"import sys, torch; before = set(sys.modules)\n{LAZY}"
    finished = run_python("-c", script)
    assert finished.returncode == 0, finished.stderr
    finished = run_python("-c", f"import torch.distributed.tensor, torch.utils.flop_counter\n{script}")
    assert finished.returncode == 0, finished.stderr


def test_deferred_initialization() -> None:
    """Built on the meta device, as large models are, then given memory and a checkpoint."""
    with torch.device("meta"):
        layer = convmin.ConvScaleMin2d(3, 8, 3, 2.0)
    assert layer.weight.is_meta and layer(torch.rand(1, 3, 8, 8, device="meta")).shape == (1, 1, 6, 6)
    source = nn.Conv2d(3, 8, 3)
    layer.load_state_dict(source.state_dict(), assign=True)
    x = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(layer(x), (source(x) * 2).amin(1, keepdim=True))
