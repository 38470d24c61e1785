"""Several threads, streams and GPUs at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import convmin
import pytest
import torch
from runner import forced, refusal
from support import Problem, fp32_class

pytestmark = pytest.mark.cuda

KERNELS = [None, *convmin.build_info()["kernels"]]

# Kernels want different amounts of shared memory for them; `direct` takes the last three, `depthwise` two of those.
PROBLEMS = [
    Problem(n=2, c=64, h=12, w=140, k=64, dtype=torch.float16, fill="integers"),
    Problem(n=2, c=128, h=12, w=140, k=64, dtype=torch.float16, fill="integers", seed=1),
    Problem(n=2, c=64, h=12, w=140, k=128, dtype=torch.float16, fill="integers", seed=2),
    Problem(n=2, c=12, h=30, w=140, k=64, r=5, s=5, dtype=torch.float16, fill="integers", seed=3),
    Problem(n=2, c=64, h=12, w=140, k=3, dtype=torch.float16, fill="integers", seed=4),
    Problem(n=2, c=64, h=12, w=140, k=64, groups=64, dtype=torch.float16, fill="integers", seed=5),
    Problem(n=2, c=264, h=9, w=12, k=264, r=5, s=5, groups=264, dtype=torch.float16, fill="integers", seed=6),
]


@pytest.mark.parametrize("kernel", KERNELS)
def test_threads_with_streams_of_their_own(kernel: str | None) -> None:
    """Calls of one kernel that want more and less shared memory, from several threads: each gets its own result."""
    operands = [problem.tensors("cuda") for problem in PROBLEMS]

    def compute(i: int) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            return convmin.conv2d_scale_min_with_indices(*operands[i], 2.0, **PROBLEMS[i].kwargs())

    def work(thread: int) -> list[tuple[int, torch.Tensor, torch.Tensor]]:
        with torch.cuda.stream(torch.cuda.Stream()):
            found = [(i % len(taken), *compute(taken[i % len(taken)])) for i in range(thread, thread + 60)]
            torch.cuda.current_stream().synchronize()
        return found

    # Forcing is for the whole process: only what the kernel takes.
    taken = [
        i
        for i, (problem, tensors) in enumerate(zip(PROBLEMS, operands, strict=True))
        if kernel is None or refusal(kernel, *tensors, 2.0, **problem.kwargs()) is None
    ]
    with convmin.force_kernel(kernel or ""):
        expected = [compute(i) for i in taken]
        torch.cuda.synchronize()
        with ThreadPoolExecutor(6) as pool:
            results = [result for found in pool.map(work, range(6)) for result in found]
    assert taken and len(results) == 6 * 60
    for i, values, indices in results:
        assert torch.equal(values, expected[i][0]) and torch.equal(indices, expected[i][1])


@pytest.mark.multi_gpu
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_inputs_device_is_used_not_the_current_one(dtype: torch.dtype, kernel: str | None) -> None:
    """Tensors on the second GPU while the first is current: the first one's results, on the second one."""
    for problem in (
        Problem(n=2, c=64, h=12, w=140, k=64, dtype=dtype, fill="integers"),
        Problem(n=2, c=8, h=12, w=70, k=4, dtype=dtype, fill="integers"),
    ):
        results = []
        for device in ("cuda:0", "cuda:1"):
            x, weight, bias = problem.tensors(device)
            leaves = [t.requires_grad_() for t in (x, weight, bias) if t is not None]
            with torch.cuda.device(0), fp32_class("tf32"), forced(kernel, x, weight, bias, 2.0):
                values, indices = convmin.conv2d_scale_min_with_indices(x, weight, bias, 2.0)
                results.append([values, indices, *torch.autograd.grad(values.sum(), leaves)])
            assert all(t.device == x.device for t in results[-1])
        assert all(torch.equal(mine.cpu(), theirs.cpu()) for mine, theirs in zip(*results, strict=True))
