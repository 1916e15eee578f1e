"""Figure 2 and Table 15 of the paper: WikiSQL and MNLI against trained parameters, every method of Table 4 over its size."""

from dataclasses import replace

from experiments import params_vs_quality

TABLE = replace(
    params_vs_quality.TABLE,
    title="GPT-3's tasks against trained parameters",
    paper={"gpt3_175b": "GPT-3 175B"},
    remarks=(
        params_vs_quality.TABLE.remarks[0],
        "Scores in per cent. WikiSQL: logical form accuracy on dev. MNLI: accuracy on the matched set; the prediction is the "
        "likeliest of three words.",
        "Each method has one learning rate for all sizes, that of its row in Table 4.",
    ),
)
