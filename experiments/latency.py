"""Table 1, Figure 5 and the sizes of Section 4.2 of the paper: what each method costs in time, memory and disk.

    python -m experiments.latency profile=mini    this checkout's measurements beside the published ones and the paper's
    python -m experiments.latency --published     re-render results/*/{tables,figures} from the measurements alone

The first form takes the measuring command's overrides (bench.rounds=50, backbone=gpt2_large) and shows what they gave. Reads
results/*/measures, measures nothing, needs no network.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # so that `python experiments/latency.py` works from anywhere
    sys.path.insert(0, str(ROOT))

from lora_repro import present_latency  # noqa: E402
from lora_repro.errors import UserError  # noqa: E402


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """The command line above; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.latency", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--published", action="store_true", help="re-render everything under results/")
    parser.add_argument("overrides", nargs="*", help="profile=mini (default) and the measuring command's others")
    given = parser.parse_args(arguments)
    try:
        if given.published and given.overrides:
            raise UserError("--published takes no overrides: it renders what is published as it is")
        if given.published:
            present_latency.render_published(root)
        else:
            present_latency.show(root, given.overrides)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
