"""Table 4 of the paper: WikiSQL, MNLI as generation and SAMSum, every method beside the paper's values of GPT-3 175B."""

from lora_repro.report.numbers import Metric
from lora_repro.report.pivot import Pivot

PAPER = {"gpt3_175b": "GPT-3 175B"}
WIKISQL = Pivot(
    title="GPT-3's tasks: WikiSQL",
    metrics=(
        Metric("logical_form_accuracy", "Logical form", printed="wikisql"),
        Metric("execution_accuracy", "Execution"),
    ),
    paper=PAPER,
    remarks=(
        "Accuracy in per cent. Logical form: the same column, aggregate and set of conditions. Execution: the same result when "
        "the query is run; — where the tables' rows are not available. The paper reports logical form; it gives 0.5 as the "
        "typical fluctuation over seeds.",
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
        "F1 in per cent. rouge_score: with its stemmer; ROUGE-L of the whole text. py-rouge: its defaults, at most 665 "
        "characters; ROUGE-L by lines.",
        "The paper names no tool; its values are shown under rouge_score. It gives 0.2, 0.2 and 0.1 as the typical fluctuation "
        "over seeds of ROUGE-1, -2 and -L.",
    ),
)
TABLE = Pivot(
    title="GPT-3's tasks",
    by="task",
    paper=PAPER,
    remarks=(
        "WikiSQL: logical form accuracy in per cent on dev, as in the paper (official rule: column, aggregate and set of "
        "conditions). MNLI: accuracy in per cent on the matched set; the prediction is the likeliest of three words. SAMSum: "
        "ROUGE-1 in per cent by rouge_score with its stemmer; the paper names no tool.",
        "Separate tables show execution accuracy on WikiSQL, and ROUGE-1, -2 and -L on SAMSum by rouge_score and by py-rouge.",
        "The paper gives 0.5, 0.1 and 0.2 as the typical fluctuation over seeds. Its LoRA + PE and LoRA + PL are from Table 15, "
        "which has no SAMSum; its few-shot accuracy is from Table 8.",
    ),
    each={"wikisql": WIKISQL, "samsum": SAMSUM},
)
