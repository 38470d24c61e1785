"""Pictures of a report: the largest shape's times, speed-up by family, roofline, memory, and cost against size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convmin.bench import optional
from convmin.bench.report import (
    COMPILERS,
    Report,
    Result,
    fastest,
    geometric_mean,
    mean_ceilings,
    median,
    speed_up,
)

COLOURS = {
    "convmin": "#1b6ca8",
    "eager": "#b8b8b8",
    "conv": "#8c8c8c",
    "cudnn-graph": "#76b900",
    "compile": "#e3a857",
    "max-autotune": "#c8553d",
}


def draw(report: Report, folder: Path) -> list[Path]:
    """Writes the pictures that the report has figures for; none where matplotlib is missing."""
    matplotlib = optional.module("matplotlib")
    if matplotlib is None:
        return []
    matplotlib.use("Agg")
    plt: Any = optional.module("matplotlib.pyplot")
    plt.rcParams.update({"figure.dpi": 110, "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    results = [result for result in report["results"] if median(result, "convmin")]
    if not results:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, figure in (
        ("times.png", _times(plt, results)),
        ("speedup.png", _speedup(plt, results)),
        ("roofline.png", _roofline(plt, report, results)),
        ("memory.png", _memory(plt, results)),
        ("size.png", _size(plt, results)),
    ):
        if figure is not None:
            figure.suptitle(f"{report['environment']['device']}, torch {report['environment']['torch']}", fontsize=9)
            figure.tight_layout()
            figure.savefig(folder / name)
            plt.close(figure)
            drawn.append(folder / name)
    return drawn


def _groups(results: list[Result], *fields: str) -> dict[tuple[str, ...], list[Result]]:
    groups: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        groups.setdefault(tuple(result[field] for field in fields), []).append(result)
    return groups


def _times(plt: Any, results: list[Result]) -> Any:
    """Of the largest shape: a panel for each mode and layout, a group of bars for each dtype."""
    largest = max(results, key=lambda result: (result["shape"] == "headline", result["gflop"]))["shape"]
    panels = _groups([result for result in results if result["shape"] == largest], "mode", "layout")
    height = max(sum(len(_timed([result])) + 1 for result in group) for group in panels.values())
    rows = len(_groups(results, "mode")) if len(panels) > 2 else 1
    columns = -(-len(panels) // rows)
    figure, axes = plt.subplots(rows, columns, figsize=(4.4 * columns, rows * (1.2 + 0.2 * height)), squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, ((mode, layout), group) in zip(axes.flat, panels.items(), strict=False):
        place, ticks = 0.0, []
        for result in group:
            first = place
            for name in _timed([result]):
                ms = median(result, name) or 0.0
                bar = axis.barh(place, ms, 0.85, color=COLOURS[name])
                axis.bar_label(bar, labels=[f"{name} {ms:.3g}"], padding=2, fontsize=7)
                place += 1
            ticks.append(((first + place - 1) / 2, result["dtype"]))
            place += 1
        axis.set_yticks([tick for tick, _ in ticks], [name for _, name in ticks])
        axis.invert_yaxis()
        axis.margins(x=0.25)
        axis.set_xlabel("ms")
        axis.set_title(f"{group[0]['sizes']}, {mode}, {layout}", fontsize=8)
    return figure


def _timed(results: list[Result]) -> list[str]:
    return [name for name in COLOURS if any(median(result, name) for result in results)]


def _speedup(plt: Any, results: list[Result]) -> Any:
    """A panel for each mode and dtype, a pair of bars for each family."""
    groups = _groups(results, "mode", "dtype")
    panels = {kind: group for kind, group in groups.items() if len(_groups(group, "family")) > 1} or groups
    rows = [len(_groups(group, "family")) for group in panels.values()]
    size = (4.2 * len(panels), 1.4 + 0.45 * max(rows))
    figure, axes = plt.subplots(1, len(panels), figsize=size, squeeze=False)
    for axis, ((mode, dtype), group) in zip(axes[0], panels.items(), strict=True):
        families = _groups(group, "family")
        for offset, (name, peers) in enumerate((("eager", ("eager",)), ("compile", COMPILERS))):
            means = [
                geometric_mean(r for r in (speed_up(result, *peers) for result in cases) if r) or 0.0
                for cases in families.values()
            ]
            if not any(means):
                continue
            places = [i + 0.38 * (offset - 0.5) for i in range(len(families))]
            label = f"to {'eager' if name == 'eager' else 'torch.compile, the better mode'}"
            bars = axis.barh(places, means, 0.36, color=COLOURS[name], label=label)
            axis.bar_label(bars, labels=[f"{mean:.2g}" if mean else "" for mean in means], padding=2, fontsize=8)
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set_yticks(range(len(families)), [family for (family,) in families])
        axis.invert_yaxis()
        axis.set_xlabel("times faster (geometric mean)")
        axis.set_title(f"{mode}, {dtype}")
    axes[0][0].legend(fontsize=7, loc="lower right")
    return figure


def _roofline(plt: Any, report: Report, results: list[Result]) -> Any:
    """Rate against arithmetic intensity, under the roof that this machine's own product and copy make."""
    limits = mean_ceilings(report)
    dtypes = [dtype for dtype in dict.fromkeys(result["dtype"] for result in results) if dtype in limits]
    if not dtypes or "copy" not in limits:
        return None
    figure, axes = plt.subplots(1, len(dtypes), figsize=(4.2 * len(dtypes), 3.8), squeeze=False)
    for axis, dtype in zip(axes[0], dtypes, strict=True):
        peak = max(limits[dtype], limits.get("float16", 0.0)) if dtype == "tf32" else limits[dtype]
        cases = [result for result in results if result["dtype"] == dtype]
        x = {id(result): 1e3 * result["gflop"] / result["mbytes"] for result in cases}
        edge = 1e3 * peak / limits["copy"]
        low, high = min(min(x.values()), edge) / 2, max(max(x.values()), edge) * 2
        axis.plot([low, edge, high], [low * limits["copy"] / 1e3, peak, peak], color="black", linewidth=1)
        for peer in ("eager", "convmin"):
            points = [(x[id(r)], r["gflop"] / ms) for r in cases if (ms := median(r, peer))]
            axis.scatter(*zip(*points, strict=True), s=12, color=COLOURS[peer], label=peer) if points else None
        axis.set(xscale="log", yscale="log", xlabel="FLOP per byte that must move", ylabel="TFLOP/s", title=dtype)
        axis.legend(fontsize=7)
    return figure


def _memory(plt: Any, results: list[Result]) -> Any:
    """Peak memory of the headline of each mode, dtype and layout, or else of their largest case."""
    known = [result for result in results if result["peers"].get("eager", {}).get("peak_mib")]
    groups = _groups(known, "mode", "dtype", "layout").values()
    cases = [max(group, key=lambda r: (r["shape"] == "headline", r["peers"]["eager"]["peak_mib"])) for group in groups]
    if not cases:
        return None
    peers = [name for name in COLOURS if any(result["peers"].get(name, {}).get("peak_mib") for result in cases)]
    figure, axis = plt.subplots(figsize=(7.5, 0.9 + 0.7 * len(cases)))
    height = 0.8 / len(peers)
    for offset, name in enumerate(peers):
        values = [(result["peers"].get(name, {}).get("peak_mib") or 0) / 1024 for result in cases]
        places = [i + height * (offset - (len(peers) - 1) / 2) for i in range(len(cases))]
        bars = axis.barh(places, values, height * 0.92, color=COLOURS[name], label=name)
        axis.bar_label(bars, labels=[f"{value:.2g}" if value else "" for value in values], padding=2, fontsize=7)
    labels = [f"{result['shape']}\n{result['dtype']}, {result['layout']}, {result['mode']}" for result in cases]
    axis.set_yticks(range(len(cases)), labels, fontsize=7)
    axis.invert_yaxis()
    axis.set_xlabel("peak memory of a call beyond its inputs, GiB")
    axis.legend(fontsize=7)
    return figure


def _size(plt: Any, results: list[Result]) -> Any:
    """Time against images and against pixels a side, on log axes; one dtype and layout a line style's worth."""
    kinds = [(family, [r for r in results if r["family"] == family]) for family in ("batch", "pixels")]
    kinds = [(family, cases) for family, cases in kinds if cases]
    if not kinds:
        return None
    dtypes = list(dict.fromkeys(result["dtype"] for _, cases in kinds for result in cases))
    size = (4.2 * len(kinds), 3.4 * len(dtypes))
    figure, axes = plt.subplots(len(dtypes), len(kinds), figsize=size, squeeze=False)
    for row, dtype in zip(axes, dtypes, strict=True):
        for axis, (family, cases) in zip(row, kinds, strict=True):
            for layout, style in (("nchw", "-"), ("channels_last", "--")):
                chosen = [r for r in cases if r["layout"] == layout and r["dtype"] == dtype and r["mode"] == "forward"]
                for peer in COLOURS:
                    points = sorted(
                        (r["images"] if family == "batch" else (r["pixels"] / r["images"]) ** 0.5, ms)
                        for r in chosen
                        if (ms := fastest(r, [peer]))
                    )
                    if points:
                        label = peer if layout == "nchw" else None
                        axis.plot(*zip(*points, strict=True), style, marker=".", color=COLOURS[peer], label=label)
            what = "images of 256 x 256" if family == "batch" else "pixels a side, one image"
            axis.set(xscale="log", yscale="log", xlabel=what, ylabel="ms", title=dtype)
            axis.legend(fontsize=7, title="solid NCHW, dashed channels_last", title_fontsize=6)
    return figure
