"""The loss on general text against a literal one, and the two tests of the ledger that read what a training noted on its way."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import tiny_backbone

from lora_repro.analysis.forgetting import PASSAGES, general_loss
from lora_repro.config.compose import compose
from lora_repro.errors import UserError
from lora_repro.methods.base import AbstractMethod
from lora_repro.methods.prelayer import PreLayer
from lora_repro.methods.prompt_tuning import PromptTuning
from lora_repro.objectives.classification import HALVES, Classification
from lora_repro.objectives.completion import Completion
from lora_repro.planning.cells import Cell, Row
from lora_repro.report.claims.base import Evidence
from lora_repro.report.subjects.choices import EpochChoice, inflation
from lora_repro.report.subjects.forgetting import ForgetsLess
from lora_repro.run import run
from lora_repro.stats.verdict import INCONCLUSIVE, NOT_RUN, REFUTED, REPLICATED


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_the_loss_on_general_text_is_the_literal_mean_over_tokens(architecture: str) -> None:
    backbone = tiny_backbone(architecture, **({"n_positions": 512} if architecture == "gpt2" else {}))
    total, count = 0.0, 0
    for text in PASSAGES:
        ids = torch.tensor([backbone.tokenizer.encode(text, add_special_tokens=False)])
        with torch.no_grad():
            logp = torch.log_softmax(backbone.model(input_ids=ids).logits[0].double(), -1)
        total -= sum(float(logp[at, ids[0, at + 1]]) for at in range(ids.shape[1] - 1))
        count += ids.shape[1] - 1
    assert general_loss(backbone, Completion(), None) == pytest.approx(total / count, rel=1e-6)


def test_it_is_of_the_model_with_its_method_and_draws_no_random_number() -> None:
    backbone, state = tiny_backbone("llama"), torch.get_rng_state()
    baseline = general_loss(backbone, Completion(), None)
    assert torch.equal(torch.get_rng_state(), state)
    method = PromptTuning(prefix=2, infix=1)
    method.apply(backbone)
    assert general_loss(backbone, Completion(), None, method) != pytest.approx(baseline, abs=1e-6)


def test_a_model_of_few_positions_reads_as_much_as_it_has_room_for() -> None:
    backbone = tiny_backbone("gpt2", n_positions=40)
    rows = Completion().plain(PASSAGES, backbone, (3, 2))
    assert {len(row.ids) for row in rows} == {40}


@pytest.mark.parametrize("method", [PromptTuning(prefix=3, infix=2), PreLayer(form="key_value", prefix=5, infix=0)])
def test_what_a_method_takes_of_them_is_no_room_for_a_text(method: AbstractMethod) -> None:
    """Keys and values before a row are no slots of it, but its positions go on after theirs: GPT-2's table would end."""
    backbone = tiny_backbone("gpt2", n_positions=40)
    method.apply(backbone)
    assert general_loss(backbone, Completion(), None, method) is not None


def test_a_classifier_writes_no_text_and_has_none() -> None:
    assert general_loss(tiny_backbone("bert"), Classification(("a", "b")), None) is None


@pytest.mark.parametrize("row", ["lora", "untuned", "prelayer_key_value"])
def test_a_run_on_texts_has_it_before_and_after(row: str, tmp_path: Path) -> None:
    record = run.run(compose(["experiment=e2e", f"row/e2e={row}", "profile=smoke", f"paths.runs={tmp_path}"]))
    before, after = (record["measured"]["general_loss"][key] for key in ("before", "after"))
    assert before == pytest.approx(math.log(257), rel=0.2)  # a random model's, over bytes
    assert (after == before) is (row == "untuned")


def evidence_of(table: str, measured: dict[tuple[str, int], dict[str, Any]], folder: Path, unsearched: bool = False) -> Evidence:
    cells, store = [], {}
    for (row, seed), values in measured.items():
        groups: dict[str, Any] = {"method": {}, "train": {}, "data": {}, "profile_name": "none"}
        config = {"task": {"name": "x"}, "backbone": {"name": "tiny"}, **groups}
        key = f"{row}{seed}"
        guess = 1e-3 if unsearched else None
        cells.append(Cell(Row(row, row, 1, 4, True, {}, {}), seed, {}, (), key, config, Path(key), guess=guess))
        where = {"backbone": {"label": "tiny", "sha256": "b"}, "data": {"hashes": {}, "caption": ""}}
        store[key] = {"signature": key, "status": "finished", "measured": values, "asked": config, "where": where}
    evidence = Evidence.__new__(Evidence)
    evidence.profile, evidence.folder, evidence.wanted = "mini", folder, {}
    evidence.store = SimpleNamespace(  # type: ignore[assignment]
        records=store, source="published", record=lambda cell: store[cell.signature], predictions=Path, updates=Path
    )
    evidence._cells, evidence._probed = {table: cells}, {}
    return evidence


def losses(before: float, after: float, dev: float) -> dict[str, Any]:
    return {"general_loss": {"before": before, "after": after}, "dev_loss": dev}


def test_lora_forgets_less_where_its_rise_is_smaller_and_its_own_loss_larger(tmp_path: Path) -> None:
    runs = {("lora", seed): losses(3.0, 3.1 + seed / 100, 1.5 + seed / 100) for seed in range(3)}
    runs |= {("full", seed): losses(3.0, 3.6, 1.2) for seed in range(3)}
    claim = ForgetsLess("e2e/lora", "e2e/full")
    forgets, learns = claim.read(evidence_of("e2e", runs, tmp_path))
    assert (forgets.verdict, learns.verdict) == (REPLICATED, REPLICATED)
    assert forgets.value == pytest.approx(0.11 - 0.6) and learns.value == pytest.approx(0.31) and forgets.n == 3
    assert learns.low == pytest.approx(0.31 - 4.302653 * 0.01 / math.sqrt(3), abs=1e-6)
    runs |= {("full", seed): losses(3.0, 3.05, 1.2) for seed in range(3)}
    assert claim.read(evidence_of("e2e", runs, tmp_path))[0].verdict == REFUTED
    two = {key: value for key, value in runs.items() if key[1] < 2}
    assert claim.read(evidence_of("e2e", two, tmp_path))[0].verdict == INCONCLUSIVE
    old = {key: {"dev_loss": 1.0} for key in runs}
    assert claim.read(evidence_of("e2e", old, tmp_path))[0].verdict == NOT_RUN
    with pytest.raises(UserError, match="two rows of one table"):
        ForgetsLess("e2e/lora", "qlora/full")
    evidence = evidence_of("e2e", runs, tmp_path)
    evidence.store.records["full0"]["where"]["backbone"]["sha256"] = "c"
    with pytest.raises(UserError, match="different backbone"):
        claim.read(evidence)


def test_no_verdict_on_forgetting_at_first_guess_rates(tmp_path: Path) -> None:
    runs = {("lora", seed): losses(3.0, 3.0, 1.0) for seed in range(3)}
    runs |= {("full", seed): losses(3.0, 4.0, 0.0) for seed in range(3)}
    readings = ForgetsLess("e2e/lora", "e2e/full").read(evidence_of("e2e", runs, tmp_path, unsearched=True))
    assert {one.verdict for one in readings} == {INCONCLUSIVE} and "rate not searched" in readings[0].notes[0]


def test_no_verdict_on_forgetting_between_trainings_that_still_rise(tmp_path: Path) -> None:
    falling = {"steps": 100, "train_losses": [[step, 3 - step / 100] for step in range(5, 101, 5)]}
    runs = {("lora", seed): {**losses(3.0, 3.1, 1.5), **falling} for seed in range(3)}
    runs |= {("full", seed): losses(3.0, 3.6, 1.2) for seed in range(3)}
    readings = ForgetsLess("e2e/lora", "e2e/full").read(evidence_of("e2e", runs, tmp_path))
    assert {one.verdict for one in readings} == {INCONCLUSIVE} and {one.reason for one in readings} == {"still rising"}
    assert readings[0].inside == "3 of 3 seeds inside" and any(
        note.startswith("still rising: lora on") for note in readings[0].notes
    )


def test_a_diverged_run_s_loss_from_before_it_diverged_is_not_its_loss(tmp_path: Path) -> None:
    runs = {(row, seed): losses(3.0, 3.1, 1.5) for row in ("lora", "full") for seed in range(3)}
    evidence = evidence_of("e2e", runs, tmp_path)
    evidence.store.records["lora2"]["status"] = "diverged"
    _, learns = ForgetsLess("e2e/lora", "e2e/full").read(evidence)
    assert learns.n == 2 and "1 of 3 seeds diverged" in learns.notes


def test_a_method_is_not_judged_on_the_seeds_that_it_did_not_lose(tmp_path: Path) -> None:
    runs = {("lora", seed): losses(3.0, 3.1 + seed / 100, 1.5 + seed / 100) for seed in range(4)}
    runs |= {("full", seed): losses(3.0, 3.6, 1.2) for seed in range(4)}
    claim = ForgetsLess("e2e/lora", "e2e/full")
    for status, n, verdict in (("collapsed", 4, REPLICATED), ("diverged", 3, INCONCLUSIVE)):
        evidence = evidence_of("e2e", runs, tmp_path)
        record = evidence.store.records["lora3"]
        record["status"], record["measured"] = status, {} if status == "diverged" else record["measured"]
        readings = claim.read(evidence)
        assert {(one.verdict, one.n) for one in readings} == {(verdict, n)}
        assert ("1 of 4 seeds diverged" in readings[0].notes) == (status == "diverged")
    everything = {key: {} for key in runs}
    evidence = evidence_of("e2e", everything, tmp_path)
    for found_record in evidence.store.records.values():
        found_record["status"] = "diverged"
    assert claim.read(evidence)[0].verdict == INCONCLUSIVE


@pytest.mark.parametrize(
    "looks, expected",
    [
        ([(0.5, 0.5), (0.6, 0.6)], 0.0),
        ([(0.9, 0.5), (0.5, 0.9)], 0.4),  # each half chooses its own lucky look
        ([(0.5, 0.7), (0.6, 0.8)], 0.0),  # a half that is harder is no inflation
        ([(0.6, 0.5), (0.6, 0.7)], 0.0),  # of equal looks the later, as in a run
        ([(0.7, 0.6), (0.6, 0.8)], (0.1 + 0.2) / 2),
    ],
)  # fmt: skip
def test_what_choosing_by_the_reported_rows_adds(looks: list[tuple[float, float]], expected: float) -> None:
    assert inflation(looks) == pytest.approx(expected)


def test_the_test_on_epochs_takes_a_mean_over_the_runs_of_a_seed(tmp_path: Path) -> None:
    def at(lucky: float) -> dict[str, Any]:
        flat = [[look, 0.5, 0.5] for look in range(4, 12)]
        return {"dev_halves": [[1, 0.5 + lucky, 0.5], [2, 0.5, 0.5 + lucky], [3, None, 0.9], *flat]}

    runs = {("lora", seed): at(0.02 + seed / 100) for seed in range(3)}
    runs |= {("full", seed): at(0.04 + seed / 100) for seed in range(3)}
    runs[("full", 3)] = {"dev_halves": [[look, 0.5, 0.4] for look in range(9)]}  # of so few the last is nearly always the best
    claim = EpochChoice(["glue/full", "glue/lora"], floor=0.5)
    (reading,) = claim.read(evidence_of("glue", runs, tmp_path))
    assert (reading.value, reading.n, reading.verdict) == (pytest.approx(4.0), 3, REPLICATED)
    assert reading.notes[0] == "6 runs of full, lora"
    assert EpochChoice(["glue/full", "glue/lora"], floor=7).read(evidence_of("glue", runs, tmp_path))[0].verdict == REFUTED
    (more,) = claim.read(evidence_of("glue", {**runs, ("lora", 4): at(0.3)}, tmp_path))
    assert (more.value, more.n, more.notes[0]) == (reading.value, 3, reading.notes[0])  # full has no seed 4
    failures = evidence_of("glue", runs, tmp_path)
    failures.store.records["lora1"]["status"], failures.store.records["full1"]["status"] = "collapsed", "diverged"
    left = claim.read(failures)[0]  # a collapsed run was trained, a diverged one chose nothing
    assert left.n == 3 and left.notes[0] == "3 runs of lora" and "full on X: left out, fewer than 3 seeds" in left.notes
    guesses = evidence_of("glue", runs, tmp_path, unsearched=True)
    (reading,) = claim.read(guesses)
    assert reading.verdict == INCONCLUSIVE and any("rate not searched" in note for note in reading.notes)
    assert EpochChoice(["glue/full"], floor=0.5).read(evidence_of("glue", {("full", 0): {}}, tmp_path)) == []
    # On a second backbone, too: no run takes another's place because it has the same seed.
    level = [[look, 0.5, 0.5] for look in range(10)]
    more = evidence_of("glue", {key: {"dev_halves": level} for key in runs if key[1] < 3}, tmp_path)
    both = evidence_of("glue", runs, tmp_path)
    for cell in more.cells("glue"):
        config = {**cell.asked, "backbone": {"name": "large"}}
        both._cells["glue"].append(replace(cell, asked=config, signature=f"large-{cell.signature}"))
        both.store.records[f"large-{cell.signature}"] = {**more.store.records[cell.signature], "asked": config}
    (reading,) = claim.read(both)
    assert (reading.value, reading.n, reading.notes[0]) == (pytest.approx(2.0), 3, "12 runs of full, lora")


def test_the_halves_of_the_held_out_rows_are_scored_at_every_look(tmp_path: Path) -> None:
    overrides = ["experiment=glue", "row/glue=lora", "profile=smoke", "task=sentiment", f"paths.runs={tmp_path}"]
    measurements = run.run(compose(overrides))["measured"]
    assert [step for step, *_ in measurements["dev_halves"]] == [step for step, _ in measurements["dev_scores"]]
    for (_, even, odd), (_, score) in zip(measurements["dev_halves"], measurements["dev_scores"], strict=True):
        assert (even + odd) / 2 == pytest.approx(score)  # accuracy of as many rows each
    assert HALVES == ("dev_score_even", "dev_score_odd")
