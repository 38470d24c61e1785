"""The benchmark measures what it says, does not time a wrong result, ends in time, and sees a regression."""

from __future__ import annotations

import copy
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from convmin import functional, introspection
from convmin.bench import budget, check, cli, peers, plots, report, runner
from convmin.bench.cases import ROUNDING, Case, make, settings
from convmin.bench.machine import limit_ms
from convmin.bench.shapes import FAMILIES, SETS, Shape, cpu_friendly, select
from convmin.bench.timing import ROW, take_turns

TINY = [
    "--shapes",
    "tiny",
    "--device",
    "cpu",
    "--rounds",
    "3",
    "--seconds",
    "1",
    "--peers",
    "eager",
    "conv",
    "convmin",
]


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
    assert {shape.n for shape in select(["batch"])} >= {1, 64}
    assert {shape.h for shape in select(["pixels"])} >= {32, 2048}
    for name in SETS:
        assert select([name])
    with pytest.raises(ValueError, match="headlin"):
        select(["headlin"])


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_rows_outside(share: float) -> None:
    """So many rows of float32 hold a value beyond float16, the rest lies in 0 to 1; of other dtypes none does."""
    shape = Shape("x", "x", 20, 2, 50, 6, 3, 3, 3, outside=share)
    x = make(Case(shape, "tf32", "nchw", "forward"), torch.device("cpu")).x
    rows = x.isclose(torch.tensor(1e5)).any(dim=3).any(dim=1)
    assert float(rows.float().mean()) == pytest.approx(share, abs=0.05)
    assert float(x.where(x < 1e4, 0.0).max()) <= 1.0 and not x.half().isinf().any(dim=3).any(dim=1)[~rows].any()
    assert float(make(Case(shape, "bfloat16", "nchw", "forward"), torch.device("cpu")).x.max()) <= 1.0
    assert ("outside" in str(shape)) == (share > 0)


def test_flop_and_filter() -> None:
    """By hand: 2 images of 5 x 5 pixels, 8 channels from 4 by 9 taps, and two operations to a multiply-add."""
    shape = Shape("x", "x", 2, 8, 10, 10, 8, 3, 3, stride=2, padding=1, groups=2)
    assert shape.output == (5, 5) and shape.flop == 2 * 2 * 25 * 8 * 4 * 9
    assert cpu_friendly([shape], gflop=1.0) == [shape]
    assert cpu_friendly([shape], gflop=1e-6) == []


def test_limit() -> None:
    """A second of arithmetic at 2 TFLOP/s against a millisecond of copying, and the other way round."""
    rates = {"float32": 2.0, "copy": 1000.0}
    assert limit_ms(2 * 10**12, 10**9, "float32", rates) == pytest.approx(1000)
    assert limit_ms(2 * 10**6, 10**12, "float32", rates) == pytest.approx(1000)
    assert limit_ms(1, 1, "float16", rates) is None
    assert limit_ms(10**12, 1, "tf32", {"tf32": 1.0, "float16": 2.0, "copy": 1.0}) == pytest.approx(500)


def test_turns() -> None:
    """Each call in each round, and in rows as long as there is time for."""
    counts = {"one": 0, "other": 0}

    def call(name: str) -> None:
        counts[name] += 1

    times = take_turns({name: lambda name=name: call(name) for name in counts}, torch.device("cpu"), 5, 60.0)
    assert counts == {"one": 5 + 3 * ROW[1], "other": 5 + 3 * ROW[1]}
    assert all(ms["rounds"] == 5 and 0 <= ms["issue"] <= ms["back_to_back"] for ms in times.values())
    assert all(ms["row"] == ROW[1] for ms in times.values())
    (slow,) = take_turns({"slow": lambda: time.sleep(0.002)}, torch.device("cpu"), 3, 0.3).values()
    assert ROW[0] <= slow["row"] < 50
    assert "row" not in take_turns({"slower": lambda: time.sleep(0.01)}, torch.device("cpu"), 3, 0.1)["slower"]


def test_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every peer on every shape, dtype, layout and mode, with what a reader needs to repeat it."""
    words = ["--dtype", "float32", "bfloat16", "--mode", "forward", "indices", "training", "--out", str(tmp_path)]
    assert cli.main([*TINY, *words]) == 0
    document = json.loads((tmp_path / "benchmark.json").read_text())
    text = (tmp_path / "benchmark.md").read_text()
    assert {"date", "commit", "torch", "device", "convmin"} <= set(document["environment"])
    assert len(document["results"]) == 2 * 2 * 3 * len(FAMILIES["tiny"])
    for result in document["results"]:
        assert result["shape"] in text
        assert set(result["peers"]) == {"eager", "conv", "convmin"}
        for name, entry in result["peers"].items():
            if name == "conv" and result["mode"] != "forward":
                assert entry == {"left_out": "forward only"}
                continue
            errors = {"forward": 1, "indices": 2, "training": 4}[result["mode"]]
            assert not entry["wrong"] and len(entry["errors"]) == errors
            assert 0 < entry["ms"]["min"] <= entry["ms"]["median"] <= entry["ms"]["p90"]
            assert entry["ms"]["rounds"] >= 3
        assert report.share_of_limit(result, report.mean_ceilings(document)) > 0
    assert "conv: forward only (16)" in text
    assert "tiny-1x1 float32 nchw forward [cpu]" in capsys.readouterr().out


@pytest.mark.cuda
def test_on_cuda(tmp_path: Path) -> None:
    """What only CUDA has: cuDNN's graph where its package is, clocks, ceilings, memory of the allocator."""
    words = ["--shapes", "tiny-3x3", "--layout", "nchw", "--rounds", "3", "--seconds", "1", "--out", str(tmp_path)]
    assert cli.main([*words, "--peers", "eager", "conv", "cudnn-graph", "convmin", "--dtype", "tf32", "float16"]) == 0
    document = report.load(tmp_path)
    assert len(document["ceilings"]) == 2 and set(document["ceilings"][0]) == {"tf32", "float16", "copy"}
    for result in document["results"]:
        peers_of = result["peers"]
        assert all("ms" in peers_of[name] for name in ("eager", "conv", "convmin"))
        assert peers_of["convmin"]["peak_mib"] < peers_of["eager"]["peak_mib"]
        assert "ms" in peers_of["cudnn-graph"] or "left_out" in peers_of["cudnn-graph"]


def test_nothing_to_measure(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--device", "cpu", "--shapes", "headline"])
    assert "larger than --max-gflop" in capsys.readouterr().err
    assert {case.shape.family for case in cli.cases(cli.parse(["--device", "cpu"]))} >= {"tiny", "kernelbench_old"}


@pytest.mark.parametrize("mode", ["forward", "training"])
def test_a_wrong_peer_is_not_timed(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = functional.conv2d_scale_min

    def wrong(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, scale: float, *rest: Any) -> torch.Tensor:
        if mode == "forward":
            return right(x, weight.flip(3), bias, scale, *rest)
        y = right(x, weight, bias, scale, *rest)
        return 2 * y - y.detach()  # the value is right, its gradient twice too large

    monkeypatch.setattr(functional, "conv2d_scale_min", wrong)
    words = ["--shapes", "tiny-3x3", "--mode", mode, "--layout", "nchw", "--out", str(tmp_path)]
    assert cli.main([*TINY, *words]) == 1
    (result,) = report.load(tmp_path)["results"]
    assert result["peers"]["convmin"]["wrong"] and "ms" not in result["peers"]["convmin"]
    assert not result["peers"]["eager"]["wrong"]
    assert "wrong result" in (tmp_path / "benchmark.md").read_text()


def test_a_wrong_winner_is_not_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Right values, and the channel next to theirs."""
    right = functional.conv2d_scale_min_with_indices

    def wrong(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        values, indices = right(*arguments)
        return values, indices + 1

    monkeypatch.setattr(functional, "conv2d_scale_min_with_indices", wrong)
    words = ["--shapes", "tiny-3x3", "--mode", "indices", "--layout", "nchw", "--out", str(tmp_path)]
    assert cli.main([*TINY, *words]) == 1
    (result,) = report.load(tmp_path)["results"]
    assert result["peers"]["convmin"]["wrong"] and not result["peers"]["eager"]["wrong"]


def test_a_forced_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The named one runs, for the measurement alone; what it can't take is left out, and its reason is told."""
    forced = []
    before = introspection.force_kernel

    def force_kernel(name: str) -> Any:
        forced.append(name)
        return before(name)

    monkeypatch.setattr(introspection, "force_kernel", force_kernel)
    assert cli.main([*TINY, "--kernel", "simt", "--layout", "nchw", "--out", str(tmp_path)]) == 0
    assert set(forced) == {"simt"} and len(forced) == len(FAMILIES["tiny"])
    with pytest.raises(SystemExit):
        cli.main([*TINY, "--kernel", "no such"])


def test_failures_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one peer, with the others timed; of a whole case, with the next one measured."""

    def fails(*_: Any) -> Any:
        raise RuntimeError("no such luck")

    words = ["--shapes", "tiny-3x3", "--layout", "nchw", "--out", str(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr(functional, "conv2d_scale_min", fails)
        assert cli.main([*TINY, *words]) == 1
    (result,) = report.load(tmp_path)["results"]
    assert "no such luck" in result["peers"]["convmin"]["left_out"] and "ms" in result["peers"]["eager"]
    monkeypatch.setattr(check, "truth", fails)
    assert cli.main([*TINY, *words]) == 0
    (result,) = report.load(tmp_path)["results"]
    assert result["left_out"] == "RuntimeError: no such luck"


def test_chunks_of_images_make_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Truth in pieces, as large problems need it, is that of one piece; all images are looked at."""
    shape = Shape("x", "x", 3, 4, 8, 8, 5, 3, 3)
    problem = make(Case(shape, "float32", "nchw", "training"), torch.device("cpu"))
    whole = check.truth(problem)
    monkeypatch.setattr(check, "_CHUNK_BYTES", 8 * 5 * 36)
    pieces = check.truth(problem)
    assert pieces.images == whole.images == 3
    for one, other in zip(whole.tensors, pieces.tensors, strict=True):
        torch.testing.assert_close(one, other)
    call = peers.PEERS["convmin"].build(problem)
    with settings(problem.case):
        result = list(call())
    limits = whole.limits(torch.finfo(torch.float32).eps)
    assert all(e <= limit for e, limit in zip(whole.error(tuple(result)), limits, strict=True))
    for i in range(4):
        broken = [tensor.clone() for tensor in result]
        broken[i].view(-1)[-1] += 1.0
        assert whole.error(tuple(broken))[i] > limits[i], i
        broken[i].view(-1)[-1] = float("nan")
        assert not whole.error(tuple(broken))[i] <= limits[i], i


def test_tf32_may_round_its_operands() -> None:
    """Also where PyTorch's own convolution happens to be in full float32: near-ties then fall another way than its."""
    shape = Shape("x", "x", 16, 3, 32, 32, 16, 3, 3)
    rights = []
    for dtype in ("tf32", "float32"):
        problem = make(Case(shape, dtype, "nchw", "training"), torch.device("cpu"))
        truth = check.truth(problem)
        x, weight = (check.to_tf32(t).requires_grad_() for t in (problem.x, problem.weight))
        result = peers.PEERS["convmin"].build(dataclasses.replace(problem, x=x, weight=weight))()
        limits = truth.limits(ROUNDING[dtype])
        rights.append([e <= limit for e, limit in zip(truth.error(tuple(result)), limits, strict=True)])
    assert rights == [[True] * 4, [False] * 4]


def test_it_ends_in_time(tmp_path: Path) -> None:
    """No time left: every case is named as left out, and the report is there."""
    start = time.perf_counter()
    assert cli.main([*TINY, "--time-budget", "0", "--out", str(tmp_path)]) == 0
    assert time.perf_counter() - start < 100
    document = report.load(tmp_path)
    assert [result["left_out"] for result in document["results"]] == ["time budget"] * 4
    assert "time budget (4)" in (tmp_path / "benchmark.md").read_text()


def test_a_slow_peer_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the others are timed; one whose preparation is known to take too long is not begun."""

    def sleeps(problem: Any) -> Any:
        time.sleep(300)

    monkeypatch.setitem(peers.PEERS, "compile", peers.Peer("", sleeps, 0.0))
    case = Case(select(["tiny-1x1"])[0], "float32", "nchw", "forward")
    options = runner.Options(torch.device("cpu"), ["eager", "convmin", "compile"], 3, 0.1, compile_seconds=0.5)
    limit = budget.Budget(100)
    start = time.perf_counter()
    result = runner.measure(case, options, limit)
    assert time.perf_counter() - start < 100
    assert "took longer" in result["peers"]["compile"]["left_out"] and "ms" in result["peers"]["convmin"]
    limit.note("compile", 1000.0)
    limit.note("compile", 1000.0)
    assert "expected" in runner.measure(case, options, limit)["peers"]["compile"]["left_out"]


def test_slow_peers_get_what_time_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """All cases are measured without them first; then some of each family again, with all peers side by side."""

    built = []

    class Clock(budget.Budget):
        def left(self) -> float:
            return 100.0 - 50.0 * len(built)

    def build(problem: Any) -> Any:
        built.append(problem)
        return peers.PEERS["eager"].build(problem)

    monkeypatch.setitem(peers.PEERS, "max-autotune", peers.Peer("", build, 1.2))
    monkeypatch.setattr(runner, "start_compiler", lambda device: None)
    cases = [Case(shape, "float32", "nchw", "forward") for shape in select(["tiny", "kernelbench_old"])]
    options = runner.Options(torch.device("cpu"), ["eager", "convmin", "max-autotune"], 3, 0.1)
    seen: list[dict[str, Any]] = []
    runner.measure_all(cases, options, Clock(100.0), seen.append)
    assert [result["shape"] for result in seen[:3]] == [case.shape.name for case in cases]
    assert all(result["peers"]["max-autotune"] == {"left_out": "time budget"} for result in seen[:3])
    assert all("ms" in result["peers"]["convmin"] for result in seen[:3])
    assert [result["family"] for result in seen[3:]] == ["tiny", "kernelbench_old"]
    assert not any("left_out" in result["peers"]["max-autotune"] for result in seen[3:])


def test_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Slower beyond the tolerance and beyond noise is a regression; so is a result that has become wrong."""
    old, new = tmp_path / "old", tmp_path / "new"
    cli.main([*TINY, "--layout", "nchw", "--out", str(old)])
    document = report.load(old)
    document["results"][0]["peers"]["convmin"]["ms"] = {"median": 1.0, "min": 0.8, "p10": 0.9, "p90": 1.1, "rounds": 9}
    report.save(document, old)
    report.save(document, new)
    assert cli.main(["--compare", str(old), str(new)]) == 0

    changed = copy.deepcopy(document)
    for name, value in changed["results"][0]["peers"]["convmin"]["ms"].items():
        changed["results"][0]["peers"]["convmin"]["ms"][name] = 2 * value
    report.save(changed, new)
    assert cli.main(["--compare", str(old), str(new)]) == 1
    assert "2.00 SLOWER" in capsys.readouterr().out
    assert cli.main(["--compare", str(old), str(new), "--tolerance", "1.5"]) == 0
    assert cli.main(["--compare", str(new), str(old)]) == 0

    noisy = copy.deepcopy(changed)
    noisy["results"][0]["peers"]["convmin"]["ms"]["p10"] = 0.0
    report.save(noisy, new)
    assert cli.main(["--compare", str(old), str(new)]) == 0

    for broken in ({"wrong": True}, {"failed": True, "left_out": "RuntimeError: no such luck"}):
        wrong = copy.deepcopy(document)
        wrong["results"][0]["peers"]["convmin"] = broken
        report.save(wrong, new)
        assert cli.main(["--compare", str(old), str(new)]) == 1

    capsys.readouterr()
    report.save({**document, "results": document["results"][1:]}, new)
    assert cli.main(["--compare", str(old), str(new)]) == 0
    assert "1 cases of the first are not in the second" in capsys.readouterr().out
    report.save({**document, "results": [], "environment": {**document["environment"], "device": "another"}}, new)
    assert cli.main(["--compare", str(old), str(new)]) == 1
    assert "Of different devices" in capsys.readouterr().out
    assert cli.main(["--compare", str(old), str(tmp_path / "nothing")]) == 2
    assert "nothing" in capsys.readouterr().err


def test_reports_of_several_runs_become_one(tmp_path: Path) -> None:
    for shape in ("tiny-1x1", "tiny-3x3"):
        cli.main([*TINY, "--shapes", shape, "--layout", "nchw", "--out", str(tmp_path / shape)])
    folders = [str(tmp_path / shape) for shape in ("tiny-1x1", "tiny-3x3")]
    assert cli.main(["--report", *folders, "--out", str(tmp_path / "both")]) == 0
    both = report.load(tmp_path / "both")
    assert [result["shape"] for result in both["results"]] == ["tiny-1x1", "tiny-3x3"]
    both["environment"] |= {"device": "another", "commit": "later"}
    report.save(both, tmp_path / "both")
    assert cli.main(["--report", *folders, str(tmp_path / "both"), "--out", str(tmp_path / "both")]) == 2


def test_pictures(tmp_path: Path) -> None:
    """One of each kind from a report that has something for each."""
    pytest.importorskip("matplotlib")
    words = ["--shapes", "tiny", "batch-1", "pixels-32", "pixels-64", "--layout", "nchw", "--out", str(tmp_path)]
    assert cli.main([*TINY, *words]) == 0
    names = {path.stem for path in tmp_path.glob("*.png")}
    assert names == {"times", "speedup", "roofline", "memory", "size"}
    assert all(f"({name}.png)" in (tmp_path / "benchmark.md").read_text() for name in names)
    assert plots.draw({**report.load(tmp_path), "results": []}, tmp_path) == []
