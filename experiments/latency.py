"""Table 1, Figure 5 and the sizes of Section 4.2 of the paper: what each method costs in time, memory and disk.

    python -m experiments.latency profile=mini    this checkout's measurements beside the published ones and the paper's
    python -m experiments.latency --published     re-render results/*/{tables,figures} from the measurements alone

The first form takes the measuring command's overrides (bench.rounds=50, backbone=gpt2_large) and shows what they gave. Reads
results/*/measures, measures nothing, needs no network.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # so that `python experiments/latency.py` works from anywhere
    sys.path.insert(0, str(ROOT))

from lora_repro import manners  # noqa: E402

# --help does not wait for the imports below.
manners.begin(__name__, lambda: manners.table_parser("latency", __doc__))

from lora_repro.bench import present_latency  # noqa: E402
from lora_repro.errors import UserError  # noqa: E402


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """The command line above; returns the exit status."""
    given = manners.table_parser("latency", __doc__).parse_args(arguments)
    try:
        if given.published and given.overrides:
            raise UserError("--published takes no overrides: it renders what is published as it is")
        if given.published:
            present_latency.render_published(root)
        else:
            present_latency.show(root, given.overrides)
    except UserError as error:
        return manners.failed(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
