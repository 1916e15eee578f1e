"""A claim of several parts: it holds if all of its parts do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lora_repro.report.claims.base import ClaimTest
from lora_repro.report.claims.evidence import Evidence
from lora_repro.report.claims.reading import Reading
from lora_repro.stats.verdict import NOT_RUN, combined


class AllOf(ClaimTest):
    """`parts`: tests, each with a verdict from its own readings."""

    def __init__(self, parts: Sequence[ClaimTest]) -> None:
        self.parts = list(parts)
        for part in self.parts:
            part.fails /= len(self.parts)  # one part that fails decides

    @property
    def counts_looks(self) -> bool:  # type: ignore[override]
        return all(part.counts_looks for part in self.parts)

    def rows(self) -> dict[str, set[str]]:
        by_table: dict[str, set[str]] = {}
        for part in self.parts:
            for table, rows in part.rows().items():
                by_table.setdefault(table, set()).update(rows)
        return by_table

    @property
    def rule(self) -> str:
        return "; and ".join(part.rule for part in self.parts)

    def read(self, evidence: Evidence) -> list[Reading]:
        """The readings of all parts. A part without a reading counts as not run: the others cannot stand in for it."""
        all_readings = []
        for index, part in enumerate(self.parts):
            readings = part.read(evidence) or [Reading(part.rule, "", NOT_RUN)]
            all_readings += [replace(reading, part=index) for reading in readings]
        return all_readings

    def verdict(self, readings: Sequence[Reading]) -> str:
        own = [[reading for reading in readings if reading.part == index] for index in range(len(self.parts))]
        return combined([part.verdict(its_readings) for part, its_readings in zip(self.parts, own, strict=True)], "all")
