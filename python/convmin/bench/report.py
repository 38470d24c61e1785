"""What was measured, as tables for people; and two reports side by side."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from convmin.bench.machine import limit_ms
from convmin.bench.peers import PEERS

Report = dict[str, Any]
Result = dict[str, Any]

COMPILERS = ("compile", "max-autotune")
PICTURES = {
    "times.png": "Times of the largest shape",
    "speedup.png": "How many times faster, by family",
    "roofline.png": "Rates under the machine's roof",
    "memory.png": "Peak memory",
    "size.png": "Times against size",
}


def key(result: Result) -> tuple[str, str, str, str]:
    return result["shape"], result["dtype"], result["layout"], result["mode"]


def median(result: Result, peer: str) -> float | None:
    """Milliseconds, where that peer was timed."""
    ms = result["peers"].get(peer, {}).get("ms")
    return ms["median"] if ms else None


def fastest(result: Result, peers: Iterable[str]) -> float | None:
    times = [ms for ms in (median(result, peer) for peer in peers) if ms is not None]
    return min(times) if times else None


def speed_up(result: Result, *peers: str) -> float | None:
    """How many times faster convmin is than the fastest of these peers."""
    mine, other = median(result, "convmin"), fastest(result, peers)
    return other / mine if mine and other else None


def geometric_mean(values: Iterable[float]) -> float | None:
    """
    Example:
        >>> geometric_mean([1.0, 4.0])
        2.0
    """
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else None


def share_of_limit(result: Result, ceilings: dict[str, float]) -> float | None:
    """By the limits of the run that measured it, where the report is of several."""
    mine, ceilings = median(result, "convmin"), result.get("ceilings", ceilings)
    limit = limit_ms(int(result["gflop"] * 1e9), int(result["mbytes"] * 1e6), result["dtype"], ceilings)
    return limit / mine if mine and limit else None


def mean_ceilings(report: Report) -> dict[str, float]:
    """Of the measurements at the beginning and at the end."""
    runs = report["ceilings"]
    return {name: sum(run[name] for run in runs) / len(runs) for name in (runs[0] if runs else {})}


def save(report: Report, folder: Path) -> None:
    """benchmark.json and benchmark.md, replaced in one piece, so that a run that is cut off leaves whole files. The
    latter shows the pictures that are in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    readable = markdown(report, [picture for picture in PICTURES if (folder / picture).exists()])
    for name, text in (("benchmark.json", json.dumps(report, indent=1) + "\n"), ("benchmark.md", readable)):
        fresh = folder / f"{name}.new"
        fresh.write_text(text)
        os.replace(fresh, folder / name)  # noqa: PTH105


def load(path: Path) -> Report:
    """A report's file, or the folder that holds it.

    Raises:
        ValueError: it is not a report of this program.
    """
    path = path / "benchmark.json" if path.is_dir() else path
    report = json.loads(path.read_text())
    if not isinstance(report, dict) or "results" not in report or "ceilings" not in report:
        raise ValueError(f"{path} is not a report of `python -m convmin bench`")
    return report


def merge(reports: list[Report]) -> Report:
    """One report of several runs on machines of one kind; of a case measured twice the later result stays. Results keep
    the limits of their own run.

    Raises:
        ValueError: they are of different devices.
    """
    environments = [report["environment"] for report in reports]
    devices = dict.fromkeys(each.get("device") for each in environments)
    if len(devices) > 1:
        raise ValueError(f"reports of different devices: {', '.join(map(str, devices))}")
    results = {
        key(result): {"ceilings": mean_ceilings(report)} | result
        for report in reports
        for result in report["results"]
        if result["peers"]
    }
    for report in reports:
        for result in report["results"]:
            results.setdefault(key(result), result)
    names = dict.fromkeys(name for report in reports for run in report["ceilings"] for name in run)
    runs = [run for report in reports for run in report["ceilings"]]
    mean = {name: [run[name] for run in runs if name in run] for name in names}
    environment = dict(environments[-1])
    for name in environment.keys() - {"date"}:
        values = dict.fromkeys(each[name] for each in environments if each.get(name) is not None)
        if len(values) > 1:
            environment[name] = ", ".join(map(str, values))
    return {
        **reports[-1],
        "environment": environment,
        "options": {str(i): report["options"] for i, report in enumerate(reports, 1)},
        "peers": list(dict.fromkeys(name for report in reports for name in report["peers"])),
        "ceilings": [{name: sum(values) / len(values) for name, values in mean.items()}] if runs else [],
        "results": list(results.values()),
    }


def _table(columns: list[str], rows: list[list[str]]) -> list[str]:
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def _number(value: float | None, form: str = ".2f") -> str:
    return "" if value is None else format(value, form)


def _cell(entry: dict[str, Any]) -> str:
    if ms := entry.get("ms"):
        return f"{ms['median']:.3f} ({ms['p10']:.3f} to {ms['p90']:.3f})"
    return "wrong result" if entry.get("wrong") else "-"


def _results(report: Report) -> list[Result]:
    return [result for result in report["results"] if result["peers"]]


def families(report: Report) -> list[list[str]]:
    """Geometric means of the speed-up by mode, dtype and family, and the worst case of each."""
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for result in _results(report):
        groups.setdefault((result["mode"], result["dtype"], result["family"]), []).append(result)
        groups.setdefault((result["mode"], result["dtype"], "all"), []).append(result)
    rows = []
    for (mode, dtype, family), results in groups.items():
        cells = [mode, dtype, family]
        for peers in (("eager",), COMPILERS, ("eager", *COMPILERS)):
            ratios = {key(result): ratio for result in results if (ratio := speed_up(result, *peers)) is not None}
            mean = geometric_mean(ratios.values())
            cells.append("" if mean is None else f"{mean:.2f} ({len(ratios)})")
        slowest = min(ratios, key=lambda name: ratios[name], default=None)
        cells.append("" if slowest is None else f"{ratios[slowest]:.2f}: {slowest[0]}, {slowest[2]}")
        rows.append(cells)
    return rows


def summary(report: Report) -> str:
    """The geometric means: what a run prints at its end."""
    columns = ["mode", "dtype", "family", "to eager (cases)", "to torch.compile", "to the faster", "least"]
    return "\n".join(_table(columns, families(report)))


def markdown(report: Report, pictures: Iterable[str] = ()) -> str:
    """The whole report, with pictures that lie beside it."""
    lines = ["# convmin benchmark", ""]
    lines += [f"- {name}: {value}" for name, value in report["environment"].items() if value is not None]
    lines += ["", "## The machine's limits", ""]
    lines += [
        "TFLOP/s of `torch.matmul` (8192³ on CUDA, 1024³ on the CPU) and GB/s of a copy, read and written; a line each",
        "for the beginning and the end of a run, or the mean of several runs' lines. On a GPU the power limit sets the",
        "clock of both, so a kernel may exceed the product's rate.",
        "",
    ]
    names = list(report["ceilings"][0]) if report["ceilings"] else []
    lines += _table(["", *names], [["", *(f"{run[name]:.4g}" for name in names)] for run in report["ceilings"]])
    lines += ["## Peers", ""]
    lines += [f"- `{name}`: {PEERS[name].what}" for name in report["peers"] if name in PEERS]
    lines += ["", "## Speed-up", "", "How many times faster convmin is: geometric means of medians, by family.", ""]
    lines += [summary(report), *_headline(report)]
    lines += [line for name in pictures for line in (f"![{PICTURES[name]}]({name})", "")]
    lines += [*_slowest(report), *_times(report), *_details(report), *_left_out(report)]
    return "\n".join(lines).rstrip() + "\n"


def _headline(report: Report) -> list[str]:
    """The headline workload at a glance, as the README has it."""
    results = [result for result in _results(report) if result["shape"] == "headline"]
    if not results:
        return []
    others = [peer for peer in report["peers"] if peer != "convmin"]
    limits = mean_ceilings(report)
    rows = []
    for result in results:
        share, ratio = share_of_limit(result, limits), speed_up(result, "eager")
        cells = [result["mode"], result["dtype"], result["layout"]]
        cells += [_number(median(result, peer), ".2f") for peer in others]
        cells += [f"**{_number(median(result, 'convmin'), '.3f')}**", _number(ratio, ".1f")]
        rows.append([*cells, "" if share is None else f"{share:.0%}"])
    columns = ["mode", "dtype", "layout", *others, "convmin", "to eager", "of the limit"]
    return ["## Headline", "", "Milliseconds, medians.", "", *_table(columns, rows)]


def _slowest(report: Report) -> list[str]:
    """Where something else is faster."""
    rows = []
    for result in _results(report):
        ratio = speed_up(result, "eager", *COMPILERS)
        if ratio is not None and ratio < 1:
            others = _number(fastest(result, ("eager", *COMPILERS)), ".4f")
            name = f"{result['shape']} ({result['sizes']})"
            rows.append([f"{ratio:.2f}", name, *key(result)[1:], others, _number(median(result, "convmin"), ".4f")])
    columns = ["times as fast", "shape", "dtype", "layout", "mode", "the fastest other, ms", "convmin, ms"]
    return ["## Slower than eager or torch.compile", "", *(_table(columns, sorted(rows)) if rows else ["None.", ""])]


def _times(report: Report) -> list[str]:
    lines = ["## Times", "", "Milliseconds: median (10th to 90th percentile).", ""]
    peers = report["peers"]
    rows = []
    for result in _results(report):
        cells = [f"{result['shape']} ({result['sizes']})", result["dtype"], result["layout"], result["mode"]]
        cells += [_cell(result["peers"].get(peer, {})) for peer in peers]
        cells += [_number(speed_up(result, "eager")), _number(speed_up(result, *COMPILERS))]
        rows.append(cells)
    return lines + _table(["shape", "dtype", "layout", "mode", *peers, "to eager", "to torch.compile"], rows)


def _details(report: Report) -> list[str]:
    lines = ["## convmin", ""]
    lines += [
        "Of the limit: what `torch.matmul` or a copy would need, whichever takes longer, as a share of convmin's time.",
        "Back to back: a call in a row of so many with warm caches; host: until it is issued. Memory: peak beyond what",
        "was there before. Error: the largest against float64; with indices also the share of pixels with another",
        "winner, in training those of the gradients of input, weight and bias, relative to their norm.",
        "",
    ]
    limits = mean_ceilings(report)
    rows = []
    for result in _results(report):
        mine = result["peers"].get("convmin", {})
        ms = mine.get("ms", {})
        share = share_of_limit(result, limits)
        peaks = [mine.get("peak_mib"), result["peers"].get("eager", {}).get("peak_mib")]
        errors = [mine.get("errors"), result.get("eager_error")]
        clocks = result.get("clocks") or {}
        rows.append(
            [
                *key(result),
                result.get("kernel", ""),
                _number(mine.get("tflops"), ".1f"),
                "" if share is None else f"{share:.0%}",
                _number(ms.get("back_to_back"), ".4f") + (f" ({ms['row']})" if "row" in ms else ""),
                _number(ms["issue"] * 1e3 if "issue" in ms else None, ".0f"),
                " / ".join(_number(peak, ".0f") for peak in peaks),
                " / ".join(", ".join(f"{error:.1e}" for error in each or []) for each in errors),
                ", ".join(clocks.values()),
            ]
        )
    columns = ["shape", "dtype", "layout", "mode", "kernel", "TFLOP/s", "of the limit", "back to back, ms", "host, us"]
    columns += ["memory, MiB (eager)", "error (eager)", "SM and memory clock, power, temperature"]
    return lines + _table([column.replace(" (eager)", ": convmin / eager") for column in columns], rows)


def _left_out(report: Report) -> list[str]:
    """By reason, with the cases it holds for."""
    reasons: dict[str, list[str]] = {}
    for result in report["results"]:
        name = " ".join(key(result))
        if "left_out" in result:
            reasons.setdefault(result["left_out"], []).append(name)
        for peer, entry in result["peers"].items():
            if "left_out" in entry or entry.get("wrong"):
                reasons.setdefault(f"{peer}: {entry.get('left_out', 'wrong result')}", []).append(name)
    lines = [f"- {reason} ({len(names)}): {', '.join(names)}" for reason, names in reasons.items()]
    return ["## Left out", "", *(lines or ["Nothing."]), ""]


def compare(old: Report, new: Report, tolerance: float) -> tuple[str, int]:
    """Cases of both reports in which convmin became slower or faster by more than the tolerance, wrong, or failed.

    A case counts as slower only where the new 10th percentile, too, is above the old median: noise is no regression.

    Returns:
        A table, and the number of regressions; reports without a common case count as one.
    """
    before = {key(result): result for result in old["results"] if median(result, "convmin")}
    rows, regressions, common = [], 0, 0
    for result in new["results"]:
        mine, was = median(result, "convmin"), before.get(key(result))
        entry = result["peers"].get("convmin", {})
        broken = "wrong result" if entry.get("wrong") else "failed" if entry.get("failed") else None
        if was is None or (mine is None and broken is None):
            continue
        common += 1
        then = was["peers"]["convmin"]["ms"]["median"]
        if mine is None:
            regressions += 1
            rows.append([*key(result), f"{then:.3f}", str(broken), "", ""])
            continue
        ratio = mine / then
        slower = ratio > 1 + tolerance and result["peers"]["convmin"]["ms"]["p10"] > then
        regressions += slower
        if slower or ratio < 1 / (1 + tolerance):
            eager = [_number(speed_up(each, "eager")) for each in (was, result)]
            word = "SLOWER" if slower else "faster"
            rows.append([*key(result), f"{then:.3f}", f"{mine:.3f}", f"{ratio:.2f} {word}", " -> ".join(eager)])
    columns = ["shape", "dtype", "layout", "mode", "before, ms", "after, ms", "after / before", "speed-up to eager"]
    text = "\n".join(_table(columns, rows)) if rows else "No difference beyond the tolerance.\n"
    devices = [report["environment"].get("device") for report in (old, new)]
    if devices[0] != devices[1]:
        text = f"Of different devices: {devices[0]}, {devices[1]}.\n{text}"
    text += f"\n{common} cases in both, {regressions} regressions beyond {tolerance:.0%}."
    if left := len(before) - common:
        text += f" {left} cases of the first are not in the second."
    return text, regressions or int(common == 0)
