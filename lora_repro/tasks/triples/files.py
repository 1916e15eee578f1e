"""The real files of WebNLG 2017 and DART v1.1.1: reading XML and JSON, and checking that they are the original sets.

Sources: Gardent et al. 2017, "Creating Training Corpora for NLG Micro-Planners" (WebNLG, the challenge's release); Nan et al.
2021, "DART" (v1.1.1, full). The LoRA paper's appendix on data sets uses both; its scripts read their JSON form.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from lora_repro.errors import UserError
from lora_repro.tasks._files import generated_rows, load_json, own_folder, read_bytes
from lora_repro.tasks.base import SPLITS

Triple = tuple[str, str, str]


@dataclass(frozen=True)
class Entry:
    """Triples with their texts. notes: each text's `comment` (WebNLG) or source (DART)."""

    triples: tuple[Triple, ...]
    texts: tuple[str, ...]
    notes: tuple[str, ...]
    category: str = ""

    def linear(self, lower_relations: bool) -> str:
        """`subject : relation : object | ...` as in the authors' scripts, with relations in lower case for DART."""
        return " | ".join(
            f"{subject} : {relation.lower() if lower_relations else relation} : {target}"
            for subject, relation, target in self.triples
        )


@dataclass(frozen=True)
class Expected:
    """A split of an original set: numbers of entries and texts, and `entries_sha256`. None: not checked, no copy was at hand."""

    entries: int | None
    texts: int
    sha256: str | None


@dataclass(frozen=True)
class Original:
    """An original set: its title, its folder below the data folder, its file names by split ("train/" is a folder of XML files),
    and the expected contents.
    """

    title: str
    folder: str
    names: Mapping[str, tuple[str, ...]]
    expected: Mapping[str, Expected]
    others: str  # a pattern of the names of other editions


ORIGINALS = {
    "webnlg": Original(
        "WebNLG 2017",
        "webnlg2017",
        {
            "train": ("train.json", "train.jsonl", "train/"),
            "dev": ("dev.json", "dev.jsonl", "dev/"),
            "test": ("test.json", "test.jsonl", "testdata_with_lex.xml", "test/testdata_with_lex.xml"),
        },
        {
            "train": Expected(6940, 18102, "bc9df0fd64fe19277aeaa948a80610d8657104a005c77c6a333daf2dd272472a"),
            "dev": Expected(872, 2268, "f72c435b88f19d6a67f4fa92b5e5176fffaf936e78ecb5b1adeb2843e747ea23"),
            "test": Expected(1862, 4928, "e7fce2760deea09cf1d54aea1640bc0ca398fc6a744cd064e6ee89d6bde9b598"),
        },
        r"(?<![a-z])(gem|clean(ed)?)(?![a-z])|(?<![a-z])v\.?[23](?![0-9])|20(18|20|23)(?![0-9])|enriched|web_nlg",
    ),
    "dart": Original(
        "DART v1.1.1",
        "dart",
        {
            split: tuple(f"{stem}{split}.{end}" for stem in ("dart-v1.1.1-full-", "") for end in ("json", "jsonl", "xml"))
            for split in SPLITS
        },
        {
            "train": Expected(None, 62659, None),
            "dev": Expected(2768, 6980, "c083a338643fa4875c21246d080a2ec309c35a608f37463fb2460493ef7aa0fb"),
            "test": Expected(5097, 12552, "98eacc5fb4b255bee321a6e1bcce16a5f5df6ed47520c4f3a80266a7bc5b8470"),
        },
        r"(?<![a-z])(gem|clean(ed)?)(?![a-z])|v\.?1\.0",
    ),
}  # fmt: skip


def refuse_other_editions(original: Original, name: str) -> None:
    """Raise UserError if the last part of `name` (a path or a hub id) is the name of another edition."""
    last = "/".join(Path(name).parts[-2:]) if name.lower().startswith("gem/") else Path(name).name
    if re.search(original.others, last.lower()):
        raise UserError(
            f"{name} is not {original.title}, which the paper used, but another edition: take the original release"
        )


def find_files(which: str, folder: str | None, splits: Sequence[str] = SPLITS) -> dict[str, Path]:
    """split -> its file, or its folder of XML files. Raises UserError if one is missing or of another edition."""
    original = ORIGINALS[which]
    root = own_folder(folder, original.folder, original.title, which)
    refuse_other_editions(original, str(root))
    if not root.is_dir():
        raise UserError(f"no such folder: {root}; pass DATA=/path/to/{which}")
    for path in sorted(root.glob("*.[jx]*")):
        refuse_other_editions(original, str(path))
    paths = {}
    for split in splits:
        names = original.names[split]
        candidates = (root / name for name in names if (root / name).exists() and (root / name).is_dir() == name.endswith("/"))
        path_found = next(candidates, None)
        if path_found is None:
            raise UserError(f"no {', '.join(names[:-1])} or {names[-1]} in {root}: {original.title} has one for {split}")
        paths[split] = path_found
    return paths


def load(which: str, folder: str | None, splits: Sequence[str] = SPLITS) -> tuple[dict[str, list[Entry]], dict[str, str]]:
    """(checked entries of each split, sha256 of each file, for a folder of its files in a row). Raises UserError."""
    entries, hashes = {}, {}
    for split, place in find_files(which, folder, splits).items():
        paths = sorted(place.rglob("*.xml")) if place.is_dir() else [place]
        digest, split_entries = hashlib.sha256(), list[Entry]()
        for path in paths:
            data, _ = read_bytes(path)
            if not data.strip():
                raise UserError(f"{path}: empty file; download it again")
            digest.update(data)
            split_entries += _parse(data, path)
        check(which, split, split_entries, str(place))
        entries[split], hashes[place.name] = split_entries, digest.hexdigest()
    return entries, hashes


def entries_sha256(entries: Iterable[Entry]) -> str:
    """sha256 of the entries, each a JSON list of its fields on a line, sorted: the same for XML and JSON."""
    rows = sorted(json.dumps([e.triples, e.texts, e.notes, e.category], ensure_ascii=False) for e in entries)
    return hashlib.sha256("".join(row + "\n" for row in rows).encode("utf-8")).hexdigest()


def check(which: str, split: str, entries: Sequence[Entry], location: str) -> None:
    """Raise UserError unless `entries` are the original split, by counts and checksum."""
    original, expected = ORIGINALS[which], ORIGINALS[which].expected[split]
    mend = f"it is not {original.title}, which the paper used; take the original release"
    texts = sum(len(entry.texts) for entry in entries)
    if expected.entries is not None and len(entries) != expected.entries:
        raise UserError(f"{location}: {len(entries):,} entries, expected {expected.entries:,}; {mend}")
    if texts != expected.texts:
        raise UserError(f"{location}: {texts:,} texts, expected {expected.texts:,}; {mend}")
    if expected.sha256 is not None and (digest := entries_sha256(entries)) != expected.sha256:
        raise UserError(f"{location}: checksum {digest[:12]}, expected {expected.sha256[:12]}; {mend}")


def _parse(data: bytes, path: Path) -> list[Entry]:
    """The entries of one file: XML, JSON, or JSON lines."""
    try:
        if path.suffix == ".xml":
            return [_from_xml(node) for node in ElementTree.fromstring(data).iter("entry") if node.find("lex") is not None]
        rows = _rows(data.decode("utf-8-sig"), path)
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable ({str(error).splitlines()[0][:80]}); download it again") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: an entry is not WebNLG 2017's or DART's ({error}); is it another edition?") from error
    return [_entry(row, f"{path}, {'line' if path.suffix == '.jsonl' else 'entry'} {number}") for number, row in rows]


def _rows(text: str, path: Path) -> list[tuple[int, Any]]:
    """The entries of JSON, or of JSON lines, as they are there, each with its number. Raises KeyError or TypeError for others."""
    if path.suffix == ".jsonl":
        lines = enumerate(text.split("\n"), start=1)
        return [(number, load_json(line, path, number)) for number, line in lines if line.strip()]
    document = load_json(text, path)
    return list(enumerate(document["entries"] if isinstance(document, dict) else document, start=1))


def _entry(row: Any, location: str) -> Entry:
    """The entry of a JSON value. Raises UserError if it is none, or has something else than text where text belongs."""
    try:
        entry = _from_json(row)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{location} is not WebNLG 2017's or DART's ({error}); is it another edition?") from error
    texts = (*entry.texts, *entry.notes, entry.category, *(part for triple in entry.triples for part in triple))
    if not all(isinstance(text, str) for text in texts):
        raise UserError(f"{location} has something else than text in a triple or a text: take the original release")
    return entry


def _triple(parts: Sequence[str]) -> Triple:
    subject, relation, target = parts
    return subject, relation, target


def _from_xml(node: ElementTree.Element) -> Entry:
    if node.find("modifiedtripleset/mtriple") is None or node.get("shape") is not None:
        raise ValueError("an edition after 2017")
    texts = node.findall("lex")
    category = node.get("category", "")
    return Entry(
        tuple(_triple((triple.text or "").split(" | ")) for triple in node.iterfind("modifiedtripleset/mtriple")),
        tuple(text.text or "" for text in texts),
        tuple(text.get("comment", "") for text in texts),
        "" if category == "MISC" else category,  # DART's category, which its JSON form leaves out
    )


def _from_json(row: dict[str, Any]) -> Entry:
    if "tripleset" in row:
        texts = row["annotations"]
        return Entry(
            tuple(map(_triple, row["tripleset"])), tuple(text["text"] for text in texts), tuple(text["source"] for text in texts)
        )
    (entry,) = row.values()
    if entry["shape"] != "NA":
        raise ValueError("an edition after 2017")
    texts = entry["lexicalisations"]
    triples = [_triple((t["subject"], t["property"], t["object"])) for t in entry["modifiedtripleset"]]
    return Entry(
        tuple(triples), tuple(text["lex"] for text in texts), tuple(text["comment"] for text in texts), entry["category"]
    )


def load_generated(name: str) -> dict[str, list[Entry]]:
    """split -> the entries that we generated in the form of `webnlg` or `dart`. Two categories are in WebNLG's test part only."""
    splits: dict[str, list[Entry]] = {}
    for split, rows in generated_rows(Path(__file__).with_name(f"{name}.jsonl.xz")).items():
        for triples, texts, notes, category in rows:
            entry = Entry(tuple(map(tuple, triples)), tuple(texts), tuple(notes), category)
            splits.setdefault(split, []).append(entry)
    return splits
