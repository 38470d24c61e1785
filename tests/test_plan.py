"""The planner, for GPUs that are not there: a plan that a device can't run is found without one."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterator
from itertools import product

import convmin
import pytest
import torch
from convmin import _C
from plans import DEVICES, describe, large_problem
from sanitize import choose, variant_of
from support import Problem

GRID_LIMIT = 2**31 - 1
SPECIALIZED = (256, 128, 32)  # the tile of sm80 that has warps of its own for the loads
# No plan needs more than the packed weight, in blocks of channels, and partial results; nothing like the convolution.
PADDING_OF_A_TILE = 256


def check(problem: Problem, plan: _C.Plan, device: convmin.DeviceProperties, precision: str) -> None:
    """What the hardware and the contract ask of any plan."""
    assert plan["accepted"], plan["reason"]
    assert plan["reason"]
    assert 32 <= plan["threads"] <= 1024 and plan["threads"] % 32 == 0
    assert 0 <= plan["shared_memory"] <= device.shared_memory_per_block
    assert 0 <= plan["blocks"] <= GRID_LIMIT
    assert all(extent >= 1 for extent in plan["tile"])
    pixels = (1 if problem.n is None else problem.n) * math.prod(problem.output_size)
    assert plan["splits"] >= 1
    assert plan["grains"] > 0 or plan["blocks"] % (plan["splits"] * max(plan["parts"], 1)) == 0
    if plan["kernel"] == "sm80" and plan["tile"] == SPECIALIZED:
        # Blocks take one tile after another, with equal shares of its output channels.
        assert math.ceil(problem.k / plan["tile"][1]) % plan["splits"] == 0
    elif plan["kernel"] in ("simt", "sm80"):
        tiles = plan["blocks"] // (plan["splits"] * max(plan["parts"], 1))
        assert tiles * plan["tile"][0] >= pixels, "some pixel is in no tile"
    assert pixels == 0 or plan["blocks"] >= 1
    assert plan["workspace_bytes"] >= 0
    if precision == "ieee" and problem.dtype == torch.float32:
        assert plan["precision"] == "ieee", "a float32 class that was not asked for"
    if match := re.match(r"sm(\d)0", plan["kernel"]):
        assert device.major >= int(match[1])
    if plan["kernel"].startswith("sm90"):
        assert device.major == 9, "wgmma is Hopper's alone"
    for kernel, reason in plan["rejections"]:
        assert kernel != plan["kernel"] and reason


@pytest.mark.parametrize("name", DEVICES)
def test_random_problems_fit_the_device(name: str) -> None:
    """Thousands of problems on every device."""
    rng = random.Random(name)
    device = DEVICES[name]
    for _ in range(1000):
        problem, precision = large_problem(rng), rng.choice(("ieee", "tf32"))
        description = describe(problem, precision, rng.random() < 0.5)
        plan = _C.plan(description, device.as_dict())
        check(problem, plan, device, precision)
        assert _C.plan(description, device.as_dict()) == plan, "not a function of its arguments"


def accepted_plans(
    kernel: str,
    device: convmin.DeviceProperties,
    rng: random.Random,
    count: int = 1000,
    change: Callable[[Problem], Problem] = lambda problem: problem,
) -> Iterator[tuple[Problem, _C.Plan]]:
    """Of so many random problems those that the kernel takes, with its plan, checked."""
    for _ in range(count):
        drawn, precision = large_problem(rng), rng.choice(("ieee", "tf32"))
        problem = change(drawn)
        plan = _C.plan(describe(problem, precision, rng.random() < 0.5), device.as_dict(), kernel)
        if plan["accepted"]:
            check(problem, plan, device, precision)
            yield problem, plan


@pytest.mark.parametrize("name", [name for name, device in DEVICES.items() if device.major >= 8])
def test_mma_sync_fits_the_device(name: str) -> None:
    """The tensor-core kernel by itself, which the planner's choice hides where there is a faster one."""
    device = DEVICES[name]
    plans = list(accepted_plans("sm80", device, random.Random(name)))
    assert len(plans) > 200
    for _, plan in plans:
        # 255 registers a thread are the most that there are: what shared memory leaves must not be what they forbid.
        assert plan["shared_memory"] + 1024 <= device.shared_memory_per_sm
        if plan["tile"] == SPECIALIZED:
            # Registers are dealt by whole eights, to warps of one quarter of a multiprocessor.
            warps = -(-plan["threads"] // 128)
            assert plan["threads"] == 384 and warps * 32 * 168 <= device.registers_per_sm // 4
            assert 1 <= plan["blocks"] <= device.sm_count
        else:
            assert 2 * plan["threads"] * 255 <= device.registers_per_sm
        if device.major >= 9:
            # Blocks begin under the launch that packs, wherever it leaves room: memory keeps them to an even share.
            share, most = -(-plan["blocks"] // device.sm_count), 4 if plan["tile"][0] == 64 else 2
            assert share >= most or device.shared_memory_per_sm // (plan["shared_memory"] + 1024) <= share
        rows = plan["tile"][0] // plan["tile_columns"]
        assert 1 <= plan["tile_columns"] <= plan["tile"][0] and rows >= 1
    # Patches whose bytes don't fit 64 bits: each tap has its own.
    for n, stride in product((64, 300), (2**28, 2**29)):
        problem = Problem(n=n, c=64, h=3, w=3, k=128, stride=(stride, stride), dtype=torch.float16)
        for storage in ("contiguous", "channels_last"):
            plan = _C.plan(describe(problem.replace(storage=storage), "tf32"), device.as_dict(), "sm80")
            assert plan["accepted"] and plan["taps"] == 1


@pytest.mark.parametrize("name", [name for name, device in DEVICES.items() if device.major >= 8])
def test_windows_fit_the_device(name: str) -> None:
    """The kernel for few input channels by itself: its blocks are all resident at once."""
    rng = random.Random(name)
    device = DEVICES[name]

    def with_few_channels(problem: Problem) -> Problem:
        return problem.replace(c=rng.randint(1, 16), groups=1)

    plans = list(accepted_plans("sm80_window", device, rng, change=with_few_channels))
    assert len(plans) > 200
    for _, plan in plans:
        assert plan["workspace_bytes"] == 0
        assert plan["tile"][0] == plan["tile_rows"] * plan["tile_columns"] == 128 and plan["tile_columns"] >= 8
        blocks = -(-plan["blocks"] // device.sm_count)
        assert blocks * (plan["shared_memory"] + 1024) <= device.shared_memory_per_sm
        assert blocks * plan["threads"] * {16: 72, 32: 96, 64: 128}[plan["tile"][1]] <= device.registers_per_sm
    # Patches whose bytes don't fit 64 bits.
    for c, stride, dtype in ((160, 8388607, torch.bfloat16), (1000, 4194304, torch.float32)):
        problem = Problem(n=1, c=c, h=3, w=3, k=8, r=1, s=1, stride=(stride, stride), dtype=dtype)
        assert not _C.plan(describe(problem, "tf32"), device.as_dict(), "sm80_window")["accepted"]


@pytest.mark.parametrize("storage", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_first_layers_go_to_the_window_kernel(dtype: torch.dtype, storage: str) -> None:
    """Images of three channels, on every device with tensor cores; it refuses, with its reason, what it can't do."""
    first = Problem(n=8, c=3, h=224, w=224, k=64, r=7, s=7, stride=(2, 2), padding=(3, 3), dtype=dtype, storage=storage)
    old = Problem(n=128, c=3, h=32, w=32, k=16, dtype=dtype, storage=storage)
    for problem, device in product((first, old), DEVICES.values()):
        if device.major >= 8:
            plan = _C.plan(describe(problem, "tf32"), device.as_dict())
            assert plan["kernel"] == "sm80_window" and plan["workspace_bytes"] == 0
    for changes, reason in (
        ({"groups": 3, "k": 63}, "group"),
        ({"k": 100_000}, "shared memory"),
        ({"n": 0}, "empty"),
        ({"dtype": torch.float64}, "float64"),
    ):
        plan = _C.plan(describe(first.replace(**changes), "tf32"), DEVICES["H200"].as_dict(), "sm80_window")
        assert not plan["accepted"] and reason in plan["reason"]
    wide = _C.plan(describe(first.replace(c=32, r=1, s=1), "tf32"), DEVICES["H200"].as_dict())
    assert ("sm80_window", "whole chunks of input channels are faster") in wide["rejections"]


def check_landing(problem: Problem, plan: _C.Plan) -> None:
    """What a cluster's blocks send one of them lies in place of its operands."""
    pixels, outputs, chunk = plan["tile"]
    pieces = -(-8 // min(plan["parts"], 8))  # each adds up so many of eight warps' sums
    sent = 4 * pixels * outputs // 8 * pieces * plan["parts"] if plan["parts"] > 1 else 0
    sent += 8 * pixels * plan["splits"] if plan["splits"] > 1 else 0
    scaled = (problem.dtype, chunk) == (torch.float32, 64)  # a factor beside each addend
    channels = problem.groups * -(-problem.k // problem.groups // outputs) * outputs
    tables = 512 + 4 * problem.r * problem.s + (8 if scaled else 4) * channels
    assert plan["shared_memory"] - 1024 - tables >= sent


def test_patches_fit_the_device() -> None:
    """The Hopper kernel for any shape by itself, with the copies and partial sums that the planner's choice avoids."""
    rng = random.Random(7)
    device = DEVICES["H200"]
    met = set()

    def with_more_channels(problem: Problem) -> Problem:
        n, more = problem.n or 1, rng.choice((1, 8))  # and enough images for equal shares
        return problem.replace(n=n * more, c=problem.c * rng.choice((1, 8, 64)), k=problem.k * rng.choice((1, 8)))

    for problem, plan in accepted_plans("sm90_patch", device, rng, 2000, with_more_channels):
        assert plan["blocks"] <= device.sm_count
        chunks = -(-problem.c // problem.groups // plan["tile"][2])
        blocks = problem.groups * -(-problem.k // problem.groups // plan["tile"][1])
        assert 1 <= plan["parts"] <= chunks and 1 <= plan["splits"] <= blocks + (plan["grains"] > 1)
        assert plan["parts"] == 1 or plan["splits"] == blocks, "a part has one tile of output channels"
        if plan["grains"] > 0:  # a cut sum has two parts, and the first of them room
            assert plan["grains"] in (1, chunks) and plan["parts"] == 1 and plan["cluster"] == 0
            assert plan["blocks"] == device.sm_count
            sums = math.prod(plan["tile"][:2])
            assert plan["grains"] == 1 or plan["workspace_bytes"] >= 4 * device.sm_count * sums
        assert plan["tile"][2] == 64 or problem.dtype == torch.float32
        if plan["cluster"] > 1:
            assert plan["cluster"] == plan["splits"] * plan["parts"] <= 16
            assert plan["blocks"] // plan["cluster"] <= device.clusters[plan["cluster"] - 2]
            check_landing(problem, plan)
        met.add((problem.dtype, plan["tile"][2], "cut" if plan["grains"] > 1 else plan["parts"] > 1))
    ways = [way for _, _, way in met]
    assert ways.count(False) == ways.count(True) == 4 and "cut" in ways, met


def test_sums_that_a_large_cluster_sends_have_room() -> None:
    """Deep layers of few pixels, whose blocks would need less shared memory for their operands."""
    rng = random.Random(8)

    def deep(problem: Problem) -> Problem:
        side = rng.choice((3, 5))
        return problem.replace(
            n=rng.choice((2, 5, 8)),
            c=rng.choice((1040, 1560, 2048)),
            h=rng.randint(20, 60),
            w=rng.randint(20, 60),
            k=rng.choice((72, 128)),
            r=side,
            s=side,
            stride=(4, 4),
            dilation=(1, 1),
            groups=1,
        )

    parts = set()
    for problem, plan in accepted_plans("sm90_patch", DEVICES["H200"], rng, 2000, deep):
        if plan["cluster"] > 1:
            check_landing(problem, plan)
            parts.add(plan["parts"])
    assert max(parts) > 8


@pytest.mark.parametrize("storage", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_narrow_images_go_where_tiles_are_as_narrow(dtype: torch.dtype, storage: str) -> None:
    """Hopper's subtiles are 8 columns: of images of four, half would be empty, unless tiles run on, as padding that no
    window needs doesn't let them. But not what mma.sync brings slowly."""
    tall = Problem(n=8, c=64, h=16384, w=2, k=128, s=1, padding=(1, 1), dtype=dtype, storage=storage)
    device = DEVICES["H200"].as_dict()

    def chosen(problem: Problem) -> str:
        return str(_C.plan(describe(problem, "tf32"), device)["kernel"])

    slow = dtype == torch.float32 and storage == "contiguous"
    assert chosen(tall) == ("sm90_patch" if slow else "sm80")
    for changes in ({"w": 12}, {"h": 256}, {"k": 64}, {"w": 4, "s": 3}, {"w": 8, "s": 3, "stride": (1, 2)}):
        assert chosen(tall.replace(**changes)) == "sm90_patch", changes


@pytest.mark.parametrize("name", DEVICES)
def test_direct_fits_the_device(name: str) -> None:
    """The kernel for few channels by itself: every pixel in a tile, every tile's threads among slots and runs."""
    device = DEVICES[name]
    plans = list(accepted_plans("direct", device, random.Random(name)))
    assert len(plans) > 50
    for _, plan in plans:
        assert plan["precision"] == "ieee" and plan["workspace_bytes"] == 0
        assert plan["tile"][0] == plan["tile_rows"] * plan["tile_columns"]
        fewest = 4 if plan["gather"] == "pixels" else 1
        assert plan["tile_columns"] in (1, 2, 4, 8, 16, 32, 64, 128, 256) and plan["tile_columns"] >= fewest
        assert plan["blocks"] <= 4 * device.sm_count, "the weight is staged once a block"


@pytest.mark.parametrize("storage", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_layers_of_few_channels_go_to_the_direct_kernel(dtype: torch.dtype, storage: str) -> None:
    """In both classes, on every device; and it refuses, with its reason, what others do better."""
    depthwise = Problem(n=8, c=96, h=112, w=112, k=96, stride=(2, 2), padding=(1, 1), groups=96)
    single = Problem(n=8, c=64, h=128, w=128, k=1, padding=(1, 1))
    for problem, device, precision in product((depthwise, single), DEVICES.values(), ("ieee", "tf32")):
        plan = _C.plan(describe(problem.replace(dtype=dtype, storage=storage), precision), device.as_dict())
        assert plan["kernel"] == "direct"
    for changes, rows in (({}, 3), ({"k": 2, "r": 5}, 5), ({"k": 3}, 0), ({"stride": (2, 1)}, 0), ({"r": 4}, 0)):
        problem = single.replace(dtype=dtype, storage=storage).replace(**changes)
        assert _C.plan(describe(problem), DEVICES["H200"].as_dict(), "direct")["taps"] == rows, changes
    for changes, reason in (
        ({"k": 5}, "4 output"),
        ({"groups": 2, "k": 2}, "8 channels a group"),
        ({"c": 8192, "k": 4}, "shared memory"),
        ({"n": 0}, "empty"),
        ({"dtype": torch.float64}, "float64"),
    ):
        problem = single.replace(dtype=dtype, storage=storage).replace(**changes)
        plan = _C.plan(describe(problem), DEVICES["H200"].as_dict(), "direct")
        assert not plan["accepted"] and reason in plan["reason"]


def test_workspace_is_small_beside_the_convolution() -> None:
    """Whatever a plan wants to keep in memory, it isn't what the operator exists to avoid."""
    rng = random.Random(5)
    for _ in range(1000):
        problem = large_problem(rng)
        plan = _C.plan(describe(problem), DEVICES["H200"].as_dict())
        size = 8 if problem.dtype == torch.float64 else 4
        outputs = problem.groups * (problem.k // problem.groups + PADDING_OF_A_TILE)
        packed = outputs * (problem.reduction + PADDING_OF_A_TILE) * size
        # Partial results, where few pixels' channels are split over blocks: about a value and an index per thread.
        partial = 132 * 2048 * (size + 4)
        if plan["kernel"] == "sm80":
            partial = 132 * 8192 * (size + 4)
        elif plan["kernel"] == "sm90_patch":
            # A multiprocessor's sums, where they are cut over blocks, and a copy of the input that has a limit.
            partial += 132 * 256 * 128 * 4 + 2**27
        assert plan["workspace_bytes"] <= packed + partial


def test_large_inputs_are_copied_a_few_images_at_a_time() -> None:
    """A copy takes at most 128 MiB; batches that don't divide into equal parts of that size go to another kernel."""
    problem = Problem(n=64, c=128, h=112, w=112, k=128, padding=(1, 1), dtype=torch.bfloat16)
    for changes, kernel, images in (
        ({}, "sm90_patch", 32),
        ({"n": 60}, "sm90_patch", 30),
        ({"n": 67}, "sm80", 67),
        ({"storage": "channels_last"}, "sm90_patch", 64),
        ({"dtype": torch.float32}, "sm90_patch", 16),
        ({"n": 1, "h": 3000, "w": 3000}, "sm80", 1),
    ):
        plan = _C.plan(describe(problem.replace(**changes), "tf32"), DEVICES["H200"].as_dict())
        assert (plan["kernel"], plan["images"]) == (kernel, images), changes
        if kernel == "sm90_patch":
            assert plan["workspace_bytes"] <= 2**27 + 2**22


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_weight_that_vectors_of_channels_fit_is_not_packed(dtype: torch.dtype) -> None:
    """Nor is anything else prepared where no blocks share a tile and float32 stays TF32: there is no workspace."""
    last = "channels_last"
    problem = Problem(n=32, c=128, h=28, w=28, k=128, padding=(1, 1), dtype=dtype, storage=last, weight_storage=last)
    point = problem.replace(r=1, s=1, padding=(0, 0))
    for layer, packs in (
        (problem, False),
        (problem.replace(scale=-2.0), False),
        (problem.replace(c=120), False),
        (problem.replace(weight_storage="contiguous"), True),
        (problem.replace(c=127), True),
        (point, False),
        (point.replace(weight_storage="contiguous"), False),
    ):
        plan = _C.plan(describe(layer, "tf32"), DEVICES["H200"].as_dict(), "sm90_patch")
        assert plan["accepted"] and plan["splits"] == plan["parts"] == 1, layer
        assert (plan["workspace_bytes"] > 0) == packs, layer


@pytest.mark.parametrize("name", DEVICES)
def test_headline(name: str) -> None:
    """Fills the device: no block may want so much that fewer than 8 warps share a multiprocessor."""
    problem = Problem(n=64, c=64, h=256, w=256, k=128)
    plan = _C.plan(describe(problem), DEVICES[name].as_dict())
    check(problem, plan, DEVICES[name], "ieee")
    assert plan["blocks"] >= DEVICES[name].sm_count
    by_memory = DEVICES[name].shared_memory_per_sm // max(plan["shared_memory"] + 1024, 1)
    assert by_memory * plan["threads"] >= 256


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("storage", ["contiguous", "channels_last"])
def test_two_blocks_share_a_multiprocessor_of_an_a100(dtype: torch.dtype, storage: str) -> None:
    """What docs/sm80.md says: of common layers, one block's epilogue runs under another's multiplication."""
    for problem in (
        Problem(n=64, c=64, h=256, w=256, k=128),
        Problem(n=64, c=64, h=56, w=56, k=64, padding=(1, 1)),
        Problem(n=64, c=256, h=14, w=14, k=256, padding=(1, 1)),
        Problem(n=64, c=1024, h=14, w=14, k=256, r=1, s=1),
        Problem(n=64, c=3, h=224, w=224, k=64, r=7, s=7, stride=(2, 2), padding=(3, 3)),
    ):
        problem = problem.replace(dtype=dtype, storage=storage)
        device = DEVICES["A100"]
        plan = _C.plan(describe(problem, "tf32"), device.as_dict(), "sm80")
        if plan["tile"] == SPECIALIZED:
            continue  # it hides its loads itself
        assert 2 * (plan["shared_memory"] + 1024) <= device.shared_memory_per_sm, f"{plan['shared_memory']}: {problem}"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("storage", ["contiguous", "channels_last"])
def test_large_problems_have_warps_for_the_loads(dtype: torch.dtype, storage: str) -> None:
    """One block a multiprocessor, where there are tiles for all, many output channels and 16-bit operands."""
    headline = Problem(n=64, c=64, h=256, w=256, k=128, dtype=dtype, storage=storage)
    for name in ("A100", "H100", "H200", "RTX 4090"):
        device = DEVICES[name]
        plan = _C.plan(describe(headline, "tf32"), device.as_dict(), "sm80")
        assert plan["tile"] == SPECIALIZED and plan["blocks"] == device.sm_count and plan["threads"] == 384
        assert plan["shared_memory"] <= device.shared_memory_per_block
        assert plan["splits"] == plan["parts"] == 1
        assert plan["tile_rows"] > 0, "within an image: 254 rows fill tiles of 16 or 8 almost"
        for changes in ({"n": 1, "h": 32, "w": 32}, {"k": 64}, {"groups": 2}):
            plan = _C.plan(describe(headline.replace(**changes), "tf32"), device.as_dict(), "sm80")
            assert plan["tile"] != SPECIALIZED, changes
        # 9 of 28 rows would fit the tile, but not shared memory with the halo of a stride: its four tiles take 7.
        halved = headline.replace(h=56, w=56, c=128, stride=(2, 2), padding=(1, 1))
        plan = _C.plan(describe(halved, "tf32"), DEVICES["H200"].as_dict(), "sm80")
        assert plan["tile"] == SPECIALIZED and (plan["tile_rows"], plan["tile_columns"]) == (7, 28)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_quads_of_pixels_are_loaded_where_they_are_aligned(dtype: torch.dtype) -> None:
    """Rows of whole quads, at addresses of whole quads, without a stride along them."""
    image = Problem(n=8, c=64, h=56, w=56, k=128, padding=(1, 1), dtype=dtype)
    aligned = describe(image, "tf32")
    n, c, h, w = aligned["input_strides"]
    for description, gather in (
        (aligned, "quads"),
        ({**aligned, "input_alignment": 4 * dtype.itemsize}, "quads"),
        ({**aligned, "input_alignment": 2 * dtype.itemsize}, "pixels"),
        ({**aligned, "input_strides": (n, c + 2, h, w)}, "pixels"),
        (describe(image.replace(stride=(2, 1)), "tf32"), "quads"),
        (describe(image.replace(stride=(1, 2)), "tf32"), "pixels"),
        (describe(image.replace(w=54), "tf32"), "pixels"),
        (describe(image.replace(h=14, w=14, r=1, s=1, padding=(0, 0)), "tf32"), "quads"),
        (describe(image.replace(storage="channels_last"), "tf32"), "channels"),
    ):
        plan = _C.plan(description, DEVICES["A100"].as_dict(), "sm80")
        assert plan["gather"] == gather, description


def test_no_image() -> None:
    """N = 0 plans nothing to do."""
    plan = _C.plan(describe(Problem(n=0)), DEVICES["H200"].as_dict())
    assert plan["accepted"] and plan["blocks"] == 0


def test_more_than_32_bits() -> None:
    """More than 2^31 input elements and output pixels are no reason to refuse."""
    for problem in (
        Problem(n=70, c=64, h=1024, w=1024, k=8),
        Problem(n=40, c=1, h=8192, w=8192, k=2, r=1, s=1),
        Problem(n=1, c=2100, h=1024, w=1024, k=8, r=1, s=1),
    ):
        for dtype in (torch.float16, torch.float64):
            problem = problem.replace(dtype=dtype)
            check(problem, _C.plan(describe(problem), DEVICES["H200"].as_dict()), DEVICES["H200"], "ieee")


def test_a_refusal_has_its_reason() -> None:
    """Beyond the portable kernel's 2^30 an axis: refused in words, not launched."""
    plan = _C.plan(describe(Problem(n=1, c=1, h=1, w=2**30, k=1, r=1, s=1)), DEVICES["H200"].as_dict())
    assert not plan["accepted"]
    assert "2^30" in plan["reason"] and plan["rejections"]


def test_forcing_a_kernel() -> None:
    """The named one or a refusal; a name that nobody has is an error."""
    description, device = describe(Problem()), DEVICES["A100"].as_dict()
    assert _C.plan(description, device, "simt")["kernel"] == "simt"
    with pytest.raises(ValueError, match="sm20"):
        _C.plan(description, device, "sm20")
    with pytest.raises(ValueError, match="int8"):
        _C.plan({**description, "dtype": "int8"}, device)


def test_devices_know_their_clusters() -> None:
    device = convmin.DeviceProperties(9, 0, 132, 232448, 233472, 65536, (66, 39))
    assert device.clusters == (66, 39, *(0,) * 13)
    with pytest.raises(ValueError, match="got 16"):
        convmin.DeviceProperties(9, 0, 132, 232448, 233472, 65536, (1,) * 16)


def test_explain_for_a_device_that_is_not_there() -> None:
    """The same plan through the public function, for tensors without data."""
    problem = Problem(n=64, c=64, h=256, w=256, k=128)
    x = torch.empty(64, 64, 256, 256, device="meta")
    weight, bias = torch.empty(128, 64, 3, 3, device="meta"), torch.empty(128, device="meta")
    explanation = convmin.explain(x, weight, bias, 2.0, device=DEVICES["B200"])
    plan = _C.plan(describe(problem, explanation.precision), DEVICES["B200"].as_dict())
    assert (explanation.kernel, explanation.tile, explanation.reason) == (plan["kernel"], plan["tile"], plan["reason"])


def test_the_sanitizer_meets_every_variant() -> None:
    """Each kernel, tile and split that random problems lead to is among those that `make sanitize` runs, which
    plans for 24 multiprocessors."""
    device = DEVICES["H200"].as_dict()
    clusters = tuple(count * 24 // device["sm_count"] for count in device["clusters"])
    kernels = convmin.build_info()["kernels"] or ["simt"]
    covered = set(choose({**device, "sm_count": 24, "clusters": clusters}, kernels))
    assert {variant[0] for variant in covered} == set(kernels)
    rng = random.Random(11)
    for _ in range(2000):
        problem, indices, kernel = large_problem(rng), rng.random() < 0.5, rng.choice(kernels)
        plan = _C.plan(describe(problem, "tf32", indices), device, kernel)
        if problem.n != 0 and plan["accepted"]:
            variant = variant_of(problem, plan, indices)
            assert variant in covered, f"{variant}: {problem}"
