"""What only a GPU shows: streams, graphs, precision classes, 64-bit sizes, devices."""

from __future__ import annotations

import fcntl
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import convmin
import pytest
import torch
from plans import accepts
from runner import forced
from support import DTYPES, Problem, fp32_class, random_problem, run_python

pytestmark = pytest.mark.cuda

KERNELS = [None, *convmin.build_info()["kernels"]]
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@pytest.mark.parametrize("kernel", KERNELS)
def test_work_goes_to_the_current_stream_without_waiting(kernel: str | None) -> None:
    """The call returns while earlier work of its stream still runs, and its result follows that work."""
    problem = Problem(n=4, c=64, h=8, w=130, k=64, dtype=torch.float16, fill="integers")
    x, weight, bias = problem.tensors("cuda")
    with forced(kernel, x, weight, bias):
        expected = convmin.conv2d_scale_min(x, weight, bias)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        late = torch.zeros_like(x)
        with torch.cuda.stream(stream):
            torch.cuda._sleep(200_000_000)  # about 0.1 s
            late.copy_(x)
            torch.cuda.set_sync_debug_mode("error")
            try:
                values = convmin.conv2d_scale_min(late, weight, bias)
                waited = stream.query()
            finally:
                torch.cuda.set_sync_debug_mode("default")
        stream.synchronize()
    assert not waited, "the call waited for the GPU"
    assert torch.equal(values, expected)


def test_other_streams_are_not_waited_for() -> None:
    """Forward and backward end on their stream while another one still spins."""
    x, weight, bias = Problem().tensors("cuda")
    weight.requires_grad_()
    busy, mine = torch.cuda.Stream(), torch.cuda.Stream()
    mine.wait_stream(torch.cuda.current_stream())

    def step() -> None:
        weight.grad = None
        with torch.cuda.stream(mine):
            convmin.conv2d_scale_min(x, weight, bias).sum().backward()

    step()  # the first time, loading kernels and allocating memory may wait for everything
    torch.cuda.synchronize()
    with torch.cuda.stream(busy):
        torch.cuda._sleep(2_000_000_000)  # about 1 s
    step()
    mine.synchronize()
    assert not busy.query(), "the call waited for another stream"
    busy.synchronize()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("kernel", KERNELS)
def test_graph_capture_and_replay(kernel: str | None, layout: torch.memory_format, dtype: torch.dtype) -> None:
    """A replay reads the tensors' new contents, the weight's and the bias's too."""
    problem = Problem(n=2, c=64, h=6, w=130, k=70, dtype=dtype, fill="integers")
    x, weight, bias = problem.tensors("cuda")
    assert bias is not None
    x, weight = x.contiguous(memory_format=layout), weight.contiguous(memory_format=layout)
    with fp32_class("tf32"), forced(kernel, x, weight, bias, 2.0):
        convmin.conv2d_scale_min_with_indices(x, weight, bias, 2.0)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            values, indices = convmin.conv2d_scale_min_with_indices(x, weight, bias, 2.0)
        for seed in (1, 2, 3):
            for old, new in zip((x, weight, bias), problem.replace(seed=seed).tensors("cuda"), strict=True):
                assert new is not None
                old.copy_(new)
            graph.replay()
            expected = convmin.conv2d_scale_min_with_indices(x, weight, bias, 2.0)
            assert torch.equal(values, expected[0]) and torch.equal(indices, expected[1])


@pytest.mark.parametrize("kernel", KERNELS)
def test_filters_of_any_scale(kernel: str | None) -> None:
    """Powers of two on filters, one of them all zeros, and on the bias: exact, whether filters are of a size or not."""
    generator = torch.Generator().manual_seed(3)
    near, at_the_limit, beyond, far = 0, 6, 8, 30
    for k, apart, common, offset, scale in (
        (128, near, 0, 0, 2.0),
        (128, at_the_limit, 0, 0, -0.5),
        (100, at_the_limit, 20, 0, 2.0),
        (200, at_the_limit, -30, 0, -1.0),
        (128, beyond, 0, 0, -2.0),
        (200, beyond, -30, 0, 0.5),
        (128, far, 0, 0, 2.0),
        (128, near, 60, 0, 1.0),
        (128, near, -60, 0, -1.0),
        (128, near, 0, 90, 1.0),
        (128, near, 0, -90, -1.0),
    ):
        x, weight, bias = Problem(n=2, c=64, h=9, w=130, k=k, fill="integers", seed=k).tensors("cpu")
        assert bias is not None
        powers = 2.0 ** (common - torch.randint(0, apart + 1, (k,), generator=generator).double())
        powers[:2] = torch.tensor([2.0**common, 2.0 ** (common - apart)])
        weight = (weight.double() * powers[:, None, None, None]).float()
        weight[5] = 0
        bias = (bias.double() * powers * 2.0**offset).float()
        for addend in (bias, None, bias.index_fill(0, torch.tensor([7]), float("inf"))):
            exact = convmin.reference.conv2d_scale_min_with_indices(
                x.double(), weight.double(), None if addend is None else addend.double(), scale
            )
            for layout in (torch.contiguous_format, torch.channels_last):
                on_gpu = [None if t is None else t.cuda() for t in (x.contiguous(memory_format=layout), weight, addend)]
                with fp32_class("tf32"), forced(kernel, *on_gpu, scale):
                    values, indices = convmin.conv2d_scale_min_with_indices(*on_gpu, scale)
                    plain = convmin.conv2d_scale_min(*on_gpu, scale)
                assert torch.equal(values, plain)
                assert torch.equal(values.cpu(), exact[0].float()), (kernel, k, apart, common, offset, scale)
                if offset == 0:  # else values that differ round to the same
                    assert torch.equal(indices.cpu(), exact[1])


def test_every_lane_may_arrive() -> None:
    """What `make sanitize` has racecheck look at computes the same: a problem large enough for warps that load."""
    program = """if True:
        import hashlib, torch, convmin
        torch.manual_seed(0)
        x, weight = torch.randn(900, 64, 12, 12).cuda().half(), torch.randn(128, 64, 3, 3).cuda().half()
        with convmin.force_kernel("sm80"):
            tile = convmin.explain(x, weight, padding=1).tile
            results = convmin.conv2d_scale_min_with_indices(x, weight, padding=1)
        print(tile, hashlib.sha256(b"".join(result.cpu().numpy().tobytes() for result in results)).hexdigest())
    """
    one, every = run_python("-c", program), run_python("-c", program, CONVMIN_EVERY_LANE_ARRIVES="1")
    assert one.returncode == every.returncode == 0, one.stderr + every.stderr
    assert one.stdout == every.stdout and one.stdout.startswith("(256, 128"), one.stdout + every.stdout


def test_plans_for_fewer_multiprocessors() -> None:
    """As `make sanitize` has them made; a number that is none of the GPU's is as if it weren't there."""
    program = """if True:
        import torch, convmin
        from convmin import _C
        x, weight = torch.ones(8, 64, 40, 40).cuda().half(), torch.ones(128, 64, 3, 3).cuda().half()
        assert (convmin.conv2d_scale_min(x, weight) == 576).all()
        print(_C.query_device(0)["sm_count"], convmin.explain(x, weight).details["grid"].split()[0])
    """
    count = torch.cuda.get_device_properties(0).multi_processor_count
    for wanted, expected in (("7", 7), (str(count + 1), count), ("many", count)):
        ran = run_python("-c", program, CONVMIN_SM_COUNT=wanted)
        assert ran.returncode == 0, ran.stderr
        sms, blocks = map(int, ran.stdout.split())
        assert sms == expected and (blocks == 7 or sms == count), ran.stdout


def test_nothing_is_read_that_nobody_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results, gradients too, are the same to the bit over zeros and over memory full of NaN, -1 and the like."""
    rng = random.Random(5)
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)

    def results(problem: Problem, fill: bool) -> list[torch.Tensor]:
        x, weight, bias = problem.tensors("cuda")
        inputs = [t.requires_grad_() for t in (x, weight, bias) if t is not None]
        torch.use_deterministic_algorithms(fill, warn_only=True)
        try:
            values, indices = convmin.conv2d_scale_min_with_indices(x, weight, bias, problem.scale, **problem.kwargs())
            gradients = torch.autograd.grad(values.sum(), inputs)
        finally:
            torch.use_deterministic_algorithms(False)
        return [values.detach(), indices, *gradients]

    for _ in range(200):
        problem, kernel = random_problem(rng, 20_000_000, ("normal", "overflow16")), rng.choice(KERNELS)
        x, weight, bias = problem.tensors("cuda")
        with fp32_class("tf32"), forced(kernel, x, weight, bias, problem.scale, **problem.kwargs()):
            for clean, dirty in zip(results(problem, False), results(problem, True), strict=True):
                assert torch.equal(clean.nan_to_num(nan=12345.0), dirty.nan_to_num(nan=12345.0)), problem


def test_training_step_in_a_graph() -> None:
    """Forward and backward capture together."""
    layer = convmin.ConvScaleMin2d(8, 24, 3, 2.0, device="cuda")
    x = torch.rand(2, 8, 20, 20, device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            layer.zero_grad()
            layer(x).square().sum().backward()
    torch.cuda.current_stream().wait_stream(stream)
    assert layer.weight.grad is not None
    expected = layer.weight.grad.clone()
    graph = torch.cuda.CUDAGraph()
    layer.zero_grad()
    with torch.cuda.graph(graph):
        layer(x).square().sum().backward()
    graph.replay()
    torch.testing.assert_close(layer.weight.grad, expected)


@pytest.mark.parametrize("operand", ["input", "weight"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("kernel", KERNELS)
def test_operands_are_rounded_to_nearest(kernel: str | None, layout: torch.memory_format, operand: str) -> None:
    """Tensor cores cut float32 off, which errs by up to a unit of TF32 rather than half; sums of one term show it."""
    near_ties = [1 + torch.arange(8) * 2.0**-12, torch.arange(8) * 2.0**-13 - 2]
    numbers = torch.cat([*near_ties, torch.randn(16)])
    x, weight = torch.zeros(1, 32, 1, 32), torch.zeros(64, 32, 3, 3)
    if operand == "input":
        x[0, 0, 0] = numbers
        weight[:, 0, 1, 1] = 1.0
    else:
        x[0, :, 0] = torch.eye(32)
        weight[:, :, 1, 1] = numbers
    x, weight = (tensor.cuda().contiguous(memory_format=layout) for tensor in (x, weight))
    with fp32_class("tf32"), forced(kernel, x, weight, padding=1):
        values = convmin.conv2d_scale_min(x, weight, padding=1)[0, 0, 0].cpu()
    assert ((values - numbers).abs() <= 2.0**-11 * numbers.abs()).all()


def test_the_precision_class_follows_pytorch() -> None:
    """explain() names the class, and a tf32 kernel may run in that class alone."""
    x, weight, _ = Problem(n=8, c=64, h=64, w=64, k=128).tensors("cuda")
    with fp32_class("ieee"):
        assert convmin.explain(x, weight).precision == "ieee"
    with fp32_class("tf32"):
        assert convmin.explain(x, weight).precision in ("ieee", "tf32")


@pytest.mark.parametrize("precision", ["ieee", "tf32"])
def test_the_newer_precision_setting(precision: str) -> None:
    """torch.backends.cudnn.conv.fp32_precision, in a process of its own, as PyTorch dislikes a mix with allow_tf32."""
    script = f"""
import torch, convmin
torch.backends.cudnn.conv.fp32_precision = "{precision}"
generator = torch.Generator("cuda").manual_seed(0)
x = torch.randn(2, 64, 40, 40, device="cuda", generator=generator)
weight = torch.randn(128, 64, 3, 3, device="cuda", generator=generator)
exact = convmin.reference.conv2d_scale_min(x.double(), weight.double())
mine = (convmin.conv2d_scale_min(x, weight) - exact).abs().mean().item()
eager = (convmin.reference.conv2d_scale_min(x, weight) - exact).abs().mean().item()
assert mine <= 1.2 * eager, (mine, eager)
assert convmin.explain(x, weight).precision in ("ieee", "{precision}")
"""
    finished = run_python("-c", script)
    assert finished.returncode == 0, finished.stderr


def test_a_failed_call_leaves_the_device_usable() -> None:
    """An error is raised before any launch."""
    x, weight, bias = Problem().tensors("cuda")
    with pytest.raises(RuntimeError):
        convmin.conv2d_scale_min(x, weight[:, 1:], bias)
    convmin.conv2d_scale_min(x, weight, bias)
    torch.cuda.synchronize()


def _need(gigabytes: float) -> None:
    free, _ = torch.cuda.mem_get_info()
    if free < gigabytes * 1e9:
        pytest.skip(f"needs {gigabytes} GB of GPU memory")


@pytest.fixture
def gigabytes() -> Iterator[None]:
    """One test at a time that takes so many, whoever runs them, and then they are given back."""
    with (Path(tempfile.gettempdir()) / "convmin-large-tests.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
        torch.cuda.empty_cache()


# More than 2^31 elements of the input, in many images, in many channels, and in one image of few.
BEYOND_32_BITS = [
    pytest.param(kernel, problem, id=f"{kernel or 'auto'}-{problem}")
    for kernel in KERNELS
    for shape in ((33, 64, 1024, 1024), (1, 2100, 1024, 1024), (1, 64, 8192, 4200))
    for storage in ("contiguous", "channels_last")
    for dtype in (torch.float16, torch.float32)
    for problem in [
        Problem(*shape, k=4 if kernel == "direct" else 24, r=1, s=1, bias=False, dtype=dtype, storage=storage)
    ]
    if (dtype == torch.float16 or shape[1] == 64) and accepts(kernel, problem, "tf32")
]


@pytest.mark.large
@pytest.mark.usefixtures("gigabytes")
@pytest.mark.parametrize(("kernel", "problem"), BEYOND_32_BITS)
def test_input_beyond_32_bits(kernel: str | None, problem: Problem) -> None:
    """The last image lies beyond 2^31 elements: its result is that of the image alone."""
    shape = (problem.n or 1, problem.c, problem.h, problem.w)
    _need(14 if problem.dtype == torch.float32 else 8)
    x = torch.empty(shape, dtype=problem.dtype, device="cuda", memory_format=LAYOUTS[problem.storage])
    x.random_(-3, 4)
    weight = torch.randint(-2, 3, (problem.k, problem.c, 1, 1), device="cuda").to(problem.dtype)
    with fp32_class("tf32"), forced(kernel, x, weight):
        values, indices = convmin.conv2d_scale_min_with_indices(x, weight)
    for image in (0, shape[0] - 1):
        part = x[image : image + 1, :, -40:, -50:].float().contiguous()
        expected, index = convmin.conv2d_scale_min_with_indices(part, weight.float())
        assert torch.equal(values[image : image + 1, :, -40:, -50:], expected.to(problem.dtype))
        assert torch.equal(indices[image : image + 1, :, -40:, -50:], index)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_inputs_copied_a_few_images_at_a_time(dtype: torch.dtype) -> None:
    """NCHW inputs whose copy in vectors of channels has a limit: each image is that of a call of its own, and numbers
    out of float16's range are mended in their slice."""
    problem = Problem(n=48, c=136, h=112, w=112, k=72, padding=(1, 1), dtype=dtype, fill="integers")
    x, weight, bias = problem.tensors("cuda")
    for image in (0, 13, 47):
        large = 2.0**17 * x[image, 5, image, 60:]  # all sums stay below 2^24, and so exact in any order
        x[image, :, image, 60:] = 0
        x[image, 5, image, 60:] = large
    with fp32_class("tf32"):
        values, indices = convmin.conv2d_scale_min_with_indices(x, weight, bias, padding=1)
        if torch.cuda.get_device_capability()[0] == 9:
            assert "images at a time" in str(convmin.explain(x, weight, bias, padding=1))
        for image in (0, 1, 12, 13, 23, 24, 46, 47):
            expected = convmin.conv2d_scale_min_with_indices(x[image : image + 1], weight, bias, padding=1)
            assert torch.equal(values[image : image + 1], expected[0])
            assert torch.equal(indices[image : image + 1], expected[1])


@pytest.mark.parametrize("storage", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_blocks_that_take_one_tile_after_another(dtype: torch.dtype, storage: str) -> None:
    """The tile of mma.sync that has warps of its own for the loads, with tiles that end in the middle of an image, run
    over several and have more than one block of output channels, all of them or a share; to the bit what the portable
    kernel says, with tiles out of float16's range among them."""
    if torch.cuda.get_device_capability()[0] < 8:
        pytest.skip("no mma.sync kernel before compute capability 8.0")
    hopper = torch.cuda.get_device_capability()[0] == 9
    multiprocessors = torch.cuda.get_device_properties(0).multi_processor_count
    problem = Problem(c=64, h=64, w=64, k=128, padding=(1, 1), dtype=dtype, storage=storage, fill="integers")
    for changes in (
        {},
        {"c": 40, "h": 57, "w": 60, "k": 200, "scale": -0.5},
        {"c": 33, "h": 9, "w": 10, "k": 129, "bias": False},
        {"c": 33, "h": 57, "w": 61, "k": 300, "stride": (1, 2), "dilation": (2, 1)},
        {"c": 136, "h": 20, "w": 20, "k": 256, "r": 5, "s": 2},
    ):
        image = problem.replace(**changes)
        oh, ow = image.output_size
        image = image.replace(n=3 * multiprocessors * 256 // (oh * ow) + 2)
        x, weight, bias = image.tensors("cuda")
        if dtype == torch.float32:
            x[1, 5, 3:5] *= 2.0**17
        arguments = x, weight, bias, image.scale
        with fp32_class("tf32"):
            with convmin.force_kernel("sm80"):
                if hopper:  # elsewhere shared memory may not reach for all of them
                    assert convmin.explain(*arguments, **image.kwargs()).tile == (256, 128, 32), changes
                values, indices = convmin.conv2d_scale_min_with_indices(*arguments, **image.kwargs())
                again = convmin.conv2d_scale_min(*arguments, **image.kwargs())
            with convmin.force_kernel("simt"):
                expected = convmin.conv2d_scale_min_with_indices(*arguments, **image.kwargs())
        assert torch.equal(values, expected[0]) and torch.equal(again, expected[0]), changes
        assert torch.equal(indices, expected[1]), changes


@pytest.mark.large
@pytest.mark.usefixtures("gigabytes")
@pytest.mark.parametrize("kernel", KERNELS)
def test_output_beyond_32_bits(kernel: str | None) -> None:
    """More than 2^31 output pixels, and an index for each."""
    _need(16)
    x = torch.empty(3, 1, 32768, 24000, dtype=torch.float16, device="cuda").random_(-8, 9)
    weight = torch.tensor([1.0, -1.0], device="cuda").half().view(2, 1, 1, 1)
    assert x.numel() > 2**31
    with forced(kernel, x, weight):
        values, indices = convmin.conv2d_scale_min_with_indices(x, weight)
    for image in range(3):
        assert torch.equal(values[image], -x[image].abs())
        assert torch.equal(indices[image], (x[image] > 0).to(torch.uint8))
