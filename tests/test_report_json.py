"""results/report.json on planted records: the tables' numbers with the records behind them, and what the schema says of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import plant_record
from planted import noted

from experiments import latency
from lora_repro.files import write_text
from lora_repro.planning.cells import Cell, Row
from lora_repro.records import manifest
from lora_repro.report import report_json
from lora_repro.report.claims import ledger
from lora_repro.report.exhibit import Exhibit, ReportRequest
from lora_repro.report.pivot import Pivot
from lora_repro.report.subjects.fusion import Fusion
from lora_repro.report.table import Number, Table
from lora_repro.results import Store

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = json.loads((ROOT / "lora_repro" / "report" / "report.schema.json").read_text(encoding="utf-8"))
KINDS: dict[str, Any] = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float),
                         "boolean": bool, "null": type(None)}  # fmt: skip
PIVOT = Pivot(title="T", by="task", paper={"small": "S"})

NUMBER = re.compile(
    r"\(?([+−-]?\d[\d,]*(?:\.\d+)?(?:[eE][+-]?\d+)?)\s?([kMB%]?)(?: ± [\d.,]+)?(?: \([\d.]+\))?(?: ms)?"
    r"(?: ?\[[^\]]*\])?\s?[†‡*=]*(?:, Δ [\d.,]+)?\)?"
)
FACTOR = {"": 1.0, "%": 1.0, "k": 1e3, "M": 1e6, "B": 1e9}


def faults(value: Any, schema: dict[str, Any], at: str = "") -> list[str]:
    """What a value breaks of the keywords that our schema uses."""
    if "enum" in schema:
        return [] if value in schema["enum"] else [f"{at}: {value}"]
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(isinstance(value, KINDS[kind]) and (kind == "boolean" or not isinstance(value, bool)) for kind in kinds):
        return [f"{at}: {value!r} is no {kinds}"]
    problems: list[str] = []
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        problems += [f"{at}: no {key}" for key in schema.get("required", []) if key not in value]
        for key, item in value.items():
            if key in properties or isinstance(others, dict):
                problems += faults(item, properties.get(key, others), f"{at}/{key}")
            elif not others:
                problems.append(f"{at}: unknown {key}")
    if isinstance(value, list) and "items" in schema:
        problems += [fault for i, item in enumerate(value) for fault in faults(item, schema["items"], f"{at}/{i}")]
    return problems


def planted(folder: Path, right: dict[tuple[str, str, int], int]) -> tuple[list[Cell], Store]:
    """(row, task, seed) -> right answers of 40; the row `full` and others, on tasks of their own."""
    cells = []
    for (name, task, seed), count in right.items():
        key = f"{name}-{task}-{seed}"
        paper = {"small": {"x": 80.0, "params_m": 1.5, "n": 3, "source": "Table 0"}} if name == "lora" else {}
        config = {"task": {"_target_": "a.B", "name": task, "metrics": ["accuracy"]}, "backbone": {"name": "small"},
                  "method": {"name": name}, "seed": seed, "data": {}, "train": {"lr": 1.0}}  # fmt: skip
        cells.append(Cell(Row(name, name.upper(), 1, 2, True, paper, {}), seed, {"task": task}, (), key, config, Path(key)))
        lines = [json.dumps({"key": str(i), "correct": float(i < count)}) + "\n" for i in range(40)]
        write_text(folder / "predictions" / f"{key}.jsonl", "".join(lines))
        plant_record(folder / "records" / f"{key}.json", {
            "schema": 1, "signature": key, "status": "finished", "asked": config, "row": {"table": "t"},
            "measured": {"scores": {"accuracy": count / 40}, "parameters": {"method": 7, "head": 1, "total": 9}},
            "where": {"backbone": {"label": "B", "sha256": "1"}, "data": {"caption": "synthetic", "hashes": {}},
                      "device": "cpu, 1 threads"},
        })  # fmt: skip
    return cells, noted(folder)


@pytest.fixture
def found(tmp_path: Path) -> list[dict[str, Any]]:
    right = {("full", "x", 0): 20, ("full", "x", 1): 22, ("full", "y", 0): 10, ("full", "y", 1): 10,
             ("lora", "x", 0): 30, ("lora", "x", 1): 34, ("lora", "y", 0): 12, ("lora", "y", 1): 12}  # fmt: skip
    cells, store = planted(tmp_path / "mini", right)
    ask = ReportRequest("t", "mini")
    ask.__dict__["cells"] = cells
    entry = report_json.experiment_entry(PIVOT, ask, store, [])
    assert entry["sheets"] == []
    return list(entry["cells"])


def test_a_cell_has_the_table_s_numbers_and_the_records_behind_them(found: list[dict[str, Any]]) -> None:
    by_place = {(cell["row"], cell["source"], cell["column"]): cell for cell in found}
    x = by_place["lora", "published", "x"]
    assert (x["value"], x["sd"], x["n"], x["axes"], x["method_parameters"]) == (80.0, 7.07107, 2, {"task": "x"}, 7)
    assert x["records"] == ["lora-x-0", "lora-x-1"] and x["higher_is_better"] and x["metric"] == "X"
    assert x["difference"]["from"] == "full FT" and x["difference"]["value"] == 27.5 and x["difference"]["n"] == 2
    assert x["difference"]["low"] < 27.5 < x["difference"]["high"]
    assert 0.05 < x["difference"]["p"] < 1 and x["difference"]["detectable"] > 27.5  # two seeds show little
    both = by_place["lora", "published", "average"]
    assert both["value"] == 55.0 and both["axes"] == {"task": ["x", "y"]} and len(both["records"]) == 4
    assert by_place["full", "published", "x"]["difference"] is None
    paper = by_place["lora", "paper (S)", "x"]
    assert (paper["value"], paper["sd"], paper["records"]) == (80.0, None, [])


def update(results: Path, *given: Any, **named: Any) -> None:
    with manifest.changing(results) as change:
        report_json.update_report(change, *given, **named)


def test_what_is_written_fits_the_schema_and_a_part_leaves_the_others(tmp_path: Path, found: list[dict[str, Any]]) -> None:
    table = Table(("Costs",), ("a", "b"), "lr", (("x", Number("1.5", 1.5000004, n=3)),))
    ask = ReportRequest("latency", "mini")
    ask.__dict__["cells"] = []
    store = Store("published", tmp_path, {})
    sheet = report_json.experiment_entry(latency.TABLE, ask, store, [Exhibit("latency", "Cost", (table,), "", lambda _: [])])
    number = {"value": 1.5, "sd": None, "n": 3, "low": None, "high": None}
    expected = {"caption": "Costs", "header": ["a", "b"], "rows": [["x", "1.5"]], "numbers": [[None, number]], "records": []}
    assert sheet["sheets"] == [expected]
    claims = [claim for claim in ledger.load() if claim.test.anywhere]
    nothing: Any = None
    read = {claim.id: tuple(claim.test.read(nothing)) for claim in claims}
    entries = [(claim, {"mini": ledger.Outcome(claim.test.verdict(read[claim.id]), read[claim.id])}) for claim in claims]
    update(tmp_path, {("mini", "t"): {"cells": found, "sheets": []}, ("mini", "latency"): sheet})
    update(tmp_path, claims=report_json.claim_entries(ledger.Ledger({"mini": ""}, entries)))
    path = tmp_path / report_json.NAME
    first = path.read_bytes()
    report = json.loads(first)
    assert faults(report, SCHEMA) == [] and list(report["tables"]["mini"]) == ["latency", "t"]
    assert report["tables"]["mini"]["t"]["cells"] == found and len(report["claims"]) == len(claims) > 2
    update(tmp_path, {("mini", "t"): {"cells": found, "sheets": []}})
    assert path.read_bytes() == first
    update(tmp_path, {("mini", "t"): None})  # shows nothing any more
    assert list(json.loads(path.read_text(encoding="utf-8"))["tables"]["mini"]) == ["latency"]
    report["tables"]["mini"]["t"]["cells"][0]["value"] = "80"
    report["claims"][0]["verdict"] = "good"
    del report["tables"]["mini"]["latency"]["sheets"][0]["numbers"][0][1]["sd"]
    assert len(faults(report, SCHEMA)) == 3


def test_a_fusion_s_scores_are_cells_and_its_shares_a_sheet(tmp_path: Path) -> None:
    cells, store = planted(tmp_path / "mini", {("full", "x", 0): 20, ("lora", "x", 0): 30})
    ask = ReportRequest("t", "mini")
    ask.__dict__["cells"] = cells
    scores, shares = (Table((name,), ("a",), "l", (("x",),)) for name in ("scores", "shares"))
    exhibits = [Exhibit(stem, stem, (table,), "", lambda _: []) for stem, table in (("t", scores), ("t_shares", shares))]
    entry = report_json.experiment_entry(Fusion(PIVOT), ask, store, exhibits)
    assert [sheet["caption"] for sheet in entry["sheets"]] == ["shares"]
    ours = {(cell["row"], cell["value"]) for cell in entry["cells"] if cell["source"] == "published"}
    assert ours == {("full", 50), ("lora", 75)}


# A list of single seeds' values, which says nothing of a mean; where one seed was run it reads as a number.
LISTED = ("d90 of each seed", "same seed: φ(1, 1)")


def _half_a_digit(text: str, printed: float) -> float:
    """Of the last digit of `text`, in the unit of what it says: 0.005 million for `0.15 M`; numbers have six digits."""
    match = re.search(r"\d+(?:\.(\d+))?", text.replace(",", ""))
    assert match
    half = 0.51 * 10 ** -len(match[1] or "") * (abs(printed) / float(match[0]) if float(match[0]) else 1)
    return max(half, 5e-6 * abs(printed))


def _begins_with(text: str) -> float | None:
    """The number that a printed cell begins with: `−0.3`, `74.7 ± 0.4†`, `354.92M`, `+3.5 [+0.8, +6.3]`; else None."""
    if not (match := NUMBER.fullmatch(text.strip())):
        return None
    digits, factor = match.groups()
    return float(digits.replace(",", "").replace("−", "-")) * FACTOR[factor]


def test_every_published_number_has_its_value() -> None:
    """What a cell prints is its number, rounded."""
    tables = json.loads((ROOT / "results" / report_json.NAME).read_text(encoding="utf-8"))["tables"]
    sheets = [sheet for profile in tables.values() for one in profile.values() for sheet in one["sheets"]]
    count = 0
    for sheet in sheets:
        for row, numbers in zip(sheet["rows"], sheet["numbers"], strict=True):
            for title, text, number in zip(sheet["header"], row, numbers, strict=True):
                printed = _begins_with(text)
                spread, single = " ± " in text, "†" in text
                assert number or title in LISTED or (printed is None and not spread and not single), (title, text)
                if number:
                    assert printed is None or abs(number["value"] - printed) <= _half_a_digit(text, printed), (title, text)
                    assert (number["sd"] is not None) == spread and (number["n"] == 1 or not single), (title, text)
                    count += 1
    assert count > 300


def test_the_published_answers_fit_the_schema() -> None:
    report = json.loads((ROOT / "results" / report_json.NAME).read_text(encoding="utf-8"))
    assert faults(report, SCHEMA) == [] and report["claims"] and report["tables"]
