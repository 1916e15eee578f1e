"""Figure 2 of the paper: quality against trained parameters, every method over its size, bars over seeds."""

from lora_repro.report.pivot import Pivot

TABLE = Pivot(
    title="Quality against trained parameters",
    by="row.size",
    over="parameters",
    paper={"gpt3_175b": "GPT-3 175B, MultiNLI"},
    remarks=(
        "size: LoRA's rank, an adapter's bottleneck or a prefix's number of virtual tokens; equal sizes do not train equal "
        "numbers of parameters. no size: methods without one.",
        "Scores in per cent. The paper's are accuracies of another model on another task: compare the trends only.",
        "Where the learning rate was searched, each size has its own.",
    ),
)
