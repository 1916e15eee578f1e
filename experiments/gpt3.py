"""Table 4 of the paper: WikiSQL, MNLI as generation and SAMSum, every method beside the paper's values of GPT-3 175B."""

from lora_repro.report.pivot import Pivot

TABLE = Pivot(
    title="GPT-3's tasks",
    by="task",
    paper={"gpt3_175b": "GPT-3 175B"},
    remarks=(
        "All scores in per cent: WikiSQL logical form accuracy (official rule: column, aggregate and the set of "
        "conditions; dev, as in the paper), MNLI accuracy on the matched set, answered by the likeliest of three words, "
        "SAMSum ROUGE-1 by rouge_score with its stemmer. The paper names no tool for ROUGE; records hold ROUGE-1, -2 and "
        "-L of rouge_score and by py-rouge's convention. Its typical fluctuation over seeds is 0.5, 0.1 and 0.2. LoRA + "
        "PE and LoRA + PL are of Table 15, which has no SAMSum; the untuned model's few-shot accuracy is Table 8's.",
    ),
)
