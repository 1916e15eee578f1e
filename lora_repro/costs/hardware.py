"""How fast a GPU that is not at hand would do a run's work, from its published peaks and the fraction that such runs reach.

The card computes while Python launches further kernels, so a step takes the longer of the two:

    max(FLOPs / (0.4 peak) + bytes / (0.7 bandwidth), kernels x 10 us)

The fractions are assumed, not measured here: well-run trainings report 0.4 of the peak (0.46 in Chowdhery et al. 2022, arXiv
2204.02311, Section 4.1), and long copies reach 0.7 of the bandwidth. An eager step of GPT-2 medium under LoRA takes 90 kernels
per block (2,167 over 24 blocks), one position of a beam search 30. Expect an error of up to a factor of two either way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

from lora_repro.config import yaml_file
from lora_repro.config.hydra_errors import did_you_mean
from lora_repro.config.paths import CONF
from lora_repro.costs.arithmetic import FLOAT, Outline, Work, backward, forward
from lora_repro.costs.calibrate import Speed
from lora_repro.errors import UserError
from lora_repro.train.precision import FORMATS

ARITHMETIC, BANDWIDTH, LAUNCH = 0.4, 0.7, 10e-6  # fractions of the peaks; seconds per kernel
STEP, POSITION = 90, 30  # kernels per block: in a training step, for one generated position
ADAMW = 28  # bytes per trained value and step: four values read, three written
PASSES = 3  # each kept activation is written once, and read by the next product and by the backward pass


@dataclass(frozen=True)
class Card:
    """A GPU of conf/plan.yaml. half, fp32: 1e12 operations per second; bandwidth: GB/s; memory: GB."""

    name: str
    format: Literal["bf16", "fp16"]
    half: float
    fp32: float
    bandwidth: float
    memory: float
    source: str

    def dtype(self, precision: str) -> torch.dtype | None:
        """The format in which `auto`, `bf16`, `fp16` or `fp32` computes on this card; None is float32."""
        return FORMATS[self.format if precision == "auto" else precision]

    def speed(self, o: Outline, work: Work, dtype: torch.dtype | None) -> Speed:
        """Operations per second, as `calibrate.speed` measures them on this machine's device."""
        size = FLOAT if dtype is None else 2
        blocks = o.layers * o.block * size
        peak = (self.fp32 if dtype is None else self.half) * 1e12

        def seconds(flops: float, moved: float, kernels: int) -> float:
            busy = flops / (ARITHMETIC * peak) + moved / (BANDWIDTH * self.bandwidth * 1e9)
            return max(busy, kernels * o.layers * LAUNCH)

        back = backward(o, work.length, work.scored) if o.trained and not work.features else 0.0
        flops = work.micro * (forward(o, work.length, work.scored) + back)
        kept = FLOAT * PASSES * work.micro * work.length * o.flow * (o.depth or o.layers)
        parts = -(-work.batch // work.micro)  # micro-batches per optimizer step
        moved = blocks * (2 if back else 1) + kept + ADAMW * o.trained / parts
        rows = flops / seconds(flops, moved, STEP if back else POSITION)
        beams = min(work.test_batch, work.test_rows) * work.beam
        if not work.new or not beams:
            return Speed(rows, rows)
        context = work.prompt + work.new / 2
        flops = beams * forward(o, 1, 1)
        moved = blocks + size * o.head_matrix + beams * (2 * size * context * o.layers * o.kv + PASSES * FLOAT * o.vocabulary)
        return Speed(rows, flops / seconds(flops, moved, POSITION))

    def __str__(self) -> str:
        peaks = f"{self.half:g} TFLOP/s in {self.format}, {self.fp32:g} in float32, {self.bandwidth:g} GB/s"
        parts = f"{ARITHMETIC:.0%} of its arithmetic, {BANDWIDTH:.0%} of its bandwidth, {LAUNCH * 1e6:.0f} us a kernel"
        return f"{self.name} ({self.source}: {peaks}), at {parts}: stated, not measured"


def _known() -> dict[str, dict[str, Any]]:
    return yaml_file.values(CONF / "plan.yaml")["hardware"]  # type: ignore[no-any-return]


def card(name: str) -> Card:
    """The card of this name. Raises UserError if it is not known."""
    if name.lower() not in _known():
        raise UserError(f"hardware={name} is unknown; {did_you_mean(name.lower(), _known())} (conf/plan.yaml)")
    return Card(**_known()[name.lower()])
