"""Table 16 of the paper: a sentence-pair task with few training rows, every method beside the paper's values on MNLI."""

from lora_repro.report.numbers import Metric
from lora_repro.report.pivot import Pivot

TABLE = Pivot(
    title="Few training rows",
    by="data.n_train",
    over="data.n_train",
    metrics=(Metric("score", "Score"),),
    paper={"gpt3_175b": "GPT-3 175B, MNLI"},
    remarks=(
        "Scores in per cent. The paper's are accuracies of another model on another task: compare the trends only.",
        "Below the paper's scale the test score is that of the checkpoint with the best score on held-out rows (200 at mini, "
        "250 at laptop: more than the smallest training set). Where the learning rate was searched, each training-set size has "
        "its own.",
    ),
)
