"""The real E2E NLG files: reading, linearising, and checking by counts and checksums that they are the original set.

Source: Novikova et al. 2017, "The E2E Dataset" (CSV, v1.0), and the linearised text files that the LoRA
authors released (one `input||text ` per line). LoRA paper, section 5.3, uses the original set.
Its cleaned variants are recognised and refused: Dušek et al. 2019, "Semantic Noise Matters".
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from lora_repro.errors import UserError
from lora_repro.tasks._files import generated_rows, hub_parts, json_lines_sha256, own_folder, read_text
from lora_repro.tasks.base import SPLITS

NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    "raw": {
        "train": ("train.csv", "trainset.csv"),
        "dev": ("dev.csv", "devset.csv"),
        "test": ("test.csv", "testset_w_refs.csv"),
    },
    "tokenised": {"train": ("train.txt",), "dev": ("valid.txt",), "test": ("test.txt",)},
}

HUB_ID = "tuetschek/e2e_nlg"
# The default branch holds a loading script, which `datasets` no longer runs. This commit of the hub's own conversion
# (refs/convert/parquet) holds default/<split>/0000.parquet; its rows are checked like those of a CSV file.
HUB_REVISION = "5061e4307d2e553f9b51ccb73998d7039fe6ed90"
HUB_SPLITS = {"train": "train", "dev": "validation", "test": "test"}

_SLOT = re.compile(r"([^\[\],]+)\[([^\]]*)")
_RENAMED = {"eatType": "Type", "priceRange": "price", "familyFriendly": "family friendly"}
Row = tuple[str, str]  # (linearised meaning representation, one human text)


@dataclass(frozen=True)
class Expected:
    """A split of the original set: rows, distinct inputs, `json_lines_sha256` of its rows."""

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


def check(rows: list[Row], form: str, split: str, location: str) -> None:
    """Raise UserError unless `rows` are the original split, by row count, distinct inputs and checksum."""
    expected = EXPECTED[form][split]
    if len(rows) == CLEANED_TRAIN_ROWS:
        raise UserError(f"{location} ({len(rows):,} rows) {CLEANED_REASON}")
    if len(rows) != expected.rows:
        raise UserError(f"{location}: {len(rows):,} rows, expected {expected.rows:,}; {MEND}")
    inputs = len({row[0] for row in rows})
    if inputs != expected.inputs:
        raise UserError(f"{location}: {inputs:,} distinct MRs, expected {expected.inputs:,}; {MEND}")
    if (digest := json_lines_sha256(rows)) != expected.sha256:
        raise UserError(f"{location}: checksum {digest[:12]}, expected {expected.sha256[:12]}; {MEND}")


def linearise(mr: str) -> str:
    """`name[X], eatType[pub]` -> `name : X | Type : pub`: slots renamed, order and values untouched.

    Raises UserError when `mr` is not a list of `slot[value]`.
    """
    text = mr.strip()
    # Each piece is matched once from its start: a search would start again at every letter of a long cell without brackets.
    matches = [_SLOT.fullmatch(part) for part in text[:-1].split("], ")]
    slots = [match.groups() for match in matches if match and match[1] == match[1].strip()]
    if len(slots) < len(matches) or not text.endswith("]"):
        raise UserError(f"not an E2E meaning representation: {mr[:60]!r}; expected name[...], eatType[...]")
    return " | ".join(f"{_RENAMED.get(slot, slot)} : {value}" for slot, value in slots)


def tokenised_prices(mr: str) -> str:
    """A linearised input with prices as in the tokenised files: `£ 20 - 25` for `£20-25`; nothing else differs there."""
    return re.sub(r"£ ?(\d+)(?: ?- ?(\d+))?", lambda price: "£ " + " - ".join(filter(None, price.groups())), mr)


def _tidy(text: str) -> str:
    # Two training texts hold a line break, which is \r\n or \n depending on how the file was copied.
    return text.replace("\r\n", "\n").strip()


def _parse_csv(text: str, path: Path) -> list[Row]:
    try:
        header, *body = [fields for fields in csv.reader(io.StringIO(text, newline="")) if fields]
    except csv.Error as error:
        raise UserError(f"{path}: not a CSV file ({error}); download it again") from error
    if CLEANED_COLUMNS & set(header):
        raise UserError(f"{path} {CLEANED_REASON}")
    if header != ["mr", "ref"]:
        raise UserError(f"{path}: columns {','.join(header)[:60]}, expected mr,ref")
    for number, fields in enumerate(body, start=1):
        if len(fields) != 2:
            raise UserError(f"{path}: row {number} has {len(fields)} columns, expected mr,ref")
    try:
        return [(linearise(mr), _tidy(ref)) for mr, ref in body]
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _parse_lines(text: str, path: Path) -> list[Row]:
    rows = []
    for number, line in enumerate(text.rstrip("\r\n").split("\n"), start=1):
        context, bar, completion = line.partition("||")
        if not bar:
            raise UserError(f"{path}: line {number} has no '||'; expected input||text")
        rows.append((context.strip(), completion.strip()))
    return rows


def read_file(path: Path, form: str) -> tuple[list[Row], str]:
    """Rows of one file, ends stripped, and the sha256 of its bytes. Raises UserError if unreadable."""
    text, digest = read_text(path)
    if not text.strip():
        raise UserError(f"{path}: empty file; download it again")
    return _parse_csv(text, path) if form == "raw" else _parse_lines(text, path), digest


def find_files(folder: str | None, form: str) -> dict[str, Path]:
    """split -> its file of one text form in `folder`. Raises UserError if one is missing or is of another data set."""
    root = own_folder(folder, "e2e", "E2E", "e2e")
    refuse_cleaned(str(root))
    if not root.is_dir():
        raise UserError(f"no such folder: {root}; pass DATA=/path/to/e2e")
    for name in CLEANED_FILES:
        if (root / name).exists():
            raise UserError(f"{root / name} {CLEANED_REASON}")
    paths = {}
    for split in SPLITS:
        names = NAMES[form][split]
        path = next((root / name for name in names if (root / name).exists()), None)
        if path is None:
            raise UserError(f"no {' or '.join(names)} in {root} (task.text_form={form})")
        paths[split] = path
    return paths


def load_folder(folder: str | None, form: str) -> tuple[dict[str, list[Row]], dict[str, str]]:
    """(checked rows of each split from local files of one text form, file hashes). Raises UserError."""
    splits, hashes = {}, {}
    for split, path in find_files(folder, form).items():
        splits[split], hashes[path.name] = read_file(path, form)
        check(splits[split], form, split, str(path))
    return splits, hashes


def load_hub() -> dict[str, list[Row]]:
    """Raw rows of each split from the hub's pinned parquet files, checked like the CSV files.

    Raises NotAvailable when the hub can't be reached, UserError when its rows are not the original ones.
    """
    parts = hub_parts(HUB_ID, HUB_REVISION, "default", HUB_SPLITS.values())
    splits = {}
    for split, name in HUB_SPLITS.items():
        part = parts[name][:]
        if not {"meaning_representation", "human_reference"} <= set(part):
            raise UserError(f"{HUB_ID}: columns {','.join(part)[:60]}; use task.source=folder")
        pairs = zip(part["meaning_representation"], part["human_reference"], strict=True)
        splits[split] = [(linearise(mr), _tidy(text)) for mr, text in pairs]
        check(splits[split], "raw", split, f"{HUB_ID} {split}")
    return splits


def load_generated() -> dict[str, list[Row]]:
    """The rows of the generated set: E2E's eight attributes, with names and cuisines of ours. No two splits share an input."""
    splits = generated_rows(Path(__file__).with_name("generated.jsonl.xz"))
    return {split: [(mr, text) for mr, text in rows] for split, rows in splits.items()}
