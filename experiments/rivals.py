"""LoRA beside what came after it (DoRA, rsLoRA, LoRA+, PiSSA, VeRA) and beside itself with prompts (Section 7), on GLUE."""

from lora_repro.report.pivot import Pivot

TABLE = Pivot(
    title="LoRA's rivals on GLUE",
    by="task",
    reference="lora",
    reference_label="LoRA",
    paper={"roberta_base": "RoBERTa base", "roberta_large": "RoBERTa large"},
    remarks=(
        "Scores in per cent.",
        "The paper reports none of the rivals. It reports LoRA with prefixes in Table 15, on GPT-3 only.",
    ),
)
