"""Table 7 of the paper: how much of W lies in the directions of its update, by layer and over the training.

    python -m experiments.delta_w profile=mini    this checkout's runs beside the published ones
    python -m experiments.delta_w --published     re-render results/*/{tables,figures} from records alone

The first form takes the training command's overrides (seed=0, row.size=8) and shows the runs they ask for. Reads records and the
arrays beside them, trains nothing, needs no network.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # so that `python experiments/delta_w.py` works from anywhere
    sys.path.insert(0, str(ROOT))

from lora_repro import manners  # noqa: E402

# --help does not wait for the imports below.
manners.begin(__name__, lambda: manners.table_parser("delta_w", __doc__))

from lora_repro.analysis import delta_view  # noqa: E402
from lora_repro.tables import present_updates  # noqa: E402
from lora_repro.tables.present_updates import View  # noqa: E402

DELTA_W = View("delta_w", "Update against weight", delta_view.sheets, delta_view.figures)


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """The command line above; returns the exit status."""
    return present_updates.main(DELTA_W, __doc__ or "", arguments, root)


if __name__ == "__main__":
    sys.exit(main())
