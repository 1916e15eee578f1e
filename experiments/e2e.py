"""Table 3 of the paper: E2E NLG, every method beside the paper's value; BLEU against trainable parameters."""

from lora_repro.report.numbers import GENERAL_RISE, Metric
from lora_repro.report.pivot import Pivot

TABLE = Pivot(
    title="E2E NLG",
    metrics=(
        Metric("bleu", "BLEU"),
        Metric("nist", "NIST", scale=1, digits=2),
        Metric("meteor", "METEOR"),
        Metric("rouge_l", "ROUGE-L"),
        Metric("cider", "CIDEr", scale=1, digits=2),
        Metric("slot_error_rate", "SER", direction=-1),
        GENERAL_RISE,
    ),
    paper={"gpt2_medium": "GPT-2 M", "gpt2_large": "GPT-2 L"},
    remarks=("BLEU, METEOR, ROUGE-L and SER (slot error rate) in per cent. The paper reports no SER.",),
)
