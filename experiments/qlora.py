"""QLoRA (Dettmers et al. 2023) on E2E NLG: LoRA over 4-bit weights beside LoRA over floats and full fine-tuning."""

from lora_repro.report.numbers import Metric
from lora_repro.report.pivot import Pivot

TABLE = Pivot(
    title="QLoRA on E2E NLG",
    metrics=(
        Metric("bleu", "BLEU"),
        Metric("nist", "NIST", scale=1, digits=2),
        Metric("rouge_l", "ROUGE-L"),
        Metric("slot_error_rate", "SER", direction=-1),
    ),
    reference="lora_all",
    reference_label="LoRA on all",
    paper={"gpt2_medium": "GPT-2 M"},
    remarks=(
        "BLEU, ROUGE-L and SER (slot error rate) in per cent. QLoRA: the blocks' linear layers in NF4 with quantised scales, "
        "4.127 bits per weight; everything else as in LoRA. Memory and file sizes: tables/latency.md.",
    ),
)
