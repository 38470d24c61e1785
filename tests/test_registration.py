"""The operators as PyTorch sees them: schemas, fake tensors, autograd, compilation, export, autocast."""

from __future__ import annotations

import copy
import re
from typing import Any

import convmin
import pytest
import torch
from support import Problem, eager, run_python
from torch._inductor.utils import fresh_cache

ops = torch.ops.convmin

# Section 2 of the contract, to the letter.
ARGUMENTS = "Tensor input, Tensor weight, Tensor? bias, float scale, SymInt[2] stride, SymInt[2] padding, "
ARGUMENTS += "SymInt[2] dilation, SymInt groups"
SCHEMAS = {
    "conv2d_scale_min": f"convmin::conv2d_scale_min({ARGUMENTS}) -> Tensor",
    "conv2d_scale_min_with_indices": f"convmin::conv2d_scale_min_with_indices({ARGUMENTS}) "
    "-> (Tensor values, Tensor indices)",
    "conv2d_scale_min_backward": "convmin::conv2d_scale_min_backward(Tensor grad_output, Tensor input, Tensor weight, "
    "Tensor indices, float scale, SymInt[2] stride, SymInt[2] padding, SymInt[2] dilation, SymInt groups, "
    "bool[3] output_mask) -> (Tensor, Tensor, Tensor)",
}
PROBLEMS = [
    Problem(),
    Problem(n=None, bias=False, padding=(1, 2), storage="transposed"),
    Problem(c=8, k=16, groups=2, stride=(2, 1), dilation=(1, 2), storage="channels_last", dtype=torch.float64),
    Problem(k=300, r=1, s=1),
]


def arguments(problem: Problem, device: str, grad: bool = False) -> tuple[Any, ...]:
    tensors = [None if t is None else t.detach().requires_grad_(grad) for t in problem.tensors(device)]
    return (*tensors, problem.scale, problem.stride, problem.padding, problem.dilation, problem.groups)


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema(name: str) -> None:
    """Names, types and positions, which saved graphs and C++ callers depend on."""
    assert str(getattr(ops, name).default._schema) == SCHEMAS[name]


@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
@pytest.mark.parametrize("name", ["conv2d_scale_min", "conv2d_scale_min_with_indices"])
def test_opcheck(name: str, problem: Problem, grad: bool, device: str) -> None:
    """PyTorch's own checks: schema, autograd registration, fake tensors, AOT dispatch with dynamic shapes."""
    if grad and problem is not PROBLEMS[2]:
        problem = problem.replace(dtype=torch.float64)
    torch.library.opcheck(getattr(ops, name).default, arguments(problem, device, grad))


@pytest.mark.parametrize("mask", [(True, True, True), (True, False, False), (False, True, True)], ids=str)
def test_opcheck_backward(mask: tuple[bool, bool, bool], device: str) -> None:
    """The third operator, in full."""
    x, weight, bias, *rest = arguments(PROBLEMS[2], device)
    values, indices = ops.conv2d_scale_min_with_indices(x, weight, bias, *rest)
    torch.library.opcheck(
        ops.conv2d_scale_min_backward.default, (torch.ones_like(values), x, weight, indices, *rest, mask)
    )


@pytest.mark.parametrize("k", [1, 256, 257, 33000])
@pytest.mark.parametrize("problem", PROBLEMS[:3], ids=str)
def test_meta_agrees_with_the_real_thing(problem: Problem, k: int, device: str) -> None:
    """Shapes, dtypes, strides: what tracing promises is what running gives."""
    problem = problem.replace(k=k if problem.groups == 1 else 2 * k, r=1, s=1, h=5, w=4, dilation=(1, 1))
    real_arguments = arguments(problem, device)
    meta_arguments = tuple(a.to("meta") if isinstance(a, torch.Tensor) else a for a in real_arguments)
    real = [ops.conv2d_scale_min(*real_arguments), *ops.conv2d_scale_min_with_indices(*real_arguments)]
    meta = [ops.conv2d_scale_min(*meta_arguments), *ops.conv2d_scale_min_with_indices(*meta_arguments)]
    for a, b in zip(real, meta, strict=True):
        assert b.device.type == "meta"
        assert (a.shape, a.dtype, a.stride()) == (b.shape, b.dtype, b.stride())
    mask = (True, True, True)
    rest = real_arguments[3:]
    grads = ops.conv2d_scale_min_backward(real[1], *real_arguments[:2], real[2], *rest, mask)
    metas = ops.conv2d_scale_min_backward(meta[1], *meta_arguments[:2], meta[2], *rest, mask)
    for a, b in zip(grads, metas, strict=True):
        assert (a.shape, a.dtype, a.stride()) == (b.shape, b.dtype, b.stride())


def model(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return torch.relu(convmin.conv2d_scale_min(x * 2, weight, bias, 0.5, padding=1)) + 1


def plain_model(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return torch.relu(eager(x * 2, weight, bias, 0.5, padding=1)[0]) + 1


def test_compiled_as_one_graph(device: str) -> None:
    """torch.compile by inductor, without a graph break, with gradients."""
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True)
    leaves = [t.requires_grad_() for t in PROBLEMS[2].replace(groups=1).tensors(device) if t is not None]
    results = []
    with fresh_cache():  # code of another build expects that one's strides
        for function in (compiled, plain_model):
            values = function(*leaves)
            results.append((values, *torch.autograd.grad(values.square().sum(), leaves)))
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_compiled_with_dynamic_shapes(device: str) -> None:
    """One graph serves every batch, height, width and number of channels: it is traced once."""
    torch._dynamo.reset()
    graphs = []

    def count(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=count)
    for n, h, w, k in ((2, 9, 11, 16), (3, 12, 8, 16), (5, 30, 7, 40)):
        x, weight, bias = Problem(n=n, h=h, w=w, k=k).tensors(device)
        torch.testing.assert_close(compiled(x, weight, bias), plain_model(x, weight, bias))
    assert len(graphs) == 1


def test_dynamic_shapes_with_gradients(device: str) -> None:
    """The backward's shapes are symbols too."""
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for n, h in ((2, 9), (4, 12)):
        leaves = [t.requires_grad_() for t in Problem(n=n, h=h).tensors(device) if t is not None]
        mine = torch.autograd.grad(compiled(*leaves).square().sum(), leaves)
        theirs = torch.autograd.grad(plain_model(*leaves).square().sum(), leaves)
        for a, b in zip(mine, theirs, strict=True):
            torch.testing.assert_close(a, b)


def test_export(device: str) -> None:
    """torch.export of the module, batch and image size left open."""
    layer = convmin.ConvScaleMin2d(3, 8, 3, 2.0, padding=1).to(device).eval()
    batch, height = torch.export.Dim("batch", min=1, max=64), torch.export.Dim("height", min=4, max=512)
    example = torch.rand(2, 3, 16, 16, device=device)
    program = torch.export.export(layer, (example,), dynamic_shapes=({0: batch, 2: height},))
    assert "convmin.conv2d_scale_min" in str(program.graph)
    x = torch.rand(5, 3, 21, 16, device=device)
    torch.testing.assert_close(program.module()(x), layer(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(device: str, dtype: torch.dtype) -> None:
    """As F.conv2d: the arguments are cast, whatever mix of types comes, and gradients have the parameters' types."""
    layer = convmin.ConvScaleMin2d(4, 8, 3, 2.0).to(device)
    x = torch.rand(2, 4, 9, 9, device=device)
    with torch.autocast(device, dtype):
        expected, _ = eager(x, layer.weight, layer.bias, 2.0)
        values = layer(x)
        mixed = layer(x.to(dtype))
        both, index = convmin.conv2d_scale_min_with_indices(x, layer.weight, layer.bias, 2.0)
        doubled = copy.deepcopy(layer).double()(x.double())
        with pytest.raises(RuntimeError, match=r"expected weight of shape \[K, 3/groups"):
            layer(x[:, 1:])
    assert torch.equal(both, values) and index.dtype == torch.uint8
    assert doubled.dtype == torch.float64
    assert values.dtype == mixed.dtype == expected.dtype == dtype
    torch.testing.assert_close(values, expected, rtol=2 * torch.finfo(dtype).eps, atol=torch.finfo(dtype).eps)
    values.float().sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.dtype == torch.float32


def test_command_line() -> None:
    """`python -m convmin info` says what was built, what is there and what would run."""
    finished = run_python("-m", "convmin", "info")
    assert finished.returncode == 0, finished.stderr
    info = convmin.build_info()
    for word in (info["version"], info["torch_version"], "cpu", *info["kernels"]):
        assert word in finished.stdout
    assert run_python("-m", "convmin").returncode != 0


def test_build_info() -> None:
    """Its keys are the contract."""
    info = convmin.build_info()
    assert set(info) >= {"version", "torch_version", "cuda_version", "cuda_archs", "kernels"}
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", info["version"]) and info["version"] == convmin.__version__
    assert isinstance(info["kernels"], list) and isinstance(info["cuda_archs"], list)
    assert (info["cuda_version"] is None) == (info["kernels"] == []) == (info["cuda_archs"] == [])


def test_kernel_forced_by_the_environment() -> None:
    """CONVMIN_FORCE_KERNEL names one for a whole process; a wrong name is an error, not ignored."""
    script = "import torch, convmin; print('forced:', torch.ops.convmin._forced_kernel())"
    assert "forced: simt" in run_python("-c", script, CONVMIN_FORCE_KERNEL="simt").stdout
    finished = run_python("-c", script, CONVMIN_FORCE_KERNEL="sm20")
    assert finished.returncode != 0 and "sm20" in finished.stderr and "simt" in finished.stderr


def test_explain(device: str) -> None:
    """Every field that tools read, and a text for people; nothing is computed, so meta tensors and N = 0 do too."""
    for problem in PROBLEMS:
        x, weight, bias = problem.tensors(device)
        plan = convmin.explain(x, weight, bias, problem.scale, **problem.kwargs(), with_indices=True)
        assert plan.kernel in (["cpu"] if device == "cpu" else convmin.build_info()["kernels"])
        assert plan.precision in ("ieee", "tf32", "float32", "float64")
        assert all(extent >= 1 for extent in plan.tile) and plan.reason
        assert plan.kernel in str(plan) and plan.reason in str(plan)
        assert all(name and reason for name, reason in plan.rejections)
    x, weight, _ = Problem(n=0).tensors(device)
    assert convmin.explain(x, weight).kernel
    with pytest.raises(RuntimeError, match="weight"):
        convmin.explain(x, weight[:, 1:])
