"""LoRA beside what came after it (DoRA, rsLoRA, LoRA+, PiSSA, VeRA) and beside itself with prompts (Section 7), on E2E NLG."""

from experiments import e2e
from lora_repro.report.pivot import Pivot

TABLE = Pivot(
    title="LoRA's rivals on E2E NLG",
    metrics=e2e.TABLE.metrics,
    reference="lora",
    reference_label="LoRA",
    paper={"gpt2_medium": "GPT-2 M", "gpt2_large": "GPT-2 L"},
    remarks=(
        "BLEU, METEOR, ROUGE-L and SER (slot error rate) in per cent.",
        "Every method here had the same three learning-rate trials a factor of three apart, on dev data (conf/tuned).",
        "The paper has none of these rows on E2E; its LoRA with prefixes is Table 15's, on GPT-3.",
    ),
)
