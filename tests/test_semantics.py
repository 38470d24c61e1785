"""What the operator means: shapes, NaN and infinities, ties, scales, layouts, determinism."""

from __future__ import annotations

import convmin
import pytest
import torch
from runner import forced, refusal
from support import DTYPES, STORAGES, Problem, eager, fp32_class, place, run_python

Target = tuple[str, str | None]
INF, NAN = float("inf"), float("nan")
INDEX_DTYPES = {1: torch.uint8, 256: torch.uint8, 257: torch.int16, 32768: torch.int16, 32769: torch.int32}


def pixels_of(count: int, device: str, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """An input of ones and a weight of zeros for `count` channels, of a size that tensor-core kernels take too."""
    x = torch.ones(1, 64, 1, 128, dtype=dtype, device=device)
    return x, torch.zeros(count, 64, 1, 1, dtype=dtype, device=device)


def channels(
    values: list[float], target: Target, scale: float = 1.0, dtype: torch.dtype = torch.float32
) -> list[float]:
    """[value, index] of a pixel whose K products are `values` exactly."""
    device, kernel = target
    x, weight = pixels_of(len(values), device, dtype)
    weight[:, 37, 0, 0] = torch.tensor(values, dtype=dtype)
    with fp32_class("tf32"), forced(kernel, x, weight, None, scale):
        value, index = convmin.conv2d_scale_min_with_indices(x, weight, None, scale)
        plain = convmin.conv2d_scale_min(x, weight, None, scale)
    assert torch.equal(plain.isnan(), value.isnan())
    assert plain.isnan().all() or torch.equal(plain, value)
    assert value.isnan().all() or (value == value[0, 0, 0, 0]).all()
    assert (index == index[0, 0, 0, 0]).all()
    return [value[0, 0, 0, 0].item(), index[0, 0, 0, 0].item()]


@pytest.mark.cuda
def test_these_tests_reach_the_tensor_cores() -> None:
    """What `channels` asks is what these kernels take: else all below would say nothing of them."""
    x, weight = pixels_of(300, "cuda", torch.bfloat16)
    for kernel in set(convmin.build_info()["kernels"]) - {"direct", "depthwise"}:  # these have none
        if not kernel.startswith("sm90") or torch.cuda.get_device_capability()[0] == 9:
            assert refusal(kernel, x, weight, None, 1.0) is None


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("n", [0, 1, 3, None], ids=["N=0", "N=1", "N=3", "unbatched"])
def test_shape_dtype_device(device: str, n: int | None, dtype: torch.dtype) -> None:
    """Those of torch.min(conv2d(...) * scale, dim=1, keepdim=True)."""
    x, weight, bias = Problem(n=n, h=10, w=12, stride=(2, 1), padding=(1, 0), dtype=dtype).tensors(device)
    expected, _ = eager(x, weight, bias, stride=(2, 1), padding=(1, 0))
    values, indices = convmin.conv2d_scale_min_with_indices(x, weight, bias, stride=(2, 1), padding=(1, 0))
    assert values.shape == indices.shape == expected.shape
    assert values.dtype == dtype and indices.dtype == torch.uint8
    assert values.device == indices.device == x.device
    assert values.is_contiguous() and indices.is_contiguous()


@pytest.mark.parametrize("k", sorted(INDEX_DTYPES))
def test_index_dtype_is_as_small_as_the_channels_allow(target: Target, k: int) -> None:
    """The last channel wins: its number has to survive the type."""
    device, kernel = target
    x = torch.ones(1, 1, 2, 2, device=device)
    weight = torch.zeros(k, 1, 1, 1, device=device)
    weight[-1] = -1
    with forced(kernel, x, weight):
        values, indices = convmin.conv2d_scale_min_with_indices(x, weight)
    assert indices.dtype == INDEX_DTYPES[k]
    assert indices.long().flatten().tolist() == [k - 1] * 4
    assert values.flatten().tolist() == [-1.0] * 4


@pytest.mark.parametrize("k", [1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 130, 255, 257, 300])
def test_channels_that_do_not_exist_never_win(target: Target, k: int) -> None:
    """All real results are above any fill value that a padded channel may have, for every tail of the channel tile."""
    for dtype in DTYPES:
        assert channels([100.0] * k, target, dtype=dtype) == [100.0, 0]
        assert channels([INF] * k, target, dtype=dtype) == [INF, 0]
        assert channels([2.0] * (k - 1) + [1.0], target, dtype=dtype) == [1.0, k - 1]


@pytest.mark.parametrize("at", [0, 1, 37, 63, 64, 128, 299])
def test_nan_wins_and_the_first_one_is_named(target: Target, at: int) -> None:
    """NaN anywhere among the channels, beside smaller numbers, infinities and later NaNs."""
    for dtype in DTYPES:
        values = [float(i % 7) - 3 for i in range(300)]
        values[at] = NAN
        value, index = channels(values, target, dtype=dtype)
        assert value != value and index == at
        values[299] = NAN
        values[150] = -INF
        value, index = channels(values, target, dtype=dtype)
        assert value != value and index == at
        value, index = channels([NAN] * 300, target, dtype=dtype)
        assert value != value and index == 0


def test_infinities(target: Target) -> None:
    """IEEE order; all +inf is +inf at channel 0."""
    assert channels([3.0, -INF, 5.0, -INF], target) == [-INF, 1]
    assert channels([INF, 4.0, INF], target) == [4.0, 1]
    assert channels([INF, INF], target) == [INF, 0]
    assert channels([INF, -1.0], target, scale=-1.0) == [-INF, 0]


@pytest.mark.parametrize("at", [0, 4095, 4096, 4199])
def test_a_channel_that_no_filter_looks_at_hides_no_other(target: Target, at: int) -> None:
    """A type narrower than TF32 has range for the largest of a pixel's numbers and loses the rest: wrong where the
    largest are multiplied by zero. Of 64 neighbours one is large; a filter that never wins looks at all but one."""
    device, kernel = target
    x = torch.randn(2, 4200, 28, 28, device=device) * 1e-7
    weight = torch.randn(256, 4200, 1, 1, device=device)
    bias = torch.zeros(256, device=device)
    x[:, at % 64 :: 64], weight[:, at % 64 :: 64] = 1, 0
    weight[0, at % 64 :: 64], weight[0, at], bias[0] = 1, 0, 100
    expected = (x.double().flatten(2).mT @ weight.double().flatten(1).mT + bias.double()).amin(-1).view(2, 1, 28, 28)
    for layout in (torch.contiguous_format, torch.channels_last):
        arguments = x.contiguous(memory_format=layout), weight.contiguous(memory_format=layout), bias
        with fp32_class("tf32"), forced(kernel, *arguments):
            values = convmin.conv2d_scale_min(*arguments)
        assert (values.double() - expected).abs().max() < 2e-3 * expected.abs().max()


def test_ties_go_to_the_lowest_channel(target: Target) -> None:
    """Wherever the tied channels are: in a thread, a warp, a block's tile, or two."""
    for first in (0, 3, 31, 32, 64, 127, 128, 200):
        for second in (first + 1, 210, 255, 299):
            values = [1.0] * 300
            values[first] = values[second] = -2.0
            assert channels(values, target) == [-2.0, first]
    assert channels([0.0, -0.0], target)[1] == 0
    assert channels([-0.0, 0.0], target)[1] == 0


@pytest.mark.parametrize("scale", [0.0, -0.0, -1.0, 1e-30, -3.5, INF, -INF, NAN, 1e300, -1e300])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
def test_every_scale_means_what_it_means_in_pytorch(target: Target, scale: float, bias: bool) -> None:
    """Exact sums (zero among them), so that eager's values and indices are the only right ones."""
    device, kernel = target
    for dtype in (torch.float32, torch.float64):
        problem = Problem(n=1, c=32, h=2, w=130, k=70, r=1, s=1, bias=bias, dtype=dtype, fill="integers")
        x, weight, offsets = problem.tensors(device)
        expected, index = eager(x, weight, offsets, scale)
        with fp32_class("tf32"), forced(kernel, x, weight, offsets, scale):
            values, indices = convmin.conv2d_scale_min_with_indices(x, weight, offsets, scale)
        assert torch.equal(values.nan_to_num(nan=77.0), expected.nan_to_num(nan=77.0))
        nan = expected.isnan()  # which NaN torch.min names is not documented
        assert torch.equal(indices.long()[~nan], index[~nan])


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_a_nan_reaches_the_windows_that_hold_it_and_no_other(device: str, kernel_size: int) -> None:
    """NaN in the input, a weight, the bias."""
    x, weight, bias = Problem(n=2, c=4, h=9, w=9, k=8, r=kernel_size, s=kernel_size).tensors(device)
    x[1, 2, 4, 5] = NAN
    holds = torch.zeros(2, 1, 10 - kernel_size, 10 - kernel_size, dtype=torch.bool, device=device)
    holds[1, 0, max(5 - kernel_size, 0) : 5, 6 - kernel_size : 6] = True
    assert torch.equal(convmin.conv2d_scale_min(x, weight, bias).isnan(), holds)
    x[1, 2, 4, 5] = 0.0
    for tensor in (weight, bias):
        assert tensor is not None
        before = tensor.view(-1)[5].item()
        tensor.view(-1)[5] = NAN
        assert convmin.conv2d_scale_min(x, weight, bias).isnan().all()
        tensor.view(-1)[5] = before


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("padding", [0, 1, (0, 2), "valid", "same"])
def test_padding_forms(device: str, padding: str | int | tuple[int, int]) -> None:
    """Integers, pairs and strings; an even kernel needs one more on the far side for 'same'."""
    for r, s in ((3, 3), (4, 2), (2, 5)):
        x, weight, bias = Problem(r=r, s=s, fill="integers").tensors(device)
        for dilation in (1, 2):
            # In float64, as a fast float32 convolution (Winograd's) is not exact even on integers.
            wide = [t.double() for t in (x, weight, bias) if t is not None]
            expected, index = eager(*wide, padding=padding, dilation=dilation)
            values, indices = convmin.conv2d_scale_min_with_indices(x, weight, bias, padding=padding, dilation=dilation)
            assert torch.equal(values.double(), expected)
            assert torch.equal(indices.long(), index)


def test_padding_beyond_the_window_in_either_layout() -> None:
    """Output columns that see nothing but padding are the scaled bias. In a process of its own: PyTorch's own CPU
    convolution dies of a segmentation fault on the channels_last ones (oneDNN issue 5942), and the operator uses it."""
    script = """
import torch, convmin
for layout in (torch.contiguous_format, torch.channels_last):
    for k in (16, 17):
        for w in (1, 2, 9):
            x = torch.ones(3, 33, 12, w).contiguous(memory_format=layout)
            weight = torch.ones(k, 33, 1, 1)
            bias = torch.arange(k) - 3.0
            y = convmin.conv2d_scale_min(x, weight, bias, 0.5, stride=(2, 3), padding=(2, 2), dilation=(1, 2))
            assert y[:, :, :, 0].eq(-1.5).all(), y
            assert y[:, :, 0].eq(-1.5).all(), y
            assert y.max() == (15.0 if w > 1 else -1.5), y
"""
    finished = run_python("-c", script)
    assert finished.returncode == 0, finished.stderr or f"ended by signal {-finished.returncode}"


@pytest.mark.parametrize("storage", STORAGES)
def test_layout_of_bias_and_misaligned_storage(target: Target, storage: str) -> None:
    """The same numbers at any address and stride give the same bits."""
    device, kernel = target
    for dtype in DTYPES:
        x, weight, bias = Problem(n=2, c=24, h=4, w=130, k=40, dtype=dtype, fill="integers").tensors(device)
        x, weight = place(x, storage), place(weight, storage)
        assert bias is not None
        wide = torch.full((3 * bias.numel() + 1,), NAN, dtype=dtype, device=device)
        wide[1::3] = bias
        with fp32_class("tf32"), forced(kernel, x, weight, bias, padding=1):
            expected = convmin.conv2d_scale_min(x.contiguous(), weight.contiguous(), bias, padding=1)
            assert torch.equal(convmin.conv2d_scale_min(x, weight, wide[1::3], padding=1), expected)
            constant = bias[:1].expand(bias.shape)
            expected = convmin.conv2d_scale_min(x, weight, constant.contiguous())
            assert torch.equal(convmin.conv2d_scale_min(x, weight, constant), expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_runs_repeat_to_the_bit(target: Target, dtype: torch.dtype) -> None:
    """Forward and backward: no schedule and no leftover of an earlier call shows."""
    device, kernel = target
    problem = Problem(n=4, c=24, h=8, w=140, k=70, padding=(1, 1), dtype=dtype)
    x, weight, bias = (None if t is None else t.requires_grad_() for t in problem.tensors(device))
    assert x is not None and weight is not None and bias is not None
    first = None
    with fp32_class("tf32"), forced(kernel, x, weight, bias, 2.0, padding=1):
        for _ in range(5):
            values, indices = convmin.conv2d_scale_min_with_indices(x, weight, bias, 2.0, padding=1)
            grads = torch.autograd.grad(values.double().square().sum(), (x, weight, bias))
            results = [t.detach().clone() for t in (values, indices, *grads)]
            first = first or results
            assert all(torch.equal(a, b) for a, b in zip(first, results, strict=True))
            torch.rand(1 << 20, device=device)  # other contents in the memory that the next call gets


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_result_does_not_depend_on_the_batch(target: Target, dtype: torch.dtype) -> None:
    """An image alone and in a batch: work split differently, the same sums. Exact numbers, as layouts may differ."""
    device, kernel = target
    x, weight, bias = Problem(n=5, c=24, h=7, w=140, k=70, dtype=dtype, fill="integers").tensors(device)
    with fp32_class("tf32"), forced(kernel, x, weight, bias):
        together = convmin.conv2d_scale_min(x, weight, bias)
        for i in range(5):
            assert torch.equal(convmin.conv2d_scale_min(x[i : i + 1], weight, bias), together[i : i + 1])
            assert torch.equal(convmin.conv2d_scale_min(x[i], weight, bias), together[i])


def test_values_are_the_convolution_at_the_index(device: str) -> None:
    """gather(conv * scale, index) == value, on numbers without rounding."""
    x, weight, bias = Problem(n=3, c=12, h=20, w=17, k=100, fill="integers").tensors(device)
    values, indices = convmin.conv2d_scale_min_with_indices(x, weight, bias, -2.0)
    wide = [t.double() for t in (x, weight, bias) if t is not None]
    product = torch.nn.functional.conv2d(*wide) * -2.0
    assert torch.equal(product.gather(1, indices.long()), values.double())


def test_the_arguments_are_left_alone(device: str) -> None:
    """Input, weight and bias are read only."""
    tensors = Problem(dtype=torch.bfloat16, storage="sliced").tensors(device)
    before = [None if t is None else t.clone() for t in tensors]
    convmin.conv2d_scale_min_with_indices(*tensors, 2.0)
    assert all(a is not None and b is not None and torch.equal(a, b) for a, b in zip(tensors, before, strict=True))
