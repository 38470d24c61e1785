"""Finds convolution, scale and minimum over channels in an fx graph, of torch functions or of ATen operators."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.fx import Graph, Node
from torch.nn import functional as F

from convmin.modules import ConvScaleMin2d

aten = torch.ops.aten

_CONV: set[Any] = {torch.conv2d, F.conv2d, aten.conv2d.default, aten.conv2d.padding}
_CONVOLUTION: set[Any] = {torch.convolution, aten.convolution.default}
_MUL: set[Any] = {
    operator.mul,
    operator.imul,
    torch.mul,
    torch.multiply,
    aten.mul.Tensor,
    aten.mul.Scalar,
    aten.mul_.Tensor,
}
_MUL |= {"mul", "mul_", "multiply", "multiply_"}
_DIV: set[Any] = {operator.truediv, operator.itruediv, torch.div, torch.divide, torch.true_divide}
_DIV |= {aten.div.Tensor, aten.div.Scalar, aten.div_.Tensor, "div", "div_", "divide", "divide_", "true_divide"}
_NEG: set[Any] = {operator.neg, torch.neg, torch.negative, aten.neg.default, "neg", "neg_", "negative", "negative_"}
_PAIR: dict[Any, int] = {
    torch.min: 1,
    "min": 1,
    aten.min.dim: 1,
    torch.max: -1,
    "max": -1,
    aten.max.dim: -1,
}  # (values, indices)
_VALUES: dict[Any, int] = {
    torch.amin: 1,
    "amin": 1,
    aten.amin.default: 1,
    torch.amax: -1,
    "amax": -1,
    aten.amax.default: -1,
}

# What changes how the operators between a convolution and its minimum run.
_MODES: set[Any] = {
    torch._C._set_grad_enabled,
    torch.amp.autocast_mode._enter_autocast,
    torch.amp.autocast_mode._exit_autocast,
}

# A quotient becomes a product with the reciprocal, which must neither overflow nor lose bits as a float32.
_MAX_DIVISOR = 2.0**100


@dataclass(frozen=True)
class Match:
    """``output`` computes the minimum (``sign`` 1) or the maximum (-1) over channels of a scaled convolution.

    ``scale`` is the factor before the minimum or maximum, ``dim`` the reduced dimension as it was written.
    """

    conv: Node
    nodes: tuple[Node, ...]  # the convolution, what follows, the output: in their order, all replaced
    output: Node
    scale: float
    sign: int
    dim: int
    keepdim: bool

    def __str__(self) -> str:
        scaled = "conv" if self.scale == 1.0 else f"conv * {self.scale:g}"
        return f"{'min' if self.sign == 1 else 'max'}({scaled}, dim={self.dim})"


@dataclass(frozen=True)
class Miss:
    """A convolution that stays as it is, and why."""

    conv: Node
    reason: str


class _Missed(Exception):
    pass


def find(graph: Graph, root: nn.Module | None = None) -> Iterator[Match | Miss]:
    """Every two-dimensional convolution of a graph, in its order. ``root`` holds the graph's modules."""
    order = {node: position for position, node in enumerate(graph.nodes)}
    modes = [order[node] for node in graph.nodes if node.op == "call_function" and node.target in _MODES]
    for node in graph.nodes:
        if not is_convolution(node, root):
            continue
        try:
            match = _follow(node)
            if any(order[node] < mode < order[match.output] for mode in modes):
                raise _Missed("autograd or autocast is switched between it and the minimum")
            yield match
        except _Missed as missed:
            yield Miss(node, str(missed))


def erase(graph: Graph, match: Match) -> None:
    """Removes a match's nodes, once nothing uses its output."""
    for node in reversed(match.nodes):
        for unused in list(node.users):  # the indices, unpacked
            graph.erase_node(unused)
        graph.erase_node(node)


def is_convolution(node: Node, root: nn.Module | None) -> bool:
    """Whether a node is a two-dimensional convolution: a function, an operator or a module."""
    if node.op == "call_module":
        module = module_of(node, root)
        return isinstance(module, nn.Conv2d) and not isinstance(module, ConvScaleMin2d)
    if node.op != "call_function":
        return False
    if node.target in _CONVOLUTION:
        arguments = bind(node, *_CONVOLUTION_NAMES)
        return not arguments["transposed"] and len(arguments["stride"]) == 2
    return node.target in _CONV


def module_of(node: Node, root: nn.Module | None) -> nn.Module | None:
    """The module that a call_module node calls."""
    if root is None:
        return None
    module: Any = root
    for atom in str(node.target).split("."):
        module = getattr(module, atom)
    return module


_CONVOLUTION_NAMES = (
    "input",
    "weight",
    "bias",
    "stride",
    "padding",
    "dilation",
    "transposed",
    "output_padding",
    "groups",
)
_DEFAULTS = {"bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1, "dim": None, "keepdim": False}


def bind(node: Node, *names: str) -> dict[str, Any]:
    """A node's arguments by name; what it doesn't give has its default or is absent."""
    given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    return {name: given.get(name, _DEFAULTS.get(name)) for name in names} | {
        name: value for name, value in given.items() if name not in names
    }


def convolution_arguments(node: Node) -> dict[str, Any]:
    """Of a function or an operator: input, weight, bias, stride, padding, dilation, groups."""
    if node.target in _CONVOLUTION:
        arguments = bind(node, *_CONVOLUTION_NAMES)
        return {name: arguments[name] for name in _CONVOLUTION_NAMES if name not in ("transposed", "output_padding")}
    return bind(node, "input", "weight", "bias", "stride", "padding", "dilation", "groups")


def _follow(conv: Node) -> Match:
    """Walks from a convolution to the minimum over channels."""
    nodes, scale, scaled = [conv], 1.0, False
    node = _only_user(conv)
    while node.op in ("call_function", "call_method"):
        if node.target in _NEG:
            scale = -scale
        elif node.target in _MUL or node.target in _DIV:
            if scaled:
                raise _Missed("scaled twice")
            scale, scaled = scale * _factor(node, nodes[-1]), True
        else:
            break
        nodes.append(node)
        node = _only_user(node)
    return _reduce(node, nodes, scale)


def _reduce(node: Node, nodes: list[Node], scale: float) -> Match:
    known = node.op in ("call_function", "call_method")
    sign = _PAIR.get(node.target) or _VALUES.get(node.target) if known else None
    if sign is None:
        raise _Missed(f"followed by {_name(node)}, not by a minimum over channels")
    arguments = bind(node, "input", "dim", "keepdim")
    dim, keepdim = arguments["dim"], arguments["keepdim"]
    if isinstance(dim, (list, tuple)) and len(dim) == 1 and node.target in _VALUES:
        (dim,) = dim
    if arguments["input"] is not nodes[-1] or dim is None or isinstance(dim, Node) or "other" in arguments:
        raise _Missed(f"{_name(node)} is not taken over channels alone")
    if not isinstance(dim, int) or dim not in (1, -3) or not isinstance(keepdim, bool) or "out" in arguments:
        raise _Missed(f"{_name(node)} is taken over dim={dim}, not over channels")
    nodes = [*nodes, node]
    if node.target in _PAIR:
        nodes.append(_values(node))
    return Match(nodes[0], tuple(nodes), nodes[-1], scale, sign, dim, keepdim)


def _values(pair: Node) -> Node:
    """The one use of a (values, indices) pair."""
    used = [user for user in pair.users if user.users]  # unpacking makes a node for the indices that nothing uses
    for user in used:
        taken = user.args[1] if user.op == "call_function" and user.target in (operator.getitem, getattr) else None
        if taken not in (0, "values"):
            raise _Missed("the minimum's indices are used (conv2d_scale_min_with_indices gives both)")
    if len(used) != 1:
        raise _Missed(f"the minimum is used {len(used)} times")
    return used[0]


def _only_user(node: Node) -> Node:
    uses = len(node.users)
    if uses != 1:
        raise _Missed(f"{_name(node)} is used {uses} times, not by a minimum over channels alone")
    return next(iter(node.users))


def _factor(node: Node, scaled: Node) -> float:
    """The number that a product or a quotient scales by."""
    arguments = bind(node, "input", "other")
    left, right = arguments["input"], arguments["other"]
    if node.target in _DIV and right is scaled:
        raise _Missed("divides a number by it")
    number = right if left is scaled else left
    if isinstance(number, Node):
        raise _Missed("scaled by a tensor, where only a number can be fused")
    if isinstance(number, bool) or not isinstance(number, (int, float)) or set(node.kwargs) - {"input", "other"}:
        raise _Missed(f"scaled by {number!r}" + (f" with {dict(node.kwargs)}" if node.kwargs else ""))
    if node.target in _MUL:
        return float(number)
    if not 1 / _MAX_DIVISOR <= math.fabs(number) <= _MAX_DIVISOR:
        raise _Missed(f"divided by {number!r}, whose reciprocal is no ordinary float32")
    return 1.0 / number


def _name(node: Node) -> str:
    if node.op == "output":
        return "the output"
    if node.op in ("call_method", "call_module"):
        return str(node.target)
    return getattr(node.target, "__name__", str(node.target))
