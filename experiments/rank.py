"""Table 6 of the paper: which rank, for one, two and four weight matrices, beside the same matrices trained in full."""

from lora_repro.report.pivot import Pivot

TABLE = Pivot(
    title="Rank of the update",
    by="row.rank",
    axis="r",
    over="row.rank",
    paper={"gpt3_175b": "GPT-3 175B, MultiNLI"},
    remarks=(
        "Scores in per cent. The paper's are accuracies of another model on another task: compare the trends only.",
        "alpha is constant as the rank grows, as in the paper. Where the learning rate was searched, each cell has its own.",
        "no r: methods without a rank; the same runs are compared with every rank.",
    ),
)
