"""Captions as values: experiment, profile, backbone, data, number of seeds, decoding, and the command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lora_repro.planning.cells import Cell
from lora_repro.report.columns import task_label
from lora_repro.report.table import Reproduce
from lora_repro.results import grouped

Record = dict[str, Any]
NO_RECORD = "no record yet"
DRAWN = ", its weights drawn at random"  # how the label of an untrained twin ends (BackboneSpec)


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
    def of(cls, title: str, profile: str, cell: Cell, shown: Sequence[Record], counts: Sequence[int], command: str) -> Caption:
        """From the records where there are any, not from the configuration. counts: the number of seeds of each cell."""
        backbones = [record["where"]["backbone"] for record in shown]
        labels = [str(backbone["label"]) for backbone in backbones if backbone.get("sha256")]
        data = f"{shown[0]['where']['data']['caption']}{drawn(shown)}" if shown else NO_RECORD
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
        said = (start + text for start, text in more.items() if text)
        return (f"{first}: {part}" if part else first, *others, *said, *command)


def models(records: Sequence[Record]) -> list[str]:
    """The labels of the models whose weights were loaded or drawn; one that was trained both ways stands once and says so."""
    labels = sorted({str(backbone["label"]) for record in records if (backbone := record["where"]["backbone"]).get("sha256")})
    twins = {label.removesuffix(DRAWN) for label in labels if label.endswith(DRAWN)}
    kept = [label for label in labels if not (label.endswith(DRAWN) and label.removesuffix(DRAWN) in labels)]
    return [f"{label}, also with random weights" if label in twins else label for label in kept]


def decoding(cell: Cell) -> str:
    decode = cell.asked["decode"]
    if "beam" not in decode:
        return "the likeliest answer"
    search = f"beam {decode['beam']}, length penalty {decode['length_penalty']}" if decode["beam"] > 1 else "greedy"
    repeats = f", no repeated {decode['no_repeat_ngram']}-gram" if decode["no_repeat_ngram"] else ""
    return f"{search}{repeats}, at most {decode['max_new_tokens']} new tokens"


def data_of_tasks(cells: Sequence[Cell], shown: Sequence[Record]) -> str:
    """The tasks that have a record, and the rest of their captions, each text once, with the tasks that it is of."""
    names = [task_label(cell) for cell in cells]
    tasks: dict[str, list[str]] = {}
    for records in grouped(shown, lambda record: str(record["where"]["data"]["caption"])):
        caption = str(records[0]["where"]["data"]["caption"])
        name = max((name for name in names if caption.startswith(name)), key=len, default="")
        tasks.setdefault(f"{_bare(caption.removeprefix(name))}{drawn(records)}", []).extend([name] if name else [])
    form = "{}: {}" if len(tasks) == 1 else "{} ({})"
    texts = [form.format(", ".join(named), text) if named else text for text, named in tasks.items()]
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
