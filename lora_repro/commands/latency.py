"""Measure what each method costs: time of a forward pass and a training step, training memory, disk.

    lora-repro latency profile=mini                              (device=cuda, bench.threads=1, backbone=gpt2_large ...)

One process holds the plain model and one model per method, and times their forward passes in interleaved rounds
(`latency.interleaved`); it times training steps of each method and of full fine-tuning the same way. Memory is measured in a
fresh process per method (`footprint`). A finished measurement of the same settings on the same device is not repeated. Speed
does not depend on the values of weights, so a hub model is built from its shape with random weights.
"""

from __future__ import annotations

from collections.abc import Sequence

from lora_repro import console
from lora_repro.costs import latency


@console.command
def main(arguments: Sequence[str]) -> int:
    """The command line above; returns the exit status."""
    console.warn_ignored_tracker(arguments, "measurements")
    print(f"wrote {latency.measure(arguments)}")
    return 0
