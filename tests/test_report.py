"""Lines of a table from records built by hand: means, spread, refusals, what a missing cell looks like."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lora_repro.errors import UserError
from lora_repro.metrics.bootstrap import Interval
from lora_repro.tables import report
from lora_repro.tables.report import Cell, Line, Metric, measured, quoted, summarise
from lora_repro.tables.rows import Block, Row
from lora_repro.tables.stores import Store, one_origin, own, published
from lora_repro.tables.table import cell_text

BLEU, SER = Metric("bleu", "BLEU", +1, 100, 1), Metric("slot_error_rate", "SER", -1, 100, 1)


def record(signature: str, bleu: float | None = 0.5, **other: Any) -> dict[str, Any]:
    """A finished record; `other` replaces: status, method (parameters), caption, sha256, text_form, note."""
    parameters = {"method": other.get("method", 1000), "head": 0, "total": 5000}
    measured: dict[str, Any] = {"scores": {"bleu": bleu, "slot_error_rate": 0.25}, "parameters": parameters}
    return {
        "schema": 1,
        "signature": signature,
        "status": other.get("status", "finished"),
        "asked": {"task": {"text_form": other.get("text_form", "raw")}},
        "row": {"table": "t", "name": "x", "label": "mislabelled"},
        "measured": {**measured, "note": other.get("note", "")},
        "where": {
            "dirty": False,
            "backbone": {"label": "B", "sha256": other.get("sha256", "ab")},
            "data": {"caption": other.get("caption", "synthetic data"), "hashes": {"a": "0" * 64}},
        },
    }


def row(name: str, order: int, signatures: list[str], compare: bool = True, **numbers: Any) -> Row:
    asked: dict[int, tuple[str, dict[str, Any]]] = {seed: (key, {}) for seed, key in enumerate(signatures)}
    return Row(name, name.upper(), order, compare, numbers.get("paper", {}), numbers.get("reruns", {}), asked)


def store(folder: Path, *records: dict[str, Any]) -> Store:
    for item in records:
        place = folder / item["signature"]
        place.mkdir(parents=True)
        (place / "record.json").write_text(json.dumps(item))
    return own(folder)


def lines(block: Block, source: Store) -> dict[str, Line]:
    return {line.row: line for line in measured(block, source, (BLEU, SER), "full", "bleu")}


def test_mean_and_sample_sd() -> None:
    assert summarise([1.0, 2.0, 4.0]) == Cell(pytest.approx(7 / 3), pytest.approx(math.sqrt(7 / 3)), 3)  # type: ignore[arg-type]
    assert summarise([1.0]) == Cell(1.0, None, 1)


def test_rows_are_found_by_signature_and_in_printed_units(tmp_path: Path) -> None:
    found = store(tmp_path, record("s0", 0.60), record("s1", 0.62), record("stray", 0.99))
    line = lines(Block("b", {}, (row("lora", 1, ["s0", "s1", "s2"]),)), found)["lora"]
    assert (line.n, line.method_parameters, line.label) == (2, 1000, "LORA")
    assert line.cells["bleu"].mean == pytest.approx(61.0)
    assert line.cells["bleu"].sd == pytest.approx(math.sqrt(2))


def test_a_missing_row_is_empty_never_zero(tmp_path: Path) -> None:
    line = lines(Block("b", {}, (row("lora", 1, ["none"]),)), store(tmp_path))["lora"]
    assert (line.cells, line.n, line.method_parameters, line.difference) == ({}, None, None, None)
    assert cell_text(line.cells.get("bleu"), 1) == "—"


def test_diverged_and_collapsed_are_counted_and_never_averaged(tmp_path: Path) -> None:
    found = store(tmp_path, record("a", 0.5, note="said"), record("b", 0.0, status="collapsed"),
                  record("c", None, status="diverged"))  # fmt: skip
    line = lines(Block("b", {}, (row("lora", 1, ["a", "b", "c"]),)), found)["lora"]
    assert (line.n, line.cells["bleu"]) == (1, Cell(50.0, None, 1))
    assert line.notes == ("1 collapsed", "1 diverged", "said")


def test_an_unmeasured_metric_of_one_seed_leaves_the_cell_empty(tmp_path: Path) -> None:
    found = store(tmp_path, record("a", 0.5), record("b", None))
    line = lines(Block("b", {}, (row("lora", 1, ["a", "b"]),)), found)["lora"]
    assert "bleu" not in line.cells and line.cells["slot_error_rate"].mean == 25.0


@pytest.mark.parametrize("other", [{"caption": "E2E NLG"}, {"text_form": "tokenised"}, {"sha256": "cd"}])
def test_different_data_text_or_weights_share_no_table(tmp_path: Path, other: dict[str, Any]) -> None:
    found = store(tmp_path, record("a"), record("b", **other))
    with pytest.raises(UserError, match=r"different .* in one table"):
        lines(Block("b", {}, (row("full", 1, ["a"]), row("lora", 2, ["b"]))), found)


def test_different_file_hashes_share_no_table_but_a_row_without_a_model_does() -> None:
    other = record("b")
    other["where"]["data"]["hashes"] = {"a": "1" * 64}
    with pytest.raises(UserError, match="different data"):
        one_origin([record("a"), other])
    one_origin([record("a"), record("human", sha256="")])


def test_seeds_with_different_parameter_counts_are_refused(tmp_path: Path) -> None:
    found = store(tmp_path, record("a"), record("b", method=999))
    with pytest.raises(UserError, match="different numbers of parameters"):
        lines(Block("b", {}, (row("lora", 1, ["a", "b"]),)), found)


def predictions(folder: Path, signature: str, keys: str) -> None:
    text = "".join(json.dumps({"key": key, "output": signature}) + "\n" for key in keys)
    (folder / signature / "predictions.jsonl").write_text(text)


def test_differences_pair_equal_seeds_and_equal_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = []

    def fake(ours: list[Any], theirs: list[Any], metric: str) -> Interval:
        pairs.extend((a[0]["output"], b[0]["output"], metric) for a, b in zip(ours, theirs, strict=True))
        return Interval(0.015, -0.01, 0.05, len(ours[0]), 10)

    monkeypatch.setattr(report, "paired_bootstrap", fake)
    names = ["f0", "f1", "l0", "l1", "h0", "o0"]
    found = store(tmp_path, *map(record, names))
    for name in names:
        predictions(tmp_path, name, "xyz" if name == "o0" else "abc")
    block = Block("b", {}, (row("full", 1, ["f0", "f1"]), row("lora", 2, ["l0", "l1"]),
                            row("other", 3, ["o0"]), row("human", 4, ["h0"], compare=False)))  # fmt: skip
    made = lines(block, found)
    assert pairs == [("l0", "f0", "bleu"), ("l1", "f1", "bleu")]
    assert made["lora"].difference == report.Difference(pytest.approx(1.5), -1.0, 5.0, 2)  # type: ignore[arg-type]
    assert made["full"].difference is made["other"].difference is made["human"].difference is None


def test_the_real_bootstrap_takes_predictions_as_they_are_stored(tmp_path: Path) -> None:
    from lora_repro.metrics.nlg import per_input_statistics

    references = [["a cheap pub near the river"], ["it serves good english food"], ["the mill is a pub"]]
    found = store(tmp_path, record("f0"), record("l0"))
    for name, outputs in (
        ("f0", ["a cheap pub", "it serves food", "the mill"]),
        ("l0", [r[0] for r in references]),
    ):
        rows = [{"key": str(i), "output": text, **statistics} for i, (text, statistics) in
                enumerate(zip(outputs, per_input_statistics(outputs, references), strict=True))]  # fmt: skip
        (tmp_path / name / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rows))
    difference = lines(Block("b", {}, (row("full", 1, ["f0"]), row("lora", 2, ["l0"]))), found)[
        "lora"
    ].difference
    assert difference is not None and difference.n == 1
    assert 0 < difference.low <= difference.mean <= difference.high <= 100


def test_paper_and_reruns_stand_under_their_own_names() -> None:
    paper = {"big": {"bleu": 70.4, "bleu_sd": 0.1, "params_m": 0.35, "n": 3, "source": "Table 3"}}
    reruns = {"big": {"bleu": [68.65, 68.85, 68.87], "source": "issue"}}
    block = Block("small", {}, (row("lora", 1, [], paper=paper, reruns=reruns), row("bitfit", 2, [])))
    first, second = quoted(block, (BLEU, SER), "big", "BIG")
    assert (first.source, first.cells, first.printed_millions) == (
        "paper (BIG)",
        {"bleu": Cell(70.4, 0.1, 3)},
        0.35,
    )
    assert (second.source, second.n) == ("reruns by others (BIG)", 3)
    assert second.cells["bleu"].mean == pytest.approx(68.79)


def test_published_store_reads_the_published_layout(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "s.json").write_text(json.dumps(record("s")))
    assert set(published(tmp_path).records) == {"s"}
    assert published(tmp_path).predictions("s") == tmp_path / "predictions" / "s.jsonl"


def test_reporting_imports_no_torch_wandb_or_transformers() -> None:
    code = ("import sys; import experiments.e2e, lora_repro.publish; "
            "print([name for name in ('torch', 'wandb', 'transformers', 'datasets') if name in sys.modules])")  # fmt: skip
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
