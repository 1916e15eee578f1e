"""A training's progress: what it has measured, and everything needed to resume it bit for bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import nn

from lora_repro.errors import UserError
from lora_repro.files import read_sealed, sha256
from lora_repro.records import provenance
from lora_repro.train import checkpoint
from lora_repro.train.optimizer import restore, state_of

WEIGHT, MOMENT = "weight.", "optimizer."  # name prefixes of a checkpoint's tensors
BINS = 20  # a record has the mean training losses of at most so many bins of steps


def bin_size(total: int) -> int:
    """Steps in a bin of training losses, of which the last may have fewer. total: steps of the training."""
    return math.ceil(total / BINS)


def pause_step(total: int, share: float) -> int:
    """The step at which a training of `total` steps pauses after this share of them: the first that ends a bin.

    One of fewer than `BINS` steps does not pause: its losses until then would say little, and nothing is saved.
    """
    if total < BINS:
        return total
    return min(total, math.ceil(share * total / bin_size(total)) * bin_size(total))


@dataclass(frozen=True)
class Trained:
    """What a training measured. `status`: `finished`, `diverged` (a NaN or infinite loss stopped it) or `paused` (at `pause_at`).

    peak_memory_mb, code: over all attempts at it (`provenance.joined`).
    dev_scores: (step, score) at the steps of `dev_losses`, if a score selects; None where it is undefined.
    dev_halves: (step, even, odd), the same for either half of the dev rows.
    train_losses: (last step of a bin of steps, mean loss of the bin's global batches).
    """

    status: Literal["finished", "diverged", "paused"]
    steps: int
    dev_loss: float
    best_step: int
    tokens: int
    seconds: float
    dev_losses: list[tuple[int, float]]
    peak_memory_mb: int = 0
    code: dict[str, Any] = field(default_factory=provenance.code)
    dev_scores: list[tuple[int, float | None]] = field(default_factory=list)
    dev_halves: list[tuple[int, float | None, float | None]] = field(default_factory=list)
    train_losses: list[tuple[int, float]] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """The entries of a record; status, code and peak memory have their own places there."""
        scores = {
            "dev_score": dict(self.dev_scores).get(self.best_step),
            "dev_scores": [list(pair) for pair in self.dev_scores],
            "dev_halves": [list(triple) for triple in self.dev_halves],
        }
        return {
            "dev_loss": self.dev_loss if math.isfinite(self.dev_loss) else None,
            "dev_losses": [list(pair) for pair in self.dev_losses],
            **(scores if self.dev_scores else {}),
            **({"train_losses": [[step, round(loss, 6)] for step, loss in self.train_losses]} if self.train_losses else {}),
            "best_step": self.best_step,
            "steps": self.steps,
            "train_tokens": self.tokens,
            "train_seconds": round(self.seconds, 1),
        }


@dataclass
class State:
    """What a training has measured so far, saved in every checkpoint. bins: (last step, number of steps, sum of their losses)."""

    dev_losses: list[tuple[int, float]]
    tokens: int
    seconds: float
    best_step: int
    best_loss: float
    best_sha256: str = ""  # of the file with the best weights so far, if there is one
    best_figure: float = math.inf  # least so far of what selects the checkpoint: the dev loss, or a negated score
    peak_memory_mb: int = 0
    code: dict[str, Any] = field(default_factory=provenance.code)
    dev_scores: list[tuple[int, float | None]] = field(default_factory=list)
    dev_halves: list[tuple[int, float | None, float | None]] = field(default_factory=list)
    scaler: dict[str, Any] = field(default_factory=dict)  # state of the fp16 loss scaler
    bins: list[tuple[int, int, float]] = field(default_factory=list)

    def saw(self, step: int, loss: float, total: int) -> None:
        """Add the training loss of a step to its bin; `total`: steps of the training. Call it in the order of steps."""
        _, number, total_loss = self.bins.pop() if self.bins and (step - 1) % bin_size(total) else (0, 0, 0.0)
        self.bins.append((step, number + 1, total_loss + loss))

    def looked(self, step: int, validation: Mapping[str, float], figure: float) -> bool:
        """Add the dev loss and scores of a step; True if its weights are the best so far, of which `figure` is least.

        Of equal ones the later is the best, closer to the end of the schedule.
        """
        self.dev_losses.append((step, validation["dev_loss"]))
        if "dev_score" in validation:
            scores = [validation[name] for name in ("dev_score", "dev_score_even", "dev_score_odd")]
            dev_score, even, odd = (score if math.isfinite(score) else None for score in scores)
            self.dev_scores.append((step, dev_score))
            self.dev_halves.append((step, even, odd))
        if not figure <= self.best_figure:
            return False
        self.best_figure, self.best_loss, self.best_step, self.best_sha256 = figure, validation["dev_loss"], step, ""
        return True

    def weigh(self, device: torch.device) -> None:
        """Update the peak memory with that of this attempt."""
        self.peak_memory_mb = max(self.peak_memory_mb, provenance.peak_memory_mb(device))

    def result(self, status: Literal["finished", "diverged", "paused"], step: int, last: bool = False) -> Trained:
        chosen_step, chosen_loss = (
            self.dev_losses[-1] if last and self.dev_losses else (self.best_step, self.best_loss)
        )
        return Trained(
            status, step, chosen_loss, chosen_step, self.tokens, self.seconds, list(self.dev_losses),
            self.peak_memory_mb, self.code, list(self.dev_scores), list(self.dev_halves),
            [(step, total_loss / number) for step, number, total_loss in self.bins],
        )  # fmt: skip


def save_state(
    folder: Path,
    step: int,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    state: State,
) -> None:
    blob: dict[str, torch.Tensor] = {"rng.cpu": torch.get_rng_state()}
    if (device := next(iter(parameters.values())).device).type == "cuda":
        blob["rng.cuda"] = torch.cuda.get_rng_state(device)
    blob |= {f"{WEIGHT}{name}": tensor for name, tensor in parameters.items()}
    tensors, rest = state_of(optimizer, parameters)
    blob |= {f"{MOMENT}{key}": value for key, value in tensors.items()}
    facts: dict[str, Any] = {**vars(state), "optimizer": rest, "shapes": _shapes(parameters)}
    for name in ("best_loss", "best_figure"):
        facts[name] = None if math.isinf(facts[name]) else facts[name]
    checkpoint.save(folder, step, blob, facts)
    checkpoints = filter(None, map(read_sealed, folder.glob("step_*/state.json")))
    asked_for = {best_path(folder, checkpoint["best_step"]) for checkpoint in checkpoints}
    for path in set(folder.glob("best_*.safetensors")) - asked_for:
        path.unlink()


def _shapes(parameters: Mapping[str, nn.Parameter]) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in parameters.items()}


def best_path(folder: Path, step: int) -> Path:
    """The file of the best weights at `step`. After a crash an older checkpoint must not find the weights of a newer best."""
    return folder / f"best_{step:08d}.safetensors"


def damaged_best(folder: Path, facts: Mapping[str, Any]) -> str | None:
    """What is wrong with the best weights that a checkpoint or state (`facts`) refers to; None if nothing is."""
    path = best_path(folder, facts["best_step"])
    try:
        return f"{path.name} does not match its hash" if facts["best_sha256"] and sha256(path) != facts["best_sha256"] else None
    except FileNotFoundError:
        return f"{path.name} is missing"


def restore_best(folder: Path, parameters: Mapping[str, nn.Parameter], state: State) -> None:
    """Put the best weights in place. Raises UserError if their file is damaged."""
    if wrong := damaged_best(folder, vars(state)):
        raise UserError(f"{wrong}; run the same command again to resume from the last good state")
    best = load_file(best_path(folder, state.best_step))
    with torch.no_grad():
        for name, tensor in parameters.items():
            tensor.copy_(best[name])


def restore_state(
    folder: Path, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, state: State
) -> int:
    """Restore the newest undamaged checkpoint, if there is one; returns its step, or 0.

    A checkpoint that lacks a fact is another version's; it and one of other parameters are removed like a damaged one.
    """

    def unusable(facts: dict[str, Any]) -> str | None:
        if not {"code", "optimizer", "shapes"} <= set(facts):
            return "it is another version's"
        if facts["shapes"] != _shapes(parameters):
            return "it is of other parameters: the method has changed"
        return damaged_best(folder, facts)

    newest = checkpoint.load_newest(folder, unusable)
    if newest is None:
        return 0
    blob, facts = newest
    with torch.no_grad():
        for name, tensor in parameters.items():
            tensor.copy_(blob[f"{WEIGHT}{name}"])
    moments = {key.removeprefix(MOMENT): value for key, value in blob.items() if key.startswith(MOMENT)}
    restore(optimizer, parameters, moments, facts["optimizer"])
    torch.set_rng_state(blob["rng.cpu"])
    if "rng.cuda" in blob and (device := next(iter(parameters.values())).device).type == "cuda":
        torch.cuda.set_rng_state(blob["rng.cuda"], device)
    state.dev_losses = [(int(step), float(loss)) for step, loss in facts["dev_losses"]]
    state.dev_scores = [(int(step), score) for step, score in facts.get("dev_scores", ())]
    state.dev_halves = [(int(step), even, odd) for step, even, odd in facts.get("dev_halves", ())]
    state.bins = [(int(step), int(number), float(total_loss)) for step, number, total_loss in facts.get("bins", ())]
    state.tokens, state.seconds, state.best_step = facts["tokens"], facts["seconds"], facts["best_step"]
    state.best_sha256 = facts["best_sha256"]
    state.best_loss = math.inf if facts["best_loss"] is None else facts["best_loss"]
    state.best_figure = math.inf if facts.get("best_figure") is None else facts["best_figure"]
    state.scaler = facts.get("scaler", {})
    state.peak_memory_mb = facts["peak_memory_mb"]
    state.code = provenance.joined(facts["code"], state.code)
    return int(facts["step"])
