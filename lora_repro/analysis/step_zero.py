"""Measure what a method changes before its first training step, and how many positions it takes from a text.

    python -m lora_repro step-zero profile=mini                  every method of conf/method, on a decoder's task and an encoder's
    python -m lora_repro step-zero experiment=e2e profile=mini   the rows of a table; some of them: row/e2e=lora,prelayer
    python -m lora_repro step-zero --to results/step_zero        also writes step_zero.md and .csv there

Adapters should start near the identity (Houlsby et al. 2019, 2.1); LoRA starts at ΔW = B A = 0 exactly (LoRA paper, 4.1). Two
measures on held-out rows compare the model with the method to the backbone alone, without dropout, in float32: the change of the
last hidden states h where a row is scored, ||h' - h|| / ||h||, and the loss.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from lora_repro import cli
from lora_repro.backbone.model import Backbone
from lora_repro.cells import Cell, cells
from lora_repro.config.compose import build, profile_of
from lora_repro.data import batches, subset
from lora_repro.errors import UserError
from lora_repro.methods.base import AbstractMethod
from lora_repro.records import manifest
from lora_repro.report.table import EMPTY, REPRODUCE, Table, save_tables, signed
from lora_repro.report.terminal import terminal
from lora_repro.results import backbone_name, declared_cells, grouped
from lora_repro.stages import adapt, backbone_of, objective_of
from lora_repro.train.ranks import Ranks

ROWS = 16
TASKS = "e2e,sentiment"  # default tasks, of a decoder and of an encoder; METHODS is the default, too
METHODS = (
    ("method=glob(*,exclude=adapter_fusion)",),
    ("method=adapter_fusion", "method.sources=[one,two,three]"),
    ("method=prelayer", "method.form=key_value", "method.infix=0"),
    ("method=intrinsic_dimension", "method.form=said"),
    ("method=lora", "backbone.quantise=nf4"),
)
STD = 0.02  # of drawn adapters that other runs would have trained; as adapter_p draws its own
HEADER = (
    "Method", "Params: method", "Change of the output", "Largest of a row", "Change of the loss", "Largest of a row",
    "Positions left",
)  # fmt: skip


@dataclass(frozen=True)
class Start:
    """A model at step 0. Per held-out row: losses, nats per scored token; outputs (n, d), the last hidden states that are scored.

    trained: the method's parameters. room: positions left for a row's own tokens, None if unlimited. untrained: whether it uses
    freshly drawn adapters in place of those that other runs would have trained.
    """

    trained: int
    losses: tuple[float, ...]
    outputs: tuple[torch.Tensor, ...]
    room: int | None
    untrained: bool = False


@torch.no_grad()
def evaluate_start(
    config: DictConfig, backbone: Backbone, method: AbstractMethod | None = None, trained: int = 0, untrained: bool = False
) -> Start:
    """The model's losses and outputs on held-out rows, with `method` in it or without one."""
    objective = objective_of(config)
    backbone.model.eval()
    held_out = build(config.task).load(config.paths.data).dev
    chosen = subset(held_out, min(ROWS, len(held_out)), config.data.subset_seed)
    rows, _ = objective.encode(chosen, backbone, method.virtual_tokens if method else (0, 0), config.data.max_length)
    found = {}
    for (at,), batch in batches(rows, 1, backbone.pad, backbone.device):
        output = objective.features(backbone, batch)
        loss = float(objective.summed(backbone, replace(batch, features=output), 0.0)) / objective.count(rows[at])
        found[at] = loss, output
    losses, outputs = zip(*(found[at] for at in range(len(rows))), strict=True)
    room = None if backbone.positions is None else backbone.positions - (method.positions if method else 0)
    return Start(trained, losses, outputs, room, untrained)


def backbone_start(config: DictConfig) -> Start:
    """The configured backbone alone, not quantised, with its new head drawn as a run draws it."""
    config = OmegaConf.merge(config, {"backbone": {"quantise": None}})  # type: ignore[assignment]
    backbone = backbone_of(config).load().to(Ranks.here(config.device).device)
    torch.manual_seed(config.seed)
    backbone.reset_head()
    return evaluate_start(config, backbone)


def method_start(cell: Cell) -> Start | None:
    """A cell's method before its first step; None if it has no model, trains nothing, or continues another run's training.

    Adapters that other runs would have trained are drawn at random. Raises UserError, as a run does.
    """
    config = OmegaConf.create(cell.asked)
    method = build(config.method)
    if not method.needs_model:
        return None
    model = adapt(backbone_of(config), method, config.seed, Ranks.here(config.device).device)
    kept = model.trainable.kept.values() if _borrows(method) else ()
    if not model.trainable.parameters() or (cell.starts and not kept):
        return None
    for parameter in kept:
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, 0.0, STD)
    trained = model.trainable.counts(model.backbone.model)["method"]
    return evaluate_start(config, model.backbone, method, trained, bool(kept))


def _borrows(method: AbstractMethod) -> bool:
    """Whether the method keeps adapters of other runs, without which it cannot start, and not values it has drawn itself."""
    try:
        method.check_starts(0)
    except UserError:
        return True
    return False


def line(label: str, found: Start, plain: Start) -> tuple[str, ...]:
    """The table's line of one method: the mean change of output and loss, and the largest absolute change of a row."""
    pairs = zip(found.outputs, plain.outputs, strict=True)
    outputs = [float((with_it - without).norm() / without.norm()) for with_it, without in pairs]
    changes = [with_it - without for with_it, without in zip(found.losses, plain.losses, strict=True)]
    loss, largest = sum(changes) / len(changes), max(map(abs, changes))
    told = (shown(sum(outputs) / len(outputs)), shown(max(outputs)), signed(loss, 4), f"{largest:.4f}")
    return label, f"{found.trained:,}", *told, EMPTY if found.room is None else f"{found.room:,}"


def shown(change: float) -> str:
    """A change as text, which distinguishes exactly 0 from rounding error such as 1e-07."""
    return "0" if not change else f"{change:.0e}" if change < 1e-4 else f"{change:.4f}"


def table(chosen: Sequence[Cell], overrides: Sequence[str]) -> Table:
    """The table of these cells, all of one task and backbone. `overrides`: the words of the command that asks for them.

    Raises UserError if none of them is a method on a backbone.
    """
    lines, left_out, refused, untrained, plain = [], [], [], [], None
    for cell in chosen:
        label = cell.row.label
        try:
            found = method_start(cell)
        except UserError as error:
            refused.append(f"{label} is refused: {error}.")
            continue
        if found is None:
            left_out.append(label)
            continue
        plain = plain or backbone_start(OmegaConf.create(cell.asked))
        lines.append(line(label, found, plain))
        untrained += [label] if found.untrained else []
    if plain is None:
        raise UserError(f"none of these rows has a step 0: {', '.join([*left_out, *refused[:1]])}; choose others")
    asked, own = chosen[0].asked, sum(plain.losses) / len(plain.losses)
    positions = "" if plain.room is None else f", of {plain.room:,} positions"
    facts = (
        f"Methods at step 0 on {asked['task']['name']}, profile {asked['profile_name']}",
        f"Backbone: {backbone_name(chosen[0])}{positions}, whose own loss is {own:.4f}",
        f"{len(plain.losses)} held-out rows, seed {asked['seed']}, float32, no dropout",
        f"{REPRODUCE}python -m lora_repro step-zero {' '.join(overrides)}",
    )
    notes = [
        "Change of the output: the norm of what is added to the last hidden states where a row is scored, over their own norm, "
        "mean over rows; 0 is an exact identity, 1e-07 and the like is rounding. The backbone beside it is in floats: with "
        "backbone.quantise=nf4 (QLoRA) the change is that of its weights.",
        "Change of the loss: loss with the method less loss of the backbone, nats a scored token, mean over rows.",
        "Positions left: the backbone's own less those of the method's prefix and infix. A prefix of keys and values takes them, "
        "too: every position after it moves on by its length.",
        *([f"Over adapters as untrained as AdapterP's at its start, where a run has trained ones: {', '.join(untrained)}."]
          if untrained else []),
        *([f"Without a step 0 of their own: {', '.join(left_out)}."] if left_out else []),
        *refused,
    ]  # fmt: skip
    return Table(facts, HEADER, "l" + "r" * (len(HEADER) - 1), tuple(lines), tuple(notes))


def asked_for(overrides: Sequence[str]) -> tuple[list[Cell], list[str]]:
    """(the cells to show, the words that ask for them). Of an experiment, each row at its first place. Raises UserError."""
    profile, rest = profile_of(overrides)
    names = [item.partition("=")[2] for item in rest if item.startswith("experiment=")]
    if len(names) > 1:
        raise UserError(f"name one experiment, not {len(names)}")
    others = [item for item in rest if not item.startswith("experiment=")]
    if names:
        rows = grouped(declared_cells(names[0], profile, others), lambda cell: cell.row.name)
        return [those[0] for those in rows], [f"experiment={names[0]}", f"profile={profile}", *others]
    tasks = [] if any(item.startswith("task=") for item in others) else [f"task={TASKS}"]
    methods: Sequence[Sequence[str]] = [()] if any(item.startswith("method=") for item in others) else METHODS
    found = [cell for words in methods for cell in cells([f"profile={profile}", *tasks, *words, *others])]
    return found, [f"profile={profile}", *others]


def parser() -> argparse.ArgumentParser:
    made = cli.parser("step-zero", __doc__)
    made.add_argument("overrides", nargs="*", help="as for run: profile=mini method=lora, or experiment=e2e row/e2e=lora")
    made.add_argument("--to", type=Path, help="a folder for step_zero.md and step_zero.csv")
    return made


@cli.command
def main(arguments: Sequence[str]) -> int:
    """The command line above; returns the exit status."""
    given = parser().parse_args(arguments)
    chosen, words = asked_for(given.overrides)
    found = [table(those, words) for those in grouped(chosen, lambda cell: (backbone_name(cell), cell.task))]
    print(terminal(found))
    if given.to:
        with manifest.writing_to(given.to) as folder:
            save_tables(found, folder / "step_zero")
    return 0
