"""Table 13 of the paper: DART, every method beside the paper's value."""

from lora_repro.report.numbers import GENERAL_RISE, Metric
from lora_repro.report.pivot import Pivot

TABLE = Pivot(
    title="DART",
    metrics=(
        Metric("bleu", "BLEU"),
        Metric("meteor", "MET", scale=1, digits=2),
        Metric("ter", "TER", direction=-1, scale=1, digits=2),
        GENERAL_RISE,
    ),
    paper={"gpt2_medium": "GPT-2 M", "gpt2_large": "GPT-2 L"},
    remarks=(
        "BLEU in per cent, METEOR and TER as fractions.",
        "Under the paper's protocol DART's test set has 4,159 inputs, not its 5,097 entries.",
    ),
)
