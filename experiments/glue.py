"""Table 2 of the paper: GLUE, every method on every task beside the paper's values; the average against trainable parameters.

    python -m experiments.glue profile=mini    this checkout's runs beside the published ones and the paper's
    python -m experiments.glue --published     re-render results/*/{tables,figures} from records alone

The first form takes the training command's overrides (row/glue=lora, task=rte, seed=0) and shows the cells they ask
for. Reads records, trains nothing, needs no network.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # so that `python experiments/glue.py` works from anywhere
    sys.path.insert(0, str(ROOT))

from lora_repro import manners  # noqa: E402

# --help does not wait for the imports below.
manners.begin(__name__, lambda: manners.table_parser("glue", __doc__))

from lora_repro.tables import present  # noqa: E402
from lora_repro.tables.artefact import Artefact  # noqa: E402
from lora_repro.tables.columns import AVERAGE  # noqa: E402

GLUE = Artefact(
    name="glue",
    title="GLUE",
    metrics=(AVERAGE,),
    compared=AVERAGE,
    reference="full",
    reference_label="full FT",
    paper={
        "roberta_base": "RoBERTa base",
        "roberta_large": "RoBERTa large",
        "deberta_v2_xxlarge": "DeBERTa XXL",
    },
    remarks=(
        "All scores in per cent, as in the paper: accuracy (MNLI: matched and mismatched together), CoLA Matthews, STS-B "
        "Pearson correlation. Averages, the paper's too, are over the tasks shown. The paper's cells are medians over five "
        "seeds where ours are means. head: the largest of the tasks'.",
    ),
    by="task",
)


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """The command line above; returns the exit status."""
    return present.main(GLUE, __doc__ or "", arguments, root)


if __name__ == "__main__":
    sys.exit(main())
