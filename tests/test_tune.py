"""Learning-rate trials: on held-out data, a grid that goes on until its best is bracketed, found again, of committed code."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import refused
from faults import at_every_write

from lora_repro.commands import latency as latency_command
from lora_repro.commands import tune as tune_command
from lora_repro.config import paths
from lora_repro.config.compose import build, compose, resolved, starts_of
from lora_repro.data import subset
from lora_repro.errors import STOPPED, Busy, Terminated, UserError
from lora_repro.files import SEAL, write_json
from lora_repro.records import manifest, provenance, rates, record
from lora_repro.run import run
from lora_repro.run.stages import encode
from lora_repro.sweep import grid, supervise, trial, tune
from lora_repro.sweep.trial import resolve_starts
from lora_repro.tasks.e2e.task import E2E
from lora_repro.train.progress import Trained
from tests.benchmarks import search as search_bench

ROOT = Path(__file__).resolve().parents[1]

ROW = ["experiment=e2e", "row/e2e=lora", "profile=smoke"]


@pytest.fixture
def elsewhere(tmp_path: Path, unsearched: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A throw-away project with committed code, in which the process works; the test split must not be scored."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rates, "_view", None)  # own searches count
    monkeypatch.setattr(provenance, "_IMPORTED", {"git_sha": "abc", "dirty": False})
    monkeypatch.setattr(provenance, "_changed", lambda sha: False)
    monkeypatch.setattr(E2E, "score", lambda *a: pytest.fail("a trial looked at test data"))
    return tmp_path


def losses(monkeypatch: pytest.MonkeyPatch, valley: float, most: list[float] | None = None) -> None:
    """Trials whose loss is least at the rate `valley`; `most` collects the rates that were tried."""

    def tried_at(config: Any, lr: float, number: int, pause_after: float = 1) -> dict[str, Any]:
        if most is not None:
            most.append(lr)
        return {"lr": lr, "dev_loss": abs(lr / valley - valley / lr), "dirty": False}

    monkeypatch.setattr(tune, "trial", tried_at)


def test_trials_are_run_kept_and_adopted(elsewhere: Path) -> None:
    arguments = [*ROW, f"paths.runs={elsewhere / 'runs'}"]
    ((search, result),) = tune.tune([*arguments, "tune.most=3"])
    path = elsewhere / "runs/smoke/trials" / f"{search.name}.json"
    content = json.loads(path.read_text())
    assert path == search.path and not (elsewhere / "results").exists()  # whatever is searched, only publish writes there
    assert [one["lr"] for one in result["trials"]] == [0.002, 0.006, 0.018]
    assert all(one["train_losses"] and one["dev_losses"] for one in result["trials"])  # when it could have been given up
    best = min(result["trials"], key=lambda one: float(one["dev_loss"]))
    assert content["chosen"] == result["chosen"] == best["lr"] and content["searches"] == [result]
    assert resolved(compose(arguments))["train"]["lr"] == best["lr"]
    left = {one.name for one in (elsewhere / "runs/smoke/trials").glob("*/*")}
    assert left == {"trial.json", "metrics.jsonl", "lock"}  # no weights, no optimizer
    assert tune.tune([*arguments, "tune.most=3"]) == []  # chosen already


def test_a_trial_is_not_run_twice_and_has_a_seed_that_no_table_reports(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [*ROW, f"paths.runs={elsewhere / 'runs'}", "tune.most=3"]
    ((search, result),) = tune.tune(arguments)
    search.path.unlink()
    monkeypatch.setattr(trial, "train_trial", lambda *a: pytest.fail("trained again"))
    assert [again for _, again in tune.tune(arguments)] == [result]
    config, _ = trial.trial_config(compose([*arguments, "seed=3"]), 0.1)
    assert config.seed == result["seed"] == 1000 and config.train.lr == 0.1


@pytest.mark.parametrize("valley, tried, edge", [
    (6e-3, [6e-3, 2e-3, 0.018], None),
    (0.054, [6e-3, 2e-3, 0.018, 0.054, 0.162], None),  # PreLayer's case: the best lies beyond the first grid
    (2.2e-4, [6e-3, 2e-3, 0.018, 6.67e-4, 2.22e-4, 7.41e-5], None),
    (1e3, [6e-3, 2e-3, 0.018, 0.054, 0.162, 0.486, 1.46], "high"),  # seven trials and no more
])  # fmt: skip
def test_the_grid_goes_on_where_the_best_lies_until_it_is_bracketed(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, valley: float, tried: list[float], edge: str | None
) -> None:
    rates_tried: list[float] = []
    losses(monkeypatch, valley, rates_tried)
    ((_, result),) = tune.tune(ROW)
    assert rates_tried == tried and result["edge"] == edge
    assert [one["lr"] for one in result["trials"]] == sorted(tried)
    assert result["chosen"] == min(tried, key=lambda lr: abs(lr / valley - valley / lr))


@pytest.mark.parametrize("learns, lucky, tried, edge", [
    (None, 2e-3, [2e-3, 6.67e-4, 6e-3, 2.22e-4, 0.018, 7.41e-5, 0.054], None),  # nothing does: seven trials and no more
    (2.22e-4, 2e-3, [2e-3, 6.67e-4, 6e-3, 2.22e-4, 7.41e-5], None),
    (2.22e-4, 6e-3, [2e-3, 6.67e-4, 6e-3, 2.22e-4, 7.41e-5], None),  # a lucky rate at an edge says no more than one in the middle
    (0.018, 2e-3, [2e-3, 6.67e-4, 6e-3, 2.22e-4, 0.018, 0.054], None),
    (2e-3, 2e-3, [2e-3, 6.67e-4, 6e-3], None),  # it has learnt: worse neighbours bracket it
])  # fmt: skip
def test_trials_at_chance_bracket_nothing_and_show_no_side(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, learns: float | None, lucky: float, tried: list[float], edge: str | None
) -> None:
    """Of scores by chance one is always the best, and its neighbours are worse: the rate that learns may lie beyond them."""
    rates_tried: list[float] = []

    def trained_at(config: Any, folder: Path, pause_after: float = 1) -> tuple[Trained, dict[str, int]]:
        lr = config.train.lr
        rates_tried.append(lr)
        score = 0.7 if lr == learns else 0.53 if lr == lucky else 0.51
        scores = {"dev_scores": [(4, score)], "code": {"dirty": False}}
        return Trained("finished", 4, 0.7, 4, 100, 1.0, [(4, 0.7)], **scores), {}  # type: ignore[arg-type]

    monkeypatch.setattr(trial, "train_trial", trained_at)
    overrides = "experiment=glue row/glue=lora profile=mini task=entailment".split()
    ((search, result),) = tune.tune([*overrides, f"paths.runs={elsewhere / 'runs'}"])
    n = 200  # held-out rows, of which 105 have one answer
    assert tune.chance_of(search.config) == pytest.approx(-(105 / n + 1 / math.sqrt(n)))
    assert rates_tried == tried and result["edge"] == edge
    assert result["chosen"] == (learns or lucky)
    content = rates.own_trials(search.path)
    assert content and {one.get("learnt", True) for one in (result, content)} == {learns is not None}
    assert rates.stopped(result) == 0 and search.ended()  # it did what the rule asks


def test_a_published_search_that_stopped_at_chance_goes_on_from_its_trials(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lrs: list[float] = []

    def trained_at(config: Any, folder: Path, pause_after: float = 1) -> tuple[Trained, dict[str, int]]:
        lrs.append(config.train.lr)
        scores = {"dev_scores": [(4, 0.7 if config.train.lr == 0.018 else 0.5)], "code": {"dirty": False}}
        return Trained("finished", 4, 0.7, 4, 100, 1.0, [(4, 0.7)], **scores), {}  # type: ignore[arg-type]

    monkeypatch.setattr(trial, "train_trial", trained_at)
    overrides = "experiment=glue row/glue=lora profile=mini task=entailment".split()
    ((first, result),) = tune.tune([*overrides, "tune.most=3", f"paths.runs={elsewhere / 'runs'}"])
    assert rates.stopped(result) == len(lrs) == 3 and first.cell.rate_doubt.endswith("after 3 rates")
    with manifest.changing(rates.RESULTS) as change:
        write_json(change.staged / "mini" / "trials" / first.path.name, rates.own_trials(first.path))
    ((second, full),) = tune.tune([*overrides, f"paths.runs={elsewhere / 'lost'}"])  # a machine without those trials' folders
    assert lrs == [2e-3, 6.67e-4, 6e-3, 2.22e-4, 0.018, 0.054] and full["chosen"] == 0.018
    content = rates.own_trials(second.path)
    assert content and content["searches"] == [full] and len(full["trials"]) == 6 and "learnt" not in content
    assert second.ended() and second.cell.rate_doubt  # whose published search still says so
    assert first.config.tune.most == 3 and compose(overrides).tune.most == rates.MOST


def test_trials_on_another_grid_are_not_gone_on_from(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting is the same whatever its first guess, so a row's new guess meets the old one's search."""
    (search,) = tune.searches("experiment=glue row/glue=lora profile=mini task=entailment".split())
    trials = [{"lr": lr, "dev_score": 0.5, "dev_loss": 0.7} for lr in (2e-3, 6.67e-4, 6e-3)]
    result = {"length": 1.0, "learnt": False, "trials": trials}
    monkeypatch.setattr(tune.Search, "known", lambda self: [result])
    assert list(search.begun()) == [0, -1, 1]
    assert dataclasses.replace(search, first=5e-3).begun() == {}


def test_published_searches_say_whether_any_rate_learnt() -> None:
    """Those of before 2026-11-30 were marked afterwards; at `mini` the data can be made again."""
    chances: dict[str, float] = {}
    failures = 0
    for path in sorted((ROOT / "results/mini/trials").glob("*.json")):
        head = json.loads(path.read_text(encoding="utf-8"))
        for one in head["searches"]:
            if one["by"] != "score":
                assert "learnt" not in one
                continue
            if (task := head["task"]) not in chances:
                table, row = ("fusion", "adapter_p") if task == "mixture" else ("glue", "lora")
                overrides = [f"experiment={table}", f"row/{table}={row}", "profile=mini", f"task={task}"]
                chances[task] = tune.chance_of(compose(overrides))
            keys: dict[float, list[float]] = {}
            for trial_ in one["trials"]:
                keys.setdefault(trial_["lr"], []).append(grid.ranking_key(trial_, "score")[0])
            best = min(sum(scores) / len(scores) for scores in keys.values())
            assert one.get("learnt", True) == (best < chances[task]), path.name
            failures += best >= chances[task]
        assert head.get("learnt", True) == head["searches"][-1].get("learnt", True)
    assert failures and len(chances) > 2


def test_chance_is_none_of_a_loss_and_none_of_a_correlation(elsewhere: Path) -> None:
    of = "experiment=glue row/glue=lora profile=mini task=similarity"
    text, number = (tune.chance_of(compose(command.split())) for command in ("experiment=e2e row/e2e=lora profile=mini", of))
    assert text == math.inf
    assert number == pytest.approx(-1 / math.sqrt(200))
    keys = {0: (-0.5, 1.0), -1: (-0.4, 1.0), 1: (math.inf, math.inf)}
    assert grid.next_place(keys, 7, chance=-0.6) == -2
    assert grid.next_place({**keys, -2: (-0.4, 1.0)}, 7, chance=-0.6) == -3  # and not beyond a diverged one


def test_a_diverged_trial_is_never_chosen_and_brackets_the_best(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes: dict[float, tuple[str, float]] = {2e-3: ("finished", 2.0), 6e-3: ("finished", 1.5), 0.018: ("diverged", 0.5)}

    def trained_at(config: Any, folder: Path, pause_after: float = 1) -> tuple[Trained, dict[str, int]]:
        status, loss = outcomes[config.train.lr]
        return Trained(status, 4, loss, 4, 100, 1.0, [(4, loss)], code={"dirty": False}), {}  # type: ignore[arg-type]

    monkeypatch.setattr(trial, "train_trial", trained_at)
    ((one, result),) = tune.tune([*ROW, f"paths.runs={elsewhere / 'runs'}"])
    assert result["chosen"] == 6e-3 and result["edge"] is None and "0.018: diverged" in tune.search_line(one, result)


def test_where_all_diverge_smaller_rates_are_tried(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def tried_at(config: Any, lr: float, number: int, pause_after: float = 1) -> dict[str, Any]:
        return {"lr": lr, "dev_loss": None if lr > 1e-3 else lr, "dirty": False}

    monkeypatch.setattr(tune, "trial", tried_at)
    ((_, result),) = tune.tune(ROW)
    assert result["chosen"] == min(one["lr"] for one in result["trials"]) < 1e-3


def test_sentence_tasks_choose_by_score_then_loss_and_texts_by_loss() -> None:
    high, low = {"dev_score": 0.8, "dev_loss": 0.9}, {"dev_score": 0.7, "dev_loss": 0.5}
    assert grid.ranking_key(high, "score") < grid.ranking_key(low, "score")
    assert grid.ranking_key(high, "loss") > grid.ranking_key(low, "loss")
    assert grid.ranking_key(high, "score") < grid.ranking_key(high | {"dev_loss": 1.0}, "score")
    constant = {"dev_score": None, "dev_loss": 0.1}  # every answer the same
    assert grid.ranking_key(low, "score") < grid.ranking_key(constant, "score") < grid.ranking_key({"dev_loss": None}, "score")


def test_a_rate_that_lies_behind_on_the_way_is_given_up_and_costs_the_others_no_bit(elsewhere: Path) -> None:
    arguments = [*ROW, "tune.most=3", "train.steps=40"]
    ((search, result),) = tune.tune([*arguments, "tune.prune=true", f"paths.runs={elsewhere / 'pruned'}"])
    ((_, reference),) = tune.tune([*arguments, f"paths.runs={elsewhere / 'whole'}"])
    assert [one["status"] for one in result["trials"]].count("pruned") == 1  # a third of three rates, where the loss chooses
    alike = ("lr", "status", "dev_loss", "train_losses", "steps")
    for one, full in zip(result["trials"], reference["trials"], strict=True):
        if one["status"] == "pruned":
            assert one["dev_loss"] is None and one["steps"] < full["steps"]
            assert one["train_losses"] == full["train_losses"][: len(one["train_losses"])]
        else:
            assert {key: one[key] for key in alike} == {key: full[key] for key in alike}
    assert result["chosen"] == reference["chosen"] and "pruned" in tune.search_line(search, result)
    assert {one.name for one in (elsewhere / "pruned/smoke/trials").glob("*/*")} == {"trial.json", "metrics.jsonl", "lock"}
    search.path.unlink()
    ((_, again),) = tune.tune([*arguments, f"paths.runs={elsewhere / 'pruned'}"])  # in full: what was given up begins anew
    assert [one["dev_loss"] for one in again["trials"]] == [one["dev_loss"] for one in reference["trials"]]


def test_two_rates_go_on_where_a_score_chooses_and_the_better_half_where_a_loss_does() -> None:
    assert grid.kept({0: 0.5, -1: 0.7, 1: 0.6}, "score") == grid.kept({0: 0.5, -1: 0.7, 1: 0.6}, "loss") == {0, 1}
    four = {0: 0.5, -1: 0.7, 1: 0.6, 2: 0.55}
    assert grid.kept(four, "score") == {0, 2} and grid.kept({**four, 3: math.inf}, "loss") == {0, 2, 1}
    curve = [[step, 100.0 - step] for step in range(1, 21)]
    full, paused = ({"status": how, "steps": n, "train_losses": curve[:n]} for how, n in (("finished", 20), ("paused", 10)))
    assert grid.loss_on_the_way([full], 0.5) == grid.loss_on_the_way([paused], 0.5) == 90.5  # the mean of steps 9 and 10
    assert grid.loss_on_the_way([full, {**paused, "status": "diverged"}], 0.5) == math.inf


def test_of_a_rate_that_is_given_up_what_had_ended_stays_and_one_without_curves_goes_on(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trials of an earlier search are found again in full: some diverged, some are older than the curves."""
    given_up = []

    def found(config: Any, lr: float, number: int, pause_after: float = 1) -> dict[str, Any]:
        ended = number == 0 or pause_after == 1
        curve = [] if lr == 2e-3 else [[step, 9.0 if lr > 6e-3 else 1.0] for step in range(1, 41)]
        status = "diverged" if lr > 6e-3 and number == 0 else "finished" if ended else "paused"
        loss = None if status != "finished" else 2.0 + (lr == 2e-3)
        return {"lr": lr, "status": status, "dev_loss": loss, "steps": 40, "train_losses": curve, "dirty": False}

    def gone(config: Any, lr: float, number: int, paused: dict[str, Any]) -> dict[str, Any]:
        given_up.append((lr, number))
        return {**paused, "status": "pruned"}

    monkeypatch.setattr(tune, "trial", found)
    monkeypatch.setattr(tune, "give_up", gone)
    ((_, result),) = tune.tune([*ROW, "tune.seeds=2", "tune.prune=true", "tune.most=3"])
    assert given_up == [(0.018, 1)] and result["chosen"] == 6e-3
    assert [one["status"] for one in result["trials"] if one["lr"] == 0.018] == ["diverged", "pruned"]


def test_what_pruning_would_have_cost_is_read_from_searches_that_trained_every_rate() -> None:
    def search(by: str, worst_on_the_way: int, **more: Any) -> dict[str, Any]:
        trials = [
            {"lr": lr, "status": "finished", "dev_score": score, "dev_loss": 1 - score, "train_seconds": 3600, "steps": 20,
             "train_losses": [[step, 9.0 if place == worst_on_the_way else 1.0 + place / 10] for step in range(1, 21)], **more}
            for place, (lr, score) in enumerate([(1.0, 0.7), (3.0, 0.8), (9.0, 0.6)])
        ]  # fmt: skip
        return {"by": by, "trials": trials}

    assert search_bench.judged(search("score", 2)) == (3, 3, 2.5, 0)  # the worst rate is given up after half of its hour
    cost = search_bench.judged(search("loss", 1))  # the best one, after a third
    assert cost and cost.pruned == pytest.approx(2 + 1 / 3) and cost.lost == pytest.approx(0.1)
    for more in ({"status": "pruned"}, {"train_losses": []}):
        assert search_bench.judged(search("loss", 1, **more)) is None


def test_a_pruned_rate_lies_behind_all_that_ended_and_before_one_that_diverged() -> None:
    ends = {"finished": 9.0, "pruned": None, "diverged": None}
    ended, pruned, diverged = ({"status": status, "dev_loss": loss} for status, loss in ends.items())
    keys = {0: grid.mean_ranking_key([ended], "loss"), 1: grid.mean_ranking_key([pruned, pruned], "loss")}
    assert keys[0] < keys[1] < grid.mean_ranking_key([diverged], "loss")
    assert grid.edge(keys) == "low" and grid.edge({**keys, -1: keys[1]}) is None  # a pruned neighbour is a worse one


def test_a_shorter_trial_keeps_its_looks_and_its_warm_up() -> None:
    base = ["experiment=glue", "row/glue=lora", "task=cola", "profile=laptop", "tune.length=0.3333"]
    config, _ = trial.trial_config(compose(base), 1e-3)
    assert config.train.epochs == pytest.approx(2 / 3, rel=1e-3) and config.train.warmup == 0.1
    config, _ = trial.trial_config(compose([*base, "train.steps=120", "train.eval_every=40", "train.warmup=30"]), 1e-3)
    assert (config.train.steps, config.train.eval_every, config.train.warmup) == (40, 13, 10)


def test_at_the_paper_s_scale_glue_s_rates_are_chosen_on_rows_held_out_of_train() -> None:
    overrides = ["experiment=glue", "row/glue=adapter_h", "task=rte", "profile=paper", "backbone=roberta_base"]
    run_s = compose(overrides)
    config, folder = trial.trial_config(run_s, 1e-3)
    assert (run_s.task.held_out, config.task.held_out) == (0, 250)
    assert folder != trial.trial_config(compose([*overrides, "tune.held_out=0"]), 1e-3)[1]
    laptop = compose(["experiment=glue", "row/glue=lora", "task=rte", "profile=laptop", "tune.held_out=99"])
    assert trial.trial_config(laptop, 1e-3)[0].task.held_out == 250  # as its run has it
    assert "held_out" not in trial.trial_config(compose([*ROW, "tune.held_out=99"]), 1e-3)[0].task
    for n, left in ((100, 100), (2490, 2240), (None, None)):  # a run on every row leaves its trials what is not held out
        few = compose([*overrides, f"data.n_train={'null' if n is None else n}"])
        assert (trial.trial_config(few, 1e-3)[0].data.n_train, few.data.n_train) == (left, n)


@pytest.mark.parametrize("task", ["wikisql", "mnli_text"])
@pytest.mark.parametrize("more", [[], ["data.n_test=0"]])
def test_no_trial_sees_a_row_that_is_reported_where_the_dev_set_is(task: str, more: list[str], tmp_path: Path) -> None:
    """WikiSQL's and MNLI's dev sets are what is scored: what chooses is drawn from the rows that no run answers."""
    overrides = ["experiment=gpt3", "row/gpt3=lora_large", f"task={task}", "profile=mini"]
    if task == "mnli_text":  # its generated pairs have a dev set of their own
        for name, n in (("train", 99), ("matched", 60)):
            lines = "".join(f"one {name} {i}\tanother {i}\tneutral\n" for i in range(n))
            (tmp_path / f"{name}.tsv").write_text(f"sentence1\tsentence2\tlabel\n{lines}")
            overrides += [f"task.files.{name}={name}.tsv", f"task.rows.{name}={n}"]
        overrides += ["task.source=folder", "task.folder=."]
    plain = compose(overrides)
    trial_config, _ = trial.trial_config(compose([*overrides, *more]), 1e-3)
    example_sets = []

    class Objective:
        def encode(self, examples: Any, *given: Any) -> tuple[list[Any], int]:
            example_sets.append(examples)
            return [], 0

    splits = build(plain.task).load(str(tmp_path))
    for config in (plain, trial_config):
        encode(
            splits, Objective(), SimpleNamespace(positions=None),  # type: ignore[arg-type]
            build(plain.method), build(config.data),
        )  # fmt: skip
    (_, dev, _, trial_dev), test = example_sets, subset(splits.test, plain.data.n_test, plain.data.subset_seed)
    assert [one.key for one in splits.dev] == [one.key for one in splits.test]
    assert len(dev) == plain.data.n_dev and len(test) == plain.data.n_test
    assert not {one.key for one in dev} & {one.key for one in test}
    assert trial_dev == dev


def test_a_setting_is_searched_again_at_full_length_and_the_longest_counts(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses(monkeypatch, 6e-3)
    tune.tune([*ROW, "tune.length=0.5"])
    losses(monkeypatch, 2e-3)
    ((one, result),) = tune.tune([*ROW, "tune.length=1"])
    content = record.read(one.path)
    assert [search["chosen"] for search in content["searches"]] == [6e-3, 2e-3] and content["chosen"] == result["chosen"] == 2e-3
    assert tune.tune([*ROW, "tune.length=0.5"]) == []


def test_the_mean_over_trial_seeds_decides(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate that is best with one seed and fails with the next is not chosen; a search with more seeds counts for fewer."""
    losses(monkeypatch, 2e-3)
    arguments = [*ROW, f"paths.runs={elsewhere / 'runs'}"]
    ((_, one),) = tune.tune(arguments)

    def tried_at(config: Any, lr: float, number: int, pause_after: float = 1) -> dict[str, Any]:
        loss = 0.1 if lr == 2e-3 and number == 0 else 3.0 if lr == 2e-3 else abs(lr / 6e-3 - 6e-3 / lr)
        return {"lr": lr, "dev_loss": loss, "seed": trial.trial_config(config, lr, number)[0].seed, "dirty": False}

    monkeypatch.setattr(tune, "trial", tried_at)
    ((search, three),) = tune.tune([*arguments, "tune.seeds=3"])
    assert one["chosen"] == 2e-3 and three["chosen"] == 6e-3 and three["seeds"] == 3
    assert [each["seed"] for each in three["trials"]][:4] == [1000, 1001, 1002, 1000]
    content = record.read(search.path)
    assert content["chosen"] == 6e-3 and content["searches"] == [one, three]
    assert tune.tune([*arguments, "tune.seeds=2"]) == [] == tune.tune(arguments)
    assert math.isinf(grid.mean_ranking_key([{"dev_loss": 1.0}, {"dev_loss": None}], "loss")[0])


def test_one_command_searches_every_row_and_task_and_leaves_out_what_trains_nothing(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses(monkeypatch, 1e-2)
    settings = [(one.cell.row.name, one.cell.task) for one, _ in tune.tune(["experiment=e2e", "profile=smoke"])]
    assert len(settings) == len(set(settings)) == 12 and not {"human", "untuned"} & {row for row, _ in settings}
    searches = tune.searches(["experiment=glue", "profile=smoke", "row/glue=lora,full"])
    tasks = ("sentiment", "entailment", "similarity")
    assert {(one.cell.row.name, one.cell.task) for one in searches} == {(row, task) for row in ("full", "lora") for task in tasks}


def test_a_trial_that_another_process_is_at_is_left_for_last(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def tried_at(config: Any, lr: float, number: int, pause_after: float = 1) -> dict[str, Any]:
        calls.append(str(config.row.name))
        if calls == ["lora"]:
            raise Busy("another process")
        return {"lr": lr, "dev_loss": abs(lr - config.train.lr), "dirty": False}

    monkeypatch.setattr(tune, "trial", tried_at)
    pairs = tune.tune(["experiment=e2e", "profile=smoke", "row/e2e=lora,full", "tune.most=3"])
    assert [one.cell.row.name for one, _ in pairs] == ["full", "lora"] and calls == [*["lora"] * 3, *["full"] * 3, *["lora"] * 3]


@pytest.mark.parametrize("installed", [True, False])
def test_code_without_a_commit_searches_for_its_own_runs(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], installed: bool
) -> None:
    """An installed package has no commit, and whoever adds a method has not committed it yet; `publish` leaves both out."""
    monkeypatch.setattr(paths, "INSTALLED", installed)
    monkeypatch.setattr(provenance, "code", lambda: {"git_sha": None, "dirty": True})
    lrs: list[float] = []

    def tried_at(config: Any, lr: float, number: int, pause_after: float = 1) -> dict[str, Any]:
        lrs.append(lr)
        return {"lr": lr, "dev_loss": abs(lr - 2e-3), "dirty": True}

    monkeypatch.setattr(tune, "trial", tried_at)
    ((_, result),) = tune.tune([*ROW, "tune.most=3"])
    assert lrs == [6e-3, 2e-3, 0.018] and result["chosen"] == compose_again() == 2e-3
    assert capsys.readouterr().out.count("publish leaves them out") == 1


def test_a_search_that_somebody_altered_is_refused(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses(monkeypatch, 6e-3)
    ((search, _),) = tune.tune(ROW)
    content = json.loads(search.path.read_text())
    for variant in ({**content, "chosen": 0.5}, {key: value for key, value in content.items() if key != SEAL}):
        write_json(search.path, variant)
        refused(compose_again, search.path.name, "delete it")


def compose_again() -> float:
    return float(resolved(compose(ROW))["train"]["lr"])


def test_a_published_rate_counts_before_one_s_own(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a private search would rename runs that are published, and empty their tables in that checkout."""
    losses(monkeypatch, 2e-3)
    ((search, result),) = tune.tune(ROW)
    assert compose_again() == result["chosen"] == 2e-3
    with rates.published_only():
        assert compose_again() == 6e-3  # the row's guess: what is published looks the same in every checkout
    with manifest.changing(rates.RESULTS) as change:
        path = change.staged / "smoke" / "trials" / search.path.name
        write_json(path, {**(rates.own_trials(search.path) or {}), "chosen": 0.125})
    assert compose_again() == 0.125
    rates.own_path(rates.RESULTS, "smoke", search.name).write_text('{"schema": 1, "chosen": 0.5}')
    refused(compose_again, search.path.name, "differs from what was published")
    rates.own_path(rates.RESULTS, "smoke", search.name).unlink()
    refused(compose_again, search.path.name, "is missing")


def test_tune_interrupted_at_any_write_can_be_repeated(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained_at(config: Any, folder: Path, pause_after: float = 1) -> tuple[Trained, dict[str, int]]:
        loss = abs(config.train.lr - 2e-3)
        return Trained("finished", 4, loss, 4, 100, 1.0, [(4, loss)], code={"dirty": False}), {}

    monkeypatch.setattr(trial, "train_trial", trained_at)
    monkeypatch.setattr(provenance, "now", lambda: "2026-01-01T00:00:00Z")
    root = elsewhere / "root"
    command = [*ROW, "tune.most=3", f"paths.runs={root}"]
    (search,) = tune.searches(command)
    search.trials(search.config, [0, -1])  # the third is made, and interrupted, with the search

    def look() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in root.rglob("*.json")}

    assert at_every_write(lambda: tune_command.main(command), root, look) > 10


def test_what_another_process_has_saved_meanwhile_is_not_saved_again(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses(monkeypatch, 6e-3)
    arguments = [*ROW, f"paths.runs={elsewhere}"]
    ((search, _),) = tune.tune(arguments)
    (late,) = tune.searches(arguments)
    before = search.path.read_bytes()
    with pytest.raises(Busy, match="another process has made"):  # it had asked before the other one ended
        late.run()
    assert search.path.read_bytes() == before


def test_a_search_that_waits_reads_its_data_once(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks: list[str] = []
    monkeypatch.setattr(tune, "chance_of", lambda config: tasks.append(config.task.name) or math.inf)
    monkeypatch.setattr(tune, "WAIT_SECONDS", 0)
    waits = iter([True, True, True, False, False, False])

    def tried_at(config: Any, lr: float, number: int, pause_after: float = 1) -> dict[str, Any]:
        if lr > 0.02 and next(waits):
            raise Busy("another process")
        return {"lr": lr, "dev_loss": abs(lr - 0.05), "dirty": False}

    monkeypatch.setattr(tune, "trial", tried_at)
    ((_, result),) = tune.tune([*ROW, f"paths.runs={elsewhere}"])
    assert tasks == ["e2e"] and result["chosen"] == 0.054


@pytest.mark.parametrize("processes", ["torchrun's", "launch.processes=2"])
def test_a_trial_is_one_process(elsewhere: Path, monkeypatch: pytest.MonkeyPatch, processes: str) -> None:
    """The ranks of torchrun would wait for one another: the first has the trial's lock."""
    monkeypatch.setattr(trial, "train_trial", lambda *a: pytest.fail("trained"))
    if processes == "torchrun's":
        monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="trains in a single process"):
        tune.tune([*ROW, f"paths.runs={elsewhere}", *([] if processes == "torchrun's" else [processes])])


def test_a_rate_that_is_given_is_not_searched(elsewhere: Path) -> None:
    for overrides in (["row/e2e=untuned"], ["row/e2e=lora", "train.lr=0.1"], ["row/e2e=lora", "profile=paper"]):
        with pytest.raises(UserError, match="every learning rate is given"):
            tune.searches(["profile=smoke", "experiment=e2e", *overrides])
    with pytest.raises(UserError, match="name an experiment"):
        tune.searches(["profile=smoke"])


def test_a_trial_starts_from_the_runs_that_its_run_does(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rate of the start is chosen first, then the start is run at it, once; the trials have its weights."""
    commands: list[str] = []
    calls: list[tuple[str, list[Path]]] = []
    adapt = trial.adapt

    def start(module: str, words: list[str], folder: Path, *rest: int) -> int:
        commands.append(f"{module} {folder}")
        run.run(compose(words), words)
        return 0

    def adapted(spec: Any, method: Any, seed: int, device: Any, starts: list[Path]) -> Any:
        calls.append((method.name, list(starts)))
        return adapt(spec, method, seed, device, starts)

    monkeypatch.setattr(supervise, "start", start)
    monkeypatch.setattr(trial, "adapt", adapted)
    overrides = ["experiment=fusion", "row/fusion=multi_task", "profile=smoke", "task=entailment", f"paths.runs={elsewhere}"]
    (first, result), (second, _) = tune.tune([*overrides, "tune.most=3"])
    settings = [(one.cell.row.name, one.cell.task) for one in (first, second)]
    assert settings == [("adapter_p", "mixture"), ("multi_task", "entailment")]
    (run_record,) = [record.read(path) for path in (elsewhere / "smoke").glob("*/record.json")]
    assert commands == [f"lora_repro.run {elsewhere / 'smoke' / run_record['signature']}"]
    assert [starts for _, starts in calls].count([elsewhere / "smoke" / run_record["signature"]]) == 3  # the second row's trials
    assert [starts for _, starts in calls].count([]) == len(calls) - 3 == 3
    assert run_record["asked"]["train"]["lr"] == result["chosen"] and run_record["asked"]["seed"] == 0
    config = resolve_starts(compose([*overrides, "seed=0"]), [*overrides, "seed=0"])
    assert list(config.starts) == [str(elsewhere / "smoke" / run_record["signature"])]
    assert trial.trial_config(config, 0.1)[1] != trial.trial_config(compose([*overrides, "starts=null"]), 0.1)[1]
    assert tune.tune([*overrides, "tune.most=3"]) == [] and len(commands) == 1
    resolved_again = resolved(compose(overrides))["train"]["lr"]
    assert resolved_again == record.read(second.path)["chosen"]


def test_trials_that_are_not_of_one_commit_are_run_again(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One may have run on uncommitted code, or been resumed after a commit."""
    (search,) = tune.searches([*ROW, f"paths.runs={elsewhere / 'runs'}", "tune.most=3"])
    left = trial.trial_config(search.config, search.rate(0))[1] / trial.TRIAL
    write_json(left, {"schema": record.SCHEMA, "lr": search.rate(0), "dev_loss": 0.0, "dev_score": None, "dirty": True})
    folders: list[Path] = []

    def trained_at(config: Any, folder: Path, pause_after: float = 1) -> tuple[Any, dict[str, int]]:
        folders.append(folder)
        assert not (folder / trial.TRIAL).exists()
        facts = {"dev_loss": float(config.train.lr), "steps": 1, "train_seconds": 1}
        mixed = dirty or (config.train.lr == search.rate(1) and folders.count(folder) == 1)
        return SimpleNamespace(status="finished", facts=lambda: facts, code={"dirty": mixed}), {}

    monkeypatch.setattr(trial, "train_trial", trained_at)
    dirty = True
    with pytest.raises(UserError, match="changed while its trials ran"):
        search.run()
    dirty = False
    for folder in {*folders} - {left.parent}:
        (folder / trial.TRIAL).unlink()
    folders.clear()
    assert {one["dirty"] for one in search.run()["trials"]} == {False} and left.parent in folders
    assert sorted(Counter(folders).values()) == [1, 1, 2]


def test_no_start_of_a_trial_has_trained_on_what_the_trial_holds_out(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the paper's scale a run holds nothing out, and its trial does: a start on its task would know these rows."""
    commands: list[list[str]] = []
    monkeypatch.setattr(supervise, "start", lambda module, words, folder, *rest: commands.append(list(words)) or 1)
    for row, holdouts in (("fusion", ["rte"]), ("multi_task", ["mixture"])):
        overrides = ["experiment=fusion", f"row/fusion={row}", "profile=paper", "task=rte", f"paths.runs={elsewhere}", "seed=0"]
        config = compose(overrides)
        assert config.tune.held_out == 250
        starts = starts_of(config, overrides)
        names = [start.task.name for start, _ in starts]
        for place, name in enumerate(names):
            commands.clear()
            monkeypatch.setattr("lora_repro.sweep.trial.starts_of", lambda *a, one=starts[place]: [one])
            with pytest.raises(UserError, match=r"a trial of .* needs the run"):
                resolve_starts(config, overrides)
            (words,) = commands
            assert ("task.held_out=250" in words) == (name in holdouts), name
            if name == "mixture":
                task = build(compose(words).task)
                assert [member.held_out for member in task.members] == [250] * 7


def test_a_start_that_fails_is_one_line(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "start", lambda *a: 1)
    monkeypatch.setattr(trial, "train_trial", lambda *a: pytest.fail("trained"))
    row = ["experiment=glue", "row/glue=lora", "profile=smoke", "task=entailment", f"paths.runs={elsewhere}", "tune.most=3"]
    losses(monkeypatch, 1e-3)
    with pytest.raises(UserError, match=r"a trial of lora needs the run .*, which is not finished: it did not start"):
        tune.tune([*row, "starts=[{task:similarity}]"])
    with pytest.raises(UserError, match=r"starts=.*similarity.*: set starts=null"):
        trial.trial_config(compose([*row, "starts=[{task:similarity}]"]), 0.1)


def test_a_start_that_another_process_is_at_is_come_back_to(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several processes share the work of one command: the second to come to a start waits (`tune`), and SIGTERM ends both."""
    row = ["experiment=glue", "row/glue=lora", "profile=smoke", "task=entailment", f"paths.runs={elsewhere}"]
    overrides = [*row, "starts=[{task:similarity}]"]
    monkeypatch.setattr(supervise, "start", lambda *a: STOPPED)
    with pytest.raises(Busy, match=r"a trial needs .*, which another process is running"):
        resolve_starts(compose(overrides), overrides)
    monkeypatch.setattr(supervise, "stopping", lambda: True)
    with pytest.raises(Terminated):
        resolve_starts(compose(overrides), overrides)


def test_a_tracker_is_not_ignored_in_silence(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError):
        tune.tune(["profile=huge", "tracker=wandb"])
    assert latency_command.main(["profile=huge", "tracker=wandb"]) == 2
    assert [line.split()[5] for line in capsys.readouterr().out.splitlines()] == ["trials", "measurements"]
