"""The fusion in compiled graphs of models that nobody edited."""

from __future__ import annotations

import pickle
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import convmin
import pytest
import torch
from patterns import FUSED, LEFT, Forward, Net
from support import run_python
from torch import nn
from torch._inductor import config
from torch._inductor.utils import run_and_get_code
from torch.nn import functional as F


class Graphs:
    """Runs after the fusion, as a backend's pass, and keeps the code of what it sees."""

    def __init__(self) -> None:
        self.codes: list[str] = []

    def __call__(self, graph: torch.fx.Graph) -> None:
        self.codes.append(str(graph.python_code("self").src))

    def count(self, text: str) -> int:
        return sum(code.count(text) for code in self.codes)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()
    convmin.disable_inductor_fusion()


def compiled(model: Any, *arguments: torch.Tensor, **options: Any) -> tuple[torch.Tensor, str]:
    """The result, and the code that Inductor makes of it."""
    options.setdefault("fullgraph", True)
    y, codes = run_and_get_code(torch.compile(model, **options), *arguments)
    return y, "\n".join(code[code.index("def call(") :] for code in codes if "def call(" in code)


def calls(code: str) -> tuple[int, int]:
    """How often a forward operator of convmin and a convolution are called."""
    return code.count("convmin.conv2d_scale_min.default(") + code.count(
        "convmin.conv2d_scale_min_with_indices.default("
    ), code.count("convolution(") + code.count("mkldnn._convolution_pointwise")


@pytest.mark.cuda
def test_it_is_faster_than_what_it_replaces() -> None:
    """An eighth of the headline, each function in turn; what the host does for a compiled function is not counted."""
    x = torch.rand(8, 64, 256, 256, device="cuda").bfloat16().contiguous(memory_format=torch.channels_last)
    weight = (torch.rand(128, 64, 3, 3, device="cuda") - 0.5).bfloat16().contiguous(memory_format=torch.channels_last)

    def model(x: torch.Tensor) -> torch.Tensor:
        return (F.conv2d(x, weight) * 2.0).amin(1, keepdim=True)

    def same_model(x: torch.Tensor) -> torch.Tensor:  # what is compiled belongs to a function's code
        return (F.conv2d(x, weight) * 2.0).amin(1, keepdim=True)

    plain, fused = torch.compile(model), torch.compile(same_model)
    plain(x)
    with convmin.enable_inductor_fusion():
        fused(x)
    functions = (plain, fused, lambda x: convmin.conv2d_scale_min(x, weight, None, 2.0))
    times: list[list[float]] = [[], [], []]
    for _ in range(50):
        for function, mine in zip(functions, times, strict=True):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda._sleep(1_000_000)  # cycles, in which the host issues all of the call
            start.record()
            function(x)
            end.record()
            end.synchronize()
            mine.append(start.elapsed_time(end))
    plain_ms, fused_ms, call_ms = map(statistics.median, times)
    assert fused_ms < 0.9 * plain_ms and fused_ms < 1.25 * call_ms, times


class Unedited(nn.Module):
    """A model as users write it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        self.conv = nn.Conv2d(4, 8, 3, padding="same")
        self.scale = 2.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(self.stem(x)) * self.scale
        return torch.sigmoid(torch.min(x, dim=1, keepdim=True)[0])


def test_inference_and_training(device: str) -> None:
    """One fused call where the pattern was, the other convolution untouched; results and gradients as eager's."""
    model = Unedited().to(device)
    x = torch.rand(2, 3, 12, 12, device=device)
    with torch.no_grad(), convmin.enable_inductor_fusion():
        y, code = compiled(model, x)
        torch.testing.assert_close(y, model(x))
        assert calls(code) == (1, 1), code
    torch.compiler.reset()
    with convmin.enable_inductor_fusion():
        y, code = compiled(model, x)
        mine = torch.autograd.grad(y.square().sum(), list(model.parameters()))
    theirs = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    assert "convmin.conv2d_scale_min_with_indices" in code
    for a, b in zip((y, *mine), (model(x), *theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert type(model) is Unedited


def test_shapes_may_change() -> None:
    """The pass works on symbols."""
    model = Unedited()
    with convmin.enable_inductor_fusion(), torch.no_grad():
        function = torch.compile(model, fullgraph=True, dynamic=True)
        function(torch.rand(2, 3, 12, 11))
        with torch._dynamo.config.patch(error_on_recompile=True):
            x = torch.rand(3, 3, 17, 9)
            torch.testing.assert_close(function(x), model(x))


def seen_by_the_pass(model: nn.Module, x: torch.Tensor) -> tuple[int, int]:
    """What the pass makes of a model, without the rest of Inductor."""
    from convmin._inductor_pass import FusionPass

    counts = [0, 0]

    def backend(graph_module: torch.fx.GraphModule, _: Any) -> Any:
        FusionPass()(graph_module.graph)
        graph_module.graph.lint()
        graph_module.recompile()
        counts[0] += graph_module.code.count("convmin.conv2d_scale_min")
        counts[1] += graph_module.code.count("torch.conv2d")
        return graph_module

    with torch.no_grad():
        before = model(x)
        torch.testing.assert_close(torch.compile(model, backend=backend, fullgraph=True)(x), before)
    return counts[0], counts[1]


@pytest.mark.parametrize("body", FUSED.values(), ids=FUSED.keys())
def test_fused(body: Forward) -> None:
    """The forms that convmin.fuse knows, as Dynamo writes them."""
    assert seen_by_the_pass(Net(body), torch.randn(2, 3, 9, 8)) == (1, 0)


@pytest.mark.parametrize("body", [body for body, _ in LEFT.values()], ids=LEFT.keys())
def test_left(body: Forward) -> None:
    """And those that it leaves."""
    assert seen_by_the_pass(Net(body), torch.randn(2, 3, 9, 8)) == (0, 1)


@pytest.mark.parametrize("decomposed", [False, True], ids=["functions", "core ATen"])
def test_exported_graphs(decomposed: bool) -> None:
    """What AOTInductor compiles: ATen's operators, with symbols for sizes."""
    from convmin._inductor_pass import FusionPass

    model, batch = Unedited().eval(), torch.export.Dim("batch", min=1, max=16)
    program = torch.export.export(model, (torch.rand(2, 3, 9, 8),), dynamic_shapes=({0: batch},))
    module = (program.run_decompositions() if decomposed else program).module()
    FusionPass()(module.graph)
    module.graph.lint()
    module.recompile()
    assert module.code.count("convmin.conv2d_scale_min.default") == 1 and "aten.min" not in module.code
    x = torch.rand(5, 3, 9, 8)
    torch.testing.assert_close(module(x), model(x))


def test_left_for_what_only_tensors_tell() -> None:
    """dim=1 of an unbatched input is its height; dim=-3 is its channels; integers are PyTorch's."""
    unbatched = torch.randn(3, 9, 8)
    assert seen_by_the_pass(Net(FUSED["min.values"]), unbatched) == (0, 1)
    assert seen_by_the_pass(Net(FUSED["amin from behind"]), unbatched) == (1, 0)
    lopsided = Net(lambda net, x: F.conv2d(x, net.weight[..., :2], padding="same").amin(1, True))
    assert seen_by_the_pass(lopsided, torch.randn(2, 3, 9, 8)) == (0, 1)

    class Switching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.conv2d(x, torch.ones(4, 3, 3, 3))
            with torch.autocast("cpu", torch.bfloat16):
                return y.amin(1, True)

    assert seen_by_the_pass(Switching(), torch.randn(2, 3, 9, 8)) == (0, 1)


def test_switching_it_off() -> None:
    """What is compiled after that is as it was; earlier passes are kept, and run."""
    graphs = Graphs()
    model, x = Unedited().eval(), torch.rand(1, 3, 8, 8)
    with torch.no_grad(), config.patch(pre_grad_custom_pass=graphs, fx_graph_cache=False):
        convmin.enable_inductor_fusion()
        convmin.enable_inductor_fusion()  # once more makes no difference
        with convmin.enable_inductor_fusion():
            pass  # nor does leaving an inner block
        assert calls(compiled(model, x)[1]) == (1, 1)
        assert graphs.count("torch.conv2d(") == 2
        convmin.disable_inductor_fusion()
        assert config.pre_grad_custom_pass is graphs
        torch.compiler.reset()
        assert calls(compiled(model, x)[1]) == (0, 2)


def test_the_identity_is_stable() -> None:
    """The same in every process, another one with another pass before it, none where that pass has none."""
    from convmin._inductor_pass import FusionPass

    class Named(Graphs):
        def uuid(self) -> str:
            return "named"

    identity = FusionPass().uuid()
    assert identity == FusionPass().uuid() and pickle.loads(pickle.dumps(FusionPass())).uuid() == identity
    script = "from convmin._inductor_pass import FusionPass; print(FusionPass().uuid())"
    finished = run_python("-c", script)
    assert finished.stdout.strip() == str(identity), finished.stderr
    assert FusionPass(Named()).uuid() not in (identity, None)
    assert FusionPass(Graphs()).uuid() is None and FusionPass([Named(), Graphs()]).uuid() is None


CACHED = """
import sys, convmin, torch
from torch._dynamo.utils import counters
from patterns import FUSED, Net
model, x = Net(FUSED["min.values"]).eval(), torch.rand(1, 3, 8, 8)
with torch.no_grad():
    if sys.argv[1] == "on":
        convmin.enable_inductor_fusion()
    y = torch.compile(model)(x)
torch.testing.assert_close(y, model(x))
print("hits", counters["inductor"]["fxgraph_cache_hit"] + counters["aot_autograd"]["autograd_cache_hit"])
"""


def test_caches_tell_graphs_apart(tmp_path: Path) -> None:
    """A second process finds the first one's graph, and not the other kind's."""

    def hits(state: str) -> int:
        script = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n{CACHED}"
        finished = run_python("-c", script, state, TORCHINDUCTOR_CACHE_DIR=str(tmp_path))
        assert finished.returncode == 0, finished.stderr
        return int(finished.stdout.split()[-1])

    assert [hits(state) > 0 for state in ("off", "on", "on")] == [False, False, True]
