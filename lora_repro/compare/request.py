"""What is asked to be compared: the model, the user's files, methods with ranks and targets, seeds, and the time there is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from lora_repro.backbone.architecture import ARCHITECTURES
from lora_repro.backbone.detect import describe
from lora_repro.backbone.spec import BackboneSpec
from lora_repro.config.compose import build, compose
from lora_repro.config.hydra_errors import did_you_mean
from lora_repro.config.paths import choices, own
from lora_repro.costs.meta_model import shape_of
from lora_repro.errors import UserError
from lora_repro.tasks.own import data as own_data
from lora_repro.tasks.own.columns import WRITTEN
from lora_repro.tasks.own.data import OwnData

LABELS, TEXTS = "own_labels", "own_texts"  # families of tasks (conf/family.yaml)
TABLES = {
    LABELS: ("glue", "rivals"),
    TEXTS: ("e2e",),
}  # whose rows are the methods with settings and a first rate
METHODS = {
    LABELS: ("full", "lora", "adapter_h", "bitfit", "linear_probe"),
    TEXTS: ("full", "lora", "adapter_h", "bitfit"),
}
UNTUNED = "untuned"
SEEDS = 3
UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
COUNT = re.compile(r"[1-9]\d*")


@dataclass(frozen=True)
class Variant:
    """One row of the comparison: a method as a table's row or a yaml of conf/method declares it, maybe at a rank and targets."""

    name: str
    method: str
    table: str = ""  # whose row it is; empty: conf/method alone
    rank: int | None = None
    targets: tuple[str, ...] = ()

    @property
    def defaults(self) -> list[object]:
        """The defaults list that brings its settings."""
        return (
            [f"/row/{self.table}/{self.method}", "_self_"]
            if self.table
            else ["_self_", {"override /method": self.method}]
        )


@dataclass(frozen=True)
class Request:
    """model: a folder, a hub id (at `revision`) or a backbone of conf/. files: split -> file. columns: role -> column.

    methods: names, empty for those of `METHODS`. ranks, targets: for every method that has them. seeds: how many. seconds: the
    time there is, None for any. folder: where all of it is written. overrides: settings of every run (`train.epochs=5`).
    without: rows that are given up.
    """

    model: str
    files: dict[str, str]
    folder: Path
    revision: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    methods: tuple[str, ...] = ()
    ranks: tuple[int, ...] = ()
    targets: tuple[tuple[str, ...], ...] = ()
    metric: str | None = None
    function: str | None = None
    seeds: int = SEEDS
    seconds: float | None = None
    with_texts: bool = False
    overrides: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of the experiment and of its table, after the folder: ASCII letters, digits and underscores, and no name of conf/."""
        folder_name = self.folder.name.lower()
        plain = re.sub(r"\W+", "_", folder_name, flags=re.ASCII).strip("_")
        digest = "" if folder_name.isascii() else sha256(folder_name.encode()).hexdigest()[:6]
        return "_".join(filter(None, ["compare", plain.removeprefix("compare").strip("_"), digest]))

    @cached_property
    def configs(self) -> Path:
        """The folder of the written configuration: the user's own one, or one in the comparison's folder."""
        return Path(own()) if own() else self.folder / "conf"

    @property
    def profile(self) -> str:
        return next(
            (item.removeprefix("profile=") for item in self.overrides if item.startswith("profile=")),
            "laptop",
        )

    @property
    def arguments(self) -> list[str]:
        """The arguments of `run` for every run of the comparison."""
        others = [item for item in self.overrides if not item.startswith("profile=")]
        return [f"experiment={self.name}", f"profile={self.profile}", *others]

    @cached_property
    def data(self) -> OwnData:
        """The user's data as a run divides them. Raises UserError for whatever cannot be used."""
        family = family_of(own_data.read(self.files, self.columns))
        values = [item for item in self.overrides if item.startswith("task.")]
        task = compose([f"task={family}", f"profile={self.profile}", *values]).task
        return own_data.read(self.files, self.columns, None, task.held_out, task.max_train, task.max_test)

    @cached_property
    def backbone(self) -> BackboneSpec:
        """The model. Raises UserError in one line for one that cannot be adapted, or that cannot answer such data."""
        if self.listed:
            spec: BackboneSpec = build(
                compose([f"backbone={self.model}", f"profile={self.profile}"]).backbone
            )
        else:
            spec = describe(self.model, self.revision)
        if self.family == TEXTS and not writes(spec):
            reason = f"{self.data.names['train']} has {self.data.columns.said}"
            raise UserError(
                f"{self.model} is an encoder, which writes no text; {reason}: name a decoder, such as a GPT-2 or Llama"
            )
        return spec

    @property
    def family(self) -> str:
        return family_of(self.data)

    @property
    def listed(self) -> bool:
        """Whether the model is a backbone of conf/ and not a folder here."""
        return self.model in choices("backbone") and not Path(self.model).is_dir()

    @cached_property
    def variants(self) -> list[Variant]:
        """The rows of the comparison, in the order asked for; text models get the untuned one first.

        Raises UserError for an unknown method, or for ranks or targets that no method has.
        """
        names = list(dict.fromkeys(self.methods or METHODS[self.family]))
        if self.family == TEXTS and UNTUNED not in names:
            names.insert(0, UNTUNED)
        variants = [variant for name in names for variant in self._of(name) if variant.name not in self.without]
        for what, values in (("rank", self.ranks), ("targets", self.targets)):
            if values and not any(getattr(variant, what) for variant in variants):
                raise UserError(
                    f"--{what.rstrip('s')}s: none of {', '.join(names)} has {what}: add lora to --methods"
                )
        return variants

    def _of(self, name: str) -> Iterator[Variant]:
        table = next((table for table in TABLES[self.family] if name in choices(f"row/{table}")), "")
        methods = choices("method")
        if name == "human" or not (table or name in methods):
            every = dict.fromkeys(
                [*(row for table in TABLES[self.family] for row in choices(f"row/{table}")), *methods]
            )
            raise UserError(f"no method {name!r}; {did_you_mean(name, (choice for choice in every if choice != 'human'))}")
        method = compose([f"method={name}"]).method if name in methods else {}
        ranks: Sequence[int | None] = (
            self.ranks if {"rank", "alpha"} <= {*method} and self.ranks else (None,)
        )  # VeRA's is another
        targets = self.targets if "targets" in method and self.targets else ((),)
        for rank in ranks:
            for those in targets:
                marks = [*([f"r{rank}"] if rank else []), *(["_".join(those)] if len(targets) > 1 else [])]
                yield Variant("_".join([name, *marks]), name, table, rank, those)

    def shorter(self, **changes: Any) -> Request:
        """The same request with these fields changed."""
        return replace(self, **changes)


def family_of(data: OwnData) -> str:
    """The family of tasks that data of this kind belong to."""
    return TEXTS if data.columns.kind in WRITTEN else LABELS


def writes(spec: BackboneSpec) -> bool:
    """Whether a model writes text."""
    return "lm" in ARCHITECTURES[str(shape_of(spec)["model_type"])].heads


def seconds(text: str) -> float:
    """`90m`, `2h`, `1.5 h` as seconds. Raises UserError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)", text.strip())
    if not match or not (value := float(match[1]) * UNITS[match[2]]):
        raise UserError(f"--budget {text}: write a time such as 30m, 2h or 1d")
    return value


def count(option: str, text: str) -> int:
    """`3` as a number. Raises UserError for anything else."""
    if not COUNT.fullmatch(text.strip()):
        raise UserError(f"{option} {text}: write one whole number above 0, such as {option} {SEEDS}")
    return int(text)


def counts(option: str, text: str) -> tuple[int, ...]:
    """`1,8,64` as numbers. Raises UserError for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if not all(COUNT.fullmatch(part) for part in parts):
        raise UserError(f"{option} {text}: write whole numbers above 0, such as {option} 1,8,64")
    return tuple(dict.fromkeys(map(int, parts)))


def names(option: str, text: str) -> tuple[str, ...]:
    """`full,lora` as names. Raises UserError if one is missing."""
    parts = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    if not all(parts):
        raise UserError(f"{option} {text!r}: write names with commas between them")
    return parts
