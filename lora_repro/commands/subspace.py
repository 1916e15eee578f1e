"""Analyse the subspaces of a LoRA checkpoint: a run's folder, a peft folder, or the authors' released .bin.

    lora-repro subspace runs/mini/<signature>                        one checkpoint: spectra, query against value
    lora-repro subspace roberta_base_lora_mnli.bin --base roberta_base    the same with intruder dimensions
    lora-repro subspace runs/mini/<one> runs/mini/<other>            two: phi of their A's, layer by layer

It prints a table and writes it with figures into --to (default: runs/subspace/) as subspace.{md,csv}. No tensor
of a checkpoint is written. The authors' .bin is read as tensors only: a pickle in it cannot run code.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lora_repro import console
from lora_repro.analysis.probed_run import NAMES
from lora_repro.analysis.spectra import Array, Factors, effective_rank, similarity, singular_product, svd
from lora_repro.errors import UserError
from lora_repro.exchange.lora_files import read
from lora_repro.files import sha256
from lora_repro.records import manifest, record
from lora_repro.records.run_folder import RECORD
from lora_repro.report.figures.heatmap import Heatmap, save
from lora_repro.report.subjects.subspaces import PHI, beside_chance, panel
from lora_repro.report.table import Table, save_tables
from lora_repro.report.terminal import terminal


def parser() -> argparse.ArgumentParser:
    arg_parser = console.parser("subspace", __doc__)
    arg_parser.add_argument("checkpoint", type=Path, nargs="+", help="one or two checkpoints")
    arg_parser.add_argument(
        "--scaling", type=float, help="alpha / r of an authors' .bin, which does not hold it (RoBERTa base: 2)"
    )
    arg_parser.add_argument("--base", metavar="BACKBONE", help="its base model (conf/backbone), to count intruder dimensions")
    arg_parser.add_argument("--to", type=Path, default=Path("runs", "subspace"), help="folder for the table and the figures")
    return arg_parser


Checkpoint = dict[tuple[str, int], Factors]
Counted = tuple[Mapping[tuple[str, int], int], str]
NOT_COUNTED: Counted = ({}, "Intruder dimensions are not counted: no --base names what it was trained on.")
ACROSS = 4  # panels in a row of a figure
# sha256 of a file -> whose adapter it is.
RELEASED = {
    "343c48c79db5dd6190696e5fcbd547f58862a3e162b6cdc12337b41acc894116": (
        "Released by the LoRA authors, RoBERTa base trained on MNLI: github.com/microsoft/LoRA, MIT licence"
    ),
}


def spectrum(factors: Factors) -> Array:
    """The singular values (r,) of the update."""
    return singular_product(factors.scaling * factors.B.astype(np.float64), factors.A)[1]


def origin(path: Path) -> tuple[str, ...]:
    """The facts of a caption on a file: whose it is, if known, and its sha256; empty for a folder."""
    if not path.is_file():
        return ()
    digest = sha256(path)
    return (*filter(None, [RELEASED.get(digest)]), f"sha256 {digest}")


def alike(one: Path, other: Path) -> str:
    """Why two runs' A's may agree without having learned to, from their records; empty if nothing is known against them."""
    configs = []
    for path in (one, other):
        file = (path if path.is_dir() else path.parent) / RECORD
        configs.append(record.read_run(file)["asked"] if file.is_file() else {})
    if not all({"backbone", "seed"} <= run.keys() for run in configs):
        return ""
    names, seeds = [run["backbone"].get("name") for run in configs], [run["seed"] for run in configs]
    if names[0] != names[1]:
        return "The two runs adapt different backbones: φ compares directions of unlike spaces."
    if seeds[0] == seeds[1]:
        return f"Both runs have seed {seeds[0]}, from which A starts: part of φ may be their common start."
    return ""


def spectra_table(checkpoint: Checkpoint, name: str, origin: tuple[str, ...] = (), intruders: Counted = NOT_COUNTED) -> Table:
    """Per layer and matrix: ||D||_F, the top direction's share of ||D||_F^2, effective rank; phi(r, r) of A_q and A_v.

    intruders: ((kind, layer) -> intruder dimensions, empty if not counted; the note on them).
    """
    rows = []
    counts, note = intruders
    means: dict[str, list[tuple[float, float]]] = {}
    for (kind, layer), factors in checkpoint.items():
        s = spectrum(factors)
        r = factors.A.shape[0]
        share = f"{s[0] ** 2 / np.square(s).sum():.2f}" if s[0] else "—"
        pair = "—"
        if kind == "query" and ("value", layer) in checkpoint:
            one, other = (svd(checkpoint[key, layer].A)[2] for key in ("query", "value"))
            pair = f"{similarity(one, other)[-1, -1]:.3f} ({r / one.shape[0]:.3f})"
        norm = f"{np.linalg.norm(s):.3f}"
        last = (pair, str(counts.get((kind, layer), "—"))) if counts else (pair,)
        rows.append((NAMES.get(kind, kind), str(layer + 1), str(r), norm, share, f"{effective_rank(s):.2f}", *last))
        if s[0]:
            means.setdefault(NAMES.get(kind, kind), []).append((s[0] ** 2 / np.square(s).sum(), effective_rank(s)))
    more = ("intruders",) if counts else ()
    header = ("Matrix", "Layer", "r", "‖ΔW‖_F", "top σ² share", "effective rank", "φ(A_q, A_v, r, r)", *more)
    averages = [(kind, *np.mean(values, axis=0)) for kind, values in means.items()]
    summary = "; ".join(f"{kind} top σ² share {share:.2f}, effective rank {rank:.1f}" for kind, share, rank in averages)
    notes = (
        "ΔW = (α/r) B A. Effective rank: exp of the entropy of σ²/Σσ². φ of right singular vectors, chance in brackets.",
        f"Mean over layers: {summary or 'none, for every ΔW is zero'}.",
        note,
    )
    return Table((f"LoRA of {name}", *origin), header, "l" + "r" * (len(header) - 1), tuple(rows), notes)


def overlap_table(one: Checkpoint, other: Checkpoint, names: tuple[str, str], caveat: str = "") -> Table:
    """phi(A, A') at (1, 1), (2, 2), the smaller rank and both whole ranks, for every matrix that both adapt; caveat: `alike`."""
    rows = []
    for matrix in sorted(one.keys() & other.keys()):
        bases = [svd(checkpoint[matrix].A)[2] for checkpoint in (one, other)]
        widths = [basis.shape[0] for basis in bases]
        if widths[0] != widths[1]:
            raise UserError(f"{names[0]} and {names[1]} belong to models of different width ({widths[0]} and {widths[1]})")
        grid = similarity(*bases)
        m, n = grid.shape
        cells = [f"{grid[i, i]:.2f}" for i in (0, min(1, m - 1, n - 1), min(m, n) - 1)]
        chance = f"{max(m, n) / bases[0].shape[0]:.2f}"
        rows.append((NAMES.get(matrix[0], matrix[0]), str(matrix[1] + 1), f"{m}, {n}", *cells, f"{grid[-1, -1]:.2f}", chance))
    if not rows:
        raise UserError(f"{names[0]} and {names[1]} adapt no matrix in common: nothing to compare")
    header = ("Matrix", "Layer", "ranks", "φ(1, 1)", "φ(2, 2)", "φ(min, min)", "φ(all, all)", "chance of the last")
    footnotes = (caveat,) if caveat else ()
    return Table((f"A of {names[0]} against A of {names[1]}",), header, "lrrrrrrr", tuple(rows), footnotes)


def _chosen(layers: Sequence[int]) -> list[int]:
    """The layers at the start, a third, two thirds and the end, as the paper shows 1, 32, 64 and 96 of 96."""
    return sorted({layers[round(part * (len(layers) - 1))] for part in (0, 1 / 3, 2 / 3, 1)})


def _grid(title: str, one: Factors, other: Factors) -> Heatmap:
    return panel(title, similarity(svd(one.A)[2], svd(other.A)[2]))


def _with_chance(panels: Sequence[Heatmap], dimension: int) -> list[list[Heatmap]]:
    """The panels, then two Gaussian matrices of the same ranks and their chance level, in rows of ACROSS."""
    m, n = max((panel.values.shape for panel in panels), key=lambda shape: shape[0] * shape[1])
    every = [*panels, *beside_chance((m, n), dimension)]
    return [every[start : start + ACROSS] for start in range(0, len(every), ACROSS)]


def draw(checkpoint: Checkpoint, other: Checkpoint | None, caption: str, folder: Path) -> list[Path]:
    """Draw subspace_spectrum, singular values by layer, and subspace_phi, query against value or the two checkpoints."""
    kinds = list(dict.fromkeys(kind for kind, _ in checkpoint))
    spectra_row = []
    for kind in kinds:
        layers = [layer for name, layer in checkpoint if name == kind]
        lines = [spectrum(checkpoint[kind, layer]) for layer in layers]
        r = max(map(len, lines))
        values = np.array([np.pad(line, (0, r - len(line)), constant_values=np.nan) for line in lines])
        bounds = (layers[0] + 1, layers[-1] + 1)
        spectra_row.append(Heatmap(f"ΔW of {NAMES.get(kind, kind)}", values, "direction", "layer", (1, r), bounds))
    shares = ", ".join(f"{_top_share(panel.values)} in {panel.title.removeprefix('ΔW of ')}" for panel in spectra_row)
    title = f"The top direction holds of ‖ΔW‖²: {shares} (mean over layers)"
    paths = save([spectra_row], title, "singular value of ΔW", folder / "subspace_spectrum", caption=caption)
    rows: list[list[Heatmap]] = []
    if other is None and {"query", "value"} <= set(kinds):
        layers = [layer for name, layer in checkpoint if name == "query" and ("value", layer) in checkpoint]
        panels = [_grid(f"A_q, A_v, layer {n + 1}", checkpoint["query", n], checkpoint["value", n]) for n in layers]
        rows = _with_chance(panels, checkpoint["query", layers[0]].A.shape[1]) if panels else []
    elif other is not None:
        for kind in kinds:
            layers = [layer for name, layer in checkpoint if name == kind and (kind, layer) in other]
            name = NAMES.get(kind, kind)
            if layers:
                panels = [_grid(f"{name}, layer {n + 1}", checkpoint[kind, n], other[kind, n]) for n in _chosen(layers)]
                rows += _with_chance(panels, checkpoint[kind, layers[0]].A.shape[1])
    subject = "A_q and A_v" if other is None else "The A of two checkpoints"
    highest = max((panel.values[-1, -1] for row in rows for panel in row if "layer" in panel.title), default=0.0)
    layers_text = "any layer" if other is None else "the layers shown"
    title = f"{subject} share at most φ = {highest:.2f} of all their directions in {layers_text}"
    return [*paths, *(save(rows, title, PHI, folder / "subspace_phi", 1.0, caption) if rows else [])]


def _top_share(values: Array) -> str:
    """sigma_1^2 / sum sigma^2 of each layer in `values` (layers, r), as the mean over the layers whose update is not zero."""
    squares = np.square(values[values[:, 0] > 0])
    return f"{np.mean(squares[:, 0] / np.nansum(squares, axis=1)):.0%}".replace("%", " %") if len(squares) else "—"


@console.command
def main(arguments: Sequence[str]) -> int:
    """The command line above; returns the exit status."""
    options = parser().parse_args(arguments)
    if len(options.checkpoint) > 2:
        raise UserError("give one checkpoint, or two to compare")
    checkpoints = [read(path, options.scaling if path.suffix == ".bin" else None) for path in options.checkpoint]
    if options.scaling is not None and not any(path.suffix == ".bin" for path in options.checkpoint):
        raise UserError("--scaling is only for an authors' .bin: other checkpoints hold their alpha and rank; leave it out")
    names = [path.name or str(path) for path in options.checkpoint]
    origins = [origin(path) for path in options.checkpoint]
    intruders: Sequence[Counted] = [NOT_COUNTED] * len(checkpoints)
    if options.base:
        from lora_repro.analysis.intruders import intruders_in  # lazy: only this needs torch

        intruders = intruders_in(options.base, checkpoints)
    tables = [spectra_table(*each) for each in zip(checkpoints, names, origins, intruders, strict=True)]
    if len(checkpoints) == 2:
        tables.append(overlap_table(checkpoints[0], checkpoints[1], (names[0], names[1]), alike(*options.checkpoint)))
    print(terminal(tables))
    sources = [[fact[:19] if fact.startswith("sha256") else fact for fact in table.facts] for table in tables[: len(checkpoints)]]
    caption = " ".join(f"{'. '.join(facts)}." for facts in sources)
    with manifest.writing_to(options.to) as folder:  # results/authors is published
        save_tables(tables, folder / "subspace")
        paths = draw(checkpoints[0], checkpoints[1] if len(checkpoints) == 2 else None, caption, folder)
    print(*(options.to / path.name for path in paths), sep="\n")
    return 0
