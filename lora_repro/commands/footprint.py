"""Measure the training memory and the file sizes of one method, in a fresh process.

    python -m lora_repro footprint experiment=latency row/latency=lora backbone=gpt2_small     prints one JSON line

The process must be fresh: one that held another model before would report that model's peak.
"""

from __future__ import annotations

import json

from lora_repro import console
from lora_repro.config.compose import compose, resolved
from lora_repro.costs import footprint


@console.command
def main(overrides: list[str]) -> int:
    """The command line above; returns the exit status."""
    print(json.dumps(footprint.footprint(resolved(compose(overrides)))))
    return 0
