"""Table 18 of the paper: which rank on E2E NLG, BLEU and validation loss."""

from lora_repro.report.numbers import Metric
from lora_repro.report.pivot import Pivot

TABLE = Pivot(
    title="Rank of the update on E2E",
    by="row.rank",
    axis="r",
    over="row.rank",
    metrics=(Metric("bleu", "BLEU"), Metric("dev_loss", "Dev loss", direction=-1, scale=1, digits=3)),
    paper={"gpt2_medium": "GPT-2 M"},
    remarks=(
        "BLEU in per cent; dev loss in nats per token on one validation set, which is not the paper's.",
        "alpha is constant as the rank grows, as in the paper. Where the learning rate was searched, each cell has its own.",
    ),
)
