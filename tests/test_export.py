"""Ways out of Python: torch.export, TorchScript, ONNX."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import convmin
import pytest
import torch
from torch import nn

BATCH, HEIGHT = torch.export.Dim("batch", min=1, max=64), torch.export.Dim("height", min=4, max=512)
DYNAMIC = ({0: BATCH, 2: HEIGHT},)


def model() -> nn.Module:
    return nn.Sequential(convmin.ConvScaleMin2d(3, 8, 3, -2.0, padding=1), nn.Sigmoid()).eval()


def test_an_exported_program_is_saved_and_loaded() -> None:
    """Batch and height open, the operator by its name."""
    layer = model()
    program = torch.export.export(layer, (torch.rand(2, 3, 16, 16),), dynamic_shapes=DYNAMIC)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file)
    assert "convmin.conv2d_scale_min.default" in str(loaded.graph)
    for shape in ((2, 3, 16, 16), (5, 3, 21, 16), (1, 3, 4, 16)):
        x = torch.rand(shape)
        torch.testing.assert_close(loaded.module()(x), layer(x))


def test_a_wrong_shape_is_named() -> None:
    with pytest.raises(Exception, match=r"expected weight of shape \[K, 4/groups"):
        torch.export.export(model(), (torch.rand(1, 4, 8, 8),))


def test_training_programs() -> None:
    """Exported for training, it trains."""
    layer = model().train()
    module = torch.export.export(layer, (torch.rand(2, 3, 9, 9),)).module()
    x = torch.rand(2, 3, 9, 9)
    mine = torch.autograd.grad(module(x).sum(), list(module.parameters()))
    theirs = torch.autograd.grad(layer(x).sum(), list(layer.parameters()))
    torch.testing.assert_close(mine, theirs)


def test_decompositions() -> None:
    """The operators written with PyTorch's own: same results, same index types, nothing of convmin left."""

    class Both(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, channels, 1)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return convmin.conv2d_scale_min_with_indices(x, self.conv.weight, self.conv.bias, -2.0)

    x = torch.randn(2, 3, 5, 5)
    table = {**torch.export.default_decompositions(), **convmin.decompositions()}
    for layer in (model(), Both(8), Both(300)):
        program = torch.export.export(layer, (x,)).run_decompositions(table)
        assert "convmin" not in program.graph_module.code
        torch.testing.assert_close(program.module()(x), layer(x))


def test_onnx(tmp_path: Path) -> None:
    """Conv, Mul and ReduceMin, which onnxruntime runs, with the batch and the height open."""
    pytest.importorskip("onnxscript")
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    layer = model()
    program = torch.export.export(layer, (torch.rand(2, 3, 16, 16),), dynamic_shapes=DYNAMIC)
    program = program.run_decompositions({**torch.export.default_decompositions(), **convmin.decompositions()})
    path = str(tmp_path / "model.onnx")
    torch.onnx.export(program, f=path, verbose=False)
    assert [node.op_type for node in onnx.load(path).graph.node] == ["Conv", "Mul", "ReduceMin", "Sigmoid"]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for shape in ((2, 3, 16, 16), (5, 3, 9, 16)):
        x = torch.randn(shape)
        (values,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(values), layer(x))


def scripted(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return torch.ops.convmin.conv2d_scale_min(x, weight, bias, 2.0, [1, 1], [1, 1], [1, 1], 1) + 1


def test_torchscript() -> None:
    """Traced and scripted; saved and loaded; with gradients. PyTorch keeps TorchScript, and warns of its age."""
    layer = model()
    x = torch.rand(2, 3, 9, 9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(layer, (x,))
        script = torch.jit.script(scripted)
        file = io.BytesIO()
        torch.jit.save(traced, file)
        file.seek(0)
        traced = torch.jit.load(file)
    other = torch.rand(3, 3, 12, 7)
    torch.testing.assert_close(traced(other), layer(other))
    weight, bias = layer[0].weight, layer[0].bias  # type: ignore[index]
    for arguments in ((x, weight, bias), (x, weight, None)):
        torch.testing.assert_close(script(*arguments), scripted(*arguments))
    (mine,) = torch.autograd.grad(script(x, weight, bias).sum(), weight)
    (theirs,) = torch.autograd.grad(scripted(x, weight, bias).sum(), weight)
    torch.testing.assert_close(mine, theirs)
    assert "convmin::conv2d_scale_min" in str(script.graph)
