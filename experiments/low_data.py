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
        "Below the paper's scale the checkpoint with the least loss on held-out rows is scored (mini holds out 200, laptop 250: "
        "more than 100), and all sizes share a rate (chosen on 1,600 rows, 1,500 at laptop). With 100 rows that loss was least "
        "at the first look, at step 25, for every method at laptop and for LoRA at mini: that column says as much about this "
        "rule as about the methods.",
    ),
)
