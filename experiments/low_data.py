"""Table 16 of the paper: a sentence-pair task with few training rows, every method beside the paper's values on MNLI.

    python -m experiments.low_data profile=mini    this checkout's runs beside the published ones and the paper's
    python -m experiments.low_data --published     re-render results/*/{tables,figures} from records alone

The first form takes the training command's overrides (row/low_data=lora, task=rte, data.n_train=100) and shows the cells they ask
for. Reads records, trains nothing, needs no network.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # so that `python experiments/low_data.py` works from anywhere
    sys.path.insert(0, str(ROOT))

from lora_repro import manners  # noqa: E402

# --help does not wait for the imports below.
manners.begin(__name__, lambda: manners.table_parser("low_data", __doc__))

from lora_repro.tables import present  # noqa: E402
from lora_repro.tables.artefact import Artefact  # noqa: E402
from lora_repro.tables.report import Metric  # noqa: E402

SCORE = Metric("rows_all", "Score", +1, 100, 1)  # the columns themselves are the swept sizes
LOW_DATA = Artefact(
    name="low_data",
    title="Few training rows",
    metrics=(SCORE,),
    compared=SCORE,
    reference="full",
    reference_label="full FT",
    paper={"gpt3_175b": "GPT-3 175B, MNLI"},
    remarks=(
        "Scores in per cent. The paper's are accuracies of another model on another task: for the shape only.",
        "Below the paper's scale the checkpoint with the least loss on held-out rows is scored (mini holds out 200, laptop 250: "
        "more than 100), and all sizes share a rate (chosen on 1,600 rows, 1,500 at laptop). With 100 rows that loss was least "
        "at the first look, at step 25, for every method at laptop and for LoRA at mini: that column says as much about this "
        "rule as about the methods.",
    ),
    by="data.n_train",
    x="data.n_train",
)


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """The command line above; returns the exit status."""
    return present.main(LOW_DATA, __doc__ or "", arguments, root)


if __name__ == "__main__":
    sys.exit(main())
