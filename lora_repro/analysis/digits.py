"""Check random directions where the answer is known: networks on images of digits, after Li et al. 2018 (arXiv 1804.08838, 3).

    python -m lora_repro digits                          four minutes of one core; needs no download
    python -m lora_repro digits --to results/digits      also writes digits.md and .csv, and the figure

Li et al. train 784-w-w-10 networks on MNIST from random weights along d random directions. d90, the d at which they reach 90 % of
the accuracy of training all values, is 750 at w = 200, and hardly depends on the width, though the number of values does. The
images here are the 8 x 8 digits that scikit-learn brings, so only that independence can be compared. The directions are those of
method=intrinsic_dimension (DID).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from lora_repro import cli
from lora_repro.methods._fastfood import Fastfood
from lora_repro.methods._subspace import Moved, Subspace
from lora_repro.records import manifest
from lora_repro.report.statistics import Mean, summarise
from lora_repro.report.table import EMPTY, REPRODUCE, Table, format_count, save_tables
from lora_repro.report.terminal import terminal

WIDTHS = (50, 100, 200)
SIZES = (25, 50, 100, 150, 200, 300, 400, 600)
SEEDS = (0, 1, 2)
TRIAL = 1000  # the seed that chooses a rate, by held-out images
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3)
STEPS, BATCH = 400, 100
TRAIN, HELD_OUT = 1000, 297  # of 1,797 images; the other 500 are tested
SHARE = 0.9
Part = tuple[torch.Tensor, torch.Tensor]  # images (n, 64) with values from 0 to 1, digits (n,)


def images() -> tuple[Part, Part, Part]:
    """(train, held out, test), shuffled once."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]  # lazy: slow to import

    found = load_digits()
    order = torch.randperm(len(found.target), generator=torch.Generator().manual_seed(0))
    x, y = torch.tensor(found.data, dtype=torch.float32)[order] / 16, torch.tensor(found.target)[order]
    first, last = TRAIN, TRAIN + HELD_OUT
    return (x[:first], y[:first]), (x[first:last], y[first:last]), (x[last:], y[last:])


def network(width: int, d: int | None, seed: int) -> tuple[nn.Module, list[nn.Parameter], int]:
    """(64-width-width-10 with ReLU, what is trained, the number of its own values). d None: all of these are trained."""
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))
    own = [(module, name, p) for module in made.modules() for name, p in module.named_parameters(recurse=False)]
    values = sum(p.numel() for *_, p in own)
    if d is None:
        return made, [p for *_, p in own], values
    shared = Subspace(d, 0, torch.device("cpu"))
    for number, (module, name, p) in enumerate(own):
        p.requires_grad_(False)
        moved = Moved(shared, 0, Fastfood(p.numel(), d, seed * 1_000_003 + number), 1.0)
        register_parametrization(module, name, moved, unsafe=True)
    return made, [shared.theta], values


def accuracy(width: int, d: int | None, lr: float, seed: int, train: Part, judged: Part) -> float:
    """Accuracy in per cent on `judged` after `STEPS` steps of Adam."""
    model, trained, _ = network(width, d, seed)
    optimizer = torch.optim.Adam(trained, lr)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(STEPS):
        rows = torch.randint(len(train[1]), (BATCH,), generator=draw)
        loss = nn.functional.cross_entropy(model(train[0][rows]), train[1][rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        return 100 * float((model(judged[0]).argmax(-1) == judged[1]).float().mean())


@dataclass(frozen=True)
class Found:
    """One width: its number of values, and by d (None: all values) the accuracy over seeds at the rate that a trial chose."""

    width: int
    values: int
    by_size: dict[int | None, Mean]

    @property
    def line(self) -> float:
        return SHARE * self.by_size[None].mean

    @property
    def bracket(self) -> tuple[int | None, int | None]:
        """(the largest d below the first that was enough, that d)."""
        sizes = [d for d in self.by_size if d is not None]
        enough = next((d for d in sizes if self.by_size[d].mean >= self.line), None)
        short = [d for d in sizes if enough is None or d < enough]
        return (short[-1] if short else None), enough


def measure(widths: Sequence[int], sizes: Sequence[int], seeds: Sequence[int]) -> list[Found]:
    train, held_out, test = images()
    found = []
    with cli.bar(len(widths) * (len(sizes) + 1), "digits", "cell") as bar:
        for width in widths:
            by_size = {}
            for d in (None, *sizes):
                trials = {lr: accuracy(width, d, lr, TRIAL, train, held_out) for lr in RATES}
                best = max(trials, key=trials.__getitem__)
                by_size[d] = summarise([accuracy(width, d, best, seed, train, test) for seed in seeds])
                bar.update()
            found.append(Found(width, network(width, None, 0)[2], by_size))
    return found


def tables(found: Sequence[Found], seeds: int) -> list[Table]:
    """d90 of each width, and the accuracy at every d."""
    facts = (
        "Random directions on images of digits: 64-w-w-10 networks from random weights",
        f"scikit-learn's 8 x 8 digits: {TRAIN:,} training images, {HELD_OUT} held out, 500 for testing",
        f"{STEPS} steps of Adam on {BATCH} images; of {len(RATES)} rates the best on held-out images by one trial",
        f"Accuracy in per cent, mean ± sample sd over {seeds} seeds. {REPRODUCE}python -m lora_repro digits",
    )
    notes = (
        "d90: the smallest d tried that reaches 90 % of the accuracy of training all values.",
        "Li et al. 2018 (arXiv 1804.08838) find 750 on MNIST at w = 200, of 199,210 values, and about as many at other widths. "
        "MNIST's images have 784 pixels and are harder, so their number is not ours.",
    )
    rows = []
    for one in found:
        low, high = one.bracket
        share = EMPTY if high is None else f"{100 * high / one.values:.2f} %"
        full = (f"{one.values:,}", one.by_size[None].text(1), f"{one.line:.1f}")
        rows.append((str(one.width), *full, format_count(low), format_count(high), share))
    header = ("w", "all values", "all trained ↑", "90 % of it", "largest d too small", "d90", "d90 / all values")
    sizes = [d for d in found[0].by_size if d is not None]
    points = [(str(one.width), *(one.by_size[d].text(1) for d in sizes)) for one in found]
    columns = ("w", *(f"d = {d}" for d in sizes))
    every = Table((f"{facts[0]}: every d", *facts[1:]), columns, "l" + "r" * len(sizes), tuple(points))
    return [Table(facts, header, "lrrrrrr", tuple(rows), notes), every]


def draw(found: Sequence[Found], stem: Path) -> list[Path]:
    """Draw `stem`.svg and .png: accuracy against d, one curve per width, with 90 % of full training as a dashed line."""
    from lora_repro.report.figures import curves  # lazy: matplotlib is slow to import

    drawn, dashed = [], []
    for one in found:
        label = f"w = {one.width} ({one.values:,} values)"
        spots = [curves.CurvePoint(float(d), mean.mean, mean.sd) for d, mean in one.by_size.items() if d is not None]
        drawn.append(curves.Curve(label, tuple(spots)))
        ends = tuple(curves.CurvePoint(spot.x, one.line, None) for spot in (spots[0], spots[-1]))
        dashed.append(curves.Curve(label, ends))
    axes = ("scikit-learn's digits", "d, random directions trained", "accuracy, %")
    ticks = tuple((float(d), str(d)) for d in found[0].by_size if d is not None)
    plot = curves.Plot(*axes, tuple(drawn), ticks, references=tuple(dashed))
    reached = ", ".join(f"{one.bracket[1] or 'none tried'} at w = {one.width}" for one in found)
    title = f"The d that reaches 90 % of full training (dashed): {reached}"
    return curves.save([plot], stem, title=title, caption="After Li et al. 2018. python -m lora_repro digits")


def parser() -> argparse.ArgumentParser:
    made = cli.parser("digits", __doc__)
    made.add_argument("--to", type=Path, help="a folder for digits.md, digits.csv and the figure")
    return made


@cli.command
def main(arguments: Sequence[str]) -> int:
    """The command line above; returns the exit status."""
    given = parser().parse_args(arguments)
    found = measure(WIDTHS, SIZES, SEEDS)
    made = tables(found, len(SEEDS))
    print(terminal(made))
    if given.to:
        with manifest.writing_to(given.to) as folder:
            save_tables(made, folder / "digits")
            draw(found, folder / "digits")
    return 0
