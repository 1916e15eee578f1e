"""This checkout's runs against the published ones, on planted records: each verdict, what it is judged by, the exit status."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lora_repro.commands import verify as verify_command
from lora_repro.errors import UserError
from lora_repro.files import write_json
from lora_repro.planning.cells import Cell, Row
from lora_repro.report import verify
from lora_repro.report.numbers import Metric
from lora_repro.report.verify import (
    DIFFERS,
    NOT_RUN,
    REPRODUCED,
    UNDECIDED,
    Compared,
    Verdict,
    compare,
    judge,
)
from lora_repro.results import OWN, PUBLISHED, Store, runs

Scores = dict[str, dict[int, float]]


def cells(names: list[str], seeds: int) -> list[Cell]:
    config = {"task": {"name": "x", "metrics": ["accuracy"]}, "backbone": {"name": "tiny"}}
    keys = [(i, name, seed, f"{name}-{seed}") for i, name in enumerate(names) for seed in range(seeds)]
    return [Cell(Row(name, name.upper(), i, seeds, True, {}, {}), seed, {"task": "x"}, (), key, config, Path(key))
            for i, name, seed, key in keys]  # fmt: skip


def store(source: str, scores: Scores, caption: str = "real", kernels: str = "A", device: str = "") -> Store:
    hardware = {"device": device, "kernels": kernels, "precision": "fp32"}
    return Store(source, Path("nowhere"), {
        f"{name}-{seed}": {
            "status": "finished", "asked": {"task": {"name": "x"}},
            "measured": {"scores": {"accuracy": value / 100}, "parameters": {"method": int(name != "human"), "head": 0}},
            "where": {"data": {"caption": caption}, "backbone": {"label": "tiny"}, **hardware},
        }
        for name, values in scores.items() for seed, value in values.items()
    })  # fmt: skip


def verdicts(monkeypatch: pytest.MonkeyPatch, theirs: Scores, ours: Scores, **more: Any) -> dict[str, Verdict]:
    monkeypatch.setattr("lora_repro.results.check_same_config", lambda record, asked: None)
    grid = cells(sorted({*theirs, *ours}), 4)
    return {one.found.cell.row.name: one
            for one in judge(compare(grid, store(OWN, ours, **more), store(PUBLISHED, theirs)))}  # fmt: skip


SPREAD: Scores = {"a": {0: 70, 1: 72}, "b": {0: 60, 1: 62}, "c": {0: 50, 1: 52}}  # sd over seeds √2


def test_other_seeds_are_judged_by_the_pooled_spread_over_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    judgements = verdicts(monkeypatch, SPREAD, {"a": {2: 72, 3: 74}, "b": {2: 69, 3: 71}})
    # t(0.9875; 5) of two cells, √2 and two seeds on either side
    assert judgements["a"].by == "seeds" and judgements["a"].allowed == pytest.approx(3.1634 * 2**0.5, abs=1e-3)
    assert {name: one.verdict for name, one in judgements.items()} == {"a": REPRODUCED, "b": DIFFERS, "c": NOT_RUN}
    assert judgements["a"].found.difference == pytest.approx(2)


def test_the_same_seed_is_judged_by_the_spread_over_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    ours: Scores = {"a": {0: 71.5}, "b": {0: 60.1, 1: 62.1}, "c": {0: 49.9, 1: 52.1}}
    judgements = verdicts(monkeypatch, SPREAD, ours)
    assert judgements["a"].by == "machines" and judgements["a"].verdict == DIFFERS  # two seeds may differ by more, one may not
    assert judgements["b"].verdict == judgements["c"].verdict == REPRODUCED
    same = verdicts(monkeypatch, SPREAD, {**SPREAD, "a": {0: 70.04, 1: 72}})
    assert same["a"].allowed == 0 and same["a"].verdict == REPRODUCED  # no printed digit differs


@pytest.mark.parametrize("ours, by, allowed", [  # Student's t of published seeds' 3 degrees of freedom, more with ours
    ({"a": {2: 72}}, "seeds", 3.1824 * 2**0.5 * (1 / 1 + 1 / 2) ** 0.5),
    ({"a": {0: 70}}, "seeds", 3.1824 * 2**0.5 * (1 / 1 + 1 / 1) ** 0.5),  # of the seed that both have
    ({"a": {0: 70}, "b": {0: 60.3, 1: 62.3}}, "seeds", 3.4954 * 2**0.5 * 2**0.5),  # two differences are no spread of machines
    ({"a": {0: 70, 1: 72}, "b": {0: 60.3, 1: 62.3}, "c": {0: 50.3}}, "machines", 4.8567 * 0.3 * (1 / 2) ** 0.5),
])  # fmt: skip
def test_what_is_allowed_depends_on_how_many_seeds_are_compared(
    monkeypatch: pytest.MonkeyPatch, ours: Scores, by: str, allowed: float
) -> None:
    verdict = verdicts(monkeypatch, SPREAD, ours)["a"]
    assert verdict.by == by and verdict.allowed == pytest.approx(allowed, rel=1e-4)


def test_a_row_that_trains_nothing_tells_nothing_of_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The texts of people are the same everywhere; as a gap of 0 they would make every other row differ."""
    human: Scores = {"human": {0: 57, 1: 57, 2: 57}}
    ours: Scores = {"a": {0: 70.6, 1: 72.6}, "b": {0: 60.3}}
    judgements = verdicts(monkeypatch, {**SPREAD, **human}, {**ours, **human})
    assert judgements["a"].by == "seeds" and judgements["a"].verdict == judgements["human"].verdict == REPRODUCED


def compared(theirs: verify.Values, ours: verify.Values, task: str = "x", backbone: str = "b", metric: str = "m") -> Compared:
    config = {"task": {"name": task}, "backbone": {"name": backbone}}
    return Compared(replace(cells(["a"], 1)[0], axes={"task": task}, asked=config), Metric(metric, metric), theirs, ours)


def test_as_noisy_is_what_is_of_one_task_backbone_and_metric() -> None:
    one, several = compared({0: 70}, {0: 70.2}), ({0: 70.0, 1: 75.0}, {0: 70.0, 1: 75.0})
    assert judge([one, compared(*several)])[0].verdict == REPRODUCED
    for other in ({"task": "y"}, {"backbone": "c"}, {"metric": "n"}):
        assert judge([one, compared(*several, **other)])[0].verdict == UNDECIDED, other


def test_a_change_of_all_rows_is_no_spread_over_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = {name: {seed: value - 9 for seed, value in values.items()} for name, values in SPREAD.items()}
    judgements = verdicts(monkeypatch, SPREAD, ours)
    assert {one.verdict for one in judgements.values()} == {DIFFERS} and {one.by for one in judgements.values()} == {"seeds"}


def test_one_seed_of_everything_decides_nothing_but_equality(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs: Scores = {name: {0: values[0]} for name, values in SPREAD.items()}
    judgements = verdicts(monkeypatch, theirs, {"a": {0: 70}, "b": {0: 60.2}})
    assert {name: one.verdict for name, one in judgements.items()} == {"a": REPRODUCED, "b": UNDECIDED, "c": NOT_RUN}


def test_a_run_that_stands_at_every_rank_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be judged by copies of its own difference, and the spread would have too many degrees of freedom."""
    monkeypatch.setattr("lora_repro.results.check_same_config", lambda record, asked: None)
    ours: Scores = {name: {seed: value - 9 * (name == "a") for seed, value in values.items()} for name, values in SPREAD.items()}
    swept = [replace(cell, axes={**cell.axes, "row.rank": rank}) for rank in (1, 2, 4) for cell in cells(["a"], 4)]
    comparisons = compare([*swept, *cells(["b", "c"], 4)], store(OWN, ours), store(PUBLISHED, SPREAD))
    assert [one.cell.row.name for one in comparisons] == ["a", "b", "c"] and "row.rank" not in comparisons[0].cell.axes
    assert judge(comparisons)[0].verdict == DIFFERS


def test_other_data_are_not_compared_and_what_is_not_published_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert verdicts(monkeypatch, {"a": {0: 70}}, {"b": {0: 70}}).keys() == {"a"}
    with pytest.raises(UserError, match="different data"):
        verdicts(monkeypatch, SPREAD, SPREAD, caption="other")


@pytest.mark.parametrize("there, here, told", [
    (("AMD", "x86_64 AVX512"), ("AMD", "x86_64 AVX512 BF16"), False),  # the older record does not say that it lacks BF16
    (("AMD", "x86_64 AVX512"), ("Intel", "x86_64 AVX512"), True),
    (("Intel", "x86_64 AVX512 BF16"), ("Intel", "x86_64 AVX512 AMX BF16"), True),
    (("Intel", "x86_64 AVX512 no BF16"), ("Intel", "x86_64 AVX512 AMX BF16"), True),
    (("AMD", "x86_64 AVX2"), ("AMD", "x86_64 AVX512"), True),
    (("AMD", "x86_64 AVX2"), ("AMD", "x86_64 AVX2"), False),
])  # fmt: skip
def test_machines_are_named_as_far_as_their_records_tell_them_apart(
    monkeypatch: pytest.MonkeyPatch, there: tuple[str, str], here: tuple[str, str], told: bool
) -> None:
    monkeypatch.setattr("lora_repro.results.check_same_config", lambda record, asked: None)
    theirs, own = (
        runs(cells(["a"], 1), store(source, {"a": {0: 70}}, device=f"{device}, 1 threads", kernels=kernels))
        for source, (device, kernels) in ((PUBLISHED, there), (OWN, here))
    )
    assert bool(verify.machines(own, theirs)) == told == bool(verify.machines(theirs, own))
    assert not told or f"here {here[0]}, {here[1]}, fp32" in verify.machines(own, theirs)[0]


@pytest.mark.parametrize(
    "ours, status, said",
    [
        (SPREAD, 0, "3 reproduced"),
        ({"a": {0: 70}}, 2, "1 reproduced, 2 not run"),
        ({"a": {2: 99}}, 1, "1 differs, 2 not run"),
    ],
)
def test_the_command_prints_a_table_and_its_status_says_which(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, ours: Scores, status: int, said: str
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("lora_repro.results.check_same_config", lambda record, asked: None)
    monkeypatch.setattr(verify, "declared_cells", lambda name, profile, extra: cells(["a", "b", "c"], 4))
    monkeypatch.setattr(verify, "runs_folder", lambda declared, root, profile: tmp_path)
    monkeypatch.setattr(verify, "published", lambda folder: store(PUBLISHED, SPREAD))
    monkeypatch.setattr(verify, "own", lambda folder: store(OWN, ours, kernels="B"))
    assert verify_command.main(["experiment=glue", "profile=mini"]) == status
    output = capsys.readouterr().out
    assert output.splitlines()[-1] == said and "glue, profile mini" in output
    assert "Published on A, fp32; here B, fp32" in output and "71.0 ± 1.4" in output
    monkeypatch.setenv("COLUMNS", "80")
    verify_command.main(["experiment=glue"])
    output = capsys.readouterr().out
    assert "Score" in output.partition("---")[0]  # which of a cell's scores a line is about
    assert max(map(len, output.splitlines())) <= 80
    monkeypatch.setattr(verify, "published", lambda folder: store(PUBLISHED, {}))
    assert verify_command.main(["experiment=glue"]) == 2 and "nothing to compare: " in capsys.readouterr().out


@pytest.mark.parametrize("measured", [False, True])
def test_what_has_no_scores_is_not_called_reproduced_nor_passed_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, measured: bool
) -> None:
    """Probed runs answer nothing, and latencies are no runs; both are published."""
    silent = store(PUBLISHED, {} if measured else SPREAD)
    for entry in silent.records.values():
        entry["measured"]["scores"] = {"dev_loss": 1.0}
    silent = Store(PUBLISHED, tmp_path, silent.records)
    if measured:
        write_json(tmp_path / "measures" / "glue_cuda.json", {"schema": 1})
    monkeypatch.setattr("lora_repro.results.check_same_config", lambda record, asked: None)
    monkeypatch.setattr(verify, "declared_cells", lambda name, profile, extra: cells(["a", "b", "c"], 4))
    monkeypatch.setattr(verify, "runs_folder", lambda declared, root, profile: tmp_path)
    monkeypatch.setattr(verify, "published", lambda folder: silent)
    monkeypatch.setattr(verify, "own", lambda folder: Store(OWN, tmp_path, silent.records))
    assert verify_command.main(["experiment=glue", "profile=mini"]) == 2
    output = capsys.readouterr().out
    assert output.startswith("glue: not compared, it has no scores")
    assert output.splitlines()[-1] == "1 not compared"
