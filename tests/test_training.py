"""Real training: the digits example, mixed precision, checkpoints, and several processes."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support import run_python

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
sys.path.insert(0, str(EXAMPLES))
pytest.importorskip("sklearn")
pytest.importorskip("tqdm")

import train_digits  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The images are tiny: threads would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def digits(out: Path, *words: str) -> dict[str, list[train_digits.Run]]:
    with contextlib.redirect_stdout(io.StringIO()):
        return train_digits.main(["--out", str(out), "--quiet", *words])


def test_learns_as_pytorchs_own_operators_do(device: str, tmp_path: Path) -> None:
    """From the same seeds: the first steps' losses are the same up to rounding, the accuracies up to noise."""
    pytest.importorskip("matplotlib")
    runs = digits(tmp_path, "--device", device, "--epochs", "4", "--seeds", "0", "1")
    for mine, theirs in zip(runs["convmin"], runs["nn.Conv2d"], strict=True):
        assert mine.losses[:10] == pytest.approx(theirs.losses[:10], rel=2e-3)
        assert mine.losses[-1] < 0.3 * mine.losses[0]
        assert mine.accuracies[-1] > 0.9 and abs(mine.accuracies[-1] - theirs.accuracies[-1]) < 0.03
    assert (tmp_path / "digits.png").stat().st_size > 10_000
    text = train_digits.table(runs, [0, 1])
    assert text.count("| convmin |") == 3 and text.count("| nn.Conv2d |") == 3


def test_a_resumed_run_is_the_same_to_the_bit(device: str, tmp_path: Path) -> None:
    words = ("--device", device, "--seeds", "3")
    whole = digits(tmp_path / "whole", *words, "--epochs", "3")
    digits(tmp_path / "parts", *words, "--epochs", "1")
    resumed = digits(tmp_path / "parts", *words, "--epochs", "3", "--resume")
    a, b = whole["convmin"][0], resumed["convmin"][0]
    assert a.losses == b.losses and a.accuracies == b.accuracies
    for p, q in zip(a.model.parameters(), b.model.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_resumed_run_does_resume(tmp_path: Path) -> None:
    """What is in the checkpoint counts: with other losses in it, they come back."""
    digits(tmp_path, "--device", "cpu", "--seeds", "3", "--epochs", "1")
    path = tmp_path / "convmin-3.pt"
    state = torch.load(path, weights_only=True)
    torch.save({**state, "losses": [7.0]}, path)
    resumed = digits(tmp_path, "--device", "cpu", "--seeds", "3", "--epochs", "2", "--resume")
    assert resumed["convmin"][0].losses[0] == 7.0


@pytest.mark.parametrize(
    ("where", "amp"),
    [
        ("cpu", "bfloat16"),
        pytest.param("cuda", "bfloat16", marks=pytest.mark.cuda),
        pytest.param("cuda", "float16", marks=pytest.mark.cuda),
    ],
)
def test_mixed_precision(where: str, amp: str, tmp_path: Path) -> None:
    """autocast, and for float16 a GradScaler."""
    runs = digits(tmp_path, "--device", where, "--amp", amp, "--epochs", "4", "--seeds", "0")
    mine, theirs = runs["convmin"][0], runs["nn.Conv2d"][0]
    assert mine.accuracies[-1] > 0.88 and abs(mine.accuracies[-1] - theirs.accuracies[-1]) < 0.05


def distributed(**environment: str) -> str:
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    finished = run_python(*words, str(EXAMPLES / "train_distributed.py"), "--epochs", "2", **environment)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def check_distributed(output: str, backend: str) -> None:
    found = re.findall(r"rank (\d): gradients differ by (\S+) of the largest", output)
    assert {rank for rank, _ in found} == {"0", "1"} and all(float(d) < 1e-5 for _, d in found)
    assert float(re.findall(rf"{backend}, 2 processes: accuracy (\S+)%", output)[0]) > 85


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_two_processes_on_the_cpu() -> None:
    check_distributed(distributed(CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="1"), "gloo")


@pytest.mark.multi_gpu
@pytest.mark.cuda
def test_two_gpus() -> None:
    check_distributed(distributed(), "nccl")
