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
        "All scores in per cent, as in the paper: accuracy (MNLI: matched and mismatched together), CoLA Matthews, STS-B "
        "Pearson correlation. Averages, the paper's too, are over the tasks shown. The paper's cells are medians over five "
        "seeds where ours are means. head: the largest of the tasks'.",
    ),
)
