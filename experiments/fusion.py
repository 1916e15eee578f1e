"""AdapterFusion (Pfeiffer et al. 2021) beside what it fuses, and whose adapters it listens to, layer by layer."""

from lora_repro.report.pivot import Pivot
from lora_repro.report.subjects.fusion import Fusion

TABLE = Fusion(
    Pivot(
        title="AdapterFusion",
        by="task",
        reference="adapter_p",
        reference_label="AdapterP",
        paper={"roberta_base": "RoBERTa base"},
        remarks=(
            "Scores in per cent. AdapterP of the task alone: trained on that task only. AdapterFusion: the frozen adapters of "
            "all source tasks, with trained attention over them and a new head.",
            "AdapterP of all tasks together: one adapter trained on the rows of all tasks (one head; a numeric target is "
            "rounded to a class), then frozen under a new head for each task.",
        ),
    )
)
