"""DART v1.1.1: from triples of tables and other data sets to a text about them (LoRA paper, appendix on GPT-2, Table 13)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lora_repro.errors import UserError
from lora_repro.tasks.base import SPLITS
from lora_repro.tasks.triples import files
from lora_repro.tasks.triples.files import Entry
from lora_repro.tasks.triples.task import TriplesTask


@dataclass(frozen=True)
class DART(TriplesTask):
    """DART v1.1.1 over one source and one protocol (see `TriplesTask`). Raises UserError on any other value.

    train_from: "dart"; or "webnlg": train and dev are those of WebNLG 2017 in DART's form, which tests transfer.
    """

    source: str
    protocol: str
    scorer_bugs: bool = False
    train_from: str = "dart"
    name: str = "dart"

    attribution: ClassVar[str] = "DART v1.1.1: Nan et al. 2021, MIT."
    title: ClassVar[str] = "DART v1.1.1"
    lower_relations: ClassVar[bool] = True
    seen: ClassVar[frozenset[str]] = frozenset()
    official: ClassVar[str] = "dart"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.train_from not in ("dart", "webnlg"):
            raise UserError(f"task.train_from={self.train_from}: choose dart or webnlg")
        if self.train_from == "webnlg" and self.source == "embedded":
            raise UserError("task.train_from=webnlg needs task.source=folder: the embedded data have their own training part")

    @property
    def caption(self) -> str:
        """What tables print; it says so if training was on WebNLG."""
        caption = super().caption
        return caption if self.train_from == "dart" else f"{caption}, trained on WebNLG 2017: a transfer"

    def entries(self, folder: str | None) -> tuple[dict[str, list[Entry]], dict[str, str]]:
        if self.source == "embedded":
            return files.load_generated("dart"), {}
        if self.train_from == "dart":
            return files.load("dart", folder)
        test, hashes = files.load("dart", folder, ["test"])
        train, others = files.load("webnlg", _beside(folder), ["train", "dev"])
        return train | test, hashes | {f"webnlg/{name}": value for name, value in others.items()}

    def ready(self, folder: str | None) -> None:
        if self.source == "folder":
            splits = SPLITS if self.train_from == "dart" else ("test",)
            files.find_files("dart", folder, splits)
            if self.train_from == "webnlg":
                files.find_files("webnlg", _beside(folder), ["train", "dev"])


def _beside(folder: str | None) -> str | None:
    """WebNLG's folder, in or beside DART's `folder`. If that is None, the place of `fetch`, so is this. Raises UserError."""
    if folder is None:
        return None
    dart = Path(folder).expanduser()
    name = files.ORIGINALS["webnlg"].folder
    places = [dart / name, dart.absolute().parent / name]
    webnlg = next((place for place in places if place.is_dir()), None)
    if webnlg is None:
        raise UserError(f"task.train_from=webnlg: no folder {name} in or beside {folder}")
    return str(webnlg)
