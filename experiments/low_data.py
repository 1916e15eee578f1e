"""Table 16 of the paper: a sentence-pair task with few training rows, every method beside the paper's values on MNLI."""

from lora_repro.report.pivot import Pivot
from lora_repro.report.statistics import Metric

TABLE = Pivot(
    title="Few training rows",
    by="data.n_train",
    over="data.n_train",
    metrics=(Metric("score", "Score"),),
    paper={"gpt3_175b": "GPT-3 175B, MNLI"},
    remarks=(
        "Scores in per cent. The paper's are accuracies of another model on another task: for the shape only.",
        "Below the paper's scale the checkpoint of the best score on held-out rows is scored (mini holds out 200, laptop 250: "
        "more than the smallest size), and every size has a learning rate of its own where it was searched.",
    ),
)
