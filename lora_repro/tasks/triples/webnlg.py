"""WebNLG 2017: from DBpedia triples to a text about them (LoRA paper, appendix on GPT-2, Table 14).

Half of the test set is of categories that are not in training (`unseen`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lora_repro.tasks.triples import files
from lora_repro.tasks.triples.files import Entry
from lora_repro.tasks.triples.task import TriplesTask

SEEN = (
    "Airport", "Astronaut", "Building", "City", "ComicsCharacter", "Food", "Monument", "SportsTeam", "University", "WrittenWork",
)  # fmt: skip
GENERATED_SEEN = ("Bridge", "Orchestra", "Dish")


@dataclass(frozen=True)
class WebNLG(TriplesTask):
    """WebNLG 2017 over one source and one protocol (see `TriplesTask`). Raises UserError on any other value."""

    source: str
    protocol: str
    scorer_bugs: bool = False
    name: str = "webnlg"

    attribution: ClassVar[str] = "WebNLG 2017: Gardent et al. 2017, CC BY-NC-SA 4.0."
    title: ClassVar[str] = "WebNLG 2017"
    folder: ClassVar[str] = files.ORIGINALS["webnlg"].folder
    lower_relations: ClassVar[bool] = False
    seen: ClassVar[frozenset[str]] = frozenset((*SEEN, *GENERATED_SEEN))
    official: ClassVar[str] = "webnlg"

    def entries(self, folder: str | None) -> tuple[dict[str, list[Entry]], dict[str, str]]:
        return files.load("webnlg", folder) if self.source == "folder" else (files.load_generated("webnlg"), {})

    def ready(self, folder: str | None) -> None:
        if self.source == "folder":
            files.find_files("webnlg", folder)
