"""results/*/tables are what the published records give now: what a refactoring must not change."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from planted import noted

from lora_repro.files import sha256
from lora_repro.planning.rerun_command import Command
from lora_repro.report import kept, show
from lora_repro.report.exhibit import Exhibit, ReportRequest
from lora_repro.report.kept import Shown
from lora_repro.report.table import (
    Count,
    Number,
    Origin,
    Remark,
    Reproduce,
    Source,
    Table,
    comma_separated,
    latex,
    markdown,
)
from lora_repro.results import Store, published
from lora_repro.stats import comparable
from lora_repro.stats.spread import Pooled

RESULTS = Path(__file__).resolve().parents[1] / "results"
RENDER = {".md": markdown, ".csv": comma_separated, ".tex": latex}


@pytest.mark.parametrize("name", ["e2e", "glue", "delta_w", "latency", "intrinsic_dimension"])
def test_the_published_tables_are_what_the_records_give(name: str) -> None:
    """`make tables` writes them again, all of them: these are of every kind of view."""
    for profile in sorted(folder.parent.name for folder in RESULTS.glob("*/tables")):
        exhibits = show.declaration(name).exhibits(ReportRequest(name, profile), [published(RESULTS / profile)])
        for exhibit in (one for one in exhibits if one.keep):
            for suffix, render in RENDER.items():
                path = RESULTS / profile / "tables" / f"{exhibit.stem}{suffix}"
                assert path.read_text(encoding="utf-8") == render(exhibit.tables), path
            again = kept._exhibit(json.loads(json.dumps(kept._plain(exhibit))))
            assert known(again) == known(exhibit)


def known(exhibit: Exhibit) -> list[Any]:
    """All that the tables of an exhibit hold, with what their cells know beside their texts."""
    cells = [cell for table in exhibit.tables for row in (table.facts, *table.rows) for cell in row]
    return [exhibit.stem, exhibit.title, exhibit.said, exhibit.tables, exhibit.words, *((type(cell), vars(cell)) for cell in cells
            if type(cell) is not str)]  # fmt: skip


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Two records of the experiment e2e, a measurement, and a cache of their own."""
    monkeypatch.setattr(kept, "CACHE", tmp_path / "cache")
    for name in ("a", "b"):
        change(tmp_path, name, 1)
    (tmp_path / "results" / "mini" / "measures").mkdir()
    (tmp_path / "results" / "mini" / "measures" / "latency.json").write_text("1")
    return noted(tmp_path / "results" / "mini")


def change(folder: Path, name: str, value: int) -> None:
    record = json.dumps({"schema": 1, "signature": name, "row": {"table": "e2e"}, "asked": {}})
    for kind, end, text in (("records", "json", record), ("predictions", "jsonl", str(value))):
        path = folder / "results" / "mini" / kind / f"{name}.{end}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


ROWS = (("LoRA", Source("paper", Origin.PAPER), Number("1 ± 0", 1, 0.0, 2, seeds=(1.0, 1.0)), Count.of(2), Remark("x")),)
SHEET = Table(("T", Reproduce("c")), ("a", "b", "c", "d", "e"), "llrrl", ROWS, numbers=({"a": "1"},))
COMMANDS = {"lora a": Command(("row/e2e=lora", "seed=0"), (), "", 3, ("paths.data=x",))}
MADE = Exhibit("e2e", "E2E", (SHEET,), "1 run", lambda stem: [], words=("w",))


def test_what_is_kept_is_found_until_something_that_was_read_changes(
    planted: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = kept.traced(planted)
    assert "a" in store.records and store.records["a"] and "gone" not in store.records
    assert comparable.spread(store, "a training", "bleu") is None
    with pytest.raises(TypeError, match="only on records that it looks up"):
        list(store.records.values())
    kept.write(store, Shown("e2e", (MADE,), {"cells": []}, COMMANDS, {"mini/tables/e2e.md": "0"}))
    entry = kept.read("e2e", planted)
    assert entry and entry.answer == {"cells": []} and entry.files == {"mini/tables/e2e.md": "0"}
    assert known(entry.exhibits[0]) == known(MADE) and entry.commands == COMMANDS and kept.read("glue", planted) is None

    def stands() -> bool:
        return kept.read("e2e", noted(planted.folder)) is not None

    change(tmp_path, "b", 2)
    assert stands(), "no exhibit of it reads this record"
    for name in ("a", "gone"):
        change(tmp_path, name, 2)
        assert not stands(), name
        change(tmp_path, name, 1)
        if name == "gone":
            for kind in ("records", "predictions"):
                next((planted.folder / kind).glob("gone.*")).unlink()
        assert stands(), name
    with monkeypatch.context() as patch:
        patch.setattr(comparable, "_spread", lambda *_: Pooled(0.1, 10, 5))
        assert not stands(), "rows trained alike have more runs"
    (planted.folder / "measures" / "latency.json").write_text("2")
    assert not stands()
    (planted.folder / "measures" / "latency.json").write_text("1")
    assert stands()
    with monkeypatch.context() as patch:
        patch.setattr(kept, "_code", lambda: "other")
        assert not stands()
    with monkeypatch.context() as patch:
        patch.setenv("LORA_REPRO_CONFIG_DIR", str(tmp_path))
        assert not stands()
    for path in (tmp_path / "cache").rglob("*.json"):
        path.write_text(path.read_text().replace("1 run", "2 runs"))
    assert not stands(), "a damaged file"


def test_rendered_files_stand_until_one_is_altered(planted: Store) -> None:
    results, table = planted.folder.parent, planted.folder / "tables" / "e2e.md"
    table.parent.mkdir()
    table.write_text("t")
    noted(planted.folder)
    entry = Shown("e2e", (MADE,), None, {}, {"mini/tables/e2e.md": sha256(table)})
    assert entry.stands(results) and not replace(entry, files={}).stands(results)
    table.write_text("u")
    assert not entry.stands(results)
    noted(planted.folder)
    assert not entry.stands(results)
    table.unlink()
    assert not entry.stands(results)
