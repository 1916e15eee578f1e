"""Table 18 of the paper: which rank on E2E NLG, BLEU and validation loss.

    python -m experiments.rank_e2e profile=mini    this checkout's runs beside the published ones and the paper's
    python -m experiments.rank_e2e --published     re-render results/*/{tables,figures} from records alone

The first form takes the training command's overrides (row/rank_e2e=lora, row.size=16) and shows the cells they ask
for. Reads records, trains nothing, needs no network.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # so that `python experiments/rank_e2e.py` works from anywhere
    sys.path.insert(0, str(ROOT))

from lora_repro import manners  # noqa: E402

# --help does not wait for the imports below.
manners.begin(__name__, lambda: manners.table_parser("rank_e2e", __doc__))

from lora_repro.tables import present  # noqa: E402
from lora_repro.tables.artefact import Artefact  # noqa: E402
from lora_repro.tables.report import Metric  # noqa: E402

BLEU = Metric("bleu", "BLEU", +1, 100, 1)
RANK_E2E = Artefact(
    name="rank_e2e",
    title="Rank of the update on E2E",
    metrics=(BLEU, Metric("dev_loss", "Dev loss", -1, 1, 3)),
    compared=BLEU,
    reference="full",
    reference_label="full FT",
    paper={"gpt2_medium": "GPT-2 M"},
    remarks=(
        "BLEU in per cent; dev loss in nats a token, of one validation set (the paper's is another).",
        "alpha stays as the rank grows, as in the paper; one learning rate for every rank, that of the E2E table's LoRA.",
    ),
    by="row.size",
    size="r",
    x="row.size",
)


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """The command line above; returns the exit status."""
    return present.main(RANK_E2E, __doc__ or "", arguments, root)


if __name__ == "__main__":
    sys.exit(main())
