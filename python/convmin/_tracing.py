"""Traces a module's forward, or refuses where the graph would not do what the forward does."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node, Proxy, Tracer


class Refused(Exception):
    """Why a module's forward is not rewritten."""


class _Stand(Proxy):
    """What is traced passes for the tensor that it stands for, so that a forward that asks goes the way it will go."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # what isinstance() sees
        return Tensor


class _Tracer(Tracer):
    """Traces one module's forward. ``is_opaque`` says which submodules stay calls."""

    proxy_buffer_attributes = True  # else a forward that writes to a buffer would do so while it is traced

    def __init__(self, is_opaque: Callable[[nn.Module], bool]) -> None:
        super().__init__()
        self.is_opaque = is_opaque
        self.grad = torch.is_grad_enabled()

    def proxy(self, node: Node) -> Proxy:
        return _Stand(node, self)

    def create_arg(self, a: Any) -> Any:
        return a.node if type(a) is _Stand else super().create_arg(a)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return super().is_leaf_module(m, module_qualified_name) or self.is_opaque(m)

    def create_node(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **named: Any) -> Node:
        if (
            torch.is_grad_enabled() != self.grad
            or torch.is_autocast_enabled("cuda")
            or torch.is_autocast_enabled("cpu")
        ):
            raise Refused("it switches autograd or autocast")  # which would not be part of the graph
        node = super().create_node(kind, target, args, kwargs, *rest, **named)
        if kind == "get_attr" and "_tensor_constant" in str(target):
            raise Refused("it makes a tensor, which would be frozen")
        return node


@contextmanager
def _untouched(module: nn.Module) -> Iterator[None]:
    """Tracing runs the forward's Python code: what it sets on modules is taken back, and refused."""
    containers = [
        container
        for part in module.modules()
        for container in (vars(part), part._parameters, part._buffers, part._modules)
    ]
    before = [dict(container) for container in containers]
    changed = False
    try:
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            yield
    finally:
        for container, values in zip(containers, before, strict=True):
            if container.keys() != values.keys() or any(container[name] is not values[name] for name in values):
                changed = True
                container.clear()
                container.update(values)
    if changed:
        raise Refused("it sets attributes")


def trace(module: nn.Module, is_opaque: Callable[[nn.Module], bool], training: bool | None = None) -> Graph:
    """The graph of a module's forward; of the given mode, if one is given."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        if training is not None:
            for part, _ in modes:
                vars(part)["training"] = training
        _, optional = parameters(type(module).forward)
        with _untouched(module), warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # fx can't assert that a default of any type was not replaced: _forward does
            graph = _Tracer(is_opaque).trace(module, optional)
        for node in graph.nodes:
            if node.op == "placeholder" and node.target in optional:
                _erase_with_users(graph, node)
        return graph
    except Refused:
        raise
    except Exception as error:  # whatever a user's forward does with a proxy
        raise Refused(f"torch.fx can't trace it: {str(error).splitlines()[0] if str(error) else error!r}") from error
    finally:
        for part, mode in modes:
            vars(part)["training"] = mode


def parameters(forward: Callable[..., Any]) -> tuple[list[str], dict[str, Any]]:
    """The names that a call of a forward has to give, and the defaults of the others."""
    required, optional = [], {}
    for parameter in list(inspect.signature(forward).parameters.values())[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise Refused("it takes any number of arguments")
        if parameter.default is not parameter.empty:
            optional[parameter.name] = parameter.default
        elif parameter.kind is parameter.KEYWORD_ONLY:
            raise Refused("it has a required keyword argument")
        else:
            required.append(parameter.name)
    return required, optional


def _erase_with_users(graph: Graph, node: Node) -> None:
    for user in list(node.users):
        _erase_with_users(graph, user)
    graph.erase_node(node)
