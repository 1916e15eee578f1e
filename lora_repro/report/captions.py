"""What stands around a table: its caption as a value, and its footnotes.

A caption tells experiment, profile, backbone, data, number of seeds, decoding, and the command; footnotes how to read the table,
its learning rates, the inputs that did not fit, and the machines behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lora_repro.config import paths
from lora_repro.planning.cells import Cell
from lora_repro.report.columns import Column, place_label, task_label
from lora_repro.report.numbers import Difference
from lora_repro.report.scores import Result
from lora_repro.report.table import Reproduce
from lora_repro.results import Run, grouped
from lora_repro.stats.comparable import is_generated

Record = dict[str, Any]
NO_RECORD = "no record yet"
DRAWN = ", its weights drawn at random"  # how the label of an untrained twin ends (BackboneSpec)
CHANCE = "No learning rate tried rose above a constant prediction's score on held-out rows, so the one chosen is best by noise"
COUNTED = {"rows_cut": "training and dev rows", "test_rows_cut": "test inputs"}  # key of a record -> what it counts
# How far another machine moves the score of one seed.
MOVED = "In bf16 one seed of E2E moved by up to 6 BLEU between two CPUs: these rows compare less closely than their digits say."
ROUNDED = "float32 sums round differently on another machine; how far that moves the score of one seed was not measured."


@dataclass(frozen=True)
class Caption:
    """Whose numbers a table or a figure shows.

    backbones: their labels. data: its source, and how much of it is drawn. seeds: of a cell, the fewest and the most: `2-3`.
    decoding, scores: how answers are found, and what the columns show; empty where that goes without saying. command: what makes
    the numbers again.
    """

    title: str
    profile: str
    backbones: tuple[str, ...]
    data: str
    seeds: str
    decoding: str = ""
    scores: str = ""
    command: str = ""

    @classmethod
    def of(cls, title: str, profile: str, cell: Cell, records: Sequence[Record], counts: Sequence[int], command: str) -> Caption:
        """From the records where there are any, not from the configuration. counts: the number of seeds of each cell."""
        backbones = [record["where"]["backbone"] for record in records]
        labels = [str(backbone["label"]) for backbone in backbones if backbone.get("sha256")]
        data = f"{records[0]['where']['data']['caption']}{drawn(records)}" if records else NO_RECORD
        n = "-".join(str(count) for count in sorted({min(counts), max(counts)})) if counts else "0"
        return cls(title, profile, tuple(labels[:1]) or (str(cell.asked["backbone"]["label"]),), data, n, command=command)

    @property
    def backbone(self) -> str:
        """The name of the first backbone, without the remarks in brackets."""
        return self.backbones[0].partition(" (")[0]

    @property
    def whose(self) -> tuple[str, ...]:
        """The sentences that a figure has, too."""
        several = "Backbones" if len(self.backbones) > 1 else "Backbone"
        return (f"{self.title}, profile {self.profile}", f"{several}: {'; '.join(self.backbones)}", f"Data: {self.data}",
                f"Seeds per cell: n = {self.seeds}")  # fmt: skip

    @property
    def below_figure(self) -> str:
        return ". ".join(sentence.rstrip(".") for sentence in self.whose) + "."

    def facts(self, part: str = "") -> tuple[str, ...]:
        """All sentences, of the table of that part of what is shown, or of the main one."""
        first, *others = self.whose
        more = {"Decoding: ": self.decoding, "Scores: ": self.scores}
        command = [Reproduce(self.command)] if self.command else []
        sentences = (start + text for start, text in more.items() if text)
        return (f"{first}: {part}" if part else first, *others, *sentences, *command)


def models(records: Sequence[Record]) -> list[str]:
    """The labels of the models whose weights were loaded or drawn; one that was trained both ways stands once and says so."""
    labels = sorted({str(backbone["label"]) for record in records if (backbone := record["where"]["backbone"]).get("sha256")})
    twins = {label.removesuffix(DRAWN) for label in labels if label.endswith(DRAWN)}
    entries = [label for label in labels if not (label.endswith(DRAWN) and label.removesuffix(DRAWN) in labels)]
    return [f"{label}, also with random weights" if label in twins else label for label in entries]


def decoding(cell: Cell) -> str:
    decode = cell.asked["decode"]
    if "beam" not in decode:
        return "the likeliest answer"
    search = f"beam {decode['beam']}, length penalty {decode['length_penalty']}" if decode["beam"] > 1 else "greedy"
    repeats = f", no repeated {decode['no_repeat_ngram']}-gram" if decode["no_repeat_ngram"] else ""
    return f"{search}{repeats}, at most {decode['max_new_tokens']} new tokens"


def data_of_tasks(cells: Sequence[Cell], records: Sequence[Record]) -> str:
    """The tasks that have a record, and the rest of their captions, each text once, with the tasks that it is of."""
    names = [task_label(cell) for cell in cells]
    tasks: dict[str, list[str]] = {}
    for group in grouped(records, lambda record: str(record["where"]["data"]["caption"])):
        caption = str(group[0]["where"]["data"]["caption"])
        name = max((name for name in names if caption.startswith(name)), key=len, default="")
        tasks.setdefault(f"{_bare(caption.removeprefix(name))}{drawn(group)}", []).extend([name] if name else [])
    form = "{}: {}" if len(tasks) == 1 else "{} ({})"
    texts = [form.format(", ".join(labels), text) if labels else text for text, labels in tasks.items()]
    return "; ".join(texts) or NO_RECORD


def drawn(records: Sequence[Record]) -> str:
    """How many rows runs of one task draw from its data, as the end of a caption; empty where they take all."""
    amounts = []
    for key, what in (("n_train", "training rows"), ("n_test", "test inputs")):
        counts = sorted({int(count) for record in records if (count := record.get("asked", {}).get("data", {}).get(key))})
        amounts += [f"{'-'.join(f'{count:,}' for count in dict.fromkeys((counts[0], counts[-1])))} {what}"] if counts else []
    return f"; drawn: {', '.join(amounts)}" if amounts else ""


def _bare(text: str) -> str:
    """`text` without the comma or the brackets that separate it from a name."""
    text = text.strip(" ,")
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text


def of_table(
    remarks: Sequence[str], ours: Sequence[Result], runs: Sequence[Run], main: Column, reference: str
) -> list[str]:
    """The footnotes of a table of scores.

    remarks: what the experiment itself says. ours: the measured results. runs: the runs behind them. main: the column whose
    difference from the row called `reference` is shown.
    """
    notes = list(remarks)
    if not runs:
        away = "Published results are no part of an installed package, and no run of this table is here"
        none = "No cell of this table has been run under the present protocol yet"
        notes.append(f"{away if paths.INSTALLED else none}: only the paper's values are shown.")
    notes += [*on_rates([run.cell for run in runs]), *on_cut_inputs(runs)]
    notes.append(
        "Mean ± sample sd over n seeds. ↑ or ↓: higher or lower is better. —: not run, not measured or not printed; it "
        "never means 0."
    )
    if any(result.n == 1 for result in ours):
        notes.append("† n = 1: no spread over seeds, supports no verdict.")
    first = [run for run in runs if run.source == runs[0].source]
    seeds = grouped(first, lambda run: (run.cell.task, run.cell.seed))
    places = [[run.record["where"] for run in group] for group in seeds]
    if hosts := [environment for group in places if len(machines(group)) > 1 for environment in group]:
        low = any(str(environment.get("precision", "")).startswith(("bf16", "fp16")) for environment in hosts)
        names = "; ".join(machines(hosts))
        notes.append(f"Rows of one seed come from several machines ({names}). {MOVED if low else ROUNDED}")
    if versus := [result.differences[main.key] for result in ours if main.key in result.differences]:
        notes.append(
            f"{main.metric.label} − {reference}: mean difference over the seeds that both rows have, with the 95 "
            f"% interval of a paired bootstrap over test inputs and seeds. {_over_seeds(versus)}"
            "*: p < 0.05 after Holm's correction over all comparisons of this table. Δ: the smallest true difference that "
            "the comparison would detect with a power of 80 %. A row scored against other references is not compared."
        )
    if is_generated([run.record for run in runs]):
        notes.append("The data are generated: compare these scores with each other, not with the paper's.")
    if not all(run.finished for run in runs):
        notes.append(
            "Every mean includes collapsed and diverged runs; Notes counts them. A collapsed run (the same answer to 99 of "
            "100 inputs or more) has its own score, 0 where a correlation is undefined, a diverged one the worst possible."
        )
    return notes


def _over_seeds(versus: Sequence[Difference]) -> str:
    """How the spread over seeds is known in these differences."""
    pools = {difference.over_seeds.pooled: difference for difference in versus if difference.over_seeds.pooled}
    sentences = [
        f"Their spread over seeds is that of {common.rows} rows trained alike ({common.freedom} degrees of freedom), unless both "
        "share start and rate. "
        for common in pools
    ]
    singles = [difference.over_seeds for difference in versus if difference.n == 1 and not difference.over_seeds.pooled]
    if any(over_seeds.size == 0 for over_seeds in singles):
        sentences.append("†: one seed; the interval covers the inputs alone. ")
    if any(over_seeds.size > 0 for over_seeds in singles):
        sentences.append("†: one seed; of an average the interval also covers the seeds of those tasks whose spread is known. ")
    return "".join(sentences)


def on_rates(cells: Sequence[Cell]) -> list[str]:
    """The footnotes on the learning rates of the cells shown, apart from prescribed rates.

    They name the cells whose rate was not searched, whose best rate lies at an edge of the grid, whose rates all stayed at
    chance, and whose rate was searched on shorter trainings; then what each length chose where there were several.
    """
    by_setting = {cell.setting: cell for cell in reversed(cells) if cell.guess}
    firsts = list(by_setting.values())[::-1]
    searches = [(cell, search) for cell in firsts if (search := cell.search)]
    lists = [
        ("Learning rate not searched but a first guess", [cell for cell in firsts if cell.unsearched]),
        ("The best learning rate lies at an edge of those tried", [cell for cell, search in searches if search["edge"]]),
        (CHANCE, [cell for cell, search in searches if not search.get("learnt", True)]),
        ("Learning rate searched on shorter training runs", [cell for cell, search in searches if search["length"] < 1]),
    ]
    notes = [f"{text}: {_names(group, firsts)}." for text, group in lists if group]
    both = [f"{cell.row.label} ({place_label(cell)}): {rates}" for cell, search in searches if (rates := _by_length(search))]
    return notes + ([f"Learning rate chosen at each training length searched: {'; '.join(both)}."] if both else [])


def _by_length(search: Mapping[str, Any]) -> str:
    """`0.006 at a third of the length, 0.002 at the full length`; empty for a setting that was searched at one length."""
    # Of a length's searches the last one counts, which has the most seeds.
    rates = {float(entry["length"]): entry["chosen"] for entry in search.get("searches", ())}
    if len(rates) < 2:
        return ""
    return ", ".join(f"{rate:.3g} at {_part(length)}" for length, rate in sorted(rates.items()))


def _part(length: float) -> str:
    """A fraction of a training's length, in words."""
    parts = {1: "the full length", 1 / 2: "half of the length", 1 / 3: "a third of the length", 1 / 4: "a quarter of the length"}
    near = min(parts, key=lambda part: abs(part - length))
    return parts[near] if abs(near - length) < 0.001 else f"{100 * length:.3g} % of the length"


def _names(cells: Sequence[Cell], all_cells: Sequence[Cell]) -> str:
    """`every row`, or the labels of the rows of `cells`, each with its tasks and places if the row has further ones."""
    if len(cells) == len(all_cells):
        return "every row"
    parts = []
    for label in dict.fromkeys(cell.row.label for cell in cells):
        row_cells = [cell for cell in cells if cell.row.label == label]
        everywhere = len(row_cells) == sum(cell.row.label == label for cell in all_cells)
        parts.append(label if everywhere else f"{label} ({', '.join(place_label(cell) for cell in row_cells)})")
    return "; ".join(parts)


def on_cut_inputs(runs: Sequence[Run]) -> list[str]:
    """One line per task with cut inputs: how many in each run, and of which rows where they differ (prefixes take positions)."""
    sentences = []
    for task_runs in grouped(runs, lambda run: run.cell.task):
        cut: dict[str, list[str]] = {}  # how many were cut -> the rows
        for row_runs in grouped(task_runs, lambda run: run.cell.row.label):
            cut.setdefault(_counts(row_runs), []).append(row_runs[0].cell.row.label)
        whose = {counts: "all methods" if len(cut) == 1 else "; ".join(labels) for counts, labels in cut.items() if counts}
        if parts := [f"{counts} ({labels})" for counts, labels in whose.items()]:
            sentences.append(f"{task_label(task_runs[0].cell)}: inputs cut to data.max_length in each run: {', '.join(parts)}.")
    return sentences


def _counts(runs: Sequence[Run]) -> str:
    """`12 training and dev rows and 3-5 test inputs`: the fewest and the most over these runs; empty if none were cut."""
    parts = []
    for key, what in COUNTED.items():
        counts = [int(run.record["measured"].get(key, 0)) for run in runs]
        if most := max(counts):
            parts.append(f"{most if min(counts) == most else f'{min(counts)}-{most}'} {what}")
    return " and ".join(parts)


def machine(environment: Mapping[str, Any]) -> str:
    """Processor without its thread count, and its instruction set: `AMD EPYC, x86_64 AVX512`. environment: a record's `where`."""
    processor, _, threads = str(environment.get("device", "")).rpartition(", ")
    parts = [processor or threads, str(environment.get("kernels") or "")]
    return ", ".join(filter(None, parts)) or "an unknown device"


def alike(one: str, other: str) -> bool:
    """Whether two descriptions may be the same machine: older records do not say which units multiply bf16."""
    return one == other or one.startswith(f"{other} ") or other.startswith(f"{one} ")


def machines(places: Iterable[Mapping[str, Any]]) -> list[str]:
    """Each machine once. A description is dropped if a longer one that begins with it is listed."""
    names = sorted({machine(environment) for environment in places})
    return [name for name in names if not any(other.startswith(f"{name} ") for other in names)]
