"""How much an update amplifies what W has in its directions: by layer, and over the training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lora_repro.analysis.updates import NAMES, Probed, directions, factors, groups_of, random_factors
from lora_repro.report.figures.curves import Curve, Plot, Spot, save


def figures(runs: Sequence[Probed], title: str, stem: Path) -> list[Path]:
    """Amplification by layer, and its median over layers during the training, a panel a kind of matrix each.

    Dashed: the null of `random_factors`.
    """
    if not runs:
        return []
    panels = []
    for kind in runs[0].kinds:
        drawn: list[list[Curve]] = [[], [], [], []]
        by_layer, by_step, random_layer, random_step = drawn
        for group in groups_of(runs):
            for r in directions(group[0]):
                name = group[0].label if group[0].rank else f"{group[0].label}, top {r}"
                steps = group[0].arrays["steps"]
                for of, layered, stepped in ((factors, by_layer, by_step), (random_factors, random_layer, random_step)):
                    layers = np.array([of(run, kind, r) for run in group])  # (seeds, L)
                    layered.append(_curve(name, np.arange(1, layers.shape[1] + 1), layers))
                    medians = np.array([[np.median(of(run, kind, r, t)) for t in range(len(steps))] for run in group])
                    stepped.append(_curve(name, steps, medians))
        ylabel = "amplification ‖ΔW‖ / ‖UᵀWV‖ (log scale)"
        ends = ("by layer, at the end", "layer", by_layer, random_layer)
        for name, xlabel, lines, random in (ends, ("median over layers", "training step", by_step, random_step)):
            where = f"{NAMES[kind]}, {name}"
            panels.append(Plot(where, xlabel, ylabel, tuple(lines), references=tuple(random),
                                      scale="linear", log_y=True))  # fmt: skip
    title = f"{title}\nDashed: an update of the same norm in random directions"
    return save(panels, stem, columns=2, title=title)


def _curve(name: str, x: np.ndarray, values: np.ndarray) -> Curve:
    """values (seeds, len(x)) as mean ± sd."""
    sd = values.std(axis=0, ddof=1) if len(values) > 1 else [None] * len(x)
    spots = [
        Spot(float(at), float(mean), None if spread is None else float(spread))
        for at, mean, spread in zip(x, values.mean(axis=0), sd, strict=True)
        if np.isfinite(mean)
    ]
    return Curve(name, tuple(spots))
