"""Table 14 of the paper: WebNLG 2017, every method beside the paper's value; seen and unseen categories apart."""

from lora_repro.report.numbers import GENERAL_RISE, Metric
from lora_repro.report.pivot import Pivot

PARTS = {"": "", "_seen": " seen", "_unseen": " unseen"}
TABLE = Pivot(
    title="WebNLG 2017",
    metrics=(
        *(Metric(f"bleu{part}", f"BLEU{said}") for part, said in PARTS.items()),
        *(Metric(f"meteor{part}", f"MET{said}", scale=1, digits=2) for part, said in PARTS.items()),
        *(Metric(f"ter{part}", f"TER{said}", direction=-1, scale=1, digits=2) for part, said in PARTS.items()),
        GENERAL_RISE,
    ),
    paper={"gpt2_medium": "GPT-2 M", "gpt2_large": "GPT-2 L"},
    remarks=(
        "BLEU in per cent, METEOR and TER as fractions. Seen: categories that occur in training; unseen: the others.",
        "The paper quotes its rows without ± from work that used the challenge's own scripts, which compute TER differently.",
    ),
)
