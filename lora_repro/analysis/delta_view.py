"""Table 7 of the paper and its figures: how much of W lies in the directions of its update, from probed runs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lora_repro.analysis.updates import NAMES, Probed
from lora_repro.tables import curves
from lora_repro.tables.rows import Block
from lora_repro.tables.sheet import Sheet


def directions(run: Probed) -> list[int]:
    """The r to look at: the rank of a LoRA run, all that were measured for another method."""
    kind = run.kinds[0]
    measured = sorted(int(name.rpartition("_")[2]) for name in run.arrays if name.startswith(f"{kind}.inside_"))
    return [r for r in measured if run.rank is None or r == run.rank]


def factors(run: Probed, kind: str, r: int, step: int = -1) -> np.ndarray:
    """Amplification ||D||_F / ||U^T W V||_F of every layer, alpha / rank included, at an observed step (-1: the end)."""
    return np.asarray(run.arrays[f"{kind}.norm"][step] / run.arrays[f"{kind}.inside_{r}"][step])


def random_factors(run: Probed, kind: str, r: int, step: int = -1) -> np.ndarray:
    """The null of `factors`: ||D||_F / ||U^T W V||_F of every layer with U, V random, for an update of the same norm."""
    return np.asarray(run.arrays[f"{kind}.norm"][step] / run.arrays[f"{kind}.weight_random_{r}"])


def sheets(runs: Sequence[Probed], facts: tuple[str, ...], blocks: Sequence[Block] = ()) -> list[Sheet]:
    """One sheet a kind of matrix: the middle layer's norms as in Table 7, and the median amplification over all layers."""
    found = []
    for kind in runs[0].kinds if runs else []:
        rows = []
        for group in _groups(runs):
            rows += [_line(group, kind, r) for r in directions(group[0])]
        if kind == "query":
            papers = [row.paper.get("gpt3_175b") or {} for block in blocks[:1] for row in block.rows]
            rows += [_quoted(values) for paper in papers for values in paper.get("layer_48", [])]
        layer = runs[0].middle
        header = (
            "Run", "r", "‖UᵀWV‖, U V of ΔW", "of W", "random", "‖W‖", "‖ΔW‖",
            "‖ΔW‖/‖UᵀWV‖", "without α/r", "random U V", "median, all layers", "random U V, median", "n",
        )  # fmt: skip
        title = f"{facts[0]}: {NAMES[kind]}, layer {layer + 1} of {runs[0].n_layers}"
        found.append(Sheet((title, *facts[1:]), header, "l" + "r" * 12, tuple(rows), NOTES))
    return found


NOTES = (
    "Frobenius norms; U, V: the top r singular directions of ΔW, of W, or random ones. ΔW is the effective update, α/r "
    "included; the paper does not say whether its own is.",
    "‖ΔW‖/‖UᵀWV‖, U and V of ΔW: the amplification factor. It scales with α/r: both forms stand here. Full fine-tuning has no "
    "α/r and, at rank r, only a part of its ΔW in U and V.",
    "random U V: one draw a layer, the same for all runs; the quotient is that of an update of the same norm in random "
    "directions (the paper's from its rounded entries). A factor below it, as the paper's is, says that the update overlaps "
    "W more than random directions do.",
    "Mean ± sample sd over n seeds; † n = 1: no spread, supports no verdict.",
)


def _quoted(values: dict[str, float]) -> tuple[str, ...]:
    """A line of the paper's Table 7, as its row in conf/ has it."""
    keys = ("update", "weight", "random", "weight_norm", "update_norm", "amplification")
    return ("paper, GPT-3, layer 48", str(values["r"]), *[f"{values[key]:.2f}" for key in keys[:-1]],
            str(values["amplification"]), "—", f"{values['update_norm'] / values['random']:.0f}", "—", "—", "—")  # fmt: skip


def _groups(runs: Sequence[Probed]) -> list[list[Probed]]:
    labels = dict.fromkeys(run.label for run in runs)
    return [[run for run in runs if run.label == label] for label in labels]


def _line(group: Sequence[Probed], kind: str, r: int) -> tuple[str, ...]:
    layer = group[0].middle

    def over_seeds(values: Sequence[float]) -> str:
        if not np.isfinite(values).all():
            return "—"
        spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "†"
        return f"{statistics.fmean(values):.2f}{spread}"

    def last(name: str) -> list[float]:
        return [float(run.arrays[f"{kind}.{name}"][-1][layer]) for run in group]

    of_weight = (f"weight_top_{r}", f"weight_random_{r}", "weight_norm")
    constants = [f"{float(group[0].arrays[f'{kind}.{name}'][layer]):.2f}" for name in of_weight]
    amplified = [float(factors(run, kind, r)[layer]) for run in group]
    random = [random_factors(run, kind, r) for run in group]
    medians = [float(np.median(factors(run, kind, r))) for run in group]
    without = over_seeds([value / (run.scaling or 1) for value, run in zip(amplified, group, strict=True)])
    return (
        group[0].label,
        str(r),
        over_seeds(last(f"inside_{r}")),
        *constants,
        over_seeds(last("norm")),
        over_seeds(amplified),
        without if group[0].scaling else "—",
        over_seeds([float(found[layer]) for found in random]),
        over_seeds(medians),
        over_seeds([float(np.median(found)) for found in random]),
        str(len(group)),
    )


def figures(runs: Sequence[Probed], title: str, folder: Path) -> list[Path]:
    """delta_w: amplification by layer, and its median over layers during the training, a panel a kind of matrix each.

    Dashed: the null of `random_factors`.
    """
    if not runs:
        return []
    panels = []
    for kind in runs[0].kinds:
        drawn: list[list[curves.Curve]] = [[], [], [], []]
        by_layer, by_step, random_layer, random_step = drawn
        for group in _groups(runs):
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
            panels.append(curves.Plot(where, xlabel, ylabel, tuple(lines), references=tuple(random),
                                      scale="linear", log_y=True))  # fmt: skip
    title = f"{title}\nDashed: an update of the same norm in random directions"
    return curves.save(panels, folder / "delta_w", columns=2, title=title)


def _curve(name: str, x: np.ndarray, values: np.ndarray) -> curves.Curve:
    """values (seeds, len(x)) as mean ± sd."""
    sd = values.std(axis=0, ddof=1) if len(values) > 1 else [None] * len(x)
    spots = [
        curves.Spot(float(at), float(mean), None if spread is None else float(spread))
        for at, mean, spread in zip(x, values.mean(axis=0), sd, strict=True)
        if np.isfinite(mean)
    ]
    return curves.Curve(name, tuple(spots))
