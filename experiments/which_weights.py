"""Table 5 of the paper: which weight matrices of attention to adapt when the number of trained parameters is fixed.

    python -m experiments.which_weights profile=mini    this checkout's runs beside the published ones and the paper's
    python -m experiments.which_weights --published     re-render results/*/{tables,figures} from records alone

The first form takes the training command's overrides (row/which_weights=q_k, task=stsb) and shows the cells they ask
for. Reads records, trains nothing, needs no network.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # so that `python experiments/which_weights.py` works from anywhere
    sys.path.insert(0, str(ROOT))

from lora_repro import manners  # noqa: E402

# --help does not wait for the imports below.
manners.begin(__name__, lambda: manners.table_parser("which_weights", __doc__))

from lora_repro.tables import present  # noqa: E402
from lora_repro.tables.artefact import Artefact  # noqa: E402
from lora_repro.tables.columns import AVERAGE  # noqa: E402

WHICH = Artefact(
    name="which_weights",
    title="Which weight matrices",
    metrics=(AVERAGE,),
    compared=AVERAGE,
    reference="q_v",
    reference_label="q, v",
    paper={"gpt3_175b": "GPT-3 175B"},
    remarks=(
        "Scores in per cent, means over the tasks shown. The paper's (MultiNLI) are of another model: for the shape only.",
        "alpha is the same in every row; one learning rate for all, that of the GLUE table's LoRA.",
    ),
    by="task",
    x="row",
)


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """The command line above; returns the exit status."""
    return present.main(WHICH, __doc__ or "", arguments, root)


if __name__ == "__main__":
    sys.exit(main())
