"""cuDNN's graph API as a peer: convolution, bias, scale and minimum in one plan, through nvidia-cudnn-frontend.

The minimum has to be the graph's last node and its output float32. Some plans that the heuristics offer give wrong
results, so each is checked before it is timed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from convmin.bench import optional
from convmin.bench.cases import SCALE, Problem
from convmin.reference import conv2d_scale_min

_SECONDS = 4.0  # for building and trying plans; what the heuristics put first comes first
_handles: list[Any] = []


def unavailable(problem: Problem) -> str | None:
    """Why there is no such graph for this problem, if there is none."""
    case = problem.case
    if not problem.x.is_cuda:
        return "CUDA only"
    if optional.module("cudnn") is None:
        return "nvidia-cudnn-frontend is not installed"
    if case.mode != "forward":
        return "forward only"
    if case.dtype in ("float32", "float64"):
        return f"no fused plan in {case.dtype}"
    if case.shape.groups != 1:
        return "no groups in the fused graph"
    return None


def build(problem: Problem) -> Callable[[], tuple[Tensor, ...]]:
    """The fastest plan whose result is right.

    Raises:
        RuntimeError: no plan takes the problem, or none is right.
    """
    cudnn: Any = optional.module("cudnn")
    if not _handles:
        _handles.append(cudnn.create_handle())
    handle = _handles[0]
    cudnn.set_stream(handle, torch.cuda.current_stream().cuda_stream)
    graph, tensors = _graph(cudnn, handle, problem)
    graph.validate()
    graph.build_operation_graph()
    graph.create_execution_plans([cudnn.heur_mode.A])
    graph.check_support()

    out = tensors[-1][1]
    x, weight, bias = problem.x[:1].double(), problem.weight.double(), problem.bias.double()
    exact = conv2d_scale_min(x, weight, bias, *problem.options)
    tolerance = 0.02 * float(exact.abs().max())
    best: tuple[float, Callable[[], tuple[Tensor, ...]]] | None = None
    start = time.perf_counter()
    wrong = 0
    for index in range(graph.get_execution_plan_count()):
        if best is not None and time.perf_counter() - start > _SECONDS:
            break
        try:
            graph.build_plan_at_index(index)
            call = _call(graph, handle, index, tensors)
            out.fill_(float("nan"))
            call()
            right = bool((out[:1] - exact).abs().max() <= tolerance) and not bool(out.isnan().any())
        except Exception:  # a plan that does not build here is not a candidate
            continue
        if not right:
            wrong += 1
            continue
        milliseconds = _time(call)
        if best is None or milliseconds < best[0]:
            best = milliseconds, call
    if best is None:
        raise RuntimeError(f"cuDNN has no plan for this graph that runs and is right ({wrong} gave wrong results)")
    return best[1]


def _graph(cudnn: Any, handle: Any, problem: Problem) -> tuple[Any, list[tuple[Any, Tensor]]]:
    """The graph, and each of its tensors with its memory; the output is the last."""
    kinds = {torch.float16: "HALF", torch.bfloat16: "BFLOAT16", torch.float32: "FLOAT"}
    kind = getattr(cudnn.data_type, kinds[problem.x.dtype])
    wide = cudnn.data_type.FLOAT
    shape = problem.case.shape
    graph = cudnn.pygraph(io_data_type=kind, intermediate_data_type=wide, compute_data_type=wide, handle=handle)

    def tensor(name: str, value: Tensor, data_type: Any) -> Any:
        return graph.tensor(name=name, dim=list(value.shape), stride=list(value.stride()), data_type=data_type)

    device = problem.x.device
    bias = problem.bias.view(1, -1, 1, 1)
    scale = torch.full((1, 1, 1, 1), SCALE, device=device)
    out = torch.empty((shape.n, 1, *shape.output), device=device)
    image, weight = tensor("x", problem.x, kind), tensor("w", problem.weight, kind)
    shift, factor = tensor("b", bias, kind), tensor("s", scale, wide)
    sizes = {"padding": [shape.padding] * 2, "stride": [shape.stride] * 2, "dilation": [1, 1]}
    convolution = graph.conv_fprop(image=image, weight=weight, **sizes)
    scaled = graph.mul(graph.bias(input=convolution, bias=shift), factor)
    least = graph.reduction(input=scaled, mode=cudnn.reduction_mode.MIN)
    least.set_output(True).set_data_type(wide).set_dim(list(out.shape)).set_stride(list(out.stride()))
    return graph, [(image, problem.x), (weight, problem.weight), (shift, bias), (factor, scale), (least, out)]


def _call(graph: Any, handle: Any, index: int, tensors: list[tuple[Any, Tensor]]) -> Callable[[], tuple[Tensor, ...]]:
    size = max(1, graph.get_workspace_size_plan_at_index(index))
    workspace = torch.empty(size, dtype=torch.uint8, device=tensors[0][1].device)
    pointers = {tensor.get_uid(): memory.data_ptr() for tensor, memory in tensors}
    memories = [memory for _, memory in tensors]  # kept as long as the call is

    def call() -> tuple[Tensor, ...]:
        graph.execute_plan_at_index(pointers, workspace.data_ptr(), index, handle)
        return (memories[-1],)

    return call


def _time(call: Callable[[], object]) -> float:
    """The shortest of three, in milliseconds."""
    times = []
    for _ in range(3):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return min(times)
