"""The subspace analysis of any LoRA checkpoint: ours (a run folder), peft's (a folder), or the authors' released .bin.

    python -m lora_repro.subspace runs/mini/<signature>                        one checkpoint: spectra, query against value
    python -m lora_repro.subspace roberta_base_lora_mnli.bin --to out
    python -m lora_repro.subspace runs/mini/<one> runs/mini/<other>            two: phi of their A's, layer by layer

Writes subspace.{md,csv} and figures into --to (default: subspace/ in the current folder), and prints the sheet.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lora_repro import manners


def parser() -> argparse.ArgumentParser:
    made = manners.parser("lora_repro.subspace", __doc__)
    made.add_argument("checkpoint", type=Path, nargs="+", help="one or two checkpoints")
    made.add_argument("--to", type=Path, default=Path("subspace"), help="folder for the sheet and the figures")
    return made


manners.begin(__name__, parser)  # --help does not wait for the imports below

import sys
from collections.abc import Sequence

import numpy as np

from lora_repro.analysis import effective_rank, similarity, singular
from lora_repro.errors import UserError
from lora_repro.heatmap import Map, save
from lora_repro.lora_files import Factors, read
from lora_repro.present_updates import comma_separated
from lora_repro.sheet import Sheet, markdown, terminal
from lora_repro.subspace_view import NAMES, PHI

Checkpoint = dict[tuple[str, int], Factors]


def spectra(found: Checkpoint, name: str) -> Sheet:
    """Per layer and matrix: ||D||_F, the top direction's share of ||D||_F^2, effective rank; phi(r, r) of A_q and A_v."""
    rows = []
    for (kind, layer), factors in found.items():
        s = singular(factors.update)[1]
        r = factors.A.shape[0]
        share = f"{s[0] ** 2 / np.square(s).sum():.2f}" if s[0] else "—"
        pair = "—"
        if kind == "query" and ("value", layer) in found:
            one, other = (singular(found[key, layer].A)[2] for key in ("query", "value"))
            pair = f"{similarity(one, other)[-1, -1]:.3f} ({r / one.shape[0]:.3f})"
        norm = f"{np.linalg.norm(s):.3f}"
        rows.append((NAMES.get(kind, kind), str(layer + 1), str(r), norm, share, f"{effective_rank(s):.2f}", pair))
    header = ("Matrix", "Layer", "r", "‖ΔW‖_F", "top σ² share", "effective rank", "φ(A_q, A_v, r, r)")
    notes = (
        "ΔW = (α/r) B A. Effective rank: exp of the entropy of σ²/Σσ². φ of right singular vectors, chance in brackets.",
    )
    return Sheet((f"LoRA of {name}",), header, "lrrrrrr", tuple(rows), notes)


def overlaps(one: Checkpoint, other: Checkpoint, names: tuple[str, str]) -> Sheet:
    """phi(A, A') at (1, 1), (2, 2) and the whole smaller rank, for every matrix that both adapt."""
    rows = []
    for place in sorted(one.keys() & other.keys()):
        bases = [singular(found[place].A)[2] for found in (one, other)]
        _same_space(bases[0].shape[0], bases[1].shape[0], names)
        grid = similarity(*bases)
        m, n = grid.shape
        cells = [f"{grid[i, i]:.2f}" for i in (0, min(1, m - 1, n - 1), min(m, n) - 1)]
        chance = f"{max(m, n) / bases[0].shape[0]:.2f}"
        rows.append((NAMES.get(place[0], place[0]), str(place[1] + 1), f"{m}, {n}", *cells, f"{grid[-1, -1]:.2f}", chance))
    if not rows:
        raise UserError(f"{names[0]} and {names[1]} adapt no matrix in common")
    header = ("Matrix", "Layer", "ranks", "φ(1, 1)", "φ(2, 2)", "φ(min, min)", "φ(all, all)", "chance of the last")
    return Sheet((f"A of {names[0]} against A of {names[1]}",), header, "lrrrrrrr", tuple(rows))


def _same_space(one: int, other: int, names: tuple[str, str]) -> None:
    if one != other:
        raise UserError(f"{names[0]} and {names[1]} belong to models of different width ({one} and {other})")


def _chosen(layers: Sequence[int]) -> list[int]:
    """First, a third, two thirds and last of the layers, as the paper shows 1, 32, 64 and 96 of 96."""
    return sorted({layers[round(part * (len(layers) - 1))] for part in (0, 1 / 3, 2 / 3, 1)})


def _grid(title: str, one: Factors, other: Factors) -> Map:
    grid = similarity(singular(one.A)[2], singular(other.A)[2])
    return Map(title, grid, "j", "i", (1, grid.shape[1]), (1, grid.shape[0]))


def draw(found: Checkpoint, other: Checkpoint | None, title: str, folder: Path) -> list[Path]:
    """subspace_spectrum (singular values by layer), and subspace_phi: query against value, or the two checkpoints."""
    kinds = list(dict.fromkeys(kind for kind, _ in found))
    spectra_row = []
    for kind in kinds:
        layers = [layer for name, layer in found if name == kind]
        r = found[kind, layers[0]].A.shape[0]
        values = np.array([singular(found[kind, layer].update)[1][:r] for layer in layers])
        bounds = (layers[0] + 1, layers[-1] + 1)
        spectra_row.append(Map(f"ΔW of {NAMES.get(kind, kind)}", values, "direction", "layer", (1, r), bounds))
    paths = save([spectra_row], title, "singular value of ΔW", folder / "subspace_spectrum")
    rows = []
    if other is None and {"query", "value"} <= set(kinds):
        layers = _chosen([layer for name, layer in found if name == "query"])
        rows = [[_grid(f"A_q, A_v, layer {n + 1}", found["query", n], found["value", n]) for n in layers]]
    elif other is not None:
        for kind in kinds:
            layers = [layer for name, layer in found if name == kind and (kind, layer) in other]
            name = NAMES.get(kind, kind)
            if layers:
                rows.append([_grid(f"{name}, layer {n + 1}", found[kind, n], other[kind, n]) for n in _chosen(layers)])
    return [*paths, *(save(rows, title, PHI, folder / "subspace_phi") if rows else [])]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line above; returns the exit status."""
    given = parser().parse_args(arguments)
    try:
        if len(given.checkpoint) > 2:
            raise UserError("one checkpoint, or two to compare")
        found = [read(path) for path in given.checkpoint]
        names = [path.name or str(path) for path in given.checkpoint]
        made = [spectra(one, name) for one, name in zip(found, names, strict=True)]
        if len(found) == 2:
            made.append(overlaps(found[0], found[1], (names[0], names[1])))
        print(terminal(made))
        given.to.mkdir(parents=True, exist_ok=True)
        (given.to / "subspace.md").write_text(markdown(made), encoding="utf-8")
        (given.to / "subspace.csv").write_text(comma_separated(made), encoding="utf-8")
        for path in draw(found[0], found[1] if len(found) == 2 else None, " and ".join(names), given.to):
            print(path)
    except (UserError, OSError) as error:
        return manners.failed(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
