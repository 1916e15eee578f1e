"""Score or convert the RoBERTa-base MNLI adapter that the LoRA authors released.

    python -m lora_repro authors roberta_base_lora_mnli.bin paths.data=/data/glue    its accuracy on MNLI
    python -m lora_repro authors roberta_base_lora_mnli.bin --convert adapter.safetensors
    python -m lora_repro authors adapter.safetensors --back again.bin

The first needs MNLI and RoBERTa base; the others convert the file, to our names and back.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from lora_repro import console
from lora_repro.exchange import authors
from lora_repro.methods.base import require


def parser() -> argparse.ArgumentParser:
    made = console.parser("authors", __doc__)
    made.add_argument("adapter", metavar="ADAPTER", help="the authors' .bin (with --back: our safetensors)")
    made.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for run: task.source=hub")
    way = made.add_mutually_exclusive_group()
    way.add_argument("--convert", type=Path, metavar="OUT", help="write it to OUT under our names instead")
    way.add_argument("--back", type=Path, metavar="OUT", help="write our adapter to OUT under the authors' names")
    return made


@console.command
def main(arguments: Sequence[str]) -> int:
    """The command line. A mistake prints `error: <line>` on stderr and returns the error's exit code."""
    given = parser().parse_intermixed_args(arguments)
    target, more = given.convert or given.back, " ".join(given.overrides)
    require(bool(given.adapter), "no adapter named: give ADAPTER=/path/to/roberta_base_lora_mnli.bin")
    require(not (target and more), f"a conversion takes no settings: leave out {more}")
    adapter, back = given.adapter, given.back is not None
    print(authors.convert(adapter, target, back) if target else authors.evaluate(adapter, given.overrides))
    return 0
