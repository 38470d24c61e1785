"""torch.compile: one graph, whatever the shapes, in every mode; the operator sees the strides of the eager call."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import convmin
import pytest
import torch
from support import Problem
from torch import nn
from torch._inductor.utils import fresh_cache, run_and_get_code


class Classifier(nn.Module):
    """A model as users write them, with the layer in its middle."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.darkest = convmin.ConvScaleMin2d(8, 16, 3, 2.0, padding=1)
        self.head = nn.Linear(1, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.darkest(self.stem(x)).mean((2, 3)))


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch.compiler.reset()
    with fresh_cache():  # what is looked at is what this build's operators give
        yield
    torch.compiler.reset()


def test_new_shapes_compile_nothing_new(device: str) -> None:
    """Batch and image size are symbols all the way through Inductor."""
    layer = nn.Sequential(convmin.ConvScaleMin2d(3, 8, 3, -2.0, padding=1), nn.ReLU()).to(device)
    compiled = torch.compile(layer, fullgraph=True, dynamic=True)
    shapes = [(2, 3, 9, 11), (3, 3, 12, 8), (7, 3, 30, 31)]
    with torch.no_grad():
        compiled(torch.rand(shapes[0], device=device))
        with torch._dynamo.config.patch(error_on_recompile=True):
            for shape in shapes:
                x = torch.rand(shape, device=device)
                torch.testing.assert_close(compiled(x), layer(x))


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_new_shapes_in_training_compile_nothing_new(backend: str, device: str) -> None:
    """The backward's shapes are symbols too."""
    _, weight, bias = Problem(c=3, k=8).tensors(device)
    leaves = [t.requires_grad_() for t in (weight, bias) if t is not None]
    compiled = torch.compile(convmin.conv2d_scale_min, fullgraph=True, dynamic=True, backend=backend)
    for i, shape in enumerate([(2, 3, 9, 11), (3, 3, 12, 8), (7, 3, 30, 31)]):
        with torch._dynamo.config.patch(error_on_recompile=i > 0):
            x = torch.rand(shape, device=device)
            mine, theirs = (
                torch.autograd.grad(function(x, *leaves, -2.0).square().sum(), leaves)
                for function in (compiled, convmin.conv2d_scale_min)
            )
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead", "max-autotune"])
def test_modes(mode: str, device: str) -> None:
    """Each of them, with the operator inside a larger model that trains; CUDA graphs replay from the second call."""
    torch._dynamo.utils.counters.clear()
    model = Classifier().to(device)
    compiled = torch.compile(model, fullgraph=True, mode=mode)
    for _ in range(3):
        x = torch.rand(2, 3, 12, 12, device=device)
        results = []
        for function in (compiled, model):
            torch.compiler.cudagraph_mark_step_begin()
            y = function(x)
            grads = torch.autograd.grad(y.square().sum(), list(model.parameters()))
            results.append([t.clone() for t in (y, *grads)])
        for mine, theirs in zip(*results, strict=True):
            torch.testing.assert_close(
                mine, theirs, rtol=1e-3, atol=1e-4
            )  # a bias before BatchNorm has a gradient of noise
    assert device == "cpu" or torch._dynamo.utils.counters["inductor"]["cudagraph_skips"] == 0


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_paddings_by_name(padding: str) -> None:
    """They become integers on the way into the graph."""
    layer = convmin.ConvScaleMin2d(3, 8, (3, 4), 2.0, padding=padding)
    x = torch.rand(2, 3, 12, 12)
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), layer(x))


def test_no_graph_break() -> None:
    """Dynamo sees one graph, and the operator by its name in it."""
    explanation = torch._dynamo.explain(Classifier())(torch.rand(2, 3, 12, 12))
    assert explanation.graph_count == 1 and explanation.graph_break_count == 0
    assert "conv2d_scale_min" in explanation.graphs[0].code


def generated(function: Any, *arguments: Any) -> str:
    with torch.no_grad():
        _, (code,) = run_and_get_code(torch.compile(function, fullgraph=True), *arguments)
    return code


def test_nothing_is_added_around_the_call(device: str) -> None:
    """No copy, no kernel: what compiled code does is the eager call, so it can't be slower."""
    layer = convmin.ConvScaleMin2d(3, 8, 3, 2.0).to(device)
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.compiler.reset()
        code = generated(layer, torch.rand(2, 3, 12, 12, device=device).contiguous(memory_format=layout))
        body = code[code.index("def call(") :]
        assert len(re.findall(r"torch\.ops\.convmin\.\w+\.default\(", body)) == 1
        assert "fused" not in body and "copy_" not in body and "reinterpret" not in body


def test_a_computed_input_keeps_its_strides(device: str) -> None:
    """channels_last in the eager model is channels_last in the compiled one, though Inductor makes the buffer."""
    layer = convmin.ConvScaleMin2d(4, 8, 3, 2.0).to(device)
    x = torch.rand(2, 4, 12, 10, device=device).contiguous(memory_format=torch.channels_last)
    code = generated(lambda x: layer(x * 2 + 1), x)
    (argument,) = re.findall(r"torch\.ops\.convmin\.conv2d_scale_min\.default\((\w+)", code)
    (made,) = re.findall(rf"^ *{argument} = empty_strided\w+\((.*?), torch", code, re.MULTILINE)
    assert made.replace(" ", "") == "(2,4,12,10),(480,1,40,4)"


def test_a_convolution_before_it_adds_no_copy(device: str) -> None:
    """Inductor may give a convolution another layout than the eager model's: the operator takes it as it comes."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), convmin.ConvScaleMin2d(8, 16, 3, 2.0)).to(device).eval()
    code = generated(model, torch.rand(2, 3, 16, 16, device=device))
    (argument,) = re.findall(r"conv2d_scale_min\.default\((\w+)", code)
    while reused := re.search(rf"{argument} = (\w+); del \1  # reuse", code):  # the bias, added in place
        argument = reused[1]
    assert re.search(rf"{argument} = .*convolution\(", code), code


@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
def test_a_wrong_shape_is_named(backend: str) -> None:
    """Tracing raises what the eager call raises, with its words."""
    compiled = torch.compile(convmin.conv2d_scale_min, fullgraph=True, backend=backend)
    with pytest.raises(Exception, match=r"expected weight of shape \[K, 3/groups, R, S\].* got \[5, 2, 3, 3\]"):
        compiled(torch.rand(2, 3, 8, 8), torch.rand(5, 2, 3, 3))
    with pytest.raises(Exception, match=r"expected bias of shape \[5\]"):
        compiled(torch.rand(2, 3, 8, 8), torch.rand(5, 3, 3, 3), torch.rand(4))
    with pytest.raises(Exception, match="expected stride to be an int or a pair of ints"):
        compiled(torch.rand(2, 3, 8, 8), torch.rand(5, 3, 3, 3), None, 1.0, None)
    with pytest.raises(Exception, match="expected scale to be a number"):
        compiled(torch.rand(2, 3, 8, 8), torch.rand(5, 3, 3, 3), None, torch.tensor(2.0))


def test_compiled_autograd(device: str) -> None:
    """The backward pass captured too, of a compiled step and of an eager forward."""
    from torch._dynamo import compiled_autograd

    layer = convmin.ConvScaleMin2d(3, 8, 3, 2.0).to(device)
    x = torch.rand(2, 3, 9, 9, device=device)

    def step() -> None:
        layer(x).square().sum().backward()

    def gradient(run: Callable[[], Any]) -> torch.Tensor:
        layer.zero_grad()
        run()
        assert layer.weight.grad is not None
        return layer.weight.grad.clone()

    expected = gradient(step)
    with torch._dynamo.config.patch(compiled_autograd=True):
        torch.testing.assert_close(gradient(torch.compile(step, backend="aot_eager")), expected)
    with compiled_autograd._enable(torch.compile(backend="aot_eager")):
        torch.testing.assert_close(gradient(step), expected)
