"""What a method changes before it has learnt anything, and the tokens that its virtual ones take from a text.

    python -m lora_repro step-zero experiment=e2e profile=mini            one row less or more: row/e2e=lora,prelayer
    python -m lora_repro step-zero experiment=e2e --to results/step_zero  writes step_zero.md and .csv there, too

Adapters are asked to start near the identity (Houlsby et al. 2019, 2.1); LoRA starts at ΔW = B A = 0 exactly (its 4.1).
The loss of held-out rows says how near: at step 0 with the method, less that of the backbone alone, dropout off, in float32.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from lora_repro import cli
from lora_repro.backbone.model import Backbone
from lora_repro.cells import Cell
from lora_repro.config.compose import build, profile_of
from lora_repro.config.place import ROOT
from lora_repro.data import batches, subset
from lora_repro.errors import UserError
from lora_repro.records import manifest
from lora_repro.report.table import Table, comma_separated, markdown
from lora_repro.report.terminal import terminal
from lora_repro.results import declared_cells
from lora_repro.stages import adapt, backbone_of, objective_of
from lora_repro.train.ranks import Ranks

ROWS = 16
HEADER = ("Method", "Params: method", "Change of the loss", "Largest of a row", "Tokens left of a text")


@dataclass(frozen=True)
class Start:
    """A method at step 0. losses: of each held-out row, nats a scored token; room: tokens that a row may have of its own."""

    trained: int
    losses: tuple[float, ...]
    room: int


@torch.no_grad()
def losses(config: DictConfig, backbone: Backbone, slots: tuple[int, int] = (0, 0)) -> tuple[float, ...]:
    """Of each held-out row, among `slots` virtual tokens before and after its context."""
    objective = objective_of(config)
    backbone.model.eval()
    held_out = build(config.task).load(config.paths.data).dev
    chosen = subset(held_out, min(ROWS, len(held_out)), config.data.subset_seed)
    rows, _ = objective.encode(chosen, backbone, slots, config.data.max_length)
    found = {}
    for (at,), batch in batches(rows, 1, backbone.pad, backbone.device):
        found[at] = float(objective.summed(backbone, batch, 0.0)) / objective.count(rows[at])
    return tuple(found[at] for at in range(len(rows)))


def alone(config: DictConfig) -> tuple[float, ...]:
    """The losses of the configured backbone, its new head drawn as a run draws it."""
    backbone = backbone_of(config).load().to(Ranks.here(config.device).device)
    torch.manual_seed(config.seed)
    backbone.reset_head()
    return losses(config, backbone)


def start(config: DictConfig) -> Start | None:
    """The configured method before its first step; None if it has no model or trains nothing. Raises UserError, as a run does."""
    method = build(config.method)
    model = adapt(backbone_of(config), method, config.seed, Ranks.here(config.device).device) if method.needs_model else None
    if model is None or not model.trainable.parameters():
        return None
    room = config.data.max_length - sum(method.virtual_tokens)
    trained = model.trainable.counts(model.backbone.model)["method"]
    return Start(trained, losses(config, model.backbone, method.virtual_tokens), room)


def line(label: str, found: Start, plain: Sequence[float]) -> tuple[str, ...]:
    """The table's line of one method: mean change of the loss, and the largest change of a row either way."""
    changes = [with_it - without for with_it, without in zip(found.losses, plain, strict=True)]
    mean, largest = sum(changes) / len(changes), max(map(abs, changes))
    return label, f"{found.trained:,}", f"{mean:+.4f}".replace("-", "−"), f"{largest:.4f}", f"{found.room:,}"


def table(cells: Sequence[Cell], overrides: Sequence[str]) -> Table:
    """Every row of an experiment at its first place; `overrides` ask for them. UserError if none is a method on a backbone."""
    lines, left_out, plain, first = [], [], None, dict[str, Cell]()
    for cell in cells:
        first.setdefault(cell.row.name, cell)
    for cell in first.values():
        config = OmegaConf.create(cell.asked)
        found = None if cell.starts else start(config)
        if found is None:
            left_out.append(cell.row.label)
        else:
            plain = plain or alone(config)
            lines.append(line(cell.row.label, found, plain))
    if plain is None:
        raise UserError(f"none of these rows is a method that starts on a backbone: {', '.join(left_out)}")
    asked = cells[0].asked
    facts = (
        f"Methods at step 0 on {asked['task']['name']}, profile {asked['profile_name']}",
        f"Backbone: {asked['backbone']['name']}, whose own loss is {sum(plain) / len(plain):.4f}",
        f"{len(plain)} held-out rows, seed {asked['seed']}, float32, no dropout",
        f"To reproduce: python -m lora_repro step-zero {' '.join(overrides)}",
    )
    notes = [
        "Change: loss with the method less loss of the backbone, nats a scored token, mean over rows; 0 is an exact identity.",
        f"Tokens left: data.max_length ({asked['data']['max_length']}) less the method's virtual tokens.",
        *([f"Without a step 0 of their own: {', '.join(left_out)}."] if left_out else []),
    ]
    return Table(facts, HEADER, "lrrrr", tuple(lines), tuple(notes))


def parser() -> argparse.ArgumentParser:
    made = cli.parser("step-zero", __doc__)
    made.add_argument("overrides", nargs="+", help="experiment=e2e, then what a run of it takes: profile=mini row/e2e=lora")
    made.add_argument("--to", type=Path, help="a folder for step_zero.md and step_zero.csv")
    return made


@cli.command
def main(arguments: Sequence[str]) -> int:
    """The command line above; returns the exit status."""
    given = parser().parse_args(arguments)
    profile, rest = profile_of(given.overrides)
    names = [item.partition("=")[2] for item in rest if item.startswith("experiment=")]
    if len(names) != 1:
        raise UserError("name one experiment, as in experiment=e2e")
    others = [item for item in rest if not item.startswith("experiment=")]
    found = table(declared_cells(names[0], profile, others), [f"experiment={names[0]}", f"profile={profile}", *others])
    print(terminal([found]))
    if given.to:
        given.to.mkdir(parents=True, exist_ok=True)
        written = [given.to / "step_zero.md", given.to / "step_zero.csv"]
        for path, text in zip(written, (markdown([found]), comma_separated([found])), strict=True):
            path.write_text(text, encoding="utf-8", newline="\n")
        if (ROOT / "results") in given.to.resolve().parents:
            manifest.note(ROOT / "results", [path.resolve() for path in written])
    return 0
