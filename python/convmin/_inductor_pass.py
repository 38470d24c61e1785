"""Inductor's pre-grad pass that puts the fused operator into graphs of torch functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._inductor import config
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch.fx import Graph, Node

from convmin import _pattern
from convmin.functional import as_pair

_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


class FusionPass(CustomGraphPass):
    """Runs ``previous``, then the fusion."""

    def __init__(self, previous: Any = None) -> None:
        self.previous = previous

    def __call__(self, graph: Graph) -> None:
        for earlier in _passes(self.previous):
            earlier(graph)
        for found in list(_pattern.find(graph)):
            if isinstance(found, _pattern.Match) and _fits(found):
                _replace(graph, found)

    def uuid(self) -> Any | None:
        """Of this code and of the passes before it; None, which turns caching off, if one of them has none."""
        earlier = [getattr(each, "uuid", lambda: None)() for each in _passes(self.previous)]
        own = get_hash_for_files((__file__, str(_pattern.__file__)))
        return None if None in earlier else ("convmin", own, *earlier)


def _passes(value: Any) -> tuple[Callable[[Graph], None], ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def enable() -> bool:
    """Returns whether it was off."""
    if isinstance(config.pre_grad_custom_pass, FusionPass):
        return False
    config.pre_grad_custom_pass = FusionPass(config.pre_grad_custom_pass)
    return True


def disable() -> None:
    if isinstance(config.pre_grad_custom_pass, FusionPass):
        config.pre_grad_custom_pass = config.pre_grad_custom_pass.previous


def _value(node: Any) -> Any:
    return node.meta.get("example_value", node.meta.get("val")) if isinstance(node, Node) else None


def _fits(match: _pattern.Match) -> bool:
    """What only a traced tensor tells: its channels are where ``dim`` says, its dtype is one of the operator's."""
    arguments = _pattern.convolution_arguments(match.conv)
    value = _value(arguments["input"])
    if not isinstance(value, torch.Tensor) or value.dtype not in _DTYPES:
        return False
    return match.dim == -3 or value.dim() == 4


def _padding(padding: Any, weight: Any, dilation: list[Any]) -> Any:
    """Integers for 'same' and 'valid'; None where 'same' needs a zero more on one side than on the other."""
    if padding == "valid":
        return [0, 0]
    if padding != "same":
        return as_pair("conv2d", "padding", padding)
    totals = [step * (extent - 1) for step, extent in zip(dilation, weight.shape[2:], strict=True)]
    return None if any(total % 2 for total in totals) else [total // 2 for total in totals]


def _replace(graph: Graph, match: _pattern.Match) -> None:
    """Torch functions alone go into the graph, since Inductor's caches know those."""
    arguments = _pattern.convolution_arguments(match.conv)
    stride, dilation = (as_pair("conv2d", name, arguments[name]) for name in ("stride", "dilation"))
    padding = _padding(arguments["padding"], _value(arguments["weight"]), dilation)
    if padding is None:
        return
    tensors = [arguments[name] for name in ("input", "weight", "bias")]
    # Where the convolution stands: what comes after it might write to the input.
    with graph.inserting_before(match.conv):
        node = graph.call_function(
            torch.ops.convmin.conv2d_scale_min.default,
            (*tensors, match.sign * match.scale, stride, padding, dilation, arguments["groups"]),
        )
        if not match.keepdim:
            node = graph.call_function(torch.squeeze, (node, -3))
        if match.sign == -1:
            node = graph.call_function(torch.neg, (node,))
    node.meta = dict(match.output.meta)
    match.output.replace_all_uses_with(node)
    _pattern.erase(graph, match)
