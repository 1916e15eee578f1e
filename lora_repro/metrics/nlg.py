"""E2E generation metrics: BLEU, NIST, METEOR, ROUGE-L, CIDEr, equal to tuetschek/e2e-metrics 1b9c4d8 `measure_scores.py -p`.

That is the scorer of the E2E tables (paper, Section 5.4, Table 3). All values are fractions as that scorer
prints them: the paper's tables multiply BLEU, METEOR and ROUGE-L by 100; NIST and CIDEr stay as they are.
"""

from collections.abc import Sequence

from lora_repro.errors import UserError
from lora_repro.metrics import coco
from lora_repro.metrics.bleu import bleu, bleu_counts, nist

METRICS = ("bleu", "nist", "meteor", "rouge_l", "cider")


def score(outputs: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Corpus scores of N outputs against N groups of one or more references, keys `METRICS`. An empty output counts as written.

    ROUGE-L and CIDEr are means over outputs; BLEU, NIST and METEOR come from summed statistics. Raises
    UserError (nothing to score, lengths differ, an output without reference, Java failed) or NotAvailable (no
    Java).
    """
    outs, refs = _checked(outputs, references)
    return {
        "bleu": bleu([bleu_counts(output, group) for output, group in zip(outs, refs, strict=True)]),
        "nist": nist(outs, refs),
        "meteor": coco.meteor(outs, refs),
        "rouge_l": sum(coco.rouge_l(outs, refs)) / len(outs),
        "cider": sum(coco.cider(outs, refs)) / len(outs),
    }


def per_input_statistics(
    outputs: Sequence[str], references: Sequence[Sequence[str]]
) -> list[dict[str, object]]:
    """What a bootstrap needs, one JSON-able dict per input, in order.

    matches[4], totals[4], hyp_len, ref_len: BLEU statistics; their sums give the corpus BLEU exactly
    (`corpus.corpus_bleu`). rouge_l, cider: of this output (CIDEr's document frequencies from all
    references given). Raises what `score` raises.
    """
    outs, refs = _checked(outputs, references)
    rows: list[dict[str, object]] = []
    for output, group, rouge, cider in zip(
        outs, refs, coco.rouge_l(outs, refs), coco.cider(outs, refs), strict=True
    ):
        counts = bleu_counts(output, group)
        rows.append({
            "matches": list(counts.matches), "totals": list(counts.totals),
            "hyp_len": counts.hyp_len, "ref_len": counts.ref_len, "rouge_l": rouge, "cider": cider,
        })  # fmt: skip
    return rows


def _checked(outputs: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[coco.Group, tuple[coco.Group, ...]]:
    check(outputs, references)
    return tuple(outputs), tuple(tuple(group) for group in references)


def check(outputs: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    """Raise UserError if lengths differ, there is nothing to score, an output has no reference, or a text is given for a list."""
    if isinstance(outputs, str) or any(isinstance(group, str) for group in references):
        raise UserError("give a list of outputs, and for each output a list of references: [[text]] where it has one")
    if len(outputs) != len(references):
        raise UserError(f"{len(outputs)} outputs but {len(references)} groups of references: give one group for each output")
    if not outputs:
        raise UserError("nothing to score: no outputs given")
    if not all(references):
        empty = next(i for i, group in enumerate(references, 1) if not group)
        raise UserError(f"output {empty} of {len(outputs)} has no reference: give at least one")
