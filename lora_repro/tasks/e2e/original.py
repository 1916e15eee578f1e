"""Counts and checksums of the original E2E set, and how its cleaned variants are recognised.

Counts: Novikova et al. 2017, "The E2E Dataset". Cleaned set: Dušek et al. 2019, "Semantic Noise Matters".
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from lora_repro.errors import UserError

Row = tuple[str, str]  # (linearised meaning representation, one human text)


@dataclass(frozen=True)
class Expected:
    """A split of the original set: rows, distinct inputs, sha256 of its rows as `rows_sha256` computes it."""

    rows: int
    inputs: int
    sha256: str


EXPECTED = {
    "raw": {
        "train": Expected(42061, 4862, "eb3eb73bcf3ebf9b1e62e6094dbafcfc87f7aac855bb1287289d0ea4333d89e6"),
        "dev": Expected(4672, 547, "6e8ee74527d37e55af4f4a06597c9ee8822a902cdd57c1b9fa56f7e15bb2751b"),
        "test": Expected(4693, 630, "fbe94bc160f88eceaf37d67e0797be31a6d56cf7f73cc086ac9c9e411618adfa"),
    },
    "tokenised": {
        "train": Expected(42061, 4862, "114a4e037d7b379ebe26b7a124e9d3671a651c034be27ff42c5b644537869e83"),
        "dev": Expected(4672, 547, "e92cef126574be83f73dac8105a399b7ea120a43ac982697bd8174ffe0f2f85f"),
        "test": Expected(4693, 630, "94ba12baacca7a79623b693c97c7701694740a87558588c305972aa260381581"),
    },
}

# The cleaned set (Dušek et al. 2019) drops and rewrites MRs: BLEU on it is not comparable with the paper's.
MEND = "take the original E2E v1.0 files"
CLEANED_REASON = f"is the cleaned E2E set, not the original that the paper used; {MEND}"
CLEANED_IDS = ("gem/e2e_nlg", "e2e_nlg_cleaned")
CLEANED_FILES = (
    "train-fixed.no-ol.csv",
    "devel-fixed.no-ol.csv",
    "train-fixed.csv",
    "devel-fixed.csv",
    "test-fixed.csv",
)
CLEANED_TRAIN_ROWS = 33525
CLEANED_COLUMNS = {"fixed", "orig_mr"}


def refuse_cleaned(name: str) -> None:
    """Raise UserError if `name` (a hub id or a path) is one of the cleaned variants."""
    if name.lower().rstrip("/").endswith(CLEANED_IDS):
        raise UserError(f"{name} {CLEANED_REASON}")


def rows_sha256(rows: list[Row]) -> str:
    """sha256 over one JSON list `[input, text]` per line: the same for any line ends and for hub rows."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update((json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8"))
    return digest.hexdigest()


def check(rows: list[Row], form: str, split: str, where: str) -> None:
    """Raise UserError unless `rows` are the original split, by row count, distinct inputs and checksum."""
    expected = EXPECTED[form][split]
    if len(rows) == CLEANED_TRAIN_ROWS:
        raise UserError(f"{where} ({len(rows):,} rows) {CLEANED_REASON}")
    if len(rows) != expected.rows:
        raise UserError(f"{where}: {len(rows):,} rows, expected {expected.rows:,}; {MEND}")
    inputs = len({row[0] for row in rows})
    if inputs != expected.inputs:
        raise UserError(f"{where}: {inputs:,} distinct MRs, expected {expected.inputs:,}; {MEND}")
    if (found := rows_sha256(rows)) != expected.sha256:
        raise UserError(f"{where}: checksum {found[:12]}, expected {expected.sha256[:12]}; {MEND}")
