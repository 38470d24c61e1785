"""convmin.fuse: what it rewrites computes the same, what it leaves it gives a reason for."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import convmin
import pytest
import torch
from convmin.fusion import conv2d_scale_reduce
from patterns import FUSED, LEFT, Forward, Net
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode


class Calls(TorchDispatchMode):
    """Counts the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))

    @property
    def fused(self) -> int:
        return sum(name.startswith("convmin::conv2d_scale_min") for name in self.names)

    @property
    def convolutions(self) -> int:
        return sum("convolution" in name for name in self.names)


def run(model: nn.Module, x: torch.Tensor) -> tuple[list[torch.Tensor], Calls]:
    """Result and gradients, and what ran forward."""
    leaf = x.clone().requires_grad_()
    with Calls() as calls:
        y = model(leaf)
    parameters = [leaf, *model.parameters()]
    grads = torch.autograd.grad(y.square().sum(), parameters, allow_unused=True)
    return [y, *(torch.zeros(()) if grad is None else grad for grad in grads)], calls


def check(model: nn.Module, x: torch.Tensor, fused: int, left: int = 0) -> convmin.FusionReport:
    """Fuses a model: the same results, names and objects as before."""
    (before, _), names = run(model, x), list(model.state_dict())
    parameters = [id(parameter) for parameter in model.parameters()]
    kind = type(model)
    report = convmin.fuse(model)
    after, calls = run(model, x)
    called = [site for site in report.left if "no traced forward calls it" not in site.note]
    assert (len(report.fused), len(called), calls.fused, calls.convolutions) == (fused, left, fused, left), report
    assert list(model.state_dict()) == names and [id(p) for p in model.parameters()] == parameters
    assert isinstance(model, kind)
    for mine, theirs in zip(after, before, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    return report


IMAGE = (2, 3, 9, 8)


@pytest.mark.parametrize("body", FUSED.values(), ids=FUSED.keys())
def test_fused(body: Forward) -> None:
    """One call in the place of the sequence, with its results and gradients."""
    report = check(Net(body), torch.randn(IMAGE), fused=1)
    assert "min(conv" in str(report) or "max(conv" in str(report)


@pytest.mark.parametrize(("body", "reason"), LEFT.values(), ids=LEFT.keys())
def test_left(body: Forward, reason: str) -> None:
    """The class stays, and the report says why."""
    net = Net(body)
    report = convmin.fuse(net)
    assert type(net) is Net and not report.fused
    (site,) = report.left
    assert site.where == "conv" and reason in site.note and reason in str(report)


def test_every_option_of_the_convolution() -> None:
    """Stride, padding of every mode and form, dilation, groups and no bias reach the operator."""
    for options in (
        {"stride": 2, "padding": (1, 2), "dilation": (2, 1)},
        {"padding": "same", "bias": False},
        {"padding": 1, "padding_mode": "reflect"},
        {"padding": "same", "padding_mode": "circular", "dilation": 2},
    ):
        check(Net(FUSED["min.values"], **options), torch.randn(IMAGE), fused=1)
    grouped = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), Minimum())
    check(grouped, torch.randn(2, 4, 8, 8), fused=1)


class Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


class Minimum(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.min(x, dim=1, keepdim=True)[0]


class Darkest(nn.Module):
    """The pattern across modules: the convolution in a block, the minimum outside."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.ModuleDict({"conv": nn.Conv2d(3, 8, 3), "scale": Scale(0.5)})
        self.stages = nn.ModuleList([nn.Sequential(nn.Conv2d(1, 4, 1), Scale(2.0), Minimum()) for _ in range(2)])
        self.rest = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU())
        self.note = {"kept": True}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block["scale"](self.block["conv"](x)).amin(1, keepdim=True)
        for stage in self.stages:
            x = stage(x)
        return self.rest(x)


def test_module_trees() -> None:
    """Sequentials keep their kind and their entries; the smallest module that holds a pattern changes, and no other."""
    model = Darkest()
    report = check(model, torch.randn(IMAGE), fused=3, left=1)
    assert {site.where for site in report.fused} == {"block.conv", "stages.0.0", "stages.1.0"}
    assert report.left[0].where == "rest.0" and "rest.1" in report.left[0].note
    assert all(isinstance(stage, nn.Sequential) and len(stage) == 3 for stage in model.stages)
    assert type(model.rest) is nn.Sequential and model.note == {"kept": True}
    seen = []
    model.rest.register_forward_hook(lambda *_: seen.append("rest"))
    model(torch.randn(IMAGE))
    assert seen == ["rest"]  # it has no part in the pattern, so it is called as before
    old = Darkest().state_dict()
    model.load_state_dict(old)  # a checkpoint from before
    reference = Darkest()
    reference.load_state_dict(old)
    x = torch.randn(IMAGE)
    torch.testing.assert_close(model.eval()(x), reference.eval()(x))


@pytest.mark.parametrize("how", ["deepcopy", "torch.save"])
def test_copies(how: str) -> None:
    """A copy is fused, and has parameters of its own."""
    model = Darkest().eval()
    convmin.fuse(model)
    if how == "deepcopy":
        other = copy.deepcopy(model)
    else:
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    x = torch.randn(IMAGE)
    values, calls = run(other, x)
    assert torch.equal(values[0], model(x)) and calls.fused == 3 and type(other).__name__ == "FusedDarkest"
    with torch.no_grad():
        other.block["conv"].weight.zero_()
    assert not torch.equal(other(x), model(x))


def test_fusing_again_changes_nothing() -> None:
    """What is fused is known as such."""
    model = Darkest()
    first = convmin.fuse(model)
    kind = type(model)
    second = convmin.fuse(model)
    assert type(model) is kind and second.fused == () and second.left == first.left


def test_fusing_what_was_left_before() -> None:
    """A second call finds what the first could not take; copies go back to the original class."""

    class Two(nn.Sequential):
        pass

    model = Two(nn.Conv2d(3, 8, 3), Minimum(), nn.Conv2d(1, 4, 1), Minimum())
    hook = model[2].register_forward_hook(lambda *_: None)
    assert len(convmin.fuse(model).fused) == 1
    hook.remove()
    report = convmin.fuse(model)
    assert [site.where for site in report.fused] == ["2"] and report.left == ()
    for layers in (model, copy.deepcopy(model)):
        with Calls() as calls:
            layers(torch.randn(IMAGE))
        assert (calls.fused, calls.convolutions) == (2, 0)


def test_an_unbatched_input_keeps_its_meaning() -> None:
    """dim=1 of an unbatched convolution is its height: the rewritten forward finds out when it runs."""
    net, reference = Net(FUSED["min.values"]), Net(FUSED["min.values"])
    reference.load_state_dict(net.state_dict())
    convmin.fuse(net)
    x = torch.randn(3, 9, 8)
    assert net(x).shape == reference(x).shape == (8, 1, 6)
    torch.testing.assert_close(net(x), reference(x))
    behind = Net(FUSED["amin from behind"])
    convmin.fuse(behind)
    with Calls() as calls:
        assert behind(x).shape == (1, 7, 6)
    assert calls.fused == 1


def test_an_input_that_is_overwritten_later() -> None:
    """The fused call stands where the convolution stood, not where the minimum did."""

    def body(net: Net, x: torch.Tensor) -> torch.Tensor:
        y = net.conv(x)
        x.zero_()
        return y.amin(1, keepdim=True)

    net = Net(body)
    x = torch.randn(IMAGE)
    with torch.no_grad():
        before = net(x.clone())
        assert len(convmin.fuse(net).fused) == 1
        torch.testing.assert_close(net(x), before)
    assert not x.any()


class Masked(nn.Module):
    """A forward whose way depends on what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(
        self, x: torch.Tensor, skip: torch.Tensor | None, mask: torch.Tensor | None = None, factor: float = 1.0
    ) -> torch.Tensor:
        x = self.conv(x) if isinstance(x, torch.Tensor) else self.conv(x[0])
        y = (x * 2).amin(1, keepdim=True)
        y = y if skip is None else y + skip
        y = y if mask is None else y * mask
        return y * factor if factor != 1.0 else y


def test_arguments_that_change_the_way() -> None:
    """None in a tensor's place, lists, defaults that are not left: those calls go the original way."""
    model, reference = Masked(), Masked()
    reference.load_state_dict(model.state_dict())
    assert len(convmin.fuse(model).fused) == 1
    x, skip, mask = torch.randn(IMAGE), torch.randn(2, 1, 7, 6), torch.randn(2, 1, 7, 6)
    calls: list[tuple[int, tuple[Any, ...], dict[str, Any]]] = [
        (1, (x, skip), {}),
        (1, (x,), {"skip": skip}),
        (1, (x, skip, None), {"factor": 1.0}),
        (0, (x, None), {}),
        (0, (x, skip, mask), {}),
        (0, (x, skip), {"mask": mask, "factor": 3.0}),
        (0, ([x], skip), {}),
    ]
    for fused, args, kwargs in calls:
        with Calls() as seen:
            torch.testing.assert_close(model(*args, **kwargs), reference(*args, **kwargs))
        assert seen.fused == fused, (args, kwargs)
    for args, kwargs in (((), {}), ((x, skip, None, 1.0, 2), {}), ((x, skip), {"skip": skip}), ((x, skip), {"no": 1})):
        with pytest.raises(TypeError, match="forward"):
            model(*args, **kwargs)
    torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="eager")(x, None), reference(x, None))

    class Anything(Masked):
        def forward(self, *images: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return self.conv(images[0]).amin(1)

    assert "any number of arguments" in convmin.fuse(Anything()).left[0].note


def test_other_dtypes_fall_back() -> None:
    """Integers, which PyTorch's convolution takes on the CPU, still give what they gave."""
    x, weight = torch.randint(-3, 4, (2, 3, 8, 8)), torch.randint(-3, 4, (5, 3, 3, 3))
    values = conv2d_scale_reduce(x, weight, None, 2, 1, 1, True)
    assert torch.equal(values, (F.conv2d(x, weight) * 2).amin(1, True))
    assert torch.equal(conv2d_scale_reduce(x, weight, None, 2, -1, 1, False), (F.conv2d(x, weight) * 2).amax(1))


def branch(net: Net, x: torch.Tensor) -> torch.Tensor:
    y = (net.conv(x) * 2).amin(1, True)
    return y if y.sum() > 0 else -y


def training_dependent(net: Net, x: torch.Tensor) -> torch.Tensor:
    return F.dropout((net.conv(x) * 2).amin(1, True), 0.5, net.training)


def counting(net: Net, x: torch.Tensor) -> torch.Tensor:
    net.factor += 1
    return (net.conv(x) * 2).amin(1, True)


def without_gradients(net: Net, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return (net.conv(x) * 2).amin(1, True)


def autocasting(net: Net, x: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return (net.conv(x) * 2).amin(1, True)


def making_a_tensor(net: Net, x: torch.Tensor) -> torch.Tensor:
    return (net.conv(x) * 2).amin(1, True) + torch.arange(6)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (branch, "can't trace"),
        (training_dependent, "training"),
        (counting, "sets attributes"),
        (without_gradients, "switches autograd or autocast"),
        (autocasting, "switches autograd or autocast"),
        (making_a_tensor, "makes a tensor"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_forwards_that_tracing_would_change(body: Forward, reason: str) -> None:
    """Left as they are, in every respect."""
    net = Net(body)
    report = convmin.fuse(net)
    assert type(net) is Net and net.factor == 2.0 and net.training and not report.fused
    assert [site.where for site in report.left] == ["conv"] and reason in report.left[0].note


def parts(change: Callable[[nn.Conv2d], Any]) -> nn.Sequential:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), Scale(2.0), Minimum())
    change(model[0])
    return model


class Shifted(nn.Conv2d):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input) + 1


def test_convolutions_that_are_more_than_one() -> None:
    """Hooks would not run, and another forward is another function."""
    hooked = parts(lambda conv: conv.register_forward_hook(lambda *_: None))
    assert "hooks" in convmin.fuse(hooked).left[0].note
    with pytest.warns(FutureWarning):
        hooked = parts(lambda conv: nn.utils.weight_norm(conv))
    assert "hooks" in convmin.fuse(hooked).left[0].note
    model = nn.Sequential(Shifted(3, 8, 3), Minimum())
    assert "followed by add" in convmin.fuse(model).left[0].note
    quantized = nn.Sequential(torch.ao.nn.qat.Conv2d(3, 8, 3, qconfig=torch.ao.quantization.default_qconfig), Minimum())
    assert "forward of its own" in convmin.fuse(quantized).left[0].note
    noted = nn.Sequential(nn.Conv2d(3, 8, 3), Minimum())
    noted[1].register_forward_hook(lambda *_: None)
    assert convmin.fuse(noted).fused == () and type(noted) is nn.Sequential


def test_parametrized_weights() -> None:
    """They are computed on each call, as before."""
    model = parts(lambda conv: nn.utils.parametrizations.weight_norm(conv))
    check(model, torch.randn(IMAGE), fused=1)


def test_hooks_of_the_rewritten_module_still_run() -> None:
    model = parts(lambda conv: None)
    seen = []
    model.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    convmin.fuse(model)
    model(torch.randn(IMAGE))
    assert seen == [(2, 1, 7, 6)]


def test_a_shared_convolution() -> None:
    """Called twice: each call is fused or left by itself, and other users of the module see no change."""

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x).amin(1, True) + self.conv(x + 1).mean()

    model = Shared()
    report = check(model, torch.randn(IMAGE), fused=1, left=1)
    assert [site.where for site in (*report.fused, *report.left)] == ["conv", "conv#2"]
    assert type(model.conv) is nn.Conv2d


def test_exported_graphs() -> None:
    """A GraphModule is rewritten as such: torch.fx's own, and the ATen operators of an exported program."""
    reference = Net(FUSED["quotient"]).eval()
    x = torch.randn(IMAGE)
    for graph_module in (
        torch.fx.symbolic_trace(reference),
        torch.export.export(reference, (x,)).module(),
        torch.export.export(Net(FUSED["min.values"]), (x,)).run_decompositions().module(),
    ):
        before = graph_module(x)
        report = convmin.fuse(graph_module)
        assert len(report.fused) == 1, report
        assert conv2d_scale_reduce in [node.target for node in graph_module.graph.nodes]
        with Calls() as calls:
            torch.testing.assert_close(graph_module(x), before)
        assert (calls.fused, calls.convolutions) == (1, 0)


def test_fused_models_compile_and_trace() -> None:
    """torch.compile in one graph, torch.fx, torch.export and deepcopy of the export."""
    model = Darkest().eval()
    x = torch.randn(IMAGE)
    before = model(x)
    convmin.fuse(model)
    torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="aot_eager")(x), before)
    torch.testing.assert_close(torch.fx.symbolic_trace(model)(x), before)
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), before)


def test_autocast() -> None:
    """The fused call is cast as the convolution was."""
    net = Net(FUSED["min.values"])
    x = torch.rand(IMAGE)
    with torch.autocast("cpu", torch.bfloat16):
        before = net(x)
        convmin.fuse(net)
        after = net(x)
    assert type(net).__name__ == "FusedNet" and after.dtype == before.dtype == torch.bfloat16
    torch.testing.assert_close(after, before, rtol=0.02, atol=0.02)


def test_what_is_not_a_model() -> None:
    with pytest.raises(TypeError, match=r"fuse: expected model to be an nn\.Module, got list"):
        convmin.fuse([nn.Conv2d(3, 8, 3)])  # type: ignore[arg-type]
    assert str(convmin.fuse(nn.ReLU())) == "no convolution"
