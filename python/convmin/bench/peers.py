"""What a user would run instead of convmin, and convmin itself: each a function that makes a call out of a problem.

A call gives the result of the operator; with indices those as well, in training the gradients of input, weight and
bias.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from convmin import functional
from convmin.bench import cudnn_graph
from convmin.bench.cases import SCALE, Problem

Call = Callable[[], tuple[Tensor, ...]]
Function = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]]


class Unavailable(Exception):
    """This peer can't run this problem; the message says why."""


@dataclass(frozen=True)
class Peer:
    """Someone to compare with.

    Attributes:
        what: one line for the report.
        build: makes the call; slow work (compiling) may wait until the first call.
        seconds: a first guess of what building and the first call take, for the time budget; 1 or more: a slow peer.
        whole: its result is the operator's; False for a part of the work, shown as a floor.
    """

    what: str
    build: Callable[[Problem], Call]
    seconds: float
    whole: bool = True


def sequence(problem: Problem) -> Function:
    """PyTorch's own operators. amin is the faster of two; its gradient is spread over ties, and that of min is not."""
    scale, *rest = problem.options

    def forward(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        return ((F.conv2d(x, weight, bias, *rest) * scale).amin(1, keepdim=True),)

    def indices(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.min(F.conv2d(x, weight, bias, *rest) * scale, dim=1, keepdim=True))

    def training(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        return indices(x, weight, bias)[:1]

    return {"forward": forward, "indices": indices, "training": training}[problem.case.mode]


def run(function: Function, problem: Problem) -> Call:
    """Forward, or forward and backward with gradients that are returned rather than added up."""
    if problem.case.mode != "training":
        return lambda: function(*problem.inputs)

    def step() -> tuple[Tensor, ...]:
        (y,) = function(*problem.inputs)
        return (y.detach(), *torch.autograd.grad(y, problem.inputs, problem.grad_output))

    return step


def _eager(problem: Problem) -> Call:
    return run(sequence(problem), problem)


def _convmin(problem: Problem) -> Call:
    options = problem.options
    if problem.case.mode == "indices":
        return run(lambda x, w, bias: functional.conv2d_scale_min_with_indices(x, w, bias, *options), problem)
    return run(lambda x, w, bias: (functional.conv2d_scale_min(x, w, bias, *options),), problem)


def _compiled(mode: str) -> Callable[[Problem], Call]:
    def build(problem: Problem) -> Call:
        return run(torch.compile(sequence(problem), dynamic=False, mode=mode), problem)

    return build


def _convolution(problem: Problem) -> Call:
    if problem.case.mode != "forward":
        raise Unavailable("forward only")
    rest = problem.options[1:]
    return lambda: (F.conv2d(*problem.inputs, *rest),)


def _cudnn_graph(problem: Problem) -> Call:
    reason = cudnn_graph.unavailable(problem)
    if reason is not None:
        raise Unavailable(reason)
    return cudnn_graph.build(problem)


def start_compiler(device: torch.device) -> None:
    """Imports it and starts its processes, which takes longer than compiling: no case shall pay for that."""
    function = torch.compile(lambda x: (x * SCALE).amin(1, keepdim=True), dynamic=False)
    with contextlib.suppress(Exception):  # that it fails is for the peers' own lines to say
        function(torch.rand(2, 4, 8, 8, device=device))
    torch._dynamo.reset()


def operator(name: str, result: tuple[Tensor, ...]) -> Tensor:
    """The operator's value in a peer's result: the convolution alone leaves the rest of the work to its checker."""
    return result[0] if PEERS[name].whole else (result[0] * SCALE).amin(1, keepdim=True)


PEERS: dict[str, Peer] = {
    "eager": Peer("PyTorch's operators, one after the other; cuDNN's autotuner on", _eager, 0.5),
    "convmin": Peer("this library, the kernel that its plan chooses", _convmin, 0.2),
    "conv": Peer("the convolution alone, its output written: the floor of all that write it", _convolution, 0.3, False),
    "cudnn-graph": Peer("cuDNN's fused graph, the fastest plan with a right result; float32 out", _cudnn_graph, 4.0),
    "compile": Peer("torch.compile, default mode", _compiled("default"), 5.0),
    "max-autotune": Peer("torch.compile, max-autotune-no-cudagraphs", _compiled("max-autotune-no-cudagraphs"), 20.0),
}
