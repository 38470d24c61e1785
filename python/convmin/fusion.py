"""Rewrites models that compute the minimum over channels of a scaled convolution with other operators."""

from __future__ import annotations

import functools
import inspect
import itertools
import linecache
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node, Proxy
from torch.nn import functional as F
from torch.overrides import handle_torch_function, has_torch_function_unary

from convmin import _pattern
from convmin._tracing import Refused, parameters, trace
from convmin.functional import IntOrPair, conv2d_scale_min
from convmin.modules import ConvScaleMin2d

_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class FusionSite:
    """One convolution of a model.

    Args:
        where: its path in the model; the module's that calls it, where it is a function.
        note: what was fused, or why nothing was.
    """

    where: str
    note: str


@dataclass(frozen=True)
class FusionReport:
    """What :func:`fuse` did and what it left, one entry per convolution. ``print`` it.

    Args:
        fused: convolutions that are part of a fused call now.
        left: convolutions that stay as they were, each with the reason.
    """

    fused: tuple[FusionSite, ...] = ()
    left: tuple[FusionSite, ...] = ()

    def __str__(self) -> str:
        lines = [f"fused {site.where}: {site.note}" for site in self.fused]
        lines += [f"left  {site.where}: {site.note}" for site in self.left]
        return "\n".join(lines) or "no convolution"


def fuse(model: nn.Module) -> FusionReport:
    """Replaces convolution, scale and minimum over channels by the fused operator, in place.

    Found are ``F.conv2d`` and ``nn.Conv2d``, then at most one product with or quotient by a number (and any signs),
    then the values of ``min`` or ``amin`` (``max`` or ``amax``, by negation) over channels, with ``keepdim`` or not:
    within a ``forward``, across the modules of an ``nn.Sequential``, and across modules in general. A module whose
    ``forward`` holds the pattern gets a subclass of its class (as ``torch.nn.utils.parametrize`` does) with the
    rewritten ``forward``; submodules, parameters, their names, hooks and the ``state_dict`` stay as they are.

    Numbers in a rewritten ``forward`` are those of the moment. Left alone is what could change results: a ``forward``
    that ``torch.fx`` can't trace, or that depends on ``training``, sets attributes, makes tensors or switches autograd;
    and convolutions whose output is used elsewhere, or scaled by a tensor. Where channels tie, gradients go to the
    first of them, as ``min``'s do; ``amin`` spreads them.

    Fuse a model before it is wrapped (DDP, FSDP2, ``torch.compile``). With FSDP2, shard the modules whose ``forward``
    runs: a convolution that is part of a fused call is no longer called itself.

    Args:
        model: any module, in training or evaluation mode, on any device; also a ``torch.fx.GraphModule``, so what
            ``torch.export.export(...).module()`` gives.

    Returns:
        A report of what was fused and what was left, and why.

    Raises:
        TypeError: ``model`` is not an ``nn.Module``.

    Example:
        >>> class Net(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.conv = nn.Conv2d(3, 8, 3)
        ...     def forward(self, x):
        ...         return torch.min(self.conv(x) * 2.0, dim=1, keepdim=True).values
        >>> net = Net()
        >>> print(fuse(net))
        fused conv: min(conv * 2, dim=1)
        >>> net(torch.rand(1, 3, 8, 8)).shape, list(net.state_dict())
        (torch.Size([1, 1, 6, 6]), ['conv.weight', 'conv.bias'])
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"fuse: expected model to be an nn.Module, got {type(model).__name__}")
    fusion = _Fusion()
    for path, module in reversed(list(model.named_modules())):  # children before their parents
        fusion.visit(path, module)
    return fusion.report(model)


def conv2d_scale_reduce(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scale: float,
    sign: int,
    dim: int,
    keepdim: bool,
    stride: IntOrPair = 1,
    padding: str | IntOrPair = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> Tensor:
    """What a rewritten ``forward`` calls: the fused operator, or the sequence that it stands for where it has no say.

    That is where ``dim`` counts from the front and the input is unbatched, so that it names no channels, and for dtypes
    that the operator doesn't take.
    """
    if has_torch_function_unary(input):
        arguments = (input, weight, bias, scale, sign, dim, keepdim, stride, padding, dilation, groups)
        return handle_torch_function(conv2d_scale_reduce, (input,), *arguments)
    if input.dtype in _DTYPES and (dim == -3 or input.dim() == 4):
        values = conv2d_scale_min(input, weight, bias, sign * scale, stride, padding, dilation, groups)
        values = values if keepdim else values.squeeze(-3)
        return values if sign == 1 else -values
    product = F.conv2d(input, weight, bias, stride, padding, dilation, groups) * scale  # type: ignore[arg-type]
    return product.amin(dim, keepdim) if sign == 1 else product.amax(dim, keepdim)


def _has_hooks(module: nn.Module) -> bool:
    return any(
        getattr(module, name, None)
        for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    )


def _innermost(node: Node) -> str:
    """The path of the module that a node comes from, within what was traced."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values()]
    if node.op == "call_module" and paths and paths[-1] == str(node.target):
        paths.pop()
    return paths[-1] if paths else ""


def _join(*paths: str) -> str:
    return ".".join(path for path in paths if path)


@dataclass
class _Fusion:
    """The walk over a model: what it found so far, by convolution."""

    fused: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)  # by module: why its forward stays as it is
    before: set[str] = field(default_factory=set)  # convolutions that an earlier call fused

    def is_opaque(self, module: nn.Module) -> bool:
        """Its call stays a call where its caller is traced."""
        if isinstance(module, (GraphModule, torch.jit.ScriptModule, ConvScaleMin2d)) or "forward" in vars(module):
            return True
        return id(module) in self.refused or _has_hooks(module)

    def visit(self, path: str, module: nn.Module) -> None:
        """Rewrites one module's forward, if the pattern is in it; its submodules have been visited."""
        if isinstance(module, GraphModule):
            self._rewrite(path, module.graph, module)
            module.recompile()
            return
        library = type(module).__module__.startswith(("torch.nn", "torch.ao.nn"))
        if (library and not isinstance(module, nn.Sequential)) or isinstance(
            module, (torch.jit.ScriptModule, ConvScaleMin2d)
        ):
            return
        if type(module).forward in (nn.Module.forward, nn.ModuleList.forward, nn.ModuleDict.forward):
            return  # a container
        matches: dict[str, _pattern.Match] = {}
        try:
            if "forward" in vars(module):
                raise Refused("its forward was replaced")
            graph = trace(module, self.is_opaque)
            matches = self._note(path, graph, module)
            if matches:
                self._specialize(path, module, matches)
        except Refused as refused:
            self.refused[id(module)] = reason = f"the forward of {path or type(module).__name__}: {refused}"
            self.left.update(dict.fromkeys(matches, reason))

    def _note(self, path: str, graph: Graph, root: nn.Module) -> dict[str, _pattern.Match]:
        """Enters what was found in a graph, and returns the matches that may be fused."""
        matches = {}
        counts: dict[str, int] = {}
        for node in graph.nodes:
            if node.target is conv2d_scale_reduce and isinstance(node.args[1], Node):
                self.before.add(_join(path, str(node.args[1].target).removesuffix(".weight")))
        for found in _pattern.find(graph, root):
            where = self._where(path, found.conv, counts)
            reason = found.reason if isinstance(found, _pattern.Miss) else self._unfit(found, root)
            if reason:
                self.left[where] = reason
            elif isinstance(found, _pattern.Match):
                matches[where] = found
        return matches

    @staticmethod
    def _where(path: str, conv: Node, counts: dict[str, int]) -> str:
        inner = str(conv.target) if conv.op == "call_module" else _join(_innermost(conv), "conv2d")
        counts[inner] = counts.get(inner, 0) + 1
        return _join(path, inner) + (f"#{counts[inner]}" if counts[inner] > 1 else "")

    @staticmethod
    def _unfit(match: _pattern.Match, root: nn.Module) -> str | None:
        """Why a convolution module can't be replaced by a call with its parameters."""
        if match.conv.op != "call_module":
            return None
        conv: Any = _pattern.module_of(match.conv, root)
        plain = type(conv).forward is nn.Conv2d.forward and type(conv)._conv_forward is nn.Conv2d._conv_forward
        if not plain or "forward" in vars(conv):
            return f"{type(conv).__name__} has a forward of its own"
        if _has_hooks(conv):
            return "it has hooks"
        return None

    def _specialize(self, path: str, module: nn.Module, matches: dict[str, _pattern.Match]) -> None:
        """Traces again, with every submodule that has no part in the pattern left whole, and swaps the class."""
        parts = {_innermost(node) for match in matches.values() for node in match.nodes}
        inlined = {
            id(module.get_submodule(path[:end]))
            for path in parts
            for end in (i for i in range(1, len(path) + 1) if i == len(path) or path[i] == ".")
        }

        def is_opaque(part: nn.Module) -> bool:
            return id(part) not in inlined or self.is_opaque(part)

        graph = trace(module, is_opaque)
        other = trace(module, is_opaque, training=not module.training)
        if graph.python_code("self").src != other.python_code("self").src:
            raise Refused("it depends on training")
        self._rewrite(path, graph, module)
        _swap_class(module, graph)

    def _rewrite(self, path: str, graph: Graph, root: nn.Module) -> None:
        for where, match in self._note(path, graph, root).items():
            replace(graph, match, root)
            self.left.pop(where, None)
            self.fused[where] = str(match)

    def report(self, model: nn.Module) -> FusionReport:
        """In the order of the model's modules, with the convolutions that no trace came to."""
        for path, module in model.named_modules():
            if type(module) is nn.Conv2d and not any(path in known for known in (self.fused, self.left, self.before)):
                owners = [model.get_submodule(path[:i]) for i, c in enumerate(path) if c == "."]
                reasons = [self.refused[id(owner)] for owner in (model, *owners) if id(owner) in self.refused]
                self.left[path] = reasons[-1] if reasons else "no traced forward calls it"
        for where in self.fused:
            self.left.pop(where, None)
        return FusionReport(
            tuple(itertools.starmap(FusionSite, self.fused.items())),
            tuple(itertools.starmap(FusionSite, self.left.items())),
        )


def replace(graph: Graph, match: _pattern.Match, root: nn.Module) -> None:
    """Puts a call of the fused operator in a match's place."""
    conv = match.conv
    # Where the convolution stands: what comes after it might write to the input.
    with graph.inserting_before(conv):
        arguments = _module_arguments(graph, conv, root) if conv.op == "call_module" else None
        arguments = arguments or _pattern.convolution_arguments(conv)
        tensors = [arguments.pop(name) for name in ("input", "weight", "bias")]
        values = graph.call_function(
            conv2d_scale_reduce, (*tensors, match.scale, match.sign, match.dim, match.keepdim, *arguments.values())
        )
        values.meta = dict(match.output.meta)
    match.output.replace_all_uses_with(values)
    _pattern.erase(graph, match)


def _module_arguments(graph: Graph, conv: Node, root: nn.Module) -> dict[str, Any]:
    module: Any = _pattern.module_of(conv, root)
    given = _pattern.bind(conv, "input")
    input, padding = given["input"], module.padding
    if module.padding_mode != "zeros":
        amounts = tuple(module._reversed_padding_repeated_twice)
        input, padding = graph.call_function(F.pad, (input, amounts), {"mode": module.padding_mode}), 0
    weight = graph.get_attr(f"{conv.target}.weight")
    bias = None if module.bias is None else graph.get_attr(f"{conv.target}.bias")
    return {
        "input": input,
        "weight": weight,
        "bias": bias,
        "stride": module.stride,
        "padding": padding,
        "dilation": module.dilation,
        "groups": module.groups,
    }


_numbers = itertools.count()


def _compile(graph: Graph) -> Callable[..., Any]:
    code = graph.python_code("self")
    name = f"<convmin.fuse {next(_numbers)}>"
    linecache.cache[name] = (len(code.src), None, code.src.splitlines(True), name)  # for tracebacks
    namespace = dict(code.globals)
    exec(compile(code.src, name, "exec", dont_inherit=True), namespace)
    return namespace["forward"]


def _swap_class(module: nn.Module, graph: Graph) -> None:
    """Gives a module a subclass of its class whose forward is the graph, for the calls that the graph was traced for:
    tensors for what has no default, and the defaults."""
    base: Any = type(module)
    rewritten, original = _compile(graph), base.forward
    required, optional = parameters(original)
    names = list(inspect.signature(original).parameters)[1:]
    other = object()

    @functools.wraps(original)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        given = dict(zip(names, args)) | kwargs  # noqa: B905  # too many are the original's error
        fits = len(given) == len(args) + len(kwargs)
        for name, value in given.items():
            fits = fits and (name in required or value is optional.get(name, other))
        tensors = [given.get(name) for name in required]
        if fits and all(isinstance(tensor, (Tensor, Proxy)) for tensor in tensors):
            return rewritten(self, *tensors)
        return original(self, *args, **kwargs)

    module.__class__ = type(
        f"Fused{base.__name__}",
        (base,),
        {"forward": forward, "__reduce_ex__": _reduce, "__module__": base.__module__},
    )


def _reduce(self: nn.Module, protocol: Any) -> tuple[Any, ...]:
    """A copy or a pickle is made of the original class, and fused again."""
    made = next(cls for cls in type(self).__mro__ if vars(cls).get("__reduce_ex__") is not _reduce)
    return _unfused, (made,), vars(self)


def _unfused(base: type[nn.Module]) -> nn.Module:
    cls: Any = type(base.__name__, (base,), {"__setstate__": _restore})
    return cls.__new__(cls)


def _restore(self: nn.Module, state: dict[str, Any]) -> None:
    base: Any = type(self).__bases__[0]
    base.__setstate__(self, state)
    self.__class__ = base
    _Fusion().visit("", self)
