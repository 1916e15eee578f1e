"""The settings of a cost measurement (conf/experiment/latency.yaml)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lora_repro.errors import UserError


@dataclass(frozen=True)
class Bench:
    """What is timed, and what is trained for a few steps to measure its memory.

    - Forward passes: `rounds` interleaved rounds after `warmup` calls, at every size of `batches` x `lengths`.
    - Training steps: as many rounds, of `train_batch` sequences of `train_length` tokens.
    - Memory: `train_steps` optimizer steps of that size.
    - `resamples`: of the bootstrap. `threads`: of the CPU (null: torch's default).
    - Per row: whether it is `timed` and `trained`, whether LoRA is `merged`, and whether it is timed on a `copy` of the plain
      weights (a merged one always is).
    - `arithmetic`: a `label` and the `shape` of a model too large to run, with its `bytes` per value.
    """

    rounds: int
    warmup: int
    batches: Sequence[int]
    lengths: Sequence[int]
    train_batch: int
    train_length: int
    train_steps: int
    resamples: int
    threads: int | None = None
    timed: bool = True
    trained: bool = True
    merged: bool = False
    copy: bool = False
    arithmetic: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        least = {"rounds": 5, "warmup": 0, "train_batch": 1, "train_length": 2, "train_steps": 2, "resamples": 100}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise UserError(f"bench.{name} must be at least {value}, not {getattr(self, name)}")
        for name in ("batches", "lengths"):
            values = getattr(self, name)
            if isinstance(values, str) or not values or min(values) < 1 or len(set(values)) < len(values):
                raise UserError(f"bench.{name} must list different whole numbers >= 1, not {values}")
        if self.threads is not None and self.threads < 1:
            raise UserError(f"bench.threads must be at least 1 or null, not {self.threads}")
