"""What every test of a claim offers: what it reads, its rule in words, and its readings at one profile."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import ClassVar

from lora_repro.claims.evidence import Evidence
from lora_repro.claims.reading import Reading, combined


class ClaimTest(abc.ABC):
    """An operational test. Its parameters come from conf/claim/ and were fixed before results were read."""

    combine: str = "all"  # how several readings make one verdict: `reading.combined`
    anywhere: ClassVar[bool] = False  # says the same at every profile

    def rows(self) -> dict[str, set[str]]:
        """table -> declared rows that the test reads."""
        return {}

    @property
    @abc.abstractmethod
    def rule(self) -> str:
        """When the claim counts as replicated, in words."""

    @abc.abstractmethod
    def read(self, evidence: Evidence) -> list[Reading]:
        """The readings at a profile, none where nothing was run. Raises UserError where records cannot be compared."""

    def verdict(self, readings: Sequence[Reading]) -> str:
        """The verdict of all that `read` found."""
        return combined([reading.verdict for reading in readings], self.combine)
