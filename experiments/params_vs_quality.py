"""Figure 2 of the paper: quality against trained parameters, every method over its size, bars over seeds."""

from lora_repro.report.pivot import Pivot

TABLE = Pivot(
    title="Quality against trained parameters",
    by="row.size",
    over="parameters",
    paper={"gpt3_175b": "GPT-3 175B, MultiNLI"},
    remarks=(
        "The size is LoRA's rank, an adapter's bottleneck, a prefix's virtual tokens: equal sizes are not equal numbers of "
        "parameters.",
        "Scores in per cent. The paper's are accuracies of another model on another task: for the shape only.",
        "Every size has a learning rate of its own where it was searched.",
    ),
)
