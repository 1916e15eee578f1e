"""Figure 2 of the paper: quality against trained parameters, every method over its size, bars over seeds.

    python -m experiments.params_vs_quality profile=mini    this checkout's runs beside the published ones and the paper's
    python -m experiments.params_vs_quality --published     re-render results/*/{tables,figures} from records alone

The first form takes the training command's overrides (row/params_vs_quality=lora, row.size=16) and shows the cells they ask
for. Reads records, trains nothing, needs no network.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # so that `python experiments/params_vs_quality.py` works from anywhere
    sys.path.insert(0, str(ROOT))

from lora_repro import manners  # noqa: E402

# --help does not wait for the imports below.
manners.begin(__name__, lambda: manners.table_parser("params_vs_quality", __doc__))

from lora_repro.tables import present  # noqa: E402
from lora_repro.tables.artefact import Artefact  # noqa: E402
from lora_repro.tables.report import Metric  # noqa: E402

SCORE = Metric("score", "Score (%)", +1, 100, 1)  # the columns themselves are the swept sizes
PARAMS = Artefact(
    name="params_vs_quality",
    title="Quality against trained parameters",
    metrics=(SCORE,),
    compared=SCORE,
    reference="full",
    reference_label="full FT",
    paper={"gpt3_175b": "GPT-3 175B, MultiNLI"},
    remarks=(
        "The size is LoRA's rank, an adapter's bottleneck, a prefix's virtual tokens: equal sizes are not equal numbers of "
        "parameters.",
        "Scores in per cent. The paper's are accuracies of another model on another task: for the shape only.",
        "One learning rate a method, that of the GLUE table, whatever the size.",
    ),
    by="row.size",
    size="size",
    x="parameters",
)


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """The command line above; returns the exit status."""
    return present.main(PARAMS, __doc__ or "", arguments, root)


if __name__ == "__main__":
    sys.exit(main())
