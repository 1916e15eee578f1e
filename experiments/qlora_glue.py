"""QLoRA (Dettmers et al. 2023) on sentence tasks: LoRA over 4-bit weights beside LoRA over floats and full fine-tuning."""

from lora_repro.report.pivot import Pivot

TABLE = Pivot(
    title="QLoRA on GLUE",
    by="task",
    reference="lora_all",
    reference_label="LoRA on all",
    paper={"roberta_base": "RoBERTa base", "roberta_large": "RoBERTa large"},
    remarks=(
        "Scores in per cent. QLoRA: linear layers of the blocks in NF4, scales quantised too: 4.127 bits a weight; all else as "
        "LoRA has it. Memory and file sizes: tables/latency.md.",
    ),
)
