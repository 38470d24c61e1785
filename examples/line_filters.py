"""A bank of oriented line filters, and the picture of what it finds.

A filter responds to a dark line of its own direction with a large negative number, so the minimum over the bank is how
much of a dark line passes through a pixel, and the index of the minimum says in which direction it runs.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpecFromSubplotSpec
from torch import Tensor

ORIENTATIONS = 24
WIDTHS = (1.2, 2.4)  # standard deviation across the line, pixels
LENGTH = 3.6  # along it
SIZE = 15
LUMINANCE = (0.299, 0.587, 0.114)

BACKGROUND = np.array([0.05, 0.05, 0.065])
INK = "#e8e6e1"


def filter_bank() -> Tensor:
    """The weights, shape [len(WIDTHS) * ORIENTATIONS, 3, SIZE, SIZE]; channel k has orientation k % ORIENTATIONS.

    Minus the second derivative of a Gaussian across the line, times a longer Gaussian along it; zero mean, so that flat
    areas give nothing, and unit sum of magnitudes, so that widths compare.
    """
    axis = torch.arange(SIZE) - SIZE // 2
    y, x = torch.meshgrid(-axis.double(), axis.double(), indexing="ij")  # y upwards
    filters = []
    for sigma in WIDTHS:
        for angle in (torch.arange(ORIENTATIONS) * math.pi / ORIENTATIONS).tolist():
            along = x * math.cos(angle) + y * math.sin(angle)
            across = y * math.cos(angle) - x * math.sin(angle)
            envelope = torch.exp(-((across / sigma) ** 2) / 2 - (along / LENGTH) ** 2 / 2)
            profile = (1 - (across / sigma) ** 2) * envelope
            profile -= envelope * (profile.sum() / envelope.sum())  # what sampling left of the mean
            filters.append(profile / profile.abs().sum())
    bank = torch.stack(filters).float()
    return bank[:, None] * torch.tensor(LUMINANCE)[None, :, None, None]


def hue_circle(count: int, lightness: float = 0.78, chroma: float = 0.15) -> np.ndarray:
    """`count` colours [count, 3] of equal lightness around the OKLCH circle, so that no direction outshines another."""
    angle = np.arange(count) / count * 2 * math.pi + 0.5
    a, b = chroma * np.cos(angle), chroma * np.sin(angle)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = np.stack(
        [
            4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
        ],
        axis=-1,
    ).clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def line_strength(minimum: np.ndarray) -> np.ndarray:
    """How dark a line passes here, 0 to 1: the 99.5th percentile counts as full."""
    strength = np.maximum(-minimum, 0)
    return (strength / np.percentile(strength, 99.5)).clip(0, 1)


def _filters(figure: Figure, strip: GridSpecFromSubplotSpec, colours: np.ndarray) -> None:
    """Every filter: what a line must cover in the line's colour, what must be brighter beside it in grey."""
    for k, weights in enumerate(filter_bank().sum(1).numpy()):
        axes = figure.add_subplot(strip[k // ORIENTATIONS, k % ORIENTATIONS])
        size = np.abs(weights / weights.max())[..., None].clip(0, 1) ** 0.7
        ink = np.where(weights[..., None] > 0, colours[k % ORIENTATIONS], 0.62)
        axes.imshow(BACKGROUND + size * (ink - BACKGROUND), interpolation="bicubic")
        axes.set_axis_off()


def _wheel(axes: Axes, colours: np.ndarray) -> None:
    """The legend: a line of every orientation, in its colour."""
    for k, colour in enumerate(colours):
        direction = np.exp(1j * math.pi * k / len(colours))
        for start, end in ((0.35, 1), (-0.35, -1)):
            points = direction * np.array([start, end])
            axes.plot(points.real, points.imag, color=colour, lw=3.4, solid_capstyle="round")
    axes.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), aspect="equal")
    axes.set_axis_off()


def draw(photographs: list[np.ndarray], minima: list[np.ndarray], winners: list[np.ndarray], path: Path) -> None:
    """Writes the picture: a row per photograph, and the filters below.

    Args:
        photographs: [H, W, 3], uint8.
        minima: [H, W], the minimum over the bank.
        winners: [H, W], the channel that attains it.
        path: the PNG file.
    """
    colours = hue_circle(ORIENTATIONS)
    rows = len(photographs)
    height, width, _ = photographs[0].shape
    panel = 6.3 * height / width
    figure = Figure(figsize=(19.2, panel * rows + 2.15), facecolor=BACKGROUND)
    grid = figure.add_gridspec(
        rows + 1, 1, height_ratios=[panel] * rows + [1.35], left=0.01, right=0.99, top=0.95, bottom=0.012, hspace=0.035
    )
    titles = ("photograph", "minimum over the filters: dark lines", "filter that attains it: their direction")
    for row, (photograph, minimum, winner) in enumerate(zip(photographs, minima, winners, strict=True)):
        strength = line_strength(minimum)
        drawing = 1 - 0.97 * strength**0.8
        directions = BACKGROUND + (colours[winner % ORIENTATIONS] - BACKGROUND) * strength[..., None] ** 0.6
        cells = grid[row].subgridspec(1, 3, wspace=0.015)
        for column, image in enumerate((photograph, drawing, directions)):
            axes = figure.add_subplot(cells[column])
            axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="lanczos")
            axes.set_axis_off()
            if row == 0:
                axes.set_title(titles[column], color=INK, fontsize=16, loc="left", pad=9)
    strip = grid[rows].subgridspec(len(WIDTHS), ORIENTATIONS + 3, wspace=0.06, hspace=0.06)
    _filters(figure, strip, colours)
    _wheel(figure.add_subplot(strip[:, ORIENTATIONS:]), colours)
    figure.savefig(path, dpi=100)
