"""AdapterFusion (Pfeiffer et al. 2021) beside what it fuses, and whose adapters it listens to, layer by layer."""

from lora_repro.report.pivot import Pivot
from lora_repro.report.views.fusion import Fusion

TABLE = Fusion(
    Pivot(
        title="AdapterFusion",
        by="task",
        reference="adapter_p",
        reference_label="AdapterP",
        paper={"roberta_base": "RoBERTa base"},
        remarks=(
            "Scores in per cent. Every AdapterP is trained on its own task; AdapterFusion has all of them, frozen, and trains "
            "attention over them and a new head.",
            "AdapterP of all tasks together: one, for all rows of all tasks (a number rounded to a class, one head for all), "
            "then frozen under a new head a task.",
        ),
    )
)
