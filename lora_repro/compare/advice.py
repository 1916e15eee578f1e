"""A comparison in words and as one table. Every sentence is computed, and says no more than the intervals do."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from lora_repro.compare.answer import Answer, Row, decided_by
from lora_repro.config.paths import INSTALLED
from lora_repro.costs.plan import size
from lora_repro.report.table import EMPTY, SINGLE, Number, Table, format_count
from lora_repro.results import frame, grouped
from lora_repro.stats.intervals import LEVEL

FACTOR = 3.0  # from which a searched rate lies "far" from its first guess: one place of the grid


def advice(answer: Answer) -> list[str]:
    """What the comparison says, in two to five sentences: whether anything was learnt, what is best, what is as good and
    cheaper, what would decide the rest, and what speaks against all of it.
    """
    if answer.diverged:
        return ["Every training diverged, so nothing is compared. Give a lower rate for all of them (train.lr=1e-5)."]
    best, rivals, metric = answer.best, answer.rivals, answer.metric
    if answer.nothing_learnt:
        least = (
            f"always giving the commonest answer ({metric} {answer.constant:.1f})"
            if answer.constant is not None
            else "the untuned model"
        )
        labels = answer.constant is not None
        rest = "labels may not follow from the texts" if labels else "completions may not follow from the prompts"
        return [f"Nothing is learnt: no method is shown to do better than {least}. "
                f"The {rest}, or the rows, epochs or seeds are too few.", *doubts(answer)]  # fmt: skip
    others = [row for row in answer.row_trained if row is not best]
    if not others:
        return [f"Only {best.label} was trained, so nothing is compared."]
    single = min(len(row.runs) for row in answer.row_trained) == 1
    sentences = []
    if not rivals:
        rest = "all others" if len(others) > 1 else others[0].label
        sentences.append(f"Best is {best.label}: {metric} {best.mean.text(1)}, better than {rest}.")
    else:
        names = ", ".join(row.label for row in rivals)
        sentences.append(
            f"{best.label} has the highest mean ({metric} {best.mean.text(1)}), but is not shown to be better than {names}."
        )
        cheapest = min([best, *rivals], key=lambda row: (row.trained, row.step_ms or 0.0))
        sentences.append(f"Of these {cheapest.label} trains the fewest values ({cheapest.trained:,}).")
        nearest = max(rivals, key=lambda row: row.mean.mean)
        if single:
            sentences.append(
                "One seed of a method shows nothing of what another seed would give: run three (--seeds 3)."
            )
        elif not nearest.doubt and not best.doubt and (decides := decided_by(answer, best, nearest)):
            gap = best.mean.mean - nearest.mean.mean
            sentences.append(f"If the difference of {gap:.1f} from {nearest.label} stays as it is, {decides}.")
    return [*sentences, *about_ranks(answer), *doubts(answer)]


def about_ranks(answer: Answer) -> list[str]:
    """For each method with several ranks: the smallest that is not shown to be worse than its best, beside our own table."""
    sentences = []
    for rows in grouped([row for row in answer.row_trained if "rank" in row.method], lambda row: row.family):
        ranks = {
            int(row.method["rank"]): row for row in sorted(rows, key=lambda row: int(row.method["rank"]))
        }
        if len(ranks) < 2:
            continue
        best = max(ranks.values(), key=lambda row: row.mean.mean)
        least = next(rank for rank, row in ranks.items() if not answer.better(best, row))
        if len(best.runs) > 1 and not best.doubt:
            least_row, top = ranks[least], best.method["rank"]
            gap = best.mean.mean - least_row.mean.mean
            if least == top:
                sentences.append(f"Every rank below {top} is shown to be worse than it.")
            else:
                sentences.append(
                    f"Rank {least} is the smallest that is not shown to be worse than rank {top}, {gap:.1f} points above it."
                )
    return [*sentences, *filter(None, [known_ranks() if sentences else ""])]


@cache
def known_ranks() -> str:
    """How far LoRA's ranks lie apart in our own table of ranks on real data; empty where its records are not at hand."""
    if INSTALLED:
        return ""
    scores = frame("rank", "laptop", ["task=sst2"]).query(
        "main and row == 'lora_q_v' and source == 'published'"
    )
    means = scores.groupby("row.rank").value.mean() * 100
    low, high = int(means.index.min()), int(means.index.max())
    gap = float(means.max() - means.min())
    return (
        f"In our own table (MiniLM-L6 on SST-2) ranks {low} to {high} lie at most {gap:.1f} points apart."
    )


def doubts(answer: Answer) -> list[str]:
    """Why some scores decide nothing yet."""
    reasons = [row.doubt for row in answer.rows if row.doubt]
    if not reasons:
        return []
    more = "A method that still rises is named neither better nor worse: train longer (train.epochs=10)."
    return [
        f"Not decided by these trainings: {'; '.join(reasons)}.",
        *([more] if any("rising" in reason for reason in reasons) else []),
    ]


def table(answer: Answer) -> Table:
    """The screen: score, difference, trained values, time, memory, forgetting, file."""
    reference = next(row.label for row in answer.rows if row.name == answer.reference)
    trains = any(row.rise for row in answer.rows)
    header = ("Method", f"{answer.metric} ↑", f"− {reference}", "Trained values", "ms a step", "Memory",
              *(["General loss: rise"] if trains else []), "File", "Rate")  # fmt: skip
    lines = []
    for row in answer.rows:
        difference = answer.from_reference(row)
        rise = [row.rise.text(2) if row.rise else EMPTY] if trains else []
        lines.append((
            row.label,
            row.mean.text(1),
            difference.text(1) if difference else EMPTY,
            format_count(row.trained) if row.trained else EMPTY,
            EMPTY if row.step_ms is None else Number(f"{row.step_ms:,.0f}", row.step_ms),
            EMPTY if row.memory_mb is None else Number(size(row.memory_mb * 2**20), row.memory_mb * 2**20),
            *rise,
            EMPTY if row.file_bytes is None or not row.trained else Number(size(row.file_bytes), row.file_bytes),
            EMPTY if row.rate is None else Number(f"{row.rate:.2g}", row.rate),
        ))  # fmt: skip
    notes = [
        f"Mean ± sample sd over {_seeds(answer.rows)}, on {answer.test_rows:,} test rows. − {reference}: mean difference with "
        f"the 95 % interval of a paired bootstrap over test rows and seeds. *: p < {LEVEL} after Holm's correction over all "
        f"{len(answer.pairs) // 2} pairs. Δ: the smallest difference that the comparison would detect with a power of 80 %.",
    ]
    if answer.diverged:
        notes = ["Every training diverged, which counts as the worst score."]
    elif any(len(row.runs) == 1 for row in answer.rows):
        notes.append(f"{SINGLE}: one seed; the interval covers the test rows alone.")
    if answer.constant is not None:
        notes.append(f"Always giving the commonest answer has {answer.metric} {answer.constant:.1f}.")
    if far := [
        row
        for row in answer.rows
        if row.rate and row.guess and not 1 / FACTOR < row.rate / row.guess.rate < FACTOR
    ]:
        rates = ", ".join(f"{row.label} {row.rate:.2g} for {row.guess.rate:.2g}" for row in far if row.guess)
        notes.append(f"The search chose another rate than its first guess: {rates}.")
    return Table((answer.title,), header, "l" + "r" * (len(header) - 1), tuple(lines), tuple(notes),
                 minor=("File", "Rate", "Memory", "General loss: rise"))  # fmt: skip


def _seeds(rows: Sequence[Row]) -> str:
    counts = sorted({len(row.runs) for row in rows})
    return (
        f"{counts[0]} seeds"
        if len(counts) == 1 and counts[0] > 1
        else " to ".join(map(str, counts)) + f" seed{'s' * (counts[-1] > 1)}"
    )
