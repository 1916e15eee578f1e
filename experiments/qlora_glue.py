"""QLoRA (Dettmers et al. 2023) on sentence tasks: LoRA over 4-bit weights beside LoRA over floats and full fine-tuning."""

from lora_repro.report.pivot import Pivot

TABLE = Pivot(
    title="QLoRA on GLUE",
    by="task",
    reference="lora_all",
    reference_label="LoRA on all",
    paper={"roberta_base": "RoBERTa base", "roberta_large": "RoBERTa large"},
    remarks=(
        "Scores in per cent. QLoRA: the blocks' linear layers in NF4 with quantised scales, 4.127 bits per weight; everything "
        "else as in LoRA. Memory and file sizes: tables/latency.md.",
    ),
)
