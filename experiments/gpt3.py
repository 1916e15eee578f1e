"""Table 4 of the paper: WikiSQL, MNLI as generation and SAMSum, every method beside the paper's values of GPT-3 175B."""

from lora_repro.report.pivot import Pivot
from lora_repro.report.statistics import Metric

PAPER = {"gpt3_175b": "GPT-3 175B"}
WIKISQL = Pivot(
    title="GPT-3's tasks: WikiSQL",
    metrics=(
        Metric("logical_form_accuracy", "Logical form", printed="wikisql"),
        Metric("execution_accuracy", "Execution"),
    ),
    paper=PAPER,
    remarks=(
        "In per cent. Logical form: the same column, aggregate and set of conditions. Execution: the same result when it is run, "
        "— where the tables' rows are not at hand. The paper reports the first; its typical fluctuation over seeds is 0.5.",
    ),
)
SAMSUM = Pivot(
    title="GPT-3's tasks: SAMSum",
    metrics=(
        Metric("rouge1_rouge_score", "ROUGE-1 (rouge_score)", printed="samsum"),
        Metric("rouge2_rouge_score", "ROUGE-2 (rouge_score)", printed="samsum_rouge2"),
        Metric("rougeL_rouge_score", "ROUGE-L (rouge_score)", printed="samsum_rougeL"),
        Metric("rouge1_py_rouge", "ROUGE-1 (py-rouge)"),
        Metric("rouge2_py_rouge", "ROUGE-2 (py-rouge)"),
        Metric("rougeL_py_rouge", "ROUGE-L (py-rouge)"),
    ),
    paper=PAPER,
    remarks=(
        "F1 in per cent. rouge_score: with its stemmer, ROUGE-L of the whole text. py-rouge: its defaults, 665 characters at "
        "most, ROUGE-L by lines. The paper names no tool: its values stand under the first. Its typical fluctuation over seeds "
        "is 0.2, 0.2 and 0.1.",
    ),
)
TABLE = Pivot(
    title="GPT-3's tasks",
    by="task",
    paper=PAPER,
    remarks=(
        "All scores in per cent: WikiSQL logical form accuracy (official rule: column, aggregate and the set of "
        "conditions; dev, as in the paper), MNLI accuracy on the matched set, answered by the likeliest of three words, "
        "SAMSum ROUGE-1 by rouge_score with its stemmer. Further metrics stand in a table for each task: execution accuracy, "
        "ROUGE-1, -2 and -L by rouge_score and by py-rouge's convention; the paper names no tool. Its typical fluctuation over "
        "seeds is 0.5, 0.1 and 0.2. LoRA + PE and LoRA + PL are of Table 15, which has no SAMSum; the untuned model's few-shot "
        "accuracy is Table 8's.",
    ),
    each={"wikisql": WIKISQL, "samsum": SAMSUM},
)
