"""Table 5 of the paper: which weight matrices of attention to adapt when the number of trained parameters is fixed."""

from lora_repro.report.pivot import Pivot

TABLE = Pivot(
    title="Which weight matrices",
    by="task",
    over="row",
    reference="q_v",
    reference_label="q, v",
    paper={"gpt3_175b": "GPT-3 175B"},
    remarks=(
        "Scores in per cent. The paper's scores, under Notes, are of another model and other tasks: compare the trends only.",
        "alpha is the same in every row. Where the learning rate was searched, each cell has its own.",
    ),
)
