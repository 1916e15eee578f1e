"""Table 3 of the paper: E2E NLG, every method beside the paper's value; BLEU against trainable parameters.

    python -m experiments.e2e profile=mini    this checkout's runs beside the published ones and the paper's
    python -m experiments.e2e --published     re-render results/*/{tables,figures} from records alone

The first form takes the training command's overrides (row/e2e=lora, seed=0, train.lr=1e-3) and shows the cells they
ask for. Reads records, trains nothing, needs no network.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # so that `python experiments/e2e.py` works from anywhere
    sys.path.insert(0, str(ROOT))

from lora_repro import manners  # noqa: E402

# --help does not wait for the imports below.
manners.begin(__name__, lambda: manners.table_parser("e2e", __doc__))

from lora_repro.tables import present  # noqa: E402
from lora_repro.tables.artefact import Artefact  # noqa: E402
from lora_repro.tables.report import Metric  # noqa: E402

BLEU = Metric("bleu", "BLEU", +1, 100, 1)
E2E = Artefact(
    name="e2e",
    title="E2E NLG",
    metrics=(
        BLEU,
        Metric("nist", "NIST", +1),
        Metric("meteor", "METEOR", +1, 100, 1),
        Metric("rouge_l", "ROUGE-L", +1, 100, 1),
        Metric("cider", "CIDEr", +1),
        Metric("slot_error_rate", "SER", -1, 100, 1),
    ),
    compared=BLEU,
    reference="full",
    reference_label="full FT",
    paper={"gpt2_medium": "GPT-2 M", "gpt2_large": "GPT-2 L"},
    remarks=("BLEU, METEOR, ROUGE-L and SER (slot error rate) in per cent. The paper reports no SER.",),
)


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """The command line above; returns the exit status."""
    return present.main(E2E, __doc__ or "", arguments, root)


if __name__ == "__main__":
    sys.exit(main())
