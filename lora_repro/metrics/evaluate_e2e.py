"""The E2E metrics as a Hugging Face `evaluate` metric: `evaluate.load("path/to/evaluate_e2e.py")`, or import `E2EMetrics`.

    metric = evaluate.load("lora_repro/metrics/evaluate_e2e.py")
    metric.compute(predictions=["The Vaults is a pub."], references=[["A pub called The Vaults."]])

lora_repro must be installed. Keep one module per import line: `evaluate` copies this file elsewhere and reads its
imports line by line.
"""

from typing import Any

import datasets  # type: ignore[import-untyped]
import evaluate  # type: ignore[import-untyped]

from lora_repro.metrics import nlg

_DESCRIPTION = (
    "BLEU, NIST, METEOR 1.5, ROUGE-L and CIDEr, equal to tuetschek/e2e-metrics (measure_scores.py -p)."
)
_INPUTS = """
predictions: list of strings, one output for each input.
references: list of lists of strings, one or more references for each input.
Returns bleu, nist, meteor, rouge_l and cider, as fractions (NIST and CIDEr can exceed 1)."""


class E2EMetrics(evaluate.Metric):  # type: ignore[misc]
    """Corpus-level E2E metrics; `compute` raises what `lora_repro.metrics.nlg.score` raises. Needs Java."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": text, "references": datasets.Sequence(text)}),
            reference_urls=["https://aclanthology.org/W18-6539"],
        )

    def _compute(self, predictions: list[str], references: list[list[str]], **_: Any) -> dict[str, float]:
        return nlg.score(predictions, references)
