"""The benchmark measures what it says, and does not time a wrong result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import convmin
import pytest
import torch

from benchmarks import bench
from benchmarks.shapes import FAMILIES, Shape, cpu_friendly, select


def arguments(out: Path) -> list[str]:
    words = [
        "--shapes",
        "tiny",
        "--device",
        "cpu",
        "--dtype",
        "float32",
        "bfloat16",
        "--layout",
        "nchw",
        "channels_last",
    ]
    return [*words, "--rounds", "3", "--seconds", "0.1", "--out", str(out)]


def test_shapes() -> None:
    """Names are unique, every shape is one that conv2d takes, and the headline is the documented one."""
    shapes = select(["all"])
    assert len({shape.name for shape in shapes}) == len(shapes) == sum(map(len, FAMILIES.values()))
    for shape in shapes:
        assert min(shape.output) >= 1 and shape.c % shape.groups == 0 and shape.k % shape.groups == 0
    (headline,) = select(["headline"])
    assert round(headline.flop / 1e9) == 609
    assert headline.output == (254, 254)
    assert headline.bytes_moved(4) == pytest.approx(1.07e9 + 16.5e6, rel=0.01)
    assert {shape.n for shape in select(["resnet"])} == {1, 8, 64}
    with pytest.raises(ValueError, match="headlin"):
        select(["headlin"])


def test_flop_and_filter() -> None:
    """By hand: 2 images of 5 x 5 pixels, 8 channels from 4 by 9 taps, and two operations to a multiply-add."""
    shape = Shape("x", "x", 2, 8, 10, 10, 8, 3, 3, stride=2, padding=1, groups=2)
    assert shape.output == (5, 5) and shape.flop == 2 * 2 * 25 * 8 * 4 * 9
    assert cpu_friendly([shape], gflop=1.0) == [shape]
    assert cpu_friendly([shape], gflop=1e-6) == []


def test_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every contender on every shape, dtype and layout, with what a reader needs to repeat it."""
    report = bench.main(arguments(tmp_path))
    assert json.loads((tmp_path / "benchmark.json").read_text()) == report
    text = (tmp_path / "benchmark.md").read_text()
    assert text in capsys.readouterr().out
    assert {"date", "commit", "torch", "device", "convmin"} <= set(report["environment"])
    assert len(report["results"]) == 2 * 2 * len(FAMILIES["tiny"])
    for result in report["results"]:
        assert set(result["contenders"]) == {"eager", "convmin"} and result["shape"] in text
        for entry in result["contenders"].values():
            assert not entry["wrong"]
            assert 0 < entry["ms"]["min"] <= entry["ms"]["median"] <= entry["ms"]["p90"]
            assert entry["ms"]["rounds"] >= 3


def test_a_wrong_contender_is_not_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(x: torch.Tensor, weight: torch.Tensor, *rest: Any) -> torch.Tensor:
        return convmin.reference.conv2d_scale_min(x, weight.flip(3), *rest)

    monkeypatch.setattr(convmin, "conv2d_scale_min", wrong)
    report = bench.main([*arguments(tmp_path), "--shapes", "tiny-3x3"])
    for result in report["results"]:
        assert result["contenders"]["convmin"]["wrong"] and "ms" not in result["contenders"]["convmin"]
        assert not result["contenders"]["eager"]["wrong"]
    assert "wrong result" in (tmp_path / "benchmark.md").read_text()
