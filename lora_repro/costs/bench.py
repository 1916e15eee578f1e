"""The settings of a cost measurement (conf/experiment/latency.yaml), and the memory that arithmetic alone says is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lora_repro.errors import UserError

FLOAT32 = 4
NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)  # a code; of 64 a scale of 8 bits; of 256 scales a float32 (`backbone.nf4`)
NF4_SINGLE_BITS = 4 + 32 / 64  # without double quantisation: of 64 a float32
MOMENTS = 2  # AdamW keeps the mean of the gradient and of its square


@dataclass(frozen=True)
class Bench:
    """What is timed and what is trained a few steps for its memory.

    Timing: `rounds` interleaved rounds after `warmup` calls, at every batch size of `batches` x length of `lengths`, and as many
    of a training step; `resamples` of the bootstrap; CPU `threads` (null: torch's default). Memory: `train_steps` optimizer
    steps. A step has `train_batch` sequences of `train_length` tokens. A row says whether it is `timed` and `trained`, whether
    LoRA is `merged`, and whether it is timed on a `copy` of the plain weights (merging always is). `arithmetic`: a `label` and
    the `shape` of a model too large to run, `bytes` a value.
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
    """Bytes that training cannot do without, by arithmetic: activations and buffers come on top."""

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
    """weights P w, gradients T w, AdamW's moments 2 T w, checkpoint T w bytes.

    P = `total` values of the adapted model, T = `trained` ones, w = `width` bytes a value. Paper, Section 4.2: no state
    is kept for frozen values, so training with T << P needs little more than the weights. Q = `quantised` of the P values are
    in NF4, at 4.127 bits each instead.
    """
    weights = (total - quantised) * width + round(quantised * NF4_BITS / 8)
    return Limit(weights, trained * width, MOMENTS * trained * width, trained * width)
