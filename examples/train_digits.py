"""Trains a small network with ConvScaleMin2d layers on scikit-learn's digits, next to the same network of PyTorch's
own operators, from the same seeds: the losses and accuracies have to agree.

    python examples/train_digits.py --out digits                 # table, digits.png, checkpoints
    python examples/train_digits.py --out digits --resume        # goes on where a run was stopped, to the bit
    python examples/train_digits.py --device cuda --amp float16  # autocast, with a GradScaler
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import statistics
import sys
from pathlib import Path
from typing import Any

import convmin
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

FEATURES, HEADS, FILTERS = 16, 8, 8
BATCH = 64
TEST_SHARE = 5  # every fifth image


class PlainConvScaleMin(nn.Conv2d):
    """ConvScaleMin2d of PyTorch's own operators."""

    def __init__(self, *args: Any, scale_factor: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.scale_factor = scale_factor

    def forward(self, x: Tensor) -> Tensor:
        return torch.min(super().forward(x) * self.scale_factor, dim=-3, keepdim=True).values


LAYERS = {"convmin": convmin.ConvScaleMin2d, "nn.Conv2d": PlainConvScaleMin}


class Network(nn.Module):
    """Features by a convolution; each head the minimum over a bank of filters of its own; a linear classifier."""

    def __init__(self, layer: type[nn.Conv2d]) -> None:
        super().__init__()
        self.features = nn.Conv2d(1, FEATURES, 3, padding=1)
        self.heads = nn.ModuleList(layer(FEATURES, FILTERS, 3, scale_factor=2.0, padding=1) for _ in range(HEADS))
        self.classifier = nn.Linear(HEADS * 8 * 8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.features(x))
        return self.classifier(torch.cat([head(x) for head in self.heads], dim=1).flatten(1))


@dataclasses.dataclass
class Data:
    images: Tensor  # [n, 1, 8, 8], 0 to 1
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def load(device: str) -> Data:
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32, device=device)[:, None] / 16
    labels = torch.tensor(digits.target, device=device)
    test = torch.arange(len(images), device=device) % TEST_SHARE == 0
    return Data(images[~test], labels[~test], images[test], labels[test])


class Run:
    """One training run: a layer and a seed. Its whole state is what state() says, so that a resumed run is the same."""

    def __init__(self, layer: str, seed: int, device: str, amp: torch.dtype | None) -> None:
        torch.manual_seed(seed)
        self.device, self.amp = device, amp
        self.model = Network(LAYERS[layer]).to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), 2e-3)
        self.scaler = torch.amp.GradScaler(device, enabled=amp == torch.float16)
        self.generator = torch.Generator().manual_seed(seed)
        self.losses: list[float] = []  # of every step
        self.accuracies: list[float] = []  # of every epoch

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "generator": self.generator.get_state(),
            "losses": self.losses,
            "accuracies": self.accuracies,
        }

    def restore(self, state: dict[str, Any]) -> None:
        for name in ("model", "optimizer", "scaler"):
            getattr(self, name).load_state_dict(state[name])
        self.generator.set_state(state["generator"])
        self.losses, self.accuracies = list(state["losses"]), list(state["accuracies"])

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.device, self.amp) if self.amp else contextlib.nullcontext()

    def epoch(self, data: Data) -> None:
        losses = []
        for batch in torch.randperm(len(data.images), generator=self.generator).to(self.device).split(BATCH):
            self.optimizer.zero_grad()
            with self.autocast():
                loss = F.cross_entropy(self.model(data.images[batch]), data.labels[batch])
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            losses.append(loss.detach())
        self.losses += torch.stack(losses).tolist()
        with torch.no_grad(), self.autocast():
            guesses = self.model(data.test_images).argmax(1)
        self.accuracies.append(float((guesses == data.test_labels).float().mean()))


def train(options: argparse.Namespace) -> dict[str, list[Run]]:
    """Every layer from every seed; after each epoch the run's checkpoint is written."""
    torch.backends.cudnn.deterministic = True  # the plain convolutions' gradients, or a resumed run would differ
    amp = getattr(torch, options.amp) if options.amp else None
    data = load(options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    runs: dict[str, list[Run]] = {name: [] for name in LAYERS}
    with tqdm(total=len(LAYERS) * len(options.seeds) * options.epochs, unit="epoch", disable=options.quiet) as progress:
        for seed in options.seeds:
            for name in LAYERS:
                run = Run(name, seed, options.device, amp)
                checkpoint = options.out / f"{name}-{seed}.pt"
                if options.resume and checkpoint.exists():
                    run.restore(torch.load(checkpoint, map_location="cpu", weights_only=True))
                progress.update(min(len(run.accuracies), options.epochs))
                while len(run.accuracies) < options.epochs:
                    run.epoch(data)
                    partial = checkpoint.with_suffix(".part")
                    torch.save(run.state(), partial)
                    partial.replace(checkpoint)  # whole or not at all
                    progress.set_postfix_str(f"{name}, seed {seed}: {run.accuracies[-1]:.1%}")
                    progress.update()
                runs[name].append(run)
    return runs


def table(runs: dict[str, list[Run]], seeds: list[int]) -> str:
    lines = ["| seed | layer | first loss | last epoch's loss | accuracy |", "| --- | --- | --- | --- | --- |"]
    for i, seed in enumerate(seeds):
        for name in runs:
            run = runs[name][i]
            last = statistics.mean(run.losses[-len(run.losses) // max(len(run.accuracies), 1) :])
            lines.append(f"| {seed} | {name} | {run.losses[0]:.4f} | {last:.4f} | {run.accuracies[-1]:.1%} |")
    for name in runs:
        finals = [run.accuracies[-1] for run in runs[name]]
        spread = statistics.stdev(finals) if len(finals) > 1 else 0.0
        lines.append(f"| all | {name} | | | {statistics.mean(finals):.1%} ± {spread:.1%} |")
    return "\n".join(lines)


def plot(runs: dict[str, list[Run]], path: Path) -> None:
    """Loss of every step and accuracy of every epoch, one line a run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, color, style in zip(runs, ("#c2410c", "#1d4ed8"), ("-", "--"), strict=True):
        for i, run in enumerate(runs[name]):
            label = name if i == 0 else None
            left.plot(run.losses, style, color=color, label=label, linewidth=0.9, alpha=0.8)
            right.plot(range(1, len(run.accuracies) + 1), run.accuracies, style, color=color, label=label, alpha=0.8)
    left.set(xlabel="step", ylabel="loss", yscale="log")
    right.set(xlabel="epoch", ylabel="test accuracy")
    left.legend()
    figure.savefig(path, dpi=120)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--amp", choices=("bfloat16", "float16"), help="autocast to this type")
    parser.add_argument("--out", type=Path, default=Path("digits"), help="folder for checkpoints and digits.png")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoints that are there")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> dict[str, list[Run]]:
    """Trains, prints the table, draws the curves, and returns the runs by layer."""
    options = parse(argv)
    runs = train(options)
    print(table(runs, options.seeds))
    plot(runs, options.out / "digits.png")
    return runs


if __name__ == "__main__":
    main()
    sys.exit(0)
