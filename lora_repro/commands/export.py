"""Export a trained run as a peft adapter or a plain transformers checkpoint, or convert the LoRA authors' own adapter.

    lora-repro export runs/mini/SIGNATURE --to DIR                    a peft adapter (LoRA, PreLayer, prompt tuning)
    lora-repro export runs/mini/SIGNATURE --to DIR --format merged    a whole model (also full fine-tuning, BitFit, ...)
    ... --format merged --dequantise                                            a run over 4-bit weights, as floats

    lora-repro export roberta_base_lora_mnli.bin --to adapter.safetensors     the authors' adapter under our names
    lora-repro export adapter.safetensors --to again.bin --format authors     and back

The first two compute the run's logits, in float32. Their folder also gets a model card (README.md: base model, settings, data,
scores, training command) and lora_repro.json, so `generate` and `score` need nothing else: it holds the run's record and the
sha256 of every file but the card, which they check.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from lora_repro import console
from lora_repro.exchange import authors, export
from lora_repro.methods.base import require

AUTHORS = "authors"


def parser() -> argparse.ArgumentParser:
    arg_parser = console.parser("export", __doc__)
    arg_parser.add_argument("run", type=Path, metavar="RUN_FOLDER", help="runs/<profile>/<signature>; or a file to convert")
    arg_parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="a new folder; for a conversion a file")
    arg_parser.add_argument("--format", choices=(*export.FORMATS, AUTHORS), help="default: peft")
    arg_parser.add_argument("--dequantise", action="store_true", help="turn a run's 4-bit weights into floats, then merge")
    return arg_parser


@console.command
def main(arguments: Sequence[str]) -> int:
    """The command line. A mistake prints `error: <line>` on stderr and returns the error's exit code."""
    options = parser().parse_args(arguments)
    back = options.format == AUTHORS
    if back or options.run.suffix == ".bin":
        require(back or not options.format, f"a .bin is converted to our names only: leave out --format {options.format}")
        require(not options.dequantise, "a conversion changes no value: leave out --dequantise")
        print(authors.convert(str(options.run), options.to, back))
        return 0
    target = export.export(options.run, options.to, options.format or export.FORMATS[0], options.dequantise)
    print("\n".join(f"{path.stat().st_size:>13,}  {path}" for path in sorted(target.iterdir())))
    return 0
