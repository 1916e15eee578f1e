"""How much an update amplifies the part of W in its directions: by layer, and over the training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lora_repro.analysis.probed_run import (
    NAMES,
    ProbedRun,
    directions,
    groups_of,
    random_factors,
    update_factors,
)
from lora_repro.report.figures.curves import Curve, CurvePoint, Plot, save

PAPER = "The paper (GPT-3 175B, layer 48): 21.5 at r = 4, around 2 at r = 64."


def figures(runs: Sequence[ProbedRun], title: str, stem: Path) -> list[Path]:
    """For each kind of matrix one panel with the amplification by layer, and one with its median over layers during training.

    Dashed: the null of `random_factors`. title: whose runs these are, for the caption.
    """
    runs = [run for run in runs if directions(run)]  # at some ranks the probe counts intruders only
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
                for of, layered, stepped in ((update_factors, by_layer, by_step), (random_factors, random_layer, random_step)):
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
    caption = f"{'. '.join(title.splitlines()).rstrip('.')}. Dashed: an update of the same norm in random directions. {PAPER}"
    return save(panels, stem, columns=2, title=_statement(runs), caption=caption)


def _statement(runs: Sequence[ProbedRun]) -> str:
    """The figure's title: the median over layers for the first rank and matrix at the end of training, mean over seeds."""
    group, kind = groups_of(runs)[0], runs[0].kinds[0]
    r = directions(group[0])[0]
    ours, random = (np.mean([np.median(of(run, kind, r)) for run in group]) for of in (update_factors, random_factors))
    return (
        f"‖Δ{NAMES[kind]}‖ of {group[0].label} is {ours:.1f} times the norm of {NAMES[kind]} in the update's top {r} directions, "
        f"and {random:.1f} times its norm in random directions"
    )


def _curve(name: str, x: np.ndarray, values: np.ndarray) -> Curve:
    """The curve of values (seeds, len(x)) as mean ± sd."""
    sd = values.std(axis=0, ddof=1) if len(values) > 1 else [None] * len(x)
    spots = [
        CurvePoint(float(at), float(mean), None if spread is None else float(spread))
        for at, mean, spread in zip(x, values.mean(axis=0), sd, strict=True)
        if np.isfinite(mean)
    ]
    return Curve(name, tuple(spots))
