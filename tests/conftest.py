"""Which devices and kernels a test runs on, and what happens where there is no GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator

import convmin
import hypothesis
import pytest
import torch

hypothesis.settings.register_profile("convmin", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("convmin")

# None is the planner's own choice. The CPU has one path.
TARGETS = [("cpu", None), ("cuda", None), *(("cuda", kernel) for kernel in convmin.build_info()["kernels"])]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cuda: needs a GPU and a build for it")
    config.addinivalue_line("markers", "large: allocates many gigabytes of GPU memory")
    config.addinivalue_line("markers", "multi_gpu: needs two GPUs; left out, rather than skipped, where there is one")
    # Workers side by side share the processors, rather than each starting a thread on every one of them.
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    torch.set_num_threads(max(1, torch.get_num_threads() // workers))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if torch.cuda.device_count() == 1 and any(item.iter_markers("multi_gpu"))]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def no_cuda() -> str | None:
    """Why CUDA tests can't run here, if they can't."""
    if not torch.cuda.is_available():
        return "no GPU"
    if convmin.build_info()["cuda_version"] is None:
        return "convmin was built without CUDA"
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips CUDA tests where they can't run, or fails them where REQUIRE_CUDA=1 says that they must."""
    reason = no_cuda() if any(item.iter_markers("cuda")) else None
    if reason and os.environ.get("REQUIRE_CUDA") == "1":
        pytest.fail(f"REQUIRE_CUDA=1, but {reason}")
    if reason:
        pytest.skip(reason)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`target`: every device with every kernel. `device`: every device, the planner's choice."""
    if "target" in metafunc.fixturenames:
        parameters = [
            pytest.param(target, id=f"{target[0]}-{target[1] or 'auto'}", marks=_marks(target[0])) for target in TARGETS
        ]
        metafunc.parametrize("target", parameters)
    if "device" in metafunc.fixturenames:
        metafunc.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])


def _marks(device: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.cuda] if device == "cuda" else []


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    """float32 is computed in full unless a test says otherwise, so that tests may compare with PyTorch's own results;
    and no test leaves a precision class or cuDNN's autotuner behind."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = before
