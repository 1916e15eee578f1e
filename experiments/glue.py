"""Table 2 of the paper: GLUE, every method on every task beside the paper's values; the average against trainable parameters."""

from lora_repro.report.pivot import Pivot

TABLE = Pivot(
    title="GLUE",
    by="task",
    paper={
        "roberta_base": "RoBERTa base",
        "roberta_large": "RoBERTa large",
        "deberta_v2_xxlarge": "DeBERTa XXL",
    },
    remarks=(
        "Scores in per cent, as in the paper: Matthews correlation for CoLA, Pearson correlation for STS-B, accuracy for all "
        "other tasks (MNLI: matched and mismatched together).",
        "Our cells are means over seeds, the paper's medians over five seeds. Averages, the paper's included, are over the "
        "tasks shown. Params: head is the largest head of any task.",
    ),
)
