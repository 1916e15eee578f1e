"""How far a training has come: what it measured, and everything needed to go on from there bit for bit."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import torch
from torch import nn

from lora_repro.train import checkpoint


@dataclass(frozen=True)
class Trained:
    """What a training measured. `status`: `finished` or `diverged` (a NaN or infinite loss stopped it)."""

    status: Literal["finished", "diverged"]
    steps: int
    dev_loss: float
    best_step: int
    tokens: int
    seconds: float
    dev_losses: list[tuple[int, float]]


@dataclass
class State:
    """What a training has measured so far; goes into every checkpoint."""

    dev_losses: list[tuple[int, float]]
    tokens: int
    seconds: float
    best_step: int
    best_loss: float
    best_figure: float = math.inf  # what the best checkpoint has least of: the dev loss, or a negated score

    def result(self, status: Literal["finished", "diverged"], step: int, last: bool = False) -> Trained:
        chosen_step, chosen_loss = (
            self.dev_losses[-1] if last and self.dev_losses else (self.best_step, self.best_loss)
        )
        return Trained(
            status, step, chosen_loss, chosen_step, self.tokens, self.seconds, list(self.dev_losses)
        )


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT instead of dying in the middle of a step; a second Ctrl-C interrupts at once."""
    caught: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not in the main thread: signals are someone else's business
        before = {}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def save_state(
    folder: Path,
    step: int,
    names: list[str],
    tensors: list[nn.Parameter],
    optimizer: torch.optim.AdamW,
    state: State,
) -> None:
    blob: dict[str, torch.Tensor] = {"rng.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        blob["rng.cuda"] = torch.cuda.get_rng_state()
    for name, tensor in zip(names, tensors, strict=True):
        blob[f"weight.{name}"] = tensor
        for key, value in optimizer.state.get(tensor, {}).items():
            blob[f"adam.{key}.{name}"] = value
    facts: dict[str, Any] = dict(vars(state))
    for name in ("best_loss", "best_figure"):
        facts[name] = None if math.isinf(facts[name]) else facts[name]
    checkpoint.save(folder, step, blob, facts)


def restore_state(
    folder: Path,
    names: list[str],
    tensors: list[nn.Parameter],
    optimizer: torch.optim.AdamW,
    state: State,
    device: torch.device,
) -> int:
    """Put the newest whole checkpoint back, if there is one; returns its step, or 0."""
    found = checkpoint.load_newest(folder)
    if found is None:
        return 0
    blob, facts = found
    with torch.no_grad():
        for name, tensor in zip(names, tensors, strict=True):
            tensor.copy_(blob[f"weight.{name}"])
            moments = {key: blob.get(f"adam.{key}.{name}") for key in ("step", "exp_avg", "exp_avg_sq")}
            optimizer.state[tensor] = {
                key: value if key == "step" and device.type == "cpu" else value.to(device)
                for key, value in moments.items()
                if value is not None
            }
    torch.set_rng_state(blob["rng.cpu"])
    if "rng.cuda" in blob and torch.cuda.is_available():
        torch.cuda.set_rng_state(blob["rng.cuda"])
    state.dev_losses = [(int(step), float(loss)) for step, loss in facts["dev_losses"]]
    state.tokens, state.seconds, state.best_step = facts["tokens"], facts["seconds"], facts["best_step"]
    state.best_loss = math.inf if facts["best_loss"] is None else facts["best_loss"]
    state.best_figure = math.inf if facts.get("best_figure") is None else facts["best_figure"]
    return int(facts["step"])
