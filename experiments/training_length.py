"""Score against training length: is LoRA on par with full fine-tuning, and after how many epochs?"""

from lora_repro.report.pivot import Pivot

TABLE = Pivot(
    title="Score against training length",
    by="train.epochs",
    axis="epochs",
    over="train.epochs",
    curves=("full", "lora", "lora_rank_1", "lora_rank_64"),  # of the others one length or two are known
    paper={},
    remarks=(
        "Scores in per cent. Each length is a training of its own, whose rate falls to zero at its end; the checkpoint is "
        "the one with the best score on held-out rows.",
        "One epoch of STS-B and two of CoLA are the runs of the table glue.",
    ),
)
