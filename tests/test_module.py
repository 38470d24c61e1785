"""ConvScaleMin2d behaves as nn.Conv2d does in every respect but its result, and trains."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
from typing import Any

import convmin
import pytest
import torch
import torch.nn.utils.prune
from support import DTYPES, Problem, eager
from torch import nn


def eager_layer(layer: convmin.ConvScaleMin2d, x: torch.Tensor) -> torch.Tensor:
    """What nn.Conv2d, a multiplication and torch.min make of the layer's parameters."""
    product = nn.Conv2d.forward(convolution_of(layer), x) * layer.scale_factor
    return torch.min(product, dim=-3, keepdim=True).values


def convolution_of(layer: convmin.ConvScaleMin2d) -> nn.Conv2d:
    conv = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
        layer.bias is not None,
        layer.padding_mode,
    )
    conv.weight, conv.bias = layer.weight, layer.bias
    return conv


def test_positions_of_the_arguments() -> None:
    """(in_channels, out_channels, kernel_size, scale_factor), then nn.Conv2d's in its order."""
    names = list(inspect.signature(convmin.ConvScaleMin2d).parameters)
    conv = list(inspect.signature(nn.Conv2d).parameters)
    assert names == [*conv[:3], "scale_factor", *conv[3:]]
    layer = convmin.ConvScaleMin2d(3, 6, 3, 0.5, 2, 1, 2, 3, False)
    assert (layer.scale_factor, layer.stride, layer.padding, layer.dilation) == (0.5, (2, 2), (1, 1), (2, 2))
    assert layer.groups == 3 and layer.bias is None


def test_names_of_the_arguments() -> None:
    """The functions' names and defaults are the contract."""
    for function in (convmin.conv2d_scale_min, convmin.conv2d_scale_min_with_indices):
        parameters = inspect.signature(function).parameters
        defaults = {name: parameter.default for name, parameter in parameters.items()}
        empty = inspect.Parameter.empty
        assert list(defaults.items()) == [
            ("input", empty),
            ("weight", empty),
            ("bias", None),
            ("scale", 1.0),
            ("stride", 1),
            ("padding", 0),
            ("dilation", 1),
            ("groups", 1),
        ]


def test_initialization_is_that_of_conv2d() -> None:
    """The same random numbers, so that a seeded script trains the same model."""
    torch.manual_seed(3)
    layer = convmin.ConvScaleMin2d(4, 8, 3, 2.0)
    torch.manual_seed(3)
    conv = nn.Conv2d(4, 8, 3)
    assert torch.equal(layer.weight, conv.weight)
    assert layer.bias is not None and conv.bias is not None and torch.equal(layer.bias, conv.bias)


def test_state_dicts_are_interchangeable() -> None:
    """Checkpoints of nn.Conv2d load strictly, and the other way round, through a file too."""
    layer, conv = convmin.ConvScaleMin2d(4, 8, 3, 2.0), nn.Conv2d(4, 8, 3)
    assert list(layer.state_dict()) == list(conv.state_dict())
    layer.load_state_dict(conv.state_dict())
    assert torch.equal(layer.weight, conv.weight)
    with torch.no_grad():
        layer.weight.add_(1)
    conv.load_state_dict(layer.state_dict())
    assert torch.equal(layer.weight, conv.weight)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    nn.Conv2d(4, 8, 3).load_state_dict(torch.load(file, weights_only=True))


@pytest.mark.parametrize(
    "change",
    [
        torch.nn.utils.parametrizations.weight_norm,
        lambda conv: torch.nn.utils.prune.l1_unstructured(conv, "weight", 0.5),
        lambda conv: torch.nn.utils.prune.l1_unstructured(conv, "bias", 0.5),
    ],
    ids=["weight_norm", "pruned weight", "pruned bias"],
)
def test_from_conv_wants_parameters(change: Any) -> None:
    """What is computed from others in each call can't be shared as it is."""
    with pytest.raises(TypeError, match=r"from_conv: expected conv.(weight|bias) to be a parameter"):
        convmin.ConvScaleMin2d.from_conv(change(nn.Conv2d(3, 8, 3)))


def test_from_conv_shares_the_parameters() -> None:
    """An optimizer that holds the convolution's parameters goes on training the new layer."""
    conv = nn.Conv2d(6, 12, (3, 5), stride=2, padding=(1, 2), dilation=1, groups=3, dtype=torch.float64).eval()
    layer = convmin.ConvScaleMin2d.from_conv(conv, 0.5)
    assert layer.weight is conv.weight and layer.bias is conv.bias
    assert isinstance(layer, nn.Conv2d) and not layer.training and layer.scale_factor == 0.5
    x = torch.rand(2, 6, 11, 12, dtype=torch.float64)
    torch.testing.assert_close(layer(x), (conv(x) * 0.5).amin(1, keepdim=True))
    optimizer = torch.optim.SGD(conv.parameters(), 0.1)
    before = conv.weight.detach().clone()
    layer(x).sum().backward()
    optimizer.step()
    assert not torch.equal(layer.weight, before)
    assert convmin.ConvScaleMin2d.from_conv(nn.Conv2d(3, 4, 1, bias=False), 1.0).bias is None


@pytest.mark.parametrize("padding", ["same", "valid", 1])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_padding_modes(mode: str, padding: str | int) -> None:
    """Every padding mode and form of nn.Conv2d."""
    layer = convmin.ConvScaleMin2d(3, 7, (3, 5), -1.5, padding=padding, padding_mode=mode, dtype=torch.float64)
    x = torch.rand(2, 3, 9, 8, dtype=torch.float64)
    torch.testing.assert_close(layer(x), eager_layer(layer, x))
    torch.testing.assert_close(layer(x[0]), eager_layer(layer, x[0]))
    converted = convmin.ConvScaleMin2d.from_conv(convolution_of(layer), -1.5)
    assert torch.equal(converted(x), layer(x))


def test_repr_names_the_scale() -> None:
    """nn.Conv2d's text and the scale."""
    layer = convmin.ConvScaleMin2d(3, 8, 3, 2.5, padding=1)
    inside = repr(nn.Conv2d(3, 8, 3, padding=1)).removeprefix("Conv2d(").removesuffix(")")
    assert repr(layer).startswith("ConvScaleMin2d(" + inside)
    assert "scale_factor=2.5" in repr(layer)
    assert layer.extra_repr() in repr(layer)


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save"])
def test_copies(how: str) -> None:
    """Parameters and scale survive, and are not shared."""
    layer = convmin.ConvScaleMin2d(3, 8, 3, 2.5, padding=1, padding_mode="reflect")
    if how == "deepcopy":
        other = copy.deepcopy(layer)
    elif how == "pickle":
        other = pickle.loads(pickle.dumps(layer))
    else:
        file = io.BytesIO()
        torch.save(layer, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    x = torch.rand(1, 3, 8, 8)
    assert torch.equal(other(x), layer(x))
    with torch.no_grad():
        other.weight.zero_()
    assert layer.weight.abs().sum() > 0
    assert repr(other) == repr(layer)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_conversions(device: str, dtype: torch.dtype) -> None:
    """.half(), .double(), .to(device, dtype) and .to(memory_format=torch.channels_last)."""
    layer = convmin.ConvScaleMin2d(4, 9, 3, 2.0).to(device).to(dtype)
    x = torch.rand(2, 4, 10, 11, device=device, dtype=dtype)
    plain = layer(x)
    assert plain.dtype == dtype
    layer = layer.to(memory_format=torch.channels_last)
    assert layer.weight.is_contiguous(memory_format=torch.channels_last)
    last = layer(x.contiguous(memory_format=torch.channels_last))
    tolerance = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(last, plain, rtol=tolerance, atol=tolerance)
    assert convmin.ConvScaleMin2d(4, 9, 3, 2.0, device=device, dtype=dtype).weight.dtype == dtype


GRADIENT_PROBLEMS = [
    Problem(dtype=torch.float64),
    Problem(dtype=torch.float64, n=None, padding=(1, 2), scale=-0.7),
    Problem(dtype=torch.float64, c=9, k=12, groups=3, stride=(2, 1), dilation=(1, 2), storage="channels_last"),
    Problem(dtype=torch.float64, bias=False, storage="transposed", weight_storage="sliced"),
    Problem(dtype=torch.float64, n=0),
    Problem(dtype=torch.float64, k=300, r=1, s=1),
]


@pytest.mark.parametrize("problem", GRADIENT_PROBLEMS, ids=str)
def test_gradients_are_eagers(device: str, problem: Problem) -> None:
    """In float64 and with random numbers, so away from ties."""
    results = []
    for function in (convmin.conv2d_scale_min, lambda *a, **k: eager(*a, **k)[0]):
        leaves = [None if t is None else t.detach().requires_grad_() for t in problem.tensors(device)]
        values = function(*leaves, problem.scale, **problem.kwargs())
        weights = torch.arange(1.0, values.numel() + 1, dtype=torch.float64, device=device).view(values.shape)
        grads = torch.autograd.grad((values * weights).sum(), [t for t in leaves if t is not None])
        results.append((values, *grads))
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("wanted", ["input", "weight", "bias"])
def test_one_gradient_alone(device: str, wanted: str) -> None:
    """Frozen parameters get none, and cost none."""
    x, weight, bias = Problem(dtype=torch.float64).tensors(device)
    assert bias is not None
    leaf = {"input": x, "weight": weight, "bias": bias}[wanted].requires_grad_()
    (mine,) = torch.autograd.grad(convmin.conv2d_scale_min(x, weight, bias, 2.0).sum(), leaf)
    (theirs,) = torch.autograd.grad(eager(x, weight, bias, 2.0)[0].sum(), leaf)
    torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_gradients_of_narrow_types(device: str, dtype: torch.dtype) -> None:
    """Within what the narrow type's own rounding allows of the float64 gradients. 5 %: a bfloat16 pixel's winner may
    differ from the float64 one's where two channels are within a rounding error."""
    x, weight, bias = Problem(n=4, c=16, h=20, w=20, k=24, dtype=dtype).tensors(device)
    leaves = [t.requires_grad_() for t in (x, weight, bias) if t is not None]
    mine = torch.autograd.grad(convmin.conv2d_scale_min(*leaves, 2.0).sum(), leaves)
    exact = [t.detach().double().requires_grad_() for t in leaves]
    theirs = torch.autograd.grad(eager(*exact, 2.0)[0].sum(), exact)
    for a, b in zip(mine, theirs, strict=True):
        assert a.dtype == dtype
        assert float((a.double() - b).norm() / b.norm()) < 0.05


def test_gradcheck(device: str) -> None:
    """Against finite differences."""
    problem = Problem(n=1, c=2, h=4, w=5, k=4, padding=(1, 0), dtype=torch.float64)
    leaves = [t.requires_grad_() for t in problem.tensors(device) if t is not None]
    assert torch.autograd.gradcheck(lambda *t: convmin.conv2d_scale_min(*t, 1.5, padding=(1, 0)), leaves)
    first = [convmin.conv2d_scale_min_with_indices, *leaves]
    assert torch.autograd.gradcheck(lambda *t: first[0](*t, -1.5)[0], leaves)


def test_a_tie_sends_the_gradient_to_the_index(device: str) -> None:
    """One channel gets all of it, the one that the index names."""
    x = torch.ones(1, 1, 1, 1, device=device)
    weight = torch.tensor([2.0, 1.0, 1.0], device=device).view(3, 1, 1, 1).requires_grad_()
    values, indices = convmin.conv2d_scale_min_with_indices(x, weight)
    values.sum().backward()
    assert indices.item() == 1 and not indices.requires_grad
    assert weight.grad is not None and weight.grad.flatten().tolist() == [0.0, 1.0, 0.0]


def test_double_backward_is_a_clear_error(device: str) -> None:
    """Not a wrong second derivative, and not an error before one is asked for."""
    x, weight, bias = Problem(dtype=torch.float64).tensors(device)
    x.requires_grad_()
    (grad,) = torch.autograd.grad(convmin.conv2d_scale_min(x, weight, bias).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="conv2d_scale_min_backward"):
        torch.autograd.grad(grad.sum(), x)


def test_training_step(device: str) -> None:
    """A model with the layer learns."""
    model = nn.Sequential(convmin.ConvScaleMin2d(1, 8, 3, 2.0, padding=1), nn.Conv2d(1, 1, 1)).to(device)
    x = torch.rand(4, 1, 12, 12, device=device)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (model(x) - x).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
