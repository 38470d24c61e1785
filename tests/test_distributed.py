"""Several processes: DTensor, DDP, FSDP2, tensor-parallel inference and halo exchange, as the examples do them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from support import run_python

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch without torch.distributed")

TESTS = Path(__file__).resolve().parent
LAUNCH = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node")


@pytest.mark.parametrize("processes", [2, 4])
def test_on_the_cpu(processes: int) -> None:
    """By Gloo."""
    finished = run_python(*LAUNCH, str(processes), str(TESTS / "distributed_worker.py"), CUDA_VISIBLE_DEVICES="")
    assert finished.returncode == 0, finished.stderr[-6000:]
    for check in ("shardings", "training", "inference"):
        assert f"passed: {check} cpu" in finished.stdout


@pytest.mark.cuda
@pytest.mark.multi_gpu
def test_on_gpus() -> None:
    """By NCCL."""
    count = str(min(torch.cuda.device_count(), 4))
    finished = run_python(*LAUNCH, count, str(TESTS / "distributed_worker.py"))
    assert finished.returncode == 0, finished.stderr[-6000:]
    assert "passed: inference cuda" in finished.stdout


@pytest.mark.parametrize("example", ["data_parallel.py --fsdp", "tensor_parallel.py", "halo.py --size 64"])
def test_examples_run(example: str) -> None:
    """From the command line, as their first lines say."""
    name, *options = example.split()
    script = str(TESTS.parent / "examples" / name)
    finished = run_python(*LAUNCH, "2", script, *options, CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="1")
    assert finished.returncode == 0, finished.stderr[-6000:]
    assert "2 processes" in finished.stdout or "2 strips" in finished.stdout
