"""GLUE's metrics as a Hugging Face `evaluate` metric: `evaluate.load("path/to/evaluate_glue.py", task)`, or import `GLUEMetrics`.

    metric = evaluate.load("lora_repro/metrics/evaluate_glue.py", "mrpc")
    metric.compute(predictions=["1", "0"], references=["1", "1"])

lora_repro must be installed. Keep one module per import line: `evaluate` copies this file elsewhere and reads its
imports line by line.
"""

from typing import Any

import datasets  # type: ignore[import-untyped]
import evaluate  # type: ignore[import-untyped]

from lora_repro.errors import UserError
from lora_repro.metrics import glue

TASKS = {
    "mnli": ("accuracy",),
    "sst2": ("accuracy",),
    "mrpc": ("accuracy", "f1"),
    "cola": ("matthews",),
    "qnli": ("accuracy",),
    "qqp": ("accuracy", "f1"),
    "rte": ("accuracy",),
    "stsb": ("pearson", "spearman"),
}
_DESCRIPTION = "The metrics GLUE defines for each of its sentence tasks, by scikit-learn and scipy."
_INPUTS = """
predictions: list of labels, one for each example: texts; for stsb numbers.
references: list of the gold labels, in the same order.
positive: mrpc and qqp only, the label F1 counts; "1" as in GLUE's files unless given.
Returns the task's metrics, as fractions (accuracy; mrpc and qqp also f1; cola matthews; stsb pearson and spearman)."""


class GLUEMetrics(evaluate.Metric):  # type: ignore[misc]
    """One GLUE task's metrics; the task is the configuration's name, a key of `TASKS`.

    `compute` raises what `lora_repro.metrics.glue.score` raises. Raises UserError for any other task.
    """

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in TASKS:
            raise UserError(f"GLUE task {self.config_name}: name one of {', '.join(TASKS)}")
        label = datasets.Value("float64" if self.config_name == "stsb" else "string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": label, "references": label}),
            reference_urls=["https://gluebenchmark.com"],
        )

    def _compute(
        self, predictions: list[Any], references: list[Any], positive: str = "1", **_: Any
    ) -> dict[str, float]:
        # str() of a float reads back as the same float.
        answers, gold = ([str(label) for label in side] for side in (predictions, references))
        return glue.score(TASKS[self.config_name], answers, gold, positive)
