"""The settings of a cost measurement (conf/experiment/latency.yaml), and the least memory that training needs, by arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lora_repro.errors import UserError

FLOAT32 = 4
NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)  # a code; an 8-bit scale per 64 codes; a float32 per 256 scales (`backbone.nf4`)
NF4_SINGLE_BITS = 4 + 32 / 64  # without double quantisation: a float32 scale per 64 codes
MOMENTS = 2  # AdamW keeps the mean of the gradient and of its square


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


@dataclass(frozen=True)
class Limit:
    """The least bytes that training needs, by arithmetic; activations and buffers come on top."""

    weights: int
    gradients: int
    state: int
    checkpoint: int

    @property
    def above_model(self) -> int:
        """What training adds to the loaded model."""
        return self.gradients + self.state

    @property
    def training(self) -> int:
        return self.weights + self.above_model


def limit(total: int, trained: int, width: int = FLOAT32, quantised: int = 0) -> Limit:
    """Bytes: weights P w, gradients T w, AdamW's moments 2 T w, checkpoint T w.

    P = `total` values of the adapted model, T = `trained` values, w = `width` bytes per value. `quantised` of the P values are in
    NF4 and take 4.127 bits each instead. Paper, Section 4.2: frozen values need no optimizer state, so training with T << P
    needs little more than the weights.
    """
    weights = (total - quantised) * width + round(quantised * NF4_BITS / 8)
    return Limit(weights, trained * width, MOMENTS * trained * width, trained * width)
