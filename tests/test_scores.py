"""Results of a table from records built by hand: means, spread, refusals, what a missing cell looks like."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import plant_record
from planted import noted
from test_bootstrap import runs as drawn

from lora_repro.errors import UserError
from lora_repro.planning.cells import Cell, Row
from lora_repro.records import rates
from lora_repro.records.record import save
from lora_repro.report import captions, numbers
from lora_repro.report.captions import Caption
from lora_repro.report.columns import Column
from lora_repro.report.numbers import Difference, Mean, Metric, holm, summarise, text_of
from lora_repro.report.scores import Result, measured_results, quoted_results
from lora_repro.report.sheet import Scores
from lora_repro.results import Run, Store, declared_cells, long, own, runs
from lora_repro.stats import bootstrap, comparable, kept
from lora_repro.stats.bootstrap import Draws, paired_draws
from lora_repro.stats.comparable import check_same_origin
from lora_repro.stats.spread import Error
from lora_repro.tasks.triples.dart import DART
from lora_repro.tasks.triples.webnlg import WebNLG

BLEU, SER = Metric("bleu", "BLEU"), Metric("slot_error_rate", "SER", -1)
COLUMNS = [Column(BLEU, "bleu"), Column(SER, "slot_error_rate")]


def record(signature: str, bleu: float | None = 0.5, **other: Any) -> dict[str, Any]:
    """A finished record; `other` replaces: status, method and head (parameters), caption, sha256, text_form, note."""
    parameters = {"method": other.get("method", 1000), "head": other.get("head", 0), "total": 5000}
    measures: dict[str, Any] = {"scores": {"bleu": bleu, "slot_error_rate": 0.25}, "parameters": parameters}
    return {
        "schema": 1,
        "signature": signature,
        "status": other.get("status", "finished"),
        "asked": {"task": {"text_form": other.get("text_form", "raw")}},
        "row": {"table": "t", "name": "x", "label": "mislabelled"},
        "measured": {**measures, "note": other.get("note", "")},
        "where": {
            "dirty": False,
            "backbone": {"label": "B", "sha256": other.get("sha256", "ab")},
            "data": {"caption": other.get("caption", "synthetic data"), "hashes": {"a": "0" * 64}},
        },
    }


def row(name: str, order: int, signatures: list[str], compare: bool = True, **numbers: Any) -> list[Cell]:
    """The cells of a row, a seed each."""
    table_row = Row(name, name.upper(), order, 3, compare, numbers.get("paper", {}), numbers.get("reruns", {}))
    config = {"task": {"name": "e2e"}, "backbone": {"name": "small"}, "method": {"name": name}}
    return [Cell(table_row, seed, {}, (), key, config, Path(key)) for seed, key in enumerate(signatures)]


def store(folder: Path, *records: dict[str, Any]) -> Store:
    for item in records:
        plant_record(folder / item["signature"] / "record.json", item)
    return own(folder)


def results(cells: list[Cell], source: Store) -> dict[str, Result]:
    return {result.row: result for result in measured_results(cells, source, COLUMNS, "metric", "full", COLUMNS[:1])}


def test_mean_and_sample_sd() -> None:
    assert summarise([1.0, 2.0, 4.0]) == Mean(pytest.approx(7 / 3), pytest.approx(math.sqrt(7 / 3)), 3)  # type: ignore[arg-type]
    assert summarise([1.0]) == Mean(1.0, None, 1)


def test_a_negative_score_has_the_sign_that_differences_have() -> None:
    assert text_of(Mean(-3.04, None, 1), 1) == "−3.0†" and text_of(Mean(-3.0, 1.25, 2), 1) == "−3.0 ± 1.2"


def test_rows_are_found_by_signature_and_in_printed_units(tmp_path: Path) -> None:
    run_store = store(tmp_path, record("s0", 0.60), record("s1", 0.62), record("stray", 0.99))
    result = results(row("lora", 1, ["s0", "s1", "s2"]), run_store)["lora"]
    assert (result.n, result.method_parameters, result.label) == (2, 1000, "LORA")
    assert result.cells["bleu"].mean == pytest.approx(61.0)
    assert result.cells["bleu"].sd == pytest.approx(math.sqrt(2))


def test_a_missing_row_is_empty_never_zero(tmp_path: Path) -> None:
    result = results(row("lora", 1, ["none"]), store(tmp_path))["lora"]
    assert (result.cells, result.n, result.method_parameters, result.differences) == ({}, None, None, {})
    assert text_of(result.cells.get("bleu"), 1) == "—"


def test_a_table_of_one_task_leaves_out_rows_of_which_nothing_is_known(tmp_path: Path) -> None:
    run_store = store(tmp_path, record("s0"))
    cells = row("lora", 1, ["s0"]) + row("none", 2, ["s1"])
    cells += row("printed", 3, ["s2"], paper={"small": {"bleu": 60, "source": "p"}})
    ours = measured_results(cells, run_store, COLUMNS, "metric", "full", COLUMNS[:1])
    rows = [*ours, *quoted_results(cells, COLUMNS, "small", "S")]
    caption = Caption("t", "smoke", ("B",), "d", "1")
    scores = Scores("t", "FT", "smoke", "B", caption, tuple(rows), (), tuple(COLUMNS), COLUMNS[0], False, "metric")
    rest = scores.without_empty_rows().results
    assert {(one.row, one.source) for one in rest} == {(one.row, one.source) for one in rows if one.row != "none"} != set()


def test_diverged_and_collapsed_are_counted_and_averaged_as_what_they_are(tmp_path: Path) -> None:
    """A method that loses seeds is not shown by the others alone."""
    run_store = store(tmp_path, record("a", 0.4), record("b", 0.1, status="collapsed"), record("c", None, status="diverged"))
    del run_store.records["c"]["measured"]["scores"]
    result = results(row("lora", 1, ["a", "b", "c"]), run_store)["lora"]
    assert result.cells["bleu"].mean == pytest.approx((40 + 10 + 0) / 3) and result.n == 3
    assert result.cells["slot_error_rate"].mean == pytest.approx((25 + 25 + 100) / 3)
    assert result.notes == ("1 collapsed", "1 diverged")
    (run,) = runs(row("lora", 1, ["a"]), run_store)
    run.record["status"], run.record["measured"]["scores"] = "collapsed", {"pearson": None}
    assert numbers.score(run, "pearson") == 0  # a constant answer has no correlation


def test_a_diverged_seed_counts_in_a_difference(tmp_path: Path) -> None:
    run_store = store(tmp_path, *(record(name) for name in ("f0", "f1", "l0")), record("l1", None, status="diverged"))
    for name in ("f0", "f1", "l0"):
        lines = [{"key": str(i), "slots": 10, "slot_errors": 1} for i in range(20)]
        (tmp_path / name / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    sides = [{run.cell.seed: run for run in runs(row(name, 1, keys), run_store)} for name, keys in
             (("lora", ["l0", "l1"]), ("full", ["f0", "f1"]))]  # fmt: skip
    found_difference = numbers.difference([(comparable.paired(*sides), "slot_error_rate")])
    assert found_difference and found_difference.n == 2 and found_difference.mean == pytest.approx((0 + 90) / 2)


def test_a_seed_that_diverged_on_both_sides_is_a_difference_of_nothing(tmp_path: Path) -> None:
    failures = (record(name, None, status="diverged") for name in ("f1", "l1"))
    run_store = store(tmp_path, *(record(name) for name in ("f0", "l0")), *failures)
    for name, errors in (("f0", 1), ("l0", 3)):
        lines = [{"key": str(i), "slots": 10, "slot_errors": errors} for i in range(20)]
        (tmp_path / name / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    sides = [{run.cell.seed: run for run in runs(row(name, 1, keys), run_store)} for name, keys in
             (("lora", ["l0", "l1"]), ("full", ["f0", "f1"]))]  # fmt: skip
    difference = numbers.difference([(comparable.paired(*sides), "slot_error_rate")])
    assert difference and difference.n == 2 and difference.mean == pytest.approx(20 / 2)
    seed_one = [{1: side[1]} for side in sides]
    assert numbers.difference([(comparable.paired(*seed_one), "slot_error_rate")]) is None


def test_a_diverged_run_has_no_held_out_loss(tmp_path: Path) -> None:
    """What its record holds is the best from before it diverged."""
    run_store = store(tmp_path, record("a"))
    (run,) = runs(row("lora", 1, ["a"]), run_store)
    run.record["measured"]["dev_loss"] = 1.25
    assert numbers.score(run, "dev_loss") == 1.25
    run.record["status"] = "diverged"
    assert numbers.score(run, "dev_loss") is None


def drawn_at_random(generator: Any, seeds: int, spread: float) -> Draws:
    """A difference of none: inputs whose mean errs by 1, seeds by `spread`, as `paired_draws` draws them."""
    values = 5 * generator.normal(size=25)[:, None] + spread * generator.normal(size=seeds)
    runs = [[{"cider": value} for value in run] for run in values.T.tolist()]
    return paired_draws(runs, [[{"cider": 0.0}] * 25] * seeds, n=100, metric="cider")


def test_a_star_is_as_rare_as_it_says_where_seeds_are_few_and_differ() -> None:
    """Of 12 comparisons at 5 % / 12 each, where normal tails would give a star to one table in seven."""
    generator = np.random.default_rng(0)
    tables = []
    for _ in range(100):
        draws = [drawn_at_random(generator, 3, 4.0) for _ in range(12)]
        tables.append([Difference(0, 0, 0, 3, p=bootstrap.p_of(one.difference, [one])) for one in draws])
    assert sum(any(one.p < 0.05 for one in holm(table)) for table in tables) <= 7


@pytest.mark.parametrize("seeds", [1, 3])
def test_p_is_the_level_at_which_the_interval_ends_at_no_difference(seeds: int) -> None:
    one = drawn_at_random(np.random.default_rng(1), seeds, 1.0)
    for level, quantile in ((0.05, 1.959964), (0.01, 2.575829), (0.001, 3.290527)):
        end = quantile * bootstrap.standard_error(one.at(level))
        assert bootstrap.p_of(end, [one]) == bootstrap.p_of(-end, [one]) == pytest.approx(level, rel=0.01)
    assert bootstrap.p_of(0.0, [one]) == 1 and bootstrap.p_of(1e9, [one]) < 1e-3
    flat = Draws(1.0, np.zeros((3, 1)), 3, Error(0.0, 2))
    nans = flat._replace(each=flat.each * math.nan)
    assert bootstrap.p_of(1.0, [flat]) == 0 and math.isnan(bootstrap.p_of(1.0, [nans]))
    assert math.isnan(bootstrap.p_of(1.0, [flat, nans]))  # one task of several has no score in any resample


def test_holm_corrects_by_rank_and_never_falls() -> None:
    differences = [Difference(1, 0, 2, 3, p=p) for p in (0.01, 0.04, 0.03, 0.005)]
    assert [one.p for one in holm(differences)] == pytest.approx([0.03, 0.06, 0.06, 0.02])  # Holm (1979), by hand
    assert [one.p for one in holm([Difference(1, 0, 2, 3, p=0.6)] * 2)] == [1, 1] and holm([]) == []
    without = [Difference(1, 0, 2, 3, p=p) for p in (0.02, math.nan, 0.01)]  # a comparison that has no p corrects no other
    assert [one.p for one in holm(without)] == pytest.approx([0.02, math.nan, 0.02], nan_ok=True)


def test_a_difference_prints_what_it_could_have_shown_and_whether_it_stands_after_correction() -> None:
    one = Difference(-1.3, -2.1, -0.5, 3, error=0.4, p=0.001)
    assert one.text(1) == "−1.3 [−2.1, −0.5]*, Δ 1.1" and one.detectable == pytest.approx(2.8016 * 0.4, rel=1e-4)
    assert dataclasses.replace(one, p=0.2).text(1) == "−1.3 [−2.1, −0.5], Δ 1.1"
    assert dataclasses.replace(one, n=1).text(1) == "−1.3 [−2.1, −0.5]†, Δ 1.1"
    alike = dataclasses.replace(one, mean=0, low=0, high=0, n=1, error=0.0)  # the same inputs answered right
    assert alike.text(1) == "0.0 [0.0, 0.0]†" and math.isnan(alike.detectable)


def test_an_unmeasured_metric_of_one_seed_leaves_the_cell_empty(tmp_path: Path) -> None:
    run_store = store(tmp_path, record("a", 0.5), record("b", None))
    result = results(row("lora", 1, ["a", "b"]), run_store)["lora"]
    assert "bleu" not in result.cells and result.cells["slot_error_rate"].mean == 25.0


@pytest.mark.parametrize(("last", "average"), [(0.7, Mean(40.0, 200**0.5, 2)), (None, Mean(30.0, None, 1))])
def test_an_average_is_over_the_seeds_that_every_task_has_a_score_of(
    last: float | None, average: Mean, tmp_path: Path
) -> None:
    scores = {"x": [0.1, 0.3, 0.9], "y": [0.5, last]}
    heads, cells, records = {"x": 5, "y": 3}, [], []
    for task, values in scores.items():
        keys = [f"{task}{seed}" for seed in range(len(values))]
        records += [record(key, value, head=heads[task]) for key, value in zip(keys, values, strict=True)]
        config = {"task": {"name": task}, "backbone": {"name": "small"}, "method": {"name": "lora"}}
        cells += [dataclasses.replace(cell, axes={"task": task}, asked=config) for cell in row("lora", 1, keys)]
    columns = [*(Column(Metric(task, task), "bleu", task) for task in scores), Column(Metric("average", "A"), "", "average")]
    (result,) = measured_results(cells, store(tmp_path, *records), columns, "task", "full", [])
    assert (result.n, result.head_parameters) == (2, 5)  # the fewest seeds, the largest head
    mean = result.cells["average"]
    assert (mean.mean, mean.sd, mean.n) == (pytest.approx(average.mean), average.sd and pytest.approx(average.sd), average.n)


def test_an_average_s_difference_is_over_the_seeds_that_every_task_has(tmp_path: Path) -> None:
    """As the average itself: pairs of seeds that one task lacks would move its difference alone."""
    tasks, cells, records = {"x": 3, "y": 1}, [], []
    for task, seeds in tasks.items():
        for order, name in enumerate(("full", "lora")):
            keys = [f"{name}{task}{seed}" for seed in range(seeds)]
            records += [record(key) for key in keys]
            config = {"task": {"name": task}, "backbone": {"name": "small"}, "method": {"name": name}}
            cells += [dataclasses.replace(cell, axes={"task": task}, asked=config) for cell in row(name, order, keys)]
    for one in records:
        one["measured"]["scores"]["accuracy"] = 0.5
    run_store = store(tmp_path, *records)
    for one in records:
        right = {"fullx0": 4, "lorax0": 6, "fully0": 4, "loray0": 6}.get(one["signature"], 0 if "full" in one["signature"] else 9)
        rewritten(tmp_path, one["signature"], [{"correct": float(place < right)} for place in range(10)])
    columns = [Column(Metric(task, task, scale=100), "accuracy", task) for task in tasks]
    columns.append(Column(Metric("average", "A", scale=100), "", "average"))
    (_, result) = measured_results(cells, run_store, columns, "task", "full", columns[-1:])
    assert result.differences["average"].n == 1 and result.differences["average"].mean == pytest.approx(20)


@pytest.mark.parametrize("other", [{"caption": "E2E NLG"}, {"text_form": "tokenised"}, {"sha256": "cd"}])
def test_different_data_text_or_weights_share_no_table(tmp_path: Path, other: dict[str, Any]) -> None:
    run_store = store(tmp_path, record("a"), record("b", **other))
    with pytest.raises(UserError, match=r"different .* in one table"):
        results([*row("full", 1, ["a"]), *row("lora", 2, ["b"])], run_store)


@pytest.mark.parametrize("source", ["embedded", "folder"])
@pytest.mark.parametrize("task", [WebNLG, DART])
def test_protocols_paper_and_official_share_no_table(task: Any, source: str, tmp_path: Path) -> None:
    """WebNLG's test set has the same inputs and files by both: what is said of it tells them apart, and `scorer_bugs`, too."""
    paper, official, faulty = task(source, "paper"), task(source, "official"), task(source, "paper", scorer_bugs=True)
    for number, one in enumerate((official, faulty)):
        run_store = store(tmp_path / str(number), record("a", caption=paper.caption), record("b", caption=one.caption))
        with pytest.raises(UserError, match=r"different data in one table.*paper protocol"):
            results([*row("full", 1, ["a"]), *row("lora", 2, ["b"])], run_store)


def test_different_file_hashes_share_no_table_but_a_row_without_a_model_does() -> None:
    other = record("b")
    other["where"]["data"]["hashes"] = {"a": "1" * 64}
    with pytest.raises(UserError, match="different data"):
        check_same_origin([record("a"), other])
    check_same_origin([record("a"), record("human", sha256="")])


def test_a_backbone_with_another_configuration_shares_no_table_and_an_older_record_any() -> None:
    one, other, older = (record(name) for name in "abc")
    one["where"]["backbone"]["files_sha256"], other["where"]["backbone"]["files_sha256"] = "1" * 64, "2" * 64
    with pytest.raises(UserError, match="different backbone files in one table"):
        check_same_origin([one, other, older])
    check_same_origin([one, older])
    check_same_origin([one, other], same_backbone=False)


def test_seeds_with_different_parameter_counts_are_refused(tmp_path: Path) -> None:
    run_store = store(tmp_path, record("a"), record("b", method=999))
    with pytest.raises(UserError, match="different numbers of parameters"):
        results(row("lora", 1, ["a", "b"]), run_store)


def predictions(folder: Path, signature: str, keys: str) -> None:
    text = "".join(json.dumps({"key": key, "output": signature}) + "\n" for key in keys)
    (folder / signature / "predictions.jsonl").write_text(text)


def test_differences_pair_equal_seeds_and_equal_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = []

    def fake(sides: list[list[Any]], metric: str, seed: int, **more: Any) -> Draws:
        pairs.extend((a, b, metric) for a, b in zip(*sides, strict=True))
        return Draws(0.015, np.array([[-0.01], [0.05]]), 3, Error(0.0, 1))

    monkeypatch.setattr(comparable, "difference", fake)
    monkeypatch.setattr(comparable, "_resampled", lambda file, metric, seed: file[0].parent.name)
    monkeypatch.setattr(kept, "_home", lambda kind: tmp_path / "kept")  # what is faked is not kept for others
    names = ["f0", "f1", "l0", "l1", "h0", "o0"]
    run_store = store(tmp_path, *map(record, names))
    for name in names:
        predictions(tmp_path, name, "xyz" if name == "o0" else "abc")
    cells = [*row("full", 1, ["f0", "f1"]), *row("lora", 2, ["l0", "l1"]), *row("other", 3, ["o0"]),
             *row("human", 4, ["h0"], compare=False)]  # fmt: skip
    by_row = results(cells, run_store)
    assert pairs == [("l0", "f0", "bleu"), ("l1", "f1", "bleu")]
    low, high = np.percentile([-1.0, 5.0], [2.5, 97.5])
    (made_difference,) = by_row["lora"].differences.values()
    assert dataclasses.astuple(made_difference)[:5] == pytest.approx((1.5, low, high, 2, 3.0))
    assert not (by_row["full"].differences or by_row["other"].differences or by_row["human"].differences)
    results(cells, run_store)
    assert len(pairs) == 2  # remembered


def test_what_is_remembered_of_a_file_ends_with_it(tmp_path: Path) -> None:
    (run,) = runs(row("lora", 1, ["a"]), store(tmp_path, record("a")))
    run.predictions.unlink()
    assert comparable.inputs(run) is None
    predictions(tmp_path, "a", "ab")
    assert comparable.inputs(run) == ("a", "b")
    predictions(tmp_path, "a", "xyz")
    os.utime(run.predictions, ns=(1, 1))
    assert comparable.inputs(run) == ("x", "y", "z")


def test_the_real_bootstrap_takes_predictions_as_they_are_stored(tmp_path: Path) -> None:
    from lora_repro.metrics.nlg import per_input_statistics

    references = [["a cheap pub near the river"], ["it serves good english food"], ["the mill is a pub"]]
    run_store = store(tmp_path, record("f0"), record("l0"))
    for name, outputs in (
        ("f0", ["a cheap pub", "it serves food", "the mill"]),
        ("l0", [r[0] for r in references]),
    ):
        rows = [{"key": str(i), "output": text, **statistics} for i, (text, statistics) in
                enumerate(zip(outputs, per_input_statistics(outputs, references), strict=True))]  # fmt: skip
        (tmp_path / name / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rows))
    difference = results([*row("full", 1, ["f0"]), *row("lora", 2, ["l0"])], run_store)["lora"].differences["bleu"]
    assert difference.n == 1
    assert 0 < difference.low <= difference.mean <= difference.high <= 100


BACKBONE = {"_target_": "lora_repro.backbone.spec.BackboneSpec", "name": "small"}
TRAIN = {"_target_": "lora_repro.train.loop.TrainConfig", "lr": 1e-3, "epochs": 1}


def compared(folder: Path, changed: dict[str, dict[str, Any]], names: str = "fl") -> Error:
    """The error over seeds of two rows among six of three seeds, all trained alike but for what is `changed` of a row.

    A change of `l3` gives the row l a fourth seed.
    """
    records = []
    for place, name in enumerate("flabcd"):
        for seed in range(4 if f"{name}3" in changed else 3):
            one = record(f"{name}{seed}", 0.5 + place / 100 + (0.01, -0.02, 0.0)[seed - place % 3])
            one["measured"]["scores"]["slot_error_rate"] = (9 + place + (place + 2) * (seed - place % 3)) / 100
            one["asked"] |= {"seed": seed, "method": {"name": name}, "train": TRAIN, "backbone": BACKBONE}
            for key, value in changed.get(f"{name}3" if seed == 3 else name, {}).items():
                one[key] = {**one[key], **value} if isinstance(value, dict) else value
            records.append(one)
    archive = store(folder, *records)
    for one in records:
        errors = round(100 * one["measured"]["scores"]["slot_error_rate"])
        lines = [{"key": str(i), "slots": 10, "slot_errors": errors} for i in range(20)]
        (folder / one["signature"] / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    both = [{run.cell.seed: run for run in runs(row(name, 1, [f"{name}{seed}" for seed in range(3)]), archive)} for name in names]
    made_difference = numbers.difference([(comparable.paired(*both), "slot_error_rate")])
    assert made_difference
    return made_difference.over_seeds


def test_a_row_that_trains_nothing_has_no_spread_over_seeds(tmp_path: Path) -> None:
    error = compared(tmp_path, {"l": {"measured": {"parameters": {"method": 0, "head": 0}}}})
    assert error.pooled and (error.pooled.rows, error.freedom) == (5, 10)
    assert error.size == pytest.approx(error.pooled.sd * (1 / 3) ** 0.5 * 100)


LONGER, LR = {"train": {**TRAIN, "epochs": 2}}, {"train": {**TRAIN, "lr": 2e-3}}
NEWER = {"backbone": {**BACKBONE, "path": None}}  # a record from before the setting has its default unsaid


@pytest.mark.parametrize(
    "changed, freedom, rows",
    [
        ({}, 12, 6),
        ({"a": {"asked": LONGER}}, 10, 5),  # trained longer: not alike
        ({"a": {"asked": NEWER}}, 12, 6),
        ({"f": {"asked": NEWER}}, 12, 6),
        ({"a": {"status": "collapsed"}}, 10, 5),
        ({"a": {"asked": LONGER}, "b": {"asked": LONGER}}, "welch", None),  # 8 degrees of freedom tell too little
        ({"l": {"asked": LONGER}}, "welch", None),  # the two rows themselves
        ({"l": {"status": "collapsed"}}, "welch", None),
        ({"l3": {"status": "collapsed"}}, "welch", None),  # the other row has no such seed
        ({"l": {"asked": {"method": {"name": "f", "dropout": 0.1}}}}, 2, None),  # share start and rate: by seed
        ({"l": {"asked": {"method": {"name": "f"}, **LR}}}, 12, 6),
        ({"l": {"asked": {"method": {"name": "f"}, "backbone": {**BACKBONE, "name": "larger"}}}}, "welch", None),
    ],
)
def test_the_spread_over_seeds_is_that_of_rows_trained_alike(
    tmp_path: Path, changed: dict[str, Any], freedom: float | str, rows: int | None
) -> None:
    error = compared(tmp_path, changed)
    assert (error.pooled and error.pooled.rows) == rows
    if freedom == "welch":
        assert 2 < error.freedom < 4
    else:
        assert error.freedom == freedom


def test_paper_and_reruns_stand_under_their_own_names() -> None:
    paper = {"big": {"bleu": 70.4, "bleu_sd": 0.1, "params_m": 0.35, "n": 3, "source": "Table 3"}}
    reruns = {"big": {"bleu": [68.65, 68.85, 68.87], "source": "issue"}}
    cells = [*row("lora", 1, ["a"], paper=paper, reruns=reruns), *row("bitfit", 2, ["b"])]
    first, second = quoted_results(cells, COLUMNS, "big", "BIG")
    assert (first.source, first.cells, first.printed_millions) == ("paper (BIG)", {"bleu": Mean(70.4, 0.1, 3)}, 0.35)
    assert (second.source, second.n) == ("reruns by others (BIG)", 3)
    assert second.cells["bleu"].mean == pytest.approx(68.79)


def test_a_run_whose_answers_were_changed_makes_no_table(tmp_path: Path) -> None:
    save(tmp_path / "a", record("a"), [{"key": "1"}])
    assert set(own(tmp_path).records) == {"a"}
    (tmp_path / "a" / "predictions.jsonl").write_text('{"key": "2"}\n')
    with pytest.raises(UserError, match=r"predictions.jsonl has changed since its run wrote it"):
        own(tmp_path)


def test_published_store_reads_the_published_layout(tmp_path: Path) -> None:
    plant_record(tmp_path / "records" / "s.json", record("s"))
    run_store = noted(tmp_path)
    assert set(run_store.records) == {"s"}
    assert run_store.predictions("s") == tmp_path / "predictions" / "s.jsonl"
    assert run_store.updates("s") == tmp_path / "updates" / "s.safetensors"
    assert own(tmp_path).updates("s") == tmp_path / "s" / "updates.safetensors"


def test_the_long_table_has_a_line_a_run_and_metric_and_none_for_what_is_missing(tmp_path: Path) -> None:
    run_store = store(tmp_path, record("a", 0.5), record("b", None, status="diverged"))
    table = long(runs(row("lora", 1, ["a", "b", "never run"]), run_store))
    assert table[table.metric == "bleu"].signature.to_list() == ["a"]
    scores = table[table.metric.isin(["bleu", "slot_error_rate"])]
    assert scores[["seed", "metric", "value", "main", "status"]].to_numpy().tolist() == [
        [0, "bleu", 0.5, True, "finished"],
        [0, "slot_error_rate", 0.25, False, "finished"],
        [1, "slot_error_rate", 0.25, False, "diverged"],
    ]
    assert set(table.source) == {"this checkout"} and set(table.method_parameters) == {1000}


def test_reporting_imports_no_torch_wandb_or_transformers() -> None:
    code = ("import sys; import experiments.e2e, lora_repro.report.publish, lora_repro.results, lora_repro.report.show; "
            "import lora_repro.report.render as render; render.ledger.load(); "
            "print([name for name in ('torch', 'wandb', 'transformers', 'datasets') if name in sys.modules])")  # fmt: skip
    root = Path(__file__).resolve().parents[1]
    process = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"


def test_a_table_whose_rows_have_one_seed_from_several_machines_names_them_and_what_they_do_to_it() -> None:
    """One seed of one method moved by 6 BLEU between two CPUs in bf16; float32 differs too, by an unknown amount."""
    main = COLUMNS[0]

    def notes(*kernels: str, precision: str = "fp32", seeds: Sequence[int] = (1, 1), devices: Sequence[str] = "cc") -> list[str]:
        records = [record(key) for key in "ab"]
        both = (*row("full", 1, ["a"]), *row("lora", 2, ["b"]))
        cells = [dataclasses.replace(cell, seed=seed) for cell, seed in zip(both, seeds, strict=True)]
        for one, kind, device in zip(records, kernels, devices, strict=True):
            one["where"] |= {"kernels": kind, "precision": precision, "device": f"{device}, 1 threads"}
        table_runs = [Run(cell, one, "published", Path(), Path()) for cell, one in zip(cells, records, strict=True)]
        ours = [Result(cell.row.name, cell.row.label, "published", {}, 3) for cell in cells]
        return [note for note in captions.of_table((), ours, table_runs, main, "full FT") if "several machines" in note]

    (low,) = notes("x86 AVX2", "x86 AVX512", precision="bf16 autocast")
    assert "(c, x86 AVX2; c, x86 AVX512)" in low and "6 BLEU" in low
    (plain,) = notes("x86 AVX2", "x86 AVX512")
    assert "float32 sums round differently" in plain and "BLEU" not in plain
    assert "(AMD, x86 AVX512; Intel, x86 AVX512)" in notes("x86 AVX512", "x86 AVX512", devices=("AMD", "Intel"))[0]
    assert notes("x86 AVX512 BF16", "x86 AVX512 AMX BF16", precision="bf16 autocast")
    assert not notes("x86 AVX2", "x86 AVX2") and not notes("x86 AVX2", "x86 AVX512", seeds=(1, 2))
    assert not notes("x86 AVX512", "x86 AVX512 BF16")  # the older record does not say that it lacks BF16
    assert captions.of_table((), [], [], main, "full FT")


def test_a_table_says_which_rates_nobody_searched_and_which_lie_at_an_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    full, lora = (declared_cells("e2e", "smoke", [f"row/e2e={name}", "seed=0"])[0] for name in ("full", "lora"))
    own_rate = declared_cells("e2e", "smoke", ["row/e2e=full", "seed=0", "train.lr=0.1"])[0]
    trials: dict[str, dict[str, Any]] = {}
    monkeypatch.setattr(rates, "load_trials", lambda profile, setting, runs: trials.get(setting))
    assert captions.on_rates([full, lora]) == ["Learning rate not searched but a first guess: every row."]
    assert captions.on_rates([own_rate]) == []
    trials[rates.setting_signature(lora.asked)] = {"edge": "high", "length": 0.5}
    assert captions.on_rates([full, lora]) == [
        "Learning rate not searched but a first guess: Full fine-tuning.",
        "The best learning rate lies at an edge of those tried: LoRA.",
        "Learning rate searched on shorter training runs: LoRA.",
    ]
    trials |= {rates.setting_signature(cell.asked): {"edge": None, "length": 1} for cell in (full, lora)}
    assert captions.on_rates([full, lora]) == []
    trials[rates.setting_signature(full.asked)]["learnt"] = False
    assert captions.on_rates([full, lora]) == [f"{captions.CHANCE}: Full fine-tuning."]


def test_a_table_says_what_each_length_of_a_search_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a reader sees whether shorter trials choose the run's own rate."""
    full, lora = (declared_cells("e2e", "smoke", [f"row/e2e={name}", "seed=0"])[0] for name in ("full", "lora"))

    def searches(*made: tuple[float, int, float]) -> dict[str, Any]:
        entries = [{"length": length, "seeds": seeds, "chosen": rate} for length, seeds, rate in made]
        return {"edge": None, "length": made[-1][0], "searches": entries}

    trials = {rates.setting_signature(lora.asked): searches((0.3333, 1, 6e-3), (1, 1, 2e-3))}
    trials[rates.setting_signature(full.asked)] = searches((1, 1, 2e-5), (1, 3, 6.67e-6))  # two at one length
    monkeypatch.setattr(rates, "load_trials", lambda profile, setting, runs: trials.get(setting))
    sentence = "Learning rate chosen at each training length searched: LoRA (E2E): 0.006 at a third of the length, 0.002 at"
    assert captions.on_rates([full, lora]) == [f"{sentence} the full length."]
    trials[rates.setting_signature(full.asked)] = searches((0.25, 1, 2e-5), (0.4, 3, 2e-5))
    (part, both) = captions.on_rates([full, lora])
    assert part == "Learning rate searched on shorter training runs: Full fine-tuning."
    assert "Full fine-tuning (E2E): 2e-05 at a quarter of the length, 2e-05 at 40 % of the length; LoRA" in both


def rewritten(folder: Path, key: str, lines: list[dict[str, Any]]) -> None:
    """A stored run with these statistics of its inputs."""
    rows = [{"key": str(at), **line} for at, line in enumerate(lines)]
    (folder / key / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rows))


def test_a_table_corrects_its_comparisons_together(tmp_path: Path) -> None:
    quality = {"f": 0.60, "l": 0.75, "o": 0.70}
    run_store = store(tmp_path, *(record(f"{name}{seed}") for name in quality for seed in range(2)))
    for name, share in quality.items():
        for seed in range(2):
            rewritten(tmp_path, f"{name}{seed}", drawn(seed + ord(name), share))
    names = ("full", "lora", "other")
    full, lora, other = (row(name, at, [f"{name[0]}{seed}" for seed in range(2)]) for at, name in enumerate(names))
    raw_p = [results([*full, *one], run_store)[one[0].row.name].differences["bleu"].p for one in (lora, other)]
    both = results([*full, *lora, *other], run_store)
    holm_p = [both[name].differences["bleu"].p for name in ("lora", "other")]
    low = int(raw_p[1] < raw_p[0])
    assert 0 < raw_p[low] < 0.5 and holm_p[low] == pytest.approx(min(1, 2 * raw_p[low]))
    assert holm_p[1 - low] == pytest.approx(max(raw_p[1 - low], holm_p[low]))


def test_tasks_of_an_average_are_drawn_apart(tmp_path: Path) -> None:
    """Two tasks of alike answers: drawn alike, their average would be as uncertain as either."""
    run_store = store(tmp_path, *(record(f"{name}{task}{seed}") for name in "fl" for task in "xy" for seed in range(2)))
    parts = []
    for task in "xy":
        sides = []
        for name in "lf":
            keys = [f"{name}{task}{seed}" for seed in range(2)]
            right = np.random.default_rng(ord(name)).random(200) < 0.7
            for key in keys:
                rewritten(tmp_path, key, [{"correct": float(value)} for value in right])
            sides.append({run.cell.seed: run for run in runs(row(name, 1, keys), run_store)})
        parts.append((comparable.paired(*sides), "accuracy"))
    one, both = numbers.difference(parts[:1]), numbers.difference(parts)
    assert both.mean == pytest.approx(one.mean) and both.error == pytest.approx(one.error / math.sqrt(2), rel=0.15)
    (pairs, metric), other = parts
    assert numbers.difference([(pairs[:1], metric), other]).n == 1  # the fewest
    assert numbers.difference([([], metric), other]) is None  # never over fewer tasks
