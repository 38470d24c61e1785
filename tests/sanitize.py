"""Small problems through every kernel, dtype, layout and tile, checked: the program that compute-sanitizer watches.

`compute-sanitizer --tool memcheck python tests/sanitize.py`; with `--list` it only says which problems it would run,
for an H200 where there is no GPU.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from itertools import product

import convmin
import torch
from convmin import _C
from gradients import check_bounds as check_gradients
from gradients import make_case
from oracle import check_bounds, solve
from plans import DEVICES, describe, plan_backward
from runner import SCALAR_KERNELS
from support import DTYPES, STORAGES, Problem, fp32_class, random_problem

# (kernel, dtype, gather, tile, which of its loops and launches the problem takes, whether the index is asked for)
Variant = tuple[str, str, str, tuple[int, ...], tuple[int, ...], bool]
Case = tuple[Problem, str, bool]  # with its float32 class, and whether the index is asked for
MAX_PRODUCTS = 300_000_000  # of a problem made larger: a sanitizer takes seconds for as many


def candidates() -> list[Problem]:
    """Cheap problems first: odd ones at random, and ones of so many pixels that the planner takes its large tiles."""
    rng = random.Random(0)
    problems = [
        random_problem(rng, 10_000_000, ("normal",)).replace(storage=rng.choice(STORAGES[:2])) for _ in range(6000)
    ]
    for dtype, storage, groups in product(DTYPES, STORAGES[:2], (1, 4)):
        for k, side in product((8, 16, 24, 32, 48, 64, 96, 128, 192, 260), (48, 64, 96, 128, 192, 256)):
            image = Problem(n=1, c=2 * groups, h=side, w=side + 1, k=k, r=1, s=1, groups=groups)
            image = image.replace(dtype=dtype, storage=storage)
            problems += [image, image.replace(r=3, s=3, padding=(1, 1), bias=False)]
    # For kernels that want wide rows: channels on both sides of a chunk's 64 and of a tile's 128.
    for dtype, storage, c, k in product(DTYPES, STORAGES[:2], (24, 72, 128), (48, 128, 200)):
        row = Problem(n=1, c=c, h=3, w=131, k=k, r=1, s=1, dtype=dtype, storage=storage)
        problems += [row, row.replace(h=4, r=3, s=3, padding=(1, 1), bias=False)]
        problems.append(row.replace(h=4, r=2, s=3, weight_storage="channels_last"))
    # For kernels that want many channels: tiles for all of a GPU, and so few that output channels are shared out.
    for dtype, storage, c, k, side in product(DTYPES, STORAGES[:2], (16, 72), (8, 128, 200, 300, 320), (20, 96, 256)):
        image = Problem(n=1, c=c, h=side, w=side, k=k, r=1, s=1, dtype=dtype, storage=storage)
        problems += [image, image.replace(r=3, s=3, padding=(1, 1), bias=False)]
    # For kernels that cut sums over blocks, or copy their input: many channels, and channels that no vector fits.
    sides = (16, 28, 40, 56, 80, 112, 136, 200)
    for dtype, storage, groups, c, k, side in product(
        DTYPES, STORAGES[:2], (1, 2), (18, 33, 72, 130, 264), (40, 72, 136, 200, 300), sides
    ):
        image = Problem(n=1, c=c * groups, h=side, w=side, k=k * groups, r=1, s=1, groups=groups)
        image = image.replace(dtype=dtype, storage=storage)
        problems += [image, image.replace(r=3, s=3, padding=(1, 1), bias=False)]
    for storage, c, k, side in product(STORAGES[:2], (16, 33, 64), (40, 129), (24, 300, 500, 700, 1000)):
        image = Problem(n=1, c=c, h=side, w=side, k=k, r=3, s=1, dtype=torch.float32, storage=storage)
        problems += [image, image.replace(s=3, padding=(1, 1), bias=False), image.replace(r=7, s=1)]
    problems.append(Problem(n=1, c=64, h=17, w=21, k=129, r=7, s=1, stride=(1, 3), padding=(0, 2)))
    problems += [
        Problem(n=1, c=297, h=side, w=side, k=k, r=2, s=2, groups=3, dtype=torch.float32, storage=STORAGES[1])
        for k, side in product((150, 549, 900), (11, 16, 40))
    ]
    for storage, k in product(STORAGES[:2], (257, 300)):
        image = Problem(n=1, c=64, h=39, w=128, k=k, r=5, s=5, stride=(3, 2), padding=(0, 2), storage=storage)
        problems += [image, image.replace(bias=False)]
    # For tiles of whole chunks of channels, from few pixels to so many that the largest tiles are worth it.
    for dtype, storage, groups, k, size in product(
        DTYPES, STORAGES[:2], (1, 2), (24, 64, 130), ((8, 16), (40, 90), (64, 131), (128, 260), (256, 300))
    ):
        image = Problem(n=1, c=32 * groups, h=size[0], w=size[1], k=k * groups, r=1, s=1, groups=groups)
        image = image.replace(dtype=dtype, storage=storage)
        problems += [image, image.replace(r=3, padding=(1, 0), bias=False)]
    # For warps of their own for the loads, and for tiles without where a patch takes long: strides, gaps between taps.
    for dtype, storage, c, k, side in product(DTYPES, STORAGES[:2], (33, 64), (72, 130), (100, 136, 190, 260, 520)):
        image = Problem(n=1, c=c, h=side, w=side, k=k, r=1, s=1, dtype=dtype, storage=storage)
        problems += [image, image.replace(h=2 * side, stride=(2, 1)), image.replace(r=3, s=3, padding=(1, 1))]
        for window in ((2, 2), (4, 2), (5, 5)):
            sparse = image.replace(r=window[0], s=window[1], dilation=(3, 1), bias=False)
            problems += [sparse.replace(stride=(1, 3)), sparse.replace(stride=(2, 2)), sparse.replace(stride=(3, 3))]
    # For tiles that run on over rows and images: narrow images, many of them.
    for dtype, storage, c, k in product(DTYPES, STORAGES[:2], (16, 72), (33, 72, 136, 200)):
        image = Problem(n=40, c=c, h=26, w=10, k=k, r=3, s=1, padding=(2, 0), dtype=dtype, storage=storage)
        tall = image.replace(n=20, h=130, w=7, r=1, s=3, padding=(0, 1), bias=False)
        problems += [image, tall, image.replace(n=60), image.replace(h=13, w=20), tall.replace(w=3, s=2)]
        two = image.replace(n=3, c=2 * c, h=130, w=60, k=2 * k, padding=(1, 0), groups=2)
        problems += [two, two.replace(n=1), two.replace(c=144, h=80, w=26, k=80)]
        strided = two.replace(r=1, stride=(2, 2), padding=(0, 0))
        problems += [strided, strided.replace(w=100), strided.replace(w=10, stride=(1, 1))]
        problems.append(two.replace(w=100, k=80, r=2, s=3, stride=(3, 1), padding=(1, 1)))
    # For tiles that blocks share, as clusters or crowds, and for taps whose inputs are strides apart.
    for _ in range(3000):
        groups, size = rng.choice((1, 1, 1, 2)), (rng.choice((7, 13, 20, 40, 60, 130)), rng.choice((3, 7, 13, 26, 60)))
        layer = Problem(n=rng.choice((1, 2, 5, 20, 60)), h=size[0], w=size[1], storage=rng.choice(STORAGES[:2]))
        layer = layer.replace(
            c=groups * rng.choice((16, 33, 72, 264, 520)), dtype=rng.choice(DTYPES[2:]), groups=groups
        )
        layer = layer.replace(
            k=groups * rng.choice((33, 72, 136, 264, 520)), r=rng.choice((1, 3, 5)), s=rng.choice((1, 3))
        )
        layer = layer.replace(stride=rng.choice(((1, 1), (2, 2), (3, 4))), bias=rng.random() < 0.5)
        layer = layer.replace(padding=(rng.randint(0, 1), rng.randint(0, 1)), weight_storage=rng.choice(STORAGES[:2]))
        problems += [layer, layer.replace(dtype=torch.float32)]
    # For equal shares of more tiles than there are multiprocessors.
    for dtype, storage, c, k in product(DTYPES, STORAGES[:2], (16, 24, 72), (136, 264, 400, 528)):
        long = Problem(n=60, c=c, h=130, w=5, k=k, r=2, s=3, padding=(2, 0), dtype=dtype, storage=storage)
        problems += [long, long.replace(dilation=(3, 2)), long.replace(r=1, padding=(1, 0), stride=(2, 1), bias=False)]
    for storage, padding in product(STORAGES[:2], (0, 1)):
        long = Problem(n=60, c=24, h=260, w=5, k=216, r=1, s=5, padding=(padding, 0), groups=3, storage=storage)
        problems += [long, long.replace(n=20), long.replace(n=20, w=7, k=600, s=1, padding=(padding, padding))]
    # For few input channels: from few pixels to so many that blocks take several tiles, of patches that their threads
    # have in registers and others.
    for dtype, storage, k, side in product(
        DTYPES, STORAGES[:2], (8, 24, 33, 40, 65, 90, 100, 129, 257), (20, 130, 350)
    ):
        image = Problem(n=1, c=3, h=side, w=side, k=k, r=1, s=2, dtype=dtype, storage=storage)
        sparse = image.replace(r=3, s=3, stride=(3, 3))
        problems += [image, image.replace(padding=(1, 1), bias=False), sparse, sparse.replace(h=3 * side, w=3 * side)]
        problems += [image.replace(c=4, s=7), image.replace(c=2, r=2)]
    # For threads that have groups, or a few output channels, to themselves: from few pixels, whose channels are shared
    # out over many threads, to so many that one thread has them all.
    for dtype, storage, side, r in product(DTYPES, STORAGES[:2], (8, 20, 64, 200), (1, 3, 5, 6, 7)):
        for c, k, groups in (
            (8, 8, 8),
            (24, 24, 24),
            (3, 3, 3),
            (6, 9, 3),
            (8, 1, 1),
            (24, 2, 1),
            (3, 3, 1),
            (16, 4, 1),
        ):
            image = Problem(n=2, c=c, h=side, w=side, k=k, r=r, s=3, groups=groups, dtype=dtype, storage=storage)
            problems += [image, image.replace(padding=(1, 1), bias=False), image.replace(stride=(2, 1))]
    for dtype, storage, r in product(DTYPES, STORAGES[:2], (3, 5, 6, 7)):
        for c in (2, 4, 8):  # pairs, and what makes a vector in channels_last
            image = Problem(n=2, c=c, h=560, w=560, k=c, r=r, s=r, groups=c, dtype=dtype, storage=storage)
            problems += [
                image,
                image.replace(s=1),
                image.replace(r=1, s=1),
                image.replace(h=1120, stride=(2, 1)),
                image.replace(h=1680, stride=(3, 1)),
                image.replace(h=564, dilation=(2, 1)),
            ]
        problems += [image.replace(c=4, h=64, k=4, groups=4), image.replace(c=3, k=1, groups=1)]
    # For lanes that have a channel each: few pixels and many channels, which warps and blocks share, and the reverse.
    for dtype, storage, (r, step) in product(DTYPES, STORAGES[:2], ((3, 1), (5, 1), (7, 1), (3, 2), (5, 2))):
        for n, c, h, w in product((1, 3), (8, 40, 72, 264, 520), (7, 20), (7, 10, 40)):
            image = Problem(n=n, c=c, h=h, w=w, k=c, r=r, s=r, stride=(step, step), groups=c, padding=(r // 2, 1))
            problems.append(image.replace(dtype=dtype, storage=storage))
        for c, side in product((8, 72), (80, 201)):
            image = Problem(
                n=2, c=c, h=side, w=side + side % 2, k=c, r=r, s=r, stride=(step, step), groups=c, bias=False
            )
            problems += [image.replace(dtype=dtype, storage=storage), image.replace(w=41, dtype=dtype, storage=storage)]
    problems += [random_layer(rng) for _ in range(40_000)]
    return sorted((p for p in problems if p.n != 0 and min(p.output_size) > 0), key=lambda problem: problem.products)


def random_layer(rng: random.Random) -> Problem:
    """At random, with channels and pixels around what tiles hold, so that few products lead to what a plan can be."""
    groups, window = rng.choice((1, 1, 1, 2, 3)), rng.choice(((1, 1), (3, 3), (3, 1), (1, 3), (2, 2), (5, 1), (4, 2)))
    return Problem(
        n=rng.choice((1, 1, 2, 3, 5)),
        c=groups * rng.choice((16, 17, 32, 33, 48, 64, 96, 130, 264)),
        h=rng.choice((4, 8, 12, 16, 20, 28, 33, 40, 48, 56, 80, 112, 130, 160, 200)),
        w=rng.choice((5, 7, 8, 12, 16, 20, 24, 32, 33, 40, 48, 60, 64, 80, 96, 130)),
        k=groups * rng.choice((24, 40, 72, 130, 150, 200, 260, 300, 390, 520)),
        r=window[0],
        s=window[1],
        stride=rng.choice(((1, 1), (1, 1), (2, 1), (1, 3), (2, 2), (3, 3), (3, 4))),
        padding=rng.choice(((0, 0), (0, 1), (1, 1))),
        dilation=rng.choice(((1, 1), (1, 1), (3, 1), (2, 2))),
        groups=groups,
        bias=rng.random() < 0.5,
        dtype=rng.choice((torch.float32, torch.float16, torch.bfloat16)),
        storage=rng.choice(STORAGES[:2]),
    )


def variant_of(problem: Problem, plan: _C.Plan, indices: bool) -> Variant:
    dtype = str(problem.dtype).removeprefix("torch.")
    loops: tuple[int, ...] = (plan["splits"] > 1,)
    if plan["kernel"] == "sm80":
        loops = (plan["splits"] > 1, plan["parts"] > 1, plan["taps"] > 1)
    elif plan["kernel"] == "direct":
        # Its tiles are all of 256 threads, shared out in many ways; what is compiled is a thread's part.
        rows, columns = plan["tile_rows"], plan["tile_columns"]
        tile = (rows, *plan["tile"][1:])
        step = problem.stride[0] if plan["taps"] else 0
        # A run's threads: one, some that hand each other what they have, or lanes of several warps.
        shared = (columns < 256) + (columns < 8 and plan["gather"] == "channels")
        return "direct", dtype, plan["gather"], tile, (problem.groups > 1, shared, plan["taps"], step), indices
    elif plan["kernel"] == "depthwise":
        # A window, what is copied at a time, and who shares a patch: warps, and blocks. Tiles are of any size.
        window = (problem.r, problem.stride[0])
        pairs = plan["gather"] == "pixels" and problem.dtype.itemsize == 2 and problem.w % 2 == 0
        loops = (pairs, plan["tile"][1] > 32, plan["splits"] > 1, plan["stages"] > 1)
        return "depthwise", dtype, plan["gather"], window, loops, False
    elif plan["kernel"] == "sm90_patch":
        # Input and weight are read as they are where their channels lie next to each other in whole vectors and float32
        # isn't scaled.
        vectors = problem.c // problem.groups % (16 // problem.dtype.itemsize) == 0
        vectors = vectors and (problem.dtype, plan["tile"][2]) != (torch.float32, 64)
        direct = vectors and plan["gather"] == "channels"
        as_it_is = vectors and (problem.r * problem.s == 1 or problem.weight_storage == "channels_last")
        # Tiles may run on over rows, taps have several planes, and blocks equal shares of all tiles, not of each, that
        # end between sums (2) or within them (3).
        split = plan["splits"] > 1 if plan["grains"] == 0 else min(plan["grains"], 2) + 1
        clustered = (plan["cluster"] > 1) + (plan["cluster"] > 8)
        runs_on = plan["tile_rows"] == 0
        taps = zip(problem.stride, problem.dilation, (problem.r, problem.s), strict=True)
        planes = plan["splits"] * plan["parts"] == 1 and any(a % b and extent > 1 for a, b, extent in taps)
        if split > 1 or runs_on or planes:
            direct = as_it_is = False  # each is read by the same lines
        loops = (split, plan["parts"] > 1, clustered, problem.c > plan["tile"][2], direct, as_it_is, runs_on, planes)
    elif plan["kernel"] == "sm80_window":
        oh, ow = problem.output_size
        if (problem.r, problem.s, problem.stride, problem.padding) == (1, 1, (1, 1), (0, 0)):
            oh, ow = 1, oh * ow  # rows are joined
        tiles = (problem.n or 1) * -(-oh // plan["tile_rows"]) * -(-ow // plan["tile_columns"])
        tile = plan["tile"]
        rows = (plan["tile_rows"] - 1) * problem.stride[0] + (problem.r - 1) * problem.dilation[0] + 1
        columns = (plan["tile_columns"] - 1) * problem.stride[1] + (problem.s - 1) * problem.dilation[1] + 1
        many = problem.c * rows * columns > 5 * plan["threads"]  # more than its threads have in registers
        loops = (problem.k > tile[1], many and tiles > plan["blocks"], problem.storage == "channels_last")
    elif plan["kernel"] == "sm90":
        loops = (problem.c > 64, problem.k > plan["tile"][1])
    return plan["kernel"], dtype, plan["gather"], plan["tile"], loops, indices


def choose(device: _C.Device, kernels: list[str]) -> dict[Variant, list[Case]]:
    """For every variant that a plan can be, the cheapest problem that leads to it, and the cheapest that differs from
    that in having a bias or padding."""
    chosen: dict[Variant, list[Case]] = {}
    for problem in candidates():
        for kernel in kernels:
            for precision in ("ieee", "tf32") if problem.dtype == torch.float32 else ("ieee",):
                for indices in (False, True):
                    plan = _C.plan(describe(problem, precision, indices), device, kernel)
                    if not plan["accepted"]:
                        continue
                    cases = chosen.setdefault(variant_of(problem, plan, indices), [])
                    traits = (problem.bias, max(problem.padding) > 0)
                    if not cases or (len(cases) < 2 and traits != (cases[0][0].bias, max(cases[0][0].padding) > 0)):
                        cases.append((problem, precision, indices))
    return chosen


def kinds(kernel: str, problem: Problem) -> list[Problem]:
    """The problem, in float32 with numbers that tensor cores leave to the portable kernel, one of them where all would
    take it long; at a misaligned address too or, for persistent kernels, with rows enough that each block does several.
    """
    left = "overflow16" if 10 * problem.products <= MAX_PRODUCTS else "one_negative_inf"
    noted = problem.replace(fill=left) if problem.dtype == torch.float32 else problem
    if kernel in ("simt", "direct", "depthwise", "sm80_window"):
        return [problem, problem.replace(storage="offset")]
    if kernel == "sm80":
        return [noted, problem.replace(storage="offset")]
    taller = problem.replace(h=max(problem.h, 280))
    return [noted, taller] if taller.products <= MAX_PRODUCTS else [noted]


def run(kernel: str, problem: Problem, precision: str, with_indices: bool) -> None:
    """One call, checked on the CPU, so that only our kernels run under the sanitizer."""
    x, weight, bias = problem.tensors("cuda")
    indices = None
    with fp32_class(precision), convmin.force_kernel(kernel):
        if with_indices:
            values, indices = convmin.conv2d_scale_min_with_indices(x, weight, bias, problem.scale, **problem.kwargs())
        else:
            values = convmin.conv2d_scale_min(x, weight, bias, problem.scale, **problem.kwargs())
    tensors = problem.tensors()
    oracle = solve(
        *tensors, problem.scale, precision=precision, tensor_cores=kernel not in SCALAR_KERNELS, **problem.kwargs()
    )
    check_bounds(values.cpu(), None if indices is None else indices.cpu(), oracle)


def backward_variant_of(problem: Problem, plan: _C.BackwardPlan) -> tuple[object, ...]:
    """What of the kernels of grad_weight the problem takes."""
    dtype = str(problem.dtype).removeprefix("torch.")
    if plan["grad_weight"] == "window":
        return "window", dtype, problem.storage, plan["ranges"] > 1, plan["pairs"]
    layout = plan["vectors"], plan["slice_images"] > 0, problem.groups > 1
    return "runs", dtype, plan["team"], plan["team_chunks"] > 1, *layout


def backward_problems() -> list[Problem]:
    """Every kernel of the backward: both of each gradient, one pass of the sort and several, all index types, lanes and
    layouts; then the cheapest problem for each variant that none of these is."""
    shapes = [
        Problem(n=2, c=3, h=13, w=17, k=5, r=2, s=4, stride=(2, 1), padding=(1, 2), dilation=(1, 2)),
        Problem(n=2, c=12, h=11, w=9, k=9, groups=3, padding=(1, 1)),
        Problem(n=1, c=70, h=9, w=30, k=300, r=1, s=1),
        Problem(n=1, c=2, h=5, w=30, k=33000, r=1, s=1),
        Problem(n=1, c=8, h=12, w=30, k=1100, r=1, s=1),
        Problem(n=2, c=40, h=19, w=67, k=20, padding=(1, 1)),
        Problem(n=1, c=16, h=40, w=128, k=150),
        Problem(n=1, c=16, h=40, w=128, k=100, padding=(1, 1)),
    ]
    layouts = (*STORAGES[:2], "offset")
    problems = [s.replace(dtype=d, storage=m, weight_storage=m) for s, d, m in product(shapes, DTYPES, layouts)]
    problems = [p for p in problems if p.k < 10000 or p.storage == "contiguous"]
    # As few tiles as are loaded in pairs of elements, on a GPU of 132 multiprocessors.
    pairs = Problem(n=3, c=18, h=194, w=258, k=5, padding=(1, 1))
    halves = (torch.float16, torch.bfloat16)
    problems += [pairs.replace(dtype=d, storage=m, weight_storage=m) for d, m in product(halves, STORAGES[:2])]
    met = {backward_variant_of(p, plan_backward(p)) for p in problems}
    rng = random.Random(1)
    drawn = [backward_problem(rng) for _ in range(6000)]
    for problem in sorted(drawn, key=lambda p: p.products):
        variant = backward_variant_of(problem, plan_backward(problem))
        if variant not in met:
            met.add(variant)
            problems.append(problem)
    return problems


def backward_problem(rng: random.Random) -> Problem:
    """At random, with channels and groups that lead to teams of every size."""
    problem = random_problem(rng, 2_000_000, ("normal",))
    groups = rng.choice((1, 1, 2, 5))
    problem = problem.replace(c=groups * rng.choice((1, 2, 3, 8, 16, 24, 40)), k=groups * rng.choice((1, 4, 9, 60)))
    return problem.replace(n=problem.n or 1, groups=groups, storage=rng.choice(STORAGES[:2]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="print the problems and stop")
    parser.add_argument("--only", choices=("forward", "backward"), help="half of the problems")
    parser.add_argument("--kernels", nargs="+", help="of the forward, these alone")
    parser.add_argument("--part", default="1/1", metavar="I/N", help="only the I-th of N parts, for several at once")
    arguments = parser.parse_args()
    part, parts = map(int, arguments.part.split("/"))
    torch.set_num_threads(1)  # small problems, and a sanitizer waits for every thread
    there = torch.cuda.is_available()
    if not (there or arguments.list):
        print("sanitize: no GPU", file=sys.stderr)
        return 1
    device = convmin.DeviceProperties.of(torch.device("cuda")) if there else DEVICES["H200"]
    kernels = arguments.kernels or convmin.build_info()["kernels"]
    chosen = {} if arguments.only == "backward" else choose(device.as_dict(), kernels)
    chosen = dict(sorted(chosen.items())[part - 1 :: parts])
    start, failures = time.perf_counter(), 0
    for done, (variant, cases) in enumerate(chosen.items()):
        if not arguments.list:  # a sanitizer makes this slow: say where it is
            print(f"{time.perf_counter() - start:.0f} s: {done + 1} of {len(chosen)}:", *variant, flush=True)
        for case in cases:
            if arguments.list:
                print(*variant, case[1], case[0])
                continue
            for problem in kinds(variant[0], case[0]):
                try:
                    run(variant[0], problem, *case[1:])
                except (AssertionError, RuntimeError) as error:
                    failures += 1
                    print(f"{variant} {problem!r} {case[1]}: {error}")
    backward = [] if arguments.only == "forward" else backward_problems()[part - 1 :: parts]
    for done, problem in enumerate(backward):
        print(f"{time.perf_counter() - start:.0f} s: backward {done + 1} of {len(backward)}: {problem}", flush=True)
        if arguments.list:
            continue
        try:
            check_gradients(make_case(problem, "cuda", ("random", "one")[done % 2]))
        except (AssertionError, RuntimeError) as error:
            failures += 1
            print(f"backward {problem!r}: {error}")
    count = sum(map(len, chosen.values())) + len(backward)
    print(f"{count} problems, {len(chosen)} variants, {failures} broken, {time.perf_counter() - start:.1f} s")
    return 1 if failures or not count else 0


if __name__ == "__main__":
    sys.exit(main())
