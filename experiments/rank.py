"""Table 6 of the paper: which rank, for one, two and four weight matrices, beside the same matrices trained in full.

    python -m experiments.rank profile=mini    this checkout's runs beside the published ones and the paper's
    python -m experiments.rank --published     re-render results/*/{tables,figures} from records alone

The first form takes the training command's overrides (row/rank=lora_q_v, task=stsb, row.size=4) and shows the cells they ask
for. Reads records, trains nothing, needs no network.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # so that `python experiments/rank.py` works from anywhere
    sys.path.insert(0, str(ROOT))

from lora_repro import manners  # noqa: E402

# --help does not wait for the imports below.
manners.begin(__name__, lambda: manners.table_parser("rank", __doc__))

from lora_repro.tables import present  # noqa: E402
from lora_repro.tables.artefact import Artefact  # noqa: E402
from lora_repro.tables.report import Metric  # noqa: E402

SCORE = Metric("score", "Score (%)", +1, 100, 1)  # the columns themselves are the swept ranks
RANK = Artefact(
    name="rank",
    title="Rank of the update",
    metrics=(SCORE,),
    compared=SCORE,
    reference="full",
    reference_label="full FT",
    paper={"gpt3_175b": "GPT-3 175B, MultiNLI"},
    remarks=(
        "Scores in per cent. The paper's are accuracies of another model on another task: for the shape only.",
        "alpha stays as the rank grows, as in the paper; one learning rate for every rank, that of the GLUE table's LoRA.",
        "Matrices in full, at mini and laptop: 9e-4, the largest of three rates tried (mini: on all four, laptop: on W_q, W_v).",
        "no r: rows without a rank, the same run beside every column.",
    ),
    by="row.size",
    size="r",
    x="row.size",
)


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """The command line above; returns the exit status."""
    return present.main(RANK, __doc__ or "", arguments, root)


if __name__ == "__main__":
    sys.exit(main())
