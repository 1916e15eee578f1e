"""The claims ledger: its one rule, what conf/claim declares, and each kind of test on planted records, arrays and times."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

import numpy as np
import pytest
from conftest import plant_record
from latency_measure import measurement
from planted import note
from safetensors.numpy import save_file
from scipy.special import ndtri
from scipy.stats import multivariate_normal

from lora_repro.analysis.probed_run import probed_runs, scale_at
from lora_repro.analysis.spectra import random_basis
from lora_repro.commands import render as command
from lora_repro.config.compose import CONF
from lora_repro.config.paths import choices
from lora_repro.errors import UserError
from lora_repro.files import write_json, write_text
from lora_repro.planning.cells import Cell, Row
from lora_repro.records import record
from lora_repro.report import show
from lora_repro.report.claims import ledger
from lora_repro.report.claims.base import AllOf, Evidence, HeldByTests, Operand, expanded
from lora_repro.report.claims.compare import Compare
from lora_repro.report.claims.reading import Reading, difference_in_words, epochs_in_words, sentence
from lora_repro.report.figures.curves import Plot
from lora_repro.report.numbers import difference
from lora_repro.report.subjects import forgetting, partial
from lora_repro.report.subjects.choices import RateQuotient, with_grid
from lora_repro.report.subjects.forgetting import ForgetsAtEqualLoss, Intruders, equal_loss
from lora_repro.report.subjects.latency import Slowdown
from lora_repro.report.subjects.memory import (
    CheckpointRatio,
    MatrixSaving,
    MeasuredMemory,
    MeasuredStep,
    TrainingMemory,
    decoder_parameters,
    lora_parameters,
)
from lora_repro.report.subjects.partial import TopDirection
from lora_repro.report.subjects.subspaces import Overlap, WithWeight
from lora_repro.report.subjects.update_norms import NormRatio, StableRank
from lora_repro.results import declared_cells, runs
from lora_repro.stats import spread
from lora_repro.stats.bootstrap import InputVariance
from lora_repro.stats.comparable import paired
from lora_repro.stats.intervals import pocock
from lora_repro.stats.spread import Error
from lora_repro.stats.verdict import (
    ARITHMETIC,
    BESIDE,
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_RUN,
    REFUTED,
    REPLICATED,
    TESTED,
    Region,
    combined,
    inside,
    judge,
    outlook,
)

ROOT = Path(__file__).resolve().parents[1]
CLAIMS = ledger.load()


@pytest.mark.parametrize(
    "low, high, expected",
    [
        (-0.9, 0.3, REPLICATED),  # at least as good, a point of margin
        (-1.4, 0.3, INCONCLUSIVE),
        (-3.0, -1.2, REFUTED),
        (-3.0, -0.8, INCONCLUSIVE),
        (math.nan, math.nan, INCONCLUSIVE),
        (-math.inf, -2.0, INCONCLUSIVE),
    ],
)
def test_the_interval_decides_and_two_seeds_decide_nothing(low: float, high: float, expected: str) -> None:
    region = Region.of(-1, None)
    assert judge(region, low, high, 3) == expected
    assert judge(region, low, high, 2) == judge(region, low, high, 4, least=5) == INCONCLUSIVE


def test_seeds_outside_are_counted_beside_the_value_and_decide_nothing(tmp_path: Path) -> None:
    """Else more seeds would make a verdict less likely, however sure the mean."""
    assert inside(Region(floor=0), (1.0, -0.5, 0.0, 2.0)) == "2 of 4 seeds inside" and inside(Region(floor=0), (1.0,)) == ""
    right = planted((150, 150, 150, 150, 119), (120, 120, 120, 120, 120))
    (reading,) = Compare([["t/a", "t/b"]], floor=0).read(evidence_of(tmp_path, right))
    assert reading.low is not None and reading.low > 0 and reading.verdict == REPLICATED
    assert reading.inside == "4 of 5 seeds inside" and ", 4 of 5 seeds inside, Δ" in reading.detail


def test_on_par_is_refuted_on_either_side() -> None:
    region = Region.of(-1, 1)
    assert judge(region, -0.9, 0.9, 3) == REPLICATED
    assert judge(region, 1.1, 2.0, 3) == judge(region, -2.0, -1.1, 3) == REFUTED
    assert judge(region, -2.0, 2.0, 3) == INCONCLUSIVE and region.words == "above −1 and below 1"
    for ends in ((None, None), (1, 1), (2, 1)):
        with pytest.raises(UserError, match="floor"):
            Region.of(*ends)


@pytest.mark.parametrize(
    "how, verdicts, expected",
    [
        ("all", "RR", REPLICATED), ("all", "RN", REFUTED), ("all", "RI", INCONCLUSIVE), ("all", "R-", INCONCLUSIVE),
        ("all", "--", NOT_RUN), ("all", "", NOT_RUN), ("any", "RN", REPLICATED), ("any", "NN", REFUTED),
        ("any", "NI", INCONCLUSIVE), ("agree", "RR", REPLICATED), ("agree", "NI", INCONCLUSIVE), ("agree", "RN", INCONCLUSIVE),
        ("agree", "NN", REFUTED), ("any", "N-", INCONCLUSIVE), ("most", "RRN", REPLICATED), ("most", "RN", REFUTED),
        ("most", "RRII", INCONCLUSIVE), ("most", "RRR--", REPLICATED), ("most", "RR--", INCONCLUSIVE),
    ],
)  # fmt: skip
def test_several_comparisons_make_one_verdict(how: str, verdicts: str, expected: str) -> None:
    names = {"R": REPLICATED, "N": REFUTED, "I": INCONCLUSIVE, "-": NOT_RUN}
    assert combined([names[letter] for letter in verdicts], how) == expected


def test_a_reading_shows_sign_interval_n_and_never_a_zero_for_nothing() -> None:
    assert Reading("", "", "", 0.44, -0.6, 1.0, 3, signed=True).text == "+0.4 [−0.6, +1.0] (3)"
    reading = Reading("", "", "", 0.53, math.nan, math.nan, 1, digits=2)
    assert reading.text == "0.53 (1†)" and (reading.low, reading.high) == (None, None)  # nor a nan in claims.csv
    assert Reading("", "", "", -0.04, -0.6, 1.0, 1, signed=True).text == "0.0 [−0.6, +1.0] (1†)"
    assert Reading("", "", "", -0.03, -0.06, -0.0028, 4, 2, signed=True).text == "−0.03 [−0.06, −0.003] (4)"  # which holds no 0
    assert Reading("", "", "", 0.2, 0.0, 0.4, 4).text == "0.2 [0.0, 0.4] (4)"
    assert Reading("", "", "", 9250.9, digits=0).text == "9,251" and Reading("", "", "").text == "—"


def claim_text(theme: str, name: str) -> str:
    """One block of conf/claim/<theme>.yaml, as it is written."""
    lines = (CONF / "claim" / f"{theme}.yaml").read_text(encoding="utf-8").splitlines(keepends=True)
    first = lines.index(f"{name}:\n")
    return "".join([lines[first], *itertools.takewhile(lambda line: line.startswith("  "), lines[first + 1 :])])


def test_the_claims_are_those_of_the_published_report_in_its_order_and_no_two_share_an_id() -> None:
    claims = json.loads((ROOT / "results" / "report.json").read_text(encoding="utf-8"))["claims"]
    assert [(claim.id, claim.statement) for claim in CLAIMS] == [(one["id"], one["statement"]) for one in claims]
    assert len({claim.id for claim in CLAIMS}) == len({claim.statement for claim in CLAIMS}) == len(CLAIMS)
    assert all(claim.figure and claim.source and claim.test.rule for claim in CLAIMS)


def test_claims_read_rows_that_are_declared() -> None:
    for table, rows in ledger.wanted(CLAIMS).items():
        assert (CONF / "experiment" / f"{table}.yaml").is_file()
        assert not {*rows} - {*choices(f"row/{table}")}, table


def test_a_claim_with_a_missing_key_or_a_taken_place_is_refused(tmp_path: Path) -> None:
    text = claim_text("stated", "start")
    (tmp_path / "a.yaml").write_text(text.replace("start:", "a:") + text.replace("start:", "b:"), encoding="utf-8")
    with pytest.raises(UserError, match="a and b have the same order 250"):
        ledger.load(tmp_path)
    (tmp_path / "b.yaml").write_text(text.replace("start:", "a:").replace("250", "251"), encoding="utf-8")
    (tmp_path / "a.yaml").write_text(text.replace("start:", "a:"), encoding="utf-8")
    with pytest.raises(UserError, match="a and a have the same id a"):
        ledger.load(tmp_path)
    (tmp_path / "a.yaml").write_text(text.replace("figure:", "figur:"), encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.yaml: start must have"):
        ledger.load(tmp_path)


def test_a_named_test_must_exist() -> None:
    with pytest.raises(UserError, match=r"no test test_lora\.py::test_nothing"):
        HeldByTests(["test_lora.py::test_nothing"], "says")


def test_arithmetic_is_what_a_hand_computes() -> None:
    nothing: Any = None
    (gpt3,) = MatrixSaving(4, 12288, 99.93, 2).read(nothing)
    assert gpt3.value == pytest.approx(100 - 800 / 12288) and gpt3.text == "99.93" and "rounds to" in gpt3.notes[0]
    (base,) = MatrixSaving(4, 768, 99.0, 1).read(nothing)
    assert base.value == pytest.approx(98.9583333) and base.text == "99.0"
    assert "does not round" in MatrixSaving(4, 768, 99.1, 1).read(nothing)[0].notes[0]
    assert lora_parameters(96, 12288, 4, 2) == 18_874_368  # 18.9 million: 37.7 MB in 16 bits
    assert decoder_parameters(24, 1024, 50257, 1024) == 354_823_168  # GPT-2 medium
    assert decoder_parameters(12, 768, 50257, 1024) == 124_439_808  # GPT-2 small
    claims = {claim.id: claim.test.read(nothing)[0] for claim in CLAIMS if isinstance(claim.test, CheckpointRatio)}
    assert claims["checkpoint"].value == pytest.approx(174_604_259_328 / 18_874_368) and "agrees" in claims["checkpoint"].notes[0]
    assert claims["checkpoint"].verdict == ARITHMETIC


# Planted runs: a table `t` with rows a and b, whose score is the share of right answers among 200 inputs.


def evidence_of(tmp_path: Path, right: dict[tuple[str, str, int | None, int], int | str], sizes: tuple[int | None, ...] = (None,),
                tasks: tuple[str, ...] = ("x",), **more: Any) -> Evidence:  # fmt: skip
    """right: (row, task, size, seed) -> right answers of 200, or another status than finished."""
    cells = []
    for name, task, size, seed in itertools.product(sorted({name for name, *_ in right}), tasks, sizes, range(5)):
        key = f"{name}-{task}-{size}-{seed}"
        if (name, task, size, seed) in right:
            plant(tmp_path, key, right[name, task, size, seed], **more)
        config = {"task": {"name": task, "metrics": ["accuracy"]}, "backbone": {"name": "tiny"}}
        axes = {"task": task} if size is None else {"task": task, "row.rank": size}
        cells.append(Cell(Row(name, name.upper(), 1, 3, True, {}, {}), seed, axes, (), key, config, Path(key)))
    evidence = noted_evidence(tmp_path)
    evidence._cells["t"] = cells
    return evidence


def noted_evidence(folder: Path) -> Evidence:
    note(folder.parent, folder.name)
    return Evidence("mini", folder, {})


def plant(tmp_path: Path, key: str, right: int | str, peak: float = 1.0, caption: str = "real files") -> None:
    finished = isinstance(right, int)
    correct = [float(i < right) for i in range(200)] if isinstance(right, int) else []
    lines = "".join(f'{{"key": "{i}", "correct": {value}}}\n' for i, value in enumerate(correct))
    write_text(tmp_path / "predictions" / f"{key}.jsonl", lines)
    scale = peak if key.startswith("a") else 1.0
    plant_record(tmp_path / "records" / f"{key}.json", {
        "schema": record.SCHEMA, "signature": key, "status": "finished" if finished else right,
        "asked": {"task": {}}, "row": {"table": "t", "name": key[0], "label": key[0]},
        "measured": {"scores": {"accuracy": sum(correct) / 200} if finished else {},
                     "train_seconds": 10, "train_tokens": 100,
                     "peak_memory_mb": 100 * scale, "parameters": {"method": 7, "head": 1, "total": 9}},
        "where": {"backbone": {"label": "tiny", "sha256": "a"}, "data": {"caption": caption, "hashes": {}}, "device": "cpu"},
    })  # fmt: skip


def test_a_difference_is_that_of_the_scores_with_the_tables_interval(tmp_path: Path) -> None:
    right: Any = {(row, "x", None, seed): n + 2 * seed for row, n in (("a", 150), ("b", 120)) for seed in (0, 1, 2)}
    (reading,) = Compare([["t/a", "t/b"]], floor=0).read(evidence_of(tmp_path, dict(right)))
    assert reading.value == pytest.approx(15) and reading.n == 3 and reading.verdict == REPLICATED
    assert reading.low is not None and reading.high is not None and 9 < reading.low < 15 < reading.high < 21
    assert reading.sources == tuple(f"mini/records/{row}-x-None-{seed}.json" for row in "ab" for seed in (0, 1, 2))
    assert "A: 7 trained values" in reading.notes
    head_only = evidence_of(tmp_path, dict(right))
    for seed in range(3):  # a method without values of its own trains the head
        head_only.store.records[f"a-x-None-{seed}"]["measured"]["parameters"] = {"method": 0, "head": 5, "total": 9}
    assert "A: 5 trained values" in Compare([["t/a", "t/b"]], floor=0).read(head_only)[0].notes
    evidence = evidence_of(tmp_path, dict(right))
    ours, theirs = (evidence.runs([cell for cell in evidence.cells("t") if cell.row.name == row]) for row in "ab")
    versus = difference([(paired(ours, theirs), "accuracy")])  # as the table of these runs has it
    assert versus is not None and reading.detectable == pytest.approx(versus.detectable) and 1 < versus.detectable < 20
    assert reading.detail == f"{reading.text}, 3 of 3 seeds inside, Δ {versus.detectable:.1f}"
    assert Compare([["t/b", "t/a"]], floor=-1).read(evidence)[0].verdict == REFUTED
    assert Compare([["t/a", "t/b"]], floor=-1, ceiling=1).read(evidence)[0].verdict == REFUTED


def test_tasks_that_a_claim_does_not_name_are_not_read(tmp_path: Path) -> None:
    right = {(row, task, None, seed): 150 - 30 * (row == "b") for row in "ab" for task in "xyz" for seed in range(3)}
    evidence = evidence_of(tmp_path, right, tasks=("x", "y", "z"))
    for tasks, expected in (("each", ["accuracy, X", "accuracy, Z"]), ("mean", ["mean of X, Z"])):
        test = Compare([["t/a", "t/b"]], floor=0, tasks=tasks, only=["x", "z", "gone"])
        assert [reading.unit for reading in test.read(evidence)] == expected and "of x, z, gone" in test.rule
        assert Compare([["t/a", "t/b"]], floor=0, tasks=tasks, only=["gone"]).read(evidence) == []


def planted(a: tuple[int | str, ...], b: tuple[int | str, ...]) -> dict[tuple[str, str, int | None, int], int | str]:
    """Right answers of 200, a seed each."""
    return {(row, "x", None, seed): n for row, each in (("a", a), ("b", b)) for seed, n in enumerate(each)}


@pytest.mark.parametrize(
    "right, verdict, note",
    [
        (planted((190,), (20,)), INCONCLUSIVE, ""),  # one seed, however clear
        (planted((190, 190), (20, 20)), INCONCLUSIVE, ""),  # two
        (planted((190, 190), ()), NOT_RUN, "B on X: no run"),
    ],
)
def test_two_seeds_and_missing_cells_give_no_verdict(tmp_path: Path, right: Any, verdict: str, note: str) -> None:
    (reading,) = Compare([["t/a", "t/b"]], floor=0).read(evidence_of(tmp_path, {**right, ("b", "y", None, 9): 0}))
    assert reading.verdict == verdict and (not note or note in reading.notes)
    assert (reading.value is None) == (bool(note))


def test_collapsed_and_diverged_seeds_count_as_what_they_are(tmp_path: Path) -> None:
    """A method that collapses or diverges in some seeds is not judged on the others."""
    near = Compare([["t/a", "t/b"]], floor=0).read(evidence_of(tmp_path / "near", planted((150, 150, 150), (120, 120, 120))))
    assert near[0].verdict == REPLICATED
    (reading,) = Compare([["t/a", "t/b"]], floor=0).read(
        evidence_of(tmp_path / "lost", planted((150, 150, "diverged"), (120, 120, 120)))
    )
    assert reading.value == pytest.approx((15 + 15 - 60) / 3) and reading.n == 3 and reading.verdict == INCONCLUSIVE
    assert "A on X: 1 of 3 diverged" in reading.notes
    evidence = evidence_of(tmp_path / "constant", planted((150, 150, 150), (120, 120, 100)))
    evidence.store.records["b-x-None-2"]["status"] = "collapsed"  # its constant answer is right for half of the inputs
    (reading,) = Compare([["t/a", "t/b"]], floor=0).read(evidence)
    assert reading.value == pytest.approx((15 + 15 + 25) / 3) and "B on X: 1 of 3 collapsed" in reading.notes


def test_a_verdict_takes_two_hundred_inputs_searched_rates_and_the_claim_s_own_number_of_seeds(tmp_path: Path) -> None:
    right = planted((150, 150, 150), (120, 120, 120))
    evidence = evidence_of(tmp_path / "few", dict(right))
    for path in (tmp_path / "few" / "predictions").glob("*.jsonl"):
        path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:199]), encoding="utf-8")
    (reading,) = Compare([["t/a", "t/b"]], floor=-90).read(evidence)
    assert reading.verdict == INCONCLUSIVE and "X: 199 test inputs; a verdict needs 200" in reading.notes
    evidence = evidence_of(tmp_path / "guess", dict(right))
    assert Compare([["t/a", "t/b"]], floor=0).read(evidence)[0].verdict == REPLICATED
    assert Compare([["t/a", "t/b"]], floor=0, least=5).read(evidence)[0].verdict == INCONCLUSIVE
    evidence._cells["t"] = [Guess(**vars(cell)) if cell.row.name == "b" else cell for cell in evidence._cells["t"]]
    (reading,) = Compare([["t/a", "t/b"]], floor=0).read(evidence)
    assert reading.verdict == INCONCLUSIVE and "B on X: rate not searched" in reading.notes
    evidence._cells["t"] = [Stopped(**vars(cell)) if cell.row.name == "b" else cell for cell in evidence._cells["t"]]
    (reading,) = Compare([["t/a", "t/b"]], floor=0).read(evidence)
    assert reading.verdict == INCONCLUSIVE and "B on X: its search stopped at chance after 1 rates" in reading.notes


class Stopped(Cell):
    """A cell whose search found no rate above chance and did not look any further."""

    unsearched = False  # type: ignore[assignment]
    search: ClassVar = {"searches": [{"learnt": False, "trials": [{"lr": 1e-3}]}]}  # type: ignore[misc]


class Guess(Cell):
    """A cell whose rate nobody searched."""

    unsearched = True  # type: ignore[assignment]


def test_slot_errors_are_shown_beside_bleu_and_decide_nothing(tmp_path: Path) -> None:
    """If both had to agree, a claim on which they differ could never be decided, whatever the paper says of it."""
    for name, errors in (("agree", (0.0, 0.1)), ("apart", (0.3, 0.1))):
        evidence = evidence_of(tmp_path / name, planted((150, 150, 150), (120, 120, 120)))
        for path in (tmp_path / name / "predictions").glob("*.jsonl"):
            share = errors[0] if path.stem.startswith("a") else errors[1]
            lines = [json.loads(line) | {"slots": 10, "slot_errors": 10 * share} for line in path.read_text().splitlines()]
            path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
            evidence.store.records[path.stem]["measured"]["scores"]["slot_error_rate"] = share
        test = Compare([["t/a", "t/b"]], floor=-1, secondary=["slot_error_rate"], better=True)
        (reading,) = test.read(evidence)
        assert reading.verdict == reading.better == REPLICATED, name
        (remark,) = [note for note in reading.notes if note.startswith("slot_error_rate")]
        assert f"{100 * (errors[0] - errors[1]):+.1f}".replace("-", "−") in remark and "not judged" in remark
    for seed in range(3):  # runs that answered nothing tell of no slots: the other row's do
        entry = evidence.store.records[f"a-x-None-{seed}"]
        entry["status"], entry["measured"]["scores"] = "diverged", {}
    (outcome,) = test.read(evidence)
    assert outcome.verdict == outcome.better == REFUTED and any(note.startswith("slot_error_rate") for note in outcome.notes)


WIDE = "its test inputs alone leave too wide an interval: no number of seeds can decide it"


def error_of(each: tuple[float, ...]) -> Error:
    return spread.error([np.array(each)], paired=True, common=None)


@pytest.mark.parametrize(
    "each, shared, region, expected",
    [
        ((2.0, 3.0, 4.0), 0.0, Region(floor=0), "about 4 seeds like these would decide it"),  # t(3) / 2 = 1.6 < 3
        ((0.1, 0.9, 2.0), 0.0, Region(floor=0), "about 7 seeds like these would decide it"),  # 0.955 t(6) / sqrt 7 = 0.88 < 1
        ((-0.9, 1.9, 2.0), 0.0, Region(floor=0), "about 13 seeds like these would decide it"),  # 1.646 t(12) / sqrt 13 = 0.995
        ((-2.0, -3.0, -4.0), 0.0, Region(floor=-1, ceiling=1), "about 4 seeds like these would decide it"),  # to fail
        ((0.2, 0.3, 0.4), 0.09, Region(floor=-1, ceiling=1), "about 4 seeds like these would decide it"),  # 0.7 from a bound
        ((0.2, 0.3, 0.4), 0.16, Region(floor=-1, ceiling=1), WIDE),  # 1.96 * 0.4 > 0.7
        ((0.01, 0.01, 2.0), 0.0, Region(floor=0), "about 14 seeds like these would decide it"),  # 1.149 t(13) / sqrt 14 = 0.66
        ((0.001, 0.001, 2.0), 0.1156, Region(floor=0), "only more than 100 seeds like these would decide it"),
        ((3.0,), 0.0, Region(floor=0), ""),
        ((math.nan, 3.0), 0.0, Region(floor=0), ""),
    ],
)
def test_what_more_seeds_would_decide(each: tuple[float, ...], shared: float, region: Region, expected: str) -> None:
    for own in (0.0, 0.5):  # what each seed does on each input already moves the seeds apart
        assert outlook(region, fmean(each), len(each), error_of(each), InputVariance(shared, own), 0.05, 3) == expected


def test_what_seeds_would_decide_depends_on_the_level_and_on_the_fewest_of_the_claim() -> None:
    error = error_of((2.0, 3.0, 4.0))
    outlooks = [outlook(Region(floor=0), 3.0, 3, error, InputVariance(0, 0), *more) for more in ((0.05, 6), (0.001, 3))]
    assert outlooks == ["about 6 seeds like these would decide it"] * 2  # t(5) at 0.1 % is 6.87: 2.8 < 3


def test_the_draw_of_inputs_has_a_part_that_seeds_share_and_one_of_their_own() -> None:
    generator = np.random.default_rng(0)
    common, own = 2 * generator.normal(size=(20_000, 1)), 3 * generator.normal(size=(20_000, 4))
    for draws, covariance, residual in ((common + own, 4, 9), (own, 0, 9), (common + 0 * own, 4, 0), (own[:, :1], 9, 0)):
        variance = InputVariance.of(np.vstack([draws, np.full_like(draws[:1], np.nan)]))
        assert variance == pytest.approx((covariance, residual), abs=0.25)
    assert math.isnan(InputVariance.of(np.full((2, 3), np.nan)).shared)


def test_an_inconclusive_comparison_says_how_many_seeds_would_decide_it(tmp_path: Path) -> None:
    for a, verdict in (((121, 125, 133), INCONCLUSIVE), ((118, 125, 130), INCONCLUSIVE), ((150, 151, 152), REPLICATED)):
        evidence = evidence_of(tmp_path, planted(a, (120, 120, 120)))
        (reading,) = Compare([["t/a", "t/b"]], floor=0).read(evidence)
        assert reading.verdict == verdict
        assert any("seeds like these" in note or note == WIDE for note in reading.notes) == (verdict == INCONCLUSIVE)
    evidence._cells["t"] = [Guess(**vars(cell)) if cell.row.name == "b" else cell for cell in evidence._cells["t"]]
    (guess,) = Compare([["t/a", "t/b"]], floor=0).read(evidence)
    assert guess.notes[2:] == ("2 degrees of freedom over seeds", "B on X: rate not searched")  # that reason comes first


def comparisons() -> list[tuple[str, str, Compare]]:
    """(id, statement, test) of every comparison in the ledger, those that are parts of a claim among them."""
    every = [(claim, test) for claim in CLAIMS for test in getattr(claim.test, "parts", [claim.test])]
    return [(claim.id, claim.statement, test) for claim, test in every if isinstance(test, Compare)]


def test_whatever_reads_e2e_has_slot_errors_beside_it() -> None:
    texts = {path.stem: path.read_text(encoding="utf-8") for path in (CONF / "experiment").glob("*.yaml")}
    e2e = {name for name, text in texts.items() if "- override /task: e2e\n" in text}
    read = {name: test.secondary for name, _, test in comparisons() if test.rows().keys() & e2e}
    assert {"e2e_lora_full", "linear_probe", "prompt_tuning", "qlora_matches_lora", "qlora_matches_full"} <= read.keys()
    assert all(metrics == ("slot_error_rate",) for metrics in read.values()), read


def test_at_least_as_good_asks_for_better_beside() -> None:
    pairs = [(name, test.better) for name, statement, test in comparisons() if "at least as good" in statement]
    assert len(pairs) >= 5 and all(better for _, better in pairs), pairs
    assert not [name for name, statement, test in comparisons() if test.better and "at least as good" not in statement]


def test_at_least_as_good_and_better_are_two_verdicts(tmp_path: Path) -> None:
    evidence = evidence_of(tmp_path, planted((121, 119, 120), (120, 120, 120)))
    (reading,) = Compare([["t/a", "t/b"]], floor=-10, better=True).read(evidence)
    assert (reading.verdict, reading.better) == (REPLICATED, INCONCLUSIVE)
    cell = ledger._cell("mini", ledger.Outcome(reading.verdict, (reading,)))
    assert cell.startswith("**replicated** at mini; better: **inconclusive**")


def test_of_comparisons_of_which_any_suffices_each_has_its_share_of_the_error(tmp_path: Path) -> None:
    right = planted((124, 124, 124), (120, 120, 120))
    one, two = (Compare([["t/a", "t/b"]] * n, floor=0, combine="any").read(evidence_of(tmp_path, dict(right))) for n in (1, 8))
    assert one[0].low is not None and two[0].low is not None and two[0].low < one[0].low
    assert one[0].detectable is not None  # at 5 % and at an eighth of it: 1.96 and 2.734 errors, and 0.84
    assert two[0].detectable == pytest.approx(one[0].detectable * (2.7344 + 0.8416) / (1.96 + 0.8416), rel=1e-3)


def test_where_all_must_hold_one_that_fails_needs_its_share_of_the_error(tmp_path: Path) -> None:
    """Else of many comparisons at the margin one says "not replicated" by chance."""
    right = planted((110, 112, 114), (120, 120, 120))
    for n, verdict in ((1, REFUTED), (3, INCONCLUSIVE)):
        test = Compare([["t/a", "t/b"]] * n, floor=0)
        readings = test.read(evidence_of(tmp_path, dict(right)))
        assert {reading.verdict for reading in readings} == {verdict} and test.verdict(readings) == verdict
        assert readings[0].high is not None and readings[0].high < 0  # what is shown stays at 5 %
        remark = "outside at 5 %, but not at the corrected level of 1.7 %"
        assert all((remark in reading.notes) == (n == 3) for reading in readings)
        reverse = Compare([["t/b", "t/a"]] * n, floor=0).read(evidence_of(tmp_path, dict(right)))
        assert {reading.verdict for reading in reverse} == {REPLICATED}  # that all hold by chance is less likely


def test_of_the_parts_of_a_claim_one_that_fails_needs_its_share_of_the_error(tmp_path: Path) -> None:
    right = planted((110, 112, 114), (120, 120, 120))
    test = Compare([["t/a", "t/b"]], floor=0, combine="any")
    assert test.verdict(test.read(evidence_of(tmp_path, dict(right)))) == REFUTED
    both = AllOf([Compare([["t/a", "t/b"]], floor=0, combine="any"), Compare([["t/a", "t/b"]] * 3, floor=0)])
    readings = both.read(evidence_of(tmp_path, dict(right)))
    assert both.verdict(readings) == INCONCLUSIVE
    notes = [note for reading in readings for note in reading.notes if "corrected" in note]
    assert [note.rpartition("level of ")[2] for note in notes] == ["2.5 %", "0.83 %", "0.83 %", "0.83 %"]


def test_a_seed_on_which_all_diverged_is_a_difference_of_nothing(tmp_path: Path) -> None:
    """Not one that is left out: three seeds beside it would decide alone."""
    right = planted((90, 90, 90, "diverged"), (120, 120, 120, "diverged"))
    (reading,) = Compare([["t/a", "t/b"]], floor=0).read(evidence_of(tmp_path / "one", right))
    assert reading.n == 4 and reading.value == pytest.approx(-15 * 3 / 4) and reading.verdict == INCONCLUSIVE
    failures = planted(("diverged",) * 3, ("diverged",) * 3)
    (reading,) = Compare([["t/a", "t/b"]], floor=0).read(evidence_of(tmp_path / "all", failures))
    assert reading.value is None and reading.verdict == INCONCLUSIVE


def test_a_comparison_that_was_not_run_decides_nothing_of_better(tmp_path: Path) -> None:
    right = planted((150, 150, 150), (100, 100, 100))
    test = Compare([["t/a", "t/b"], ["t/a", "t/c"]], floor=-1, better=True)
    readings = test.read(evidence_of(tmp_path, {**right, ("c", "y", None, 0): 0}))
    assert [reading.better for reading in readings] == [REPLICATED, NOT_RUN]
    assert "; better: **inconclusive**" in ledger._cell("mini", ledger.Outcome(INCONCLUSIVE, tuple(readings)))
    assert "better" not in ledger._cell("mini", ledger.Outcome(NOT_RUN, tuple(readings[1:])))


def test_claims_ask_for_three_seeds_and_ablations_for_five_and_read_what_they_cite() -> None:
    for claim in CLAIMS:
        for test in getattr(claim.test, "parts", [claim.test]):
            if isinstance(test, Compare):
                ablation = {"rank", "which_weights", "params_vs_quality"} & test.rows().keys()
                assert test.least == (5 if ablation else 3), claim.id
    tests = {claim.id: claim.test for claim in CLAIMS}
    assert tests["glue_lora_adapters"].rows() == {"glue_dagger": {"lora", "adapter_p_small", "adapter_h_small"}}
    assert tests["e2e_lora_prelayer"].rows() == {"e2e": {"lora", "prelayer_key_value"}}


def test_rslora_is_compared_at_the_rate_of_another_row_or_not_at_all(tmp_path: Path) -> None:
    """Where each has a rate of its own, two scalings of one product are the same model."""
    right: Any = {(row, "x", None, seed): n for row, n in (("a", 150), ("b", 120), ("c", 120)) for seed in range(3)}
    evidence = evidence_of(tmp_path, right)
    test = Compare([["t/a", "t/b"]], floor=0, rate_of="t/c")
    assert test.rows() == {"t": {"a", "b", "c"}}
    for other, verdict in ((1e-3, REPLICATED), (2e-3, INCONCLUSIVE)):
        rates = {"a": 1e-3, "b": 1e-3, "c": other}
        cells = [replace(cell, asked={**cell.asked, "train": {"lr": rates[cell.row.name]}}) for cell in evidence.cells("t")]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("lora_repro.results.check_same_config", lambda *_: None)
            evidence._cells["t"] = cells
            (reading,) = test.read(evidence)
        assert reading.verdict == verdict
        assert any(note.startswith("A on X: rate 0.001") for note in reading.notes) == (verdict == INCONCLUSIVE)


def test_a_combination_that_breaks_the_training_refutes_nothing(tmp_path: Path) -> None:
    test = Compare([["t/a", "t/b"]], floor=-3, ceiling=1, breaks=True)
    for n, verdict, breaks in ((60, INCONCLUSIVE, True), (120, REPLICATED, False), (150, REFUTED, False)):
        (reading,) = test.read(evidence_of(tmp_path / str(n), planted((n,) * 3, (120,) * 3)))
        assert reading.verdict == verdict and any(note.startswith("breaks") for note in reading.notes) == breaks
        assert ("break" in reading.reason) == breaks and not any("seeds like these" in note for note in reading.notes)


def test_looks_cost_each_comparison_a_share_of_its_level(tmp_path: Path) -> None:
    test = Compare([["t/a", "t/b"]], floor=0)
    right = planted((127, 125, 131), (120, 120, 120))
    (once,) = test.read(evidence_of(tmp_path, dict(right)))
    test.looks = {"laptop": 2}
    assert test.read(evidence_of(tmp_path, dict(right)))[0] == once
    test.looks = {"mini": 2}
    (twice,) = test.read(evidence_of(tmp_path, dict(right)))
    assert None not in (once.low, twice.low) and twice.low < once.low and "interval and Δ at 2.9 %" in twice.notes


def test_pocock_s_levels_are_the_published_ones_and_those_of_the_multivariate_normal() -> None:
    assert [round(pocock(0.05, looks), 4) for looks in (1, 2, 3, 4, 5)] == [0.05, 0.0294, 0.0221, 0.0182, 0.0158]
    assert pocock(0.01, 2) == pytest.approx(0.0056, abs=1e-4)
    critical = float(ndtri(1 - pocock(0.05, 2) / 2))
    covariance = [[1, 0.5**0.5], [0.5**0.5, 1]]
    stays = multivariate_normal.cdf([critical] * 2, cov=covariance, lower_limit=[-critical] * 2)
    assert stays == pytest.approx(0.95, abs=1e-6)


def test_looks_are_declared_with_a_claim_and_told_in_the_ledger(tmp_path: Path) -> None:
    looks = {claim.id: dict(claim.test.looks) for claim in CLAIMS if claim.test.looks}
    assert looks["e2e_lora_prelayer"] == looks["lora_with_prefixes_wikisql"] == looks["qlora_all_layers"] == {"laptop": 2}
    assert looks["glue_lora_full"] == {"mini": 2, "laptop": 2}
    assert looks["rslora_high_rank"] == looks["lora_plus_gain"] == {"mini": 2}
    (claim,) = [claim for claim in CLAIMS if claim.id == "qlora_all_layers"]
    section = ledger._section(claim, {name: ledger.Outcome(NOT_RUN, ()) for name in ("mini", "laptop")})
    assert "2 looks, each at 2.9 %" in section and section.count("looks") == 1
    text = claim_text("size", "prefix_layer_size")
    (tmp_path / "a.yaml").write_text(text.replace("  test:", "  looks: {mini: 3}\n  test:"), encoding="utf-8")
    (parts,) = ledger.load(tmp_path)
    assert [part.looks for part in parts.test.parts] == [{"mini": 3}] * 2
    for wrong in ("{mini: 1}", "{mini: two}"):
        (tmp_path / "a.yaml").write_text(text.replace("  test:", f"  looks: {wrong}\n  test:"), encoding="utf-8")
        with pytest.raises(UserError, match="prefix_layer_size has looks"):
            ledger.load(tmp_path)
    text = claim_text("stated", "start")  # a test in which no seed was added to
    (tmp_path / "a.yaml").write_text(text.replace("  test:", "  looks: {mini: 2}\n  test:"), encoding="utf-8")
    with pytest.raises(UserError, match="start has looks"):
        ledger.load(tmp_path)


# Verdicts in plain words.


def test_a_difference_is_told_as_behind_or_ahead() -> None:
    names = ["LoRA", "Full fine-tuning"]
    assert difference_in_words(names, -5.2, -7.4, -3.3) == "LoRA is 5.2 points behind full fine-tuning [3.3, 7.4 behind]"
    assert difference_in_words(names[::-1], 0.4, -0.6, 1.2) == (
        "Full fine-tuning is 0.4 points ahead of LoRA [0.6 behind, 1.2 ahead]"
    )
    assert "AdapterP" in difference_in_words(["LoRA", "AdapterP"], 1.0, 0.5, 1.5)  # a name keeps its capital
    four = difference_in_words(["A", "B", "C", "D"], -1.3, -4.5, 1.9)
    assert four == "The step from B to A brings 1.3 points less than the step from D to C [4.5 less, 1.9 more]"


def test_a_length_is_told_in_epochs_or_in_steps() -> None:
    def run(**train: Any) -> dict[str, Any]:
        return {"asked": {"train": train}, "measured": {"steps": 1200}}

    untrained: dict[str, Any] = {"asked": {}, "measured": {}}
    assert epochs_in_words([run(epochs=1), run(epochs=3), untrained]) == "after one to three epochs"
    assert epochs_in_words([run(epochs=1)]) == "after one epoch" and epochs_in_words([run(epochs=25)]) == "after 25 epochs"
    assert epochs_in_words([run(epochs=1, steps=1200)]) == "after 1,200 steps" and epochs_in_words([untrained]) == "untrained"


def test_a_verdict_has_a_sentence_from_the_reading_that_decides(tmp_path: Path) -> None:
    def told(right: Any, **more: Any) -> str:
        test = Compare([["t/a", "t/b"], ["t/b", "t/a"]][: more.pop("n", 1)], **more)
        readings = test.read(evidence_of(tmp_path / str(len(list(tmp_path.iterdir()))), right))
        return sentence(test.verdict(readings), readings)

    clear = planted((150, 150, 150), (120, 120, 120))
    assert told(clear, floor=0).startswith("A is 15.0 points ahead of B [") and told(clear, floor=0).endswith(": replicated.")
    assert "where the claim asks for above 0 points" in told(clear, floor=0)
    few = told(planted((150,), (120,)), floor=0)
    assert few.endswith(", 1 of 3 seeds: no verdict.")
    both = told(clear, floor=0, n=2)
    assert both.startswith("B is 15.0 points behind A") and both.endswith("not replicated. Of 2 comparisons 1 holds, 1 fails.")
    assert sentence(NOT_RUN, []) == "Nothing was run for it."


def test_what_needs_no_run_has_a_sentence_too() -> None:
    nothing: Any = None
    for claim in (claim for claim in CLAIMS if claim.test.anywhere):
        readings = claim.test.read(nothing)
        text = ledger.Outcome(claim.test.verdict(readings), tuple(readings)).sentence
        assert text.endswith(".") and len(text) > 20, claim.id


def test_other_inputs_are_not_compared(tmp_path: Path) -> None:
    right: Any = {(row, "x", None, seed): 100 for row in "ab" for seed in (0, 1, 2)}
    evidence = evidence_of(tmp_path, right)
    path = tmp_path / "predictions" / "a-x-None-0.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace('"key": "7"', '"key": "other"'), encoding="utf-8")
    (reading,) = Compare([["t/a", "t/b"]], floor=0).read(evidence)
    assert reading.n == 2


def test_a_mean_over_tasks_needs_every_task_and_each_task_stands_alone_if_asked(tmp_path: Path) -> None:
    right: Any = {(row, task, None, seed): {"a": 150, "b": 120}[row] + 20 * (task == "y")
                  for row in "ab" for task in "xy" for seed in (0, 1, 2)}  # fmt: skip
    both = evidence_of(tmp_path / "both", right, tasks=("x", "y"))
    (mean,) = Compare([["t/a", "t/b"]], floor=0).read(both)
    assert mean.value == pytest.approx(15) and mean.unit == "mean of X, Y"
    assert [r.unit for r in Compare([["t/a", "t/b"]], floor=0, tasks="each").read(both)] == ["accuracy, X", "accuracy, Y"]
    for seed in (0, 1, 2):
        del right["b", "y", None, seed]
    (mean,) = Compare([["t/a", "t/b"]], floor=0).read(evidence_of(tmp_path / "one", right, tasks=("x", "y")))
    assert (mean.verdict, mean.unit) == (INCONCLUSIVE, "accuracy, X") and "B on Y: no run" in mean.notes
    assert mean.value == pytest.approx(15)  # of what was run


def test_sizes_and_differences_of_differences(tmp_path: Path) -> None:
    gains = {("a", 1): 100, ("a", 4): 140, ("b", 1): 110, ("b", 4): 112}
    right: Any = {(row, "x", size, seed): n for (row, size), n in gains.items() for seed in (0, 1, 2)}
    evidence = evidence_of(tmp_path, right, sizes=(1, 4))
    (gain,) = Compare([["t/a@4", "t/a@1", "t/b@4", "t/b@1"]], floor=0).read(evidence)
    assert gain.value == pytest.approx(20 - 1) and gain.verdict == REPLICATED
    assert gain.what == "(A, rank 4 − A, rank 1) − (B, rank 4 − B, rank 1)"
    (largest,) = Compare([["t/a@max", "t/a@*"]], floor=0).read(evidence)
    assert largest.value == pytest.approx(20) and largest.what == "A, rank 4 − A, rank 1"
    assert Compare([["t/a@8", "t/a@1"]], floor=0).read(evidence) == []
    assert Compare([["t/a@mid", "t/a@1"]], floor=0).read(evidence) == []  # nothing between two sizes
    with pytest.raises(UserError, match="several cells"):
        Compare([["t/a", "t/b"]], floor=0).read(evidence)


@pytest.mark.parametrize(
    "scores, verdict",
    [
        ((100, 140, 120), REPLICATED),
        ((140, 120, 100), REFUTED),  # falls all the way
        ((100, 120, 140), REFUTED),
        ((140, 100, 140), REFUTED),
        ((100, 101, 100), INCONCLUSIVE),  # half a point
    ],
)
def test_not_monotonic_needs_a_middle_size_above_both_ends(tmp_path: Path, scores: tuple[int, ...], verdict: str) -> None:
    """The claim as conf/ has it, on planted cells."""
    text = claim_text("size", "prefix_layer_size")
    (tmp_path / "x.yaml").write_text(text.replace("params_vs_quality/prelayer", "t/a"), encoding="utf-8")
    (claim,) = ledger.load(tmp_path)
    right: Any = {("a", "x", size, seed): n for size, n in zip((1, 16, 64), scores, strict=True) for seed in range(5)}
    assert claim.test.verdict(claim.test.read(evidence_of(tmp_path, right, sizes=(1, 16, 64)))) == verdict


def test_w_q_alone_must_itself_gain(tmp_path: Path) -> None:
    """That W_q and W_v fall, as on this suite's generated data, says nothing of W_q alone."""
    text = claim_text("size", "rank_q_alone")
    (tmp_path / "x.yaml").write_text(text.replace("rank/lora_q_v", "t/b").replace("rank/lora_q", "t/a"), encoding="utf-8")
    (claim,) = ledger.load(tmp_path)
    gains = {("a", 1): 140, ("a", 4): 120, ("b", 1): 150, ("b", 4): 90}
    right: Any = {(row, "x", size, seed): n for (row, size), n in gains.items() for seed in range(5)}
    readings = claim.test.read(evidence_of(tmp_path, right, sizes=(1, 4)))
    assert [reading.verdict for reading in readings] == [REFUTED, REPLICATED] and claim.test.verdict(readings) == REFUTED


def test_operands_are_spelt_out() -> None:
    cells = [Operand.of("t/a@min"), Operand.of("t/a@*")]
    assert [[c.size for c in pair] for pair in expanded(cells, [1, 4, 64])] == [["1", "4"], ["1", "64"]]
    middle = expanded([Operand.of("t/a@mid"), Operand.of("t/a@max")], [1, 64, 16, 4])
    assert [[c.size for c in pair] for pair in middle] == [["4", "64"], ["16", "64"]]
    for wrong in ("a", "t/a@most", "t/a/b"):
        with pytest.raises(UserError, match="a cell is"):
            Operand.of(wrong)
    with pytest.raises(UserError, match="two or four cells of one table"):
        Compare([["t/a", "u/a"]], floor=0)


def test_generated_data_are_named(tmp_path: Path) -> None:
    right: Any = {(row, "x", None, seed): 100 for row in "ab" for seed in (0, 1, 2)}
    assert not Compare([["t/a", "t/b"]], floor=0).read(evidence_of(tmp_path / "real", right))[0].generated
    (reading,) = Compare([["t/a", "t/b"]], floor=0).read(evidence_of(tmp_path / "made", right, caption="synthetic x"))
    assert reading.generated
    cell = ledger._cell("mini", ledger.Outcome(reading.verdict, (reading,)))
    assert cell.startswith("**inconclusive** at mini, generated data<br>0.0 [")
    absent = replace(reading, value=None, verdict=NOT_RUN)
    cell = ledger._cell("mini", ledger.Outcome(INCONCLUSIVE, (reading, absent)))
    assert cell.endswith("<br>1 not run")  # else the numbers would not explain the verdict


def test_memory_is_a_quotient_of_the_same_task_seed_and_device(tmp_path: Path) -> None:
    right: Any = {(row, "x", None, seed): 100 for row in "ab" for seed in (0, 1, 2)}
    cost = TrainingMemory(["t"], "a", "b", ceiling=1)
    (lighter,) = cost.read(evidence_of(tmp_path / "light", right, peak=0.5))
    assert lighter.value == pytest.approx(0.5) and lighter.verdict == REPLICATED and lighter.n == 3
    assert cost.read(evidence_of(tmp_path / "heavy", right, peak=2.0))[0].verdict == REFUTED
    many: Any = {(row, task, None, seed): 100 for row in "ab" for task in map(str, range(20)) for seed in (0, 1, 2)}
    evidence = evidence_of(tmp_path / "many", many, peak=0.5, tasks=tuple(map(str, range(20))))
    assert cost.read(evidence)[0].verdict == REPLICATED
    evidence.store.records["a-7-None-1"]["measured"]["peak_memory_mb"] = 300  # one large run of 60, outside the middle 95 %
    (one,) = cost.read(evidence)
    assert one.high == 0.5 and one.verdict == REPLICATED and one.inside == "59 of 60 pairs inside"
    failures = {("a", "x", None, 0): "collapsed", ("b", "x", None, 1): "diverged"}  # what collapsed was trained
    assert cost.read(evidence_of(tmp_path / "lost", right | failures))[0].n == 2
    evidence = evidence_of(tmp_path / "light", right, peak=0.5)
    for key, value in {"batching": "packed", "device": "another"}.items():
        evidence.store.records["a-x-None-1"]["where"][key] = value
        assert cost.read(evidence)[0].verdict == INCONCLUSIVE
        evidence.store.records["a-x-None-1"]["where"].pop("batching", None)


def test_a_step_is_read_from_rounds_that_took_turns_and_not_from_whole_runs(tmp_path: Path) -> None:
    timings = measurement()
    write_json(tmp_path / "measures" / "latency.json", timings)
    evidence = noted_evidence(tmp_path)
    (reading,) = MeasuredStep("lora", ceiling=1).read(evidence)
    assert (reading.value, reading.low, reading.high, reading.n, reading.verdict) == (0.75, 0.7, 0.8, 3, REPLICATED)
    assert MeasuredStep("lora", ceiling=0.75).read(evidence)[0].verdict == INCONCLUSIVE
    assert MeasuredStep("lora", ceiling=0.6).read(evidence)[0].verdict == REFUTED
    assert MeasuredStep("other", ceiling=1).read(evidence) == []
    timings["where"]["load_before"] = 2.5
    write_json(tmp_path / "measures" / "latency.json", timings)
    assert "the machine was busy (load 2.5)" in MeasuredStep("lora", ceiling=1).read(noted_evidence(tmp_path))[0].notes


# Planted arrays: 64 dimensions, A of rank 8 and of rank 16; the first direction is common, the others are random.


def probed_evidence(tmp_path: Path, seeds: tuple[int, ...] = (0, 1, 2, 3)) -> Evidence:
    cells = []
    for rank in (8, 16):
        for seed in seeds:
            key = f"r{rank}s{seed}"
            config = {"task": {"name": "x"}, "backbone": {"name": "tiny"}, "method": {"rank": rank, "alpha": 16}}
            cells.append(Cell(Row("lora", "LoRA", 1, 4, True, {}, {}), seed, {"row.rank": rank}, (), key, config, Path(key)))
            plant(tmp_path, key, 1)
            first = np.eye(64)[:, :1]
            rest = random_basis(64, 64, seed=rank + 100 * seed)
            basis = np.linalg.qr(np.concatenate([first, rest[:, : rank - 1]], axis=1))[0]
            arrays: dict[str, np.ndarray] = {"steps": np.array([1, 2]), "weight_directions": np.arange(1, 65)}
            for kind in ("query", "value"):
                arrays[f"{kind}.norm"] = np.array([[9.0, 9.0], [4.0 * 16 / rank, 4.0 * 16 / rank]], np.float32)
                arrays[f"{kind}.inside_{rank}"] = np.array([[9.0, 9.0], [1.0, 1.0]], np.float32)
                arrays[f"{kind}.weight_random_{rank}"] = np.array([0.5, 0.25], np.float32)
                own = basis if kind == "query" else rest[:, :rank]
                arrays[f"{kind}.basis_0"] = own.astype(np.float16)
                arrays[f"{kind}.weight_similarity_0"] = np.full((64, rank), 0.15, np.float32)
            (tmp_path / "updates").mkdir(exist_ok=True)
            save_file(arrays, tmp_path / "updates" / f"{key}.safetensors")
    evidence = noted_evidence(tmp_path)
    evidence._cells["subspace"] = evidence._cells["delta_w"] = cells
    return evidence


def parts_evidence(tmp_path: Path, ranks: Sequence[int] = (8, 64), extra_full: bool = False) -> Evidence:
    """LoRA at each rank and full fine-tuning, three seeds, asked for parts: LoRA's final loss 2.5 is full's at λ = 0.75."""
    counts = {("lora", rank, seed): 3.0 + seed if rank < 64 else 0.5 - seed for rank in ranks for seed in range(3)}
    counts |= {("full", 0, seed): 2.0 for seed in range(3)} | ({("full", 0, 9): 9.0} if extra_full else {})
    cells = []
    for (row, rank, seed), count in counts.items():
        key = f"{row}{rank}-{seed}"
        method = {"rank": rank, "alpha": 16} if row == "lora" else {}
        config = {"task": {"name": "x"}, "backbone": {"name": "tiny"}, "method": method,
                  "probe": {"scales": [0, 0.5, 1], "top": [1, 2]}}  # fmt: skip
        cells.append(Cell(Row(row, row, 1, 4, True, {}, {}), seed, {}, (), key, config, Path(key)))
        plant(tmp_path, key, 1)
        (tmp_path / "updates").mkdir(exist_ok=True)
        dev, general = ([4, 3, 2], [3, 3.5, 4]) if row == "full" else ([4, 3.5, 2.5], [3, 3.2, 3.4 + 0.1 * seed])
        arrays = {"scales": [0, 0.5, 1], "scales.dev_loss": dev, "scales.general_loss": general, "top": [1, 2],
                  "top.dev_loss": [3, 2] if row == "full" else [2.5 + 0.3 * (seed + 1), 2.5], "query.norm": np.ones((1, 2)),
                  "query.intruders": [count, count + 1],
                  "query.intruders_scaled": [[0, 0], [0, 1], [count, count + 1]]}  # fmt: skip
        path = tmp_path / "updates" / f"{key}.safetensors"
        save_file({name: np.asarray(one, np.float32) for name, one in arrays.items()}, path)
    evidence = noted_evidence(tmp_path)
    evidence._cells["delta_w"] = cells
    return evidence


def test_intruders_are_lora_s_less_full_fine_tuning_s_of_the_same_seed_at_the_same_held_out_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = parts_evidence(tmp_path, extra_full=True)
    monkeypatch.setattr(forgetting, "FINE", 0.5)
    test = Intruders(["query"], most=16, full_below=9, floor=0)
    full, reading, large, *as_trained = test.read(evidence)
    assert (full.value, full.n, full.verdict, full.what) == (4.25, 4, INCONCLUSIVE, "intruders, W_q, full")  # 2.5 × 3, 9.5
    assert full.inside == "3 of 4 values inside"
    # full at λ = 0.75: 1 and 2, halfway between λ = 0.5 and 1; LoRA as trained: 3 and 4 with seed 0
    assert (reading.value, reading.n, reading.what) == (3.0, 3, "intruders at equal held-out loss, W_q, r = 8 − full")
    assert {"LoRA 4.50, full 1.50", "held-out loss 2.500", "λ: LoRA 1.00, full 0.75"} <= {*reading.notes}
    # 64 − full: −0.5, −1.5 and −2.5, beside and not judged; Student's t with 2 degrees of freedom for 1.96 of 1.96 + 0.84
    assert (large.value, large.verdict) == (-1.5, BESIDE)
    assert large.detectable == pytest.approx(2.8016 * 4.3027 / 1.96 / 3**0.5, rel=1e-3)
    assert reading.verdict == REPLICATED and test.verdict([reading, large]) == REPLICATED and test.verdict([large]) == NOT_RUN
    assert [(one.value, one.verdict, one.what[-13:].strip()) for one in as_trained] == [
        (2.0, BESIDE, "r = 8 − full"), (-2.5, BESIDE, "r = 64 − full")
    ]  # fmt: skip
    assert {reading.verdict for reading in Intruders(["query"], most=4, full_below=5, floor=0).read(evidence)[1:]} == {BESIDE}
    assert Intruders(["query"], most=16, full_below=5, ceiling=0).read(evidence)[1].verdict == REFUTED
    config = {**evidence._cells["delta_w"][0].asked, "method": {"rank": 4, "alpha": 16}}
    evidence._cells["delta_w"].append(replace(evidence._cells["delta_w"][0], asked=config, signature="unknown"))
    small = test.read(evidence)[1]
    assert (small.verdict, small.what[-12:]) == (NOT_RUN, "r = 4 − full")  # 8 does not stand in for it
    assert test.verdict([small, reading]) == INCONCLUSIVE


def test_what_is_forgotten_is_compared_at_the_larger_of_the_two_final_losses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = parts_evidence(tmp_path)
    small, _ = ForgetsAtEqualLoss(ceiling=0).read(evidence)
    assert (small.verdict, small.reason) == (INCONCLUSIVE, "λ lies between measured ones 0.5 apart")
    monkeypatch.setattr(forgetting, "FINE", 0.5)
    small, large = ForgetsAtEqualLoss(ceiling=0).read(evidence)
    # LoRA 3.4, 3.5, 3.6; full at λ = 0.75: 3.75
    assert (small.value, small.n, small.verdict) == (pytest.approx(-0.25, abs=1e-6), 3, REPLICATED)
    assert ForgetsAtEqualLoss(ceiling=-0.1).read(evidence)[0].verdict == INCONCLUSIVE
    assert small.low == pytest.approx(-0.25 - 4.3027 * 0.1 / 3**0.5, abs=1e-4) and large.what[-13:] == "r = 64 − full"
    assert "LoRA 3.500, full 3.750" in small.notes and not any(note.startswith("layers") for note in small.notes)
    lora, full = (next(run for run in probed_runs(runs(evidence.cells("delta_w"), evidence.store)) if run.row == row)
                  for row in ("lora", "full"))  # fmt: skip
    assert equal_loss((lora, full)) == (2.5, [1.0, 0.75]) and equal_loss((full, lora)) == (2.5, [0.75, 1.0])
    for loss in (4.5, 4.0, 3.7, 3.0, 2.6, 2.5):
        grid = np.linspace(0, 1, 100001)
        literal = grid[np.argmax(np.interp(grid, [0, 0.5, 1], [4, 3.5, 2.5]) <= loss)]
        assert scale_at(lora, loss) == pytest.approx(literal, abs=1e-5)
    lora.arrays["scales.dev_loss"] = np.array([4, 2.4, 2.6], np.float32)  # the loss rises again: the first λ that reaches it
    assert scale_at(lora, 2.6) == pytest.approx(0.5 * 1.4 / 1.6, rel=1e-6)


def test_the_top_direction_s_share_is_that_of_the_gain_from_no_update_to_all_of_it(tmp_path: Path) -> None:
    evidence = parts_evidence(tmp_path, ranks=(1, 8))
    (reading,) = TopDirection(least=4, floor=0.5).read(evidence)
    # gains: (4 − 2.8) / 1.5, (4 − 3.1) / 1.5, (4 − 3.4) / 1.5; full: (4 − 3) / 2
    assert (reading.value, reading.n, reading.what) == (pytest.approx(0.6), 3, "gain kept by the top direction, r = 8")
    assert reading.verdict == INCONCLUSIVE and reading.inside == "2 of 3 values inside"
    assert "of full fine-tuning: 0.50" in reading.notes
    assert TopDirection(least=4, floor=0.05).read(evidence)[0].verdict == REPLICATED
    assert [reading.what[-5:] for reading in TopDirection(least=1, floor=0).read(evidence)] == ["r = 1", "r = 8"]
    for cell in evidence.cells("delta_w"):
        cell.asked["probe"]["scales"] = [0.1, 0.5, 1]  # without λ = 0 there is no gain to have a share of
    assert [reading.verdict for reading in TopDirection(least=4, floor=0).read(evidence)] == [NOT_RUN]


def test_the_table_and_figure_of_parts_say_what_each_keeps_and_what_it_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = parts_evidence(tmp_path)
    probes = probed_runs(runs(evidence.cells("delta_w"), evidence.store))
    for run in probes:
        run.record["measured"]["general_loss"] = {"before": 2.5, "after": 4.0}
    retention, rise = partial.tables(probes, ("T",))
    assert rise.rows[0][4:6] == ("—", "—")  # the top directions' loss on general text was not measured
    assert retention.header == ("Run", "λ = 0", "λ = 0.5", "λ = 1", "top 1", "top 2", "n")
    assert retention.rows[0] == ("lora, r = 8", "0.0 ± 0.0", "33.3 ± 0.0", "100.0 ± 0.0", "60.0 ± 20.0", "100.0 ± 0.0", "3")
    for run in probes:
        run.arrays["top.general_loss"] = np.array([2.75, 3.0], np.float32)
    _, rise = partial.tables(probes, ("T",))
    assert rise.rows[-1] == ("full", "0.500 ± 0.000", "1.000 ± 0.000", "1.500 ± 0.000", "0.250 ± 0.000", "0.500 ± 0.000", "3")
    full = next(run for run in probes if run.rank is None)
    plain = dict(full.arrays)
    alone = [run for run in probes if run.label == full.label]
    for run in alone:  # asked for one more lambda than the others
        run.arrays.update({"scales": np.array([0, 0.25, 0.5, 1]),
                           "scales.general_loss": np.array([2.5, 2.6, 3.0, 3.5], np.float32),
                           "scales.dev_loss": np.array([4.0, 3.5, 3.0, 2.0], np.float32)})  # fmt: skip
    retention, _ = partial.tables(probes, ("T",))
    assert retention.header[1:5] == ("λ = 0", "λ = 0.25", "λ = 0.5", "λ = 1")
    assert retention.rows[0][2] == "—" and retention.rows[-1][2] == "25.0 ± 0.0"
    for run in alone:
        run.arrays.update({name: plain[name] for name in ("scales", "scales.general_loss", "scales.dev_loss")})
    plots: list[Plot] = []
    monkeypatch.setattr(partial, "save", lambda panels, *_, title, **__: plots.extend(panels) or [Path(title)])
    (title,) = partial.figures(probes, "", tmp_path / "x")
    assert str(title).startswith("The top direction of every ΔW alone keeps 60 to 60 %")
    for run in probes:  # without the top direction nothing is said of it
        run.arrays["top"] = run.arrays["top"] + 1
    (title,) = partial.figures(probes, "", tmp_path / "x")
    assert "top direction" not in str(title)
    front, shares = plots[:2]
    assert [(spot.x, spot.y) for spot in front.curves[-1].spots] == [(4.0, 0.5), (3.0, 1.0), (2.0, 1.5)]
    assert [(spot.x, spot.y) for spot in shares.curves[-1].spots] == [(1.0, 50.0), (2.0, 100.0)]
    for run in probes:
        del run.arrays["top"], run.arrays["top.dev_loss"]
    assert partial.figures(probes, "", tmp_path / "x")
    for run in probes:
        del run.arrays["scales"]
    assert not partial.tables(probes, ("T",)) and not partial.figures(probes, "", tmp_path / "x")


def test_at_laptop_full_fine_tuning_and_lora_at_two_ranks_are_asked_for_parts_with_every_seed() -> None:
    """Or claims at an equal loss could never be decided."""
    (test,) = [claim.test for claim in CLAIMS if isinstance(claim.test, Intruders)]
    cells = partial.asked_for_parts(declared_cells("delta_w", "laptop"))
    seeds: dict[int | None, set[int]] = {}
    for cell in cells:
        seeds.setdefault(cell.asked["method"].get("rank"), set()).add(cell.seed)
    assert seeds == {key: {0, 1, 2, 3} for key in (8, 64, None)} and 8 <= test.most < 64
    in_subspace = {cell.signature for cell in declared_cells("subspace", "laptop")}
    assert in_subspace == {cell.signature for cell in cells if cell.row.name == "lora"}  # trained once for both tables
    names = {cell.signature for cell in declared_cells("delta_w", "mini")}
    assert {"f2b91c1bc770f0c9", "ab3ac2cbcdc8993b"} < names  # published: how many seeds a row asks for is no part of a run's name


def test_a_rank_whose_directions_were_not_measured_enters_no_norm(tmp_path: Path) -> None:
    evidence = probed_evidence(tmp_path)
    for run in evidence.probed("delta_w"):
        if run.rank == 8:
            del run.arrays["query.inside_8"]
    assert [r.what[-6:] for r in NormRatio(["query"], "norm", "inside", floor=0).read(evidence)] == ["r = 16"]


def test_a_rank_that_is_asked_for_and_was_not_run_leaves_its_norms_open(tmp_path: Path) -> None:
    """Table 7's claims read r = 4 where a profile has it, and not the next rank in its place."""
    evidence = probed_evidence(tmp_path)
    configs = [{**cell.asked, "probe": {"directions": [4, 8, 16]}} for cell in evidence.cells("delta_w")]
    cells = [replace(cell, asked=one) for cell, one in zip(evidence.cells("delta_w"), configs, strict=True)]
    method = {"rank": 4, "alpha": 16}
    smaller = [replace(cell, signature=f"r4{cell.signature}", asked={**cell.asked, "method": method}) for cell in cells]
    tests = [NormRatio(["query"], "norm", "inside", ranks, floor=0) for ranks in ("smallest", "smallest/largest", "each")]
    for extra, verdicts in (([], [[REPLICATED], [REPLICATED], [REPLICATED] * 2]),
                            (smaller, [[NOT_RUN], [NOT_RUN], [NOT_RUN, REPLICATED, REPLICATED]])):  # fmt: skip
        evidence._cells["delta_w"] = [*cells, *extra]
        assert [[reading.verdict for reading in test.read(evidence)] for test in tests] == verdicts
    evidence._cells["subspace"] = [*cells, *smaller]
    overlaps = [Overlap(["query"], between, floor=0) for between in ("ranks", "seeds of each rank", "seeds")]
    tests = [WithWeight(["query"], 0.1, 4, ceiling=0.3), *overlaps]
    assert [[reading.verdict == NOT_RUN for reading in test.read(evidence)] for test in tests] == [
        [True, False], [True], [True, False, False], [False],  # the last is of the largest rank alone, which was run
    ]  # fmt: skip
    evidence = probed_evidence(tmp_path)
    pairless = [cell for cell in evidence.cells("subspace") if cell.asked["method"]["rank"] != 8 or cell.seed == 0]
    evidence._cells["subspace"] = pairless
    assert [reading.verdict for reading in overlaps[1].read(evidence)] == [NOT_RUN, REPLICATED]


@pytest.mark.parametrize(
    "chosen, edge, n, verdict",
    [
        ((9e-3, 3e-3, 9e-3), None, 3, INCONCLUSIVE),  # 9, 3 and 9 times: the interval is 2.4 to 19
        ((9e-3, 9e-3, 1e-2), None, 3, INCONCLUSIVE),  # alike, but perhaps only the same step of the grid: 3.0 to 28
        ((1e-3, 1e-3, 2e-3), None, 3, REFUTED),
        ((9e-3, 9e-3, 1e-2), "high", 2, INCONCLUSIVE),  # at an edge: not yet the best
    ],
)
def test_a_quotient_of_rates_needs_three_bracketed_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: tuple[float, ...], edge: str | None, n: int, verdict: str
) -> None:
    searches: dict[str, Any] = {f"b-{task}": {"chosen": 1e-3, "edge": None} for task in "xyz"}
    searches |= {f"a-{task}": {"chosen": rate, "edge": None} for task, rate in zip("xyz", chosen, strict=True)}
    searches["a-z"]["edge"] = edge
    monkeypatch.setattr("lora_repro.records.rates.setting_signature", lambda asked: asked["key"])
    monkeypatch.setattr(Cell, "search", property(lambda cell: searches.get(cell.asked["key"])))
    cells = []
    for row, task in itertools.product("abc", "xyz"):
        config = {"task": {"name": task}, "backbone": {"name": "tiny"}, "key": f"{row}-{task}"}
        cells.append(Cell(Row(row, row, 1, 3, True, {}, {}), 0, {"task": task}, (), row + task, config, Path(row)))
    evidence = noted_evidence(tmp_path)
    evidence._cells["t"] = cells
    (reading,) = RateQuotient([["t/a", "t/b"]], floor=5, ceiling=20).read(evidence)
    assert (reading.n, reading.verdict) == (n, verdict) and "mini/trials/a-x.json" in reading.sources
    assert reading.value == pytest.approx(1e3 * math.prod(chosen[:n]) ** (1 / n))
    assert RateQuotient([["t/a", "t/c"]], floor=5).read(evidence) == []  # never searched
    searches["b-x"]["learnt"] = False
    (fewer,) = RateQuotient([["t/a", "t/b"]], floor=5, ceiling=20).read(evidence)
    assert fewer.n == n - 1 and "left out, no rate of a search above chance: t/a / t/b on X" in fewer.notes
    del searches["b-x"]["learnt"]
    larger = [replace(cell, asked={**cell.asked, "backbone": {"name": "large"}}) for cell in cells]
    evidence._cells["t"] = [*cells, *larger]  # with the same rates: as many settings more, none in another's place
    (both,) = RateQuotient([["t/a", "t/b"]], floor=5, ceiling=20).read(evidence)
    assert (both.n, both.value) == (2 * n, pytest.approx(reading.value))
    if not edge and verdict == INCONCLUSIVE:
        assert RateQuotient([["t/a", "t/b"]], floor=2, ceiling=90).read(evidence)[0].verdict == REPLICATED
    with pytest.raises(UserError, match="two cells of one table"):
        RateQuotient([["t/a", "u/b"]], floor=5)


def test_quotients_that_are_alike_are_no_surer_than_the_grid() -> None:
    """Student's of four logarithms whose standard deviation is ln 3 / sqrt(6), or their own if that is larger."""
    mean, low, high = with_grid([math.log(10)] * 4)
    assert math.exp(mean) == pytest.approx(10) and mean - low == pytest.approx(high - mean)
    assert high - mean == pytest.approx(3.18245 * math.log(3) / 6**0.5 / 2, rel=1e-4)
    wide = with_grid([0.0, 2.0, 4.0])
    assert wide[2] - wide[0] == pytest.approx(4.30265 * 2 / 3**0.5)


def test_every_rank_enters_one_setting_and_another_alpha_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {1: 1e-3, 4: 3e-3, 64: 9e-3}
    monkeypatch.setattr("lora_repro.records.rates.setting_signature", lambda asked: asked["key"])
    monkeypatch.setattr(Cell, "search", property(lambda cell: {"chosen": rates[cell.axes["row.rank"]], "edge": None}))
    cells = []
    for task, rank in itertools.product("xyz", rates):
        alpha = 32 if task == "x" else 8
        config = {"task": {"name": task}, "backbone": {"name": "tiny"}, "key": f"{task}{rank}", "method": {"alpha": alpha}}
        axes = {"task": task, "row.rank": rank}
        cells.append(Cell(Row("a", "a", 1, 3, True, {}, {}), 0, axes, (), f"{task}{rank}", config, Path("a")))
    evidence = Evidence("mini", tmp_path, {})
    evidence._cells["t"] = cells
    (every,) = RateQuotient([["t/a@*", "t/a@1"]], ceiling=90).read(evidence)
    assert every.n == 3 and every.value == pytest.approx(27**0.5)  # of 3 and 9 times on each task
    (one,) = RateQuotient([["t/a@*", "t/a@1"]], ceiling=90, alpha=32).read(evidence)
    assert one.n == 1 and one.verdict == INCONCLUSIVE and sum(note.startswith("left out, α = 8") for note in one.notes) == 4
    (none,) = RateQuotient([["t/a@*", "t/a@1"]], ceiling=90, alpha=16).read(evidence)
    assert (none.value, none.verdict) == (None, INCONCLUSIVE)


def test_rates_of_runs_that_still_rise_give_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_repro.records.rates.setting_signature", lambda asked: "s")
    monkeypatch.setattr(Cell, "search", property(lambda cell: {"chosen": 1e-3 if cell.row.name == "a" else 1e-2, "edge": None}))
    right: Any = {(row, task, None, seed): 100 for row in "ab" for task in "xyz" for seed in range(2)}
    evidence = evidence_of(tmp_path, right, tasks=("x", "y", "z"))
    test = RateQuotient([["t/a", "t/b"]], ceiling=1)
    assert test.read(evidence)[0].verdict == REPLICATED
    falling = [(step, 1 - step / 200) for step in range(5, 101, 5)]
    evidence.store.records["b-y-None-0"]["measured"] |= {"steps": 100, "train_losses": falling}
    (reading,) = test.read(evidence)
    assert reading.verdict == INCONCLUSIVE and any("still rising: t/b on Y" in note for note in reading.notes)


def test_the_ledger_has_a_second_table_for_what_came_after(tmp_path: Path) -> None:
    additions = [claim for claim in CLAIMS if claim.after]
    assert [claim.order >= 500 for claim in CLAIMS] == [claim.after for claim in CLAIMS] and additions
    entries = [(claim, {"mini": ledger.Outcome(NOT_RUN, ())}) for claim in (CLAIMS[0], additions[0])]
    text = ledger.markdown(ledger.Ledger({"mini": "x"}, entries))
    first, second = text.split("**After the paper**")
    assert f"[{CLAIMS[0].statement}]" in first and "| Claim | Source | mini |" in first and additions[0].statement not in first
    assert second.index("| Claim | Source | mini |") < second.index(f"[{additions[0].statement}]")
    assert f"- Source: {additions[0].figure}" in second and f"- Source: {CLAIMS[0].figure}" in second


def test_directions_that_are_shared_and_that_are_not(tmp_path: Path) -> None:
    evidence = probed_evidence(tmp_path)
    top = Overlap(["query", "value"], "ranks", floor=0.5).read(evidence)
    assert [r.verdict for r in top] == [REPLICATED, REFUTED] and top[0].value == pytest.approx(1, abs=1e-3) and top[0].n == 4
    (rest,) = Overlap(["query"], "ranks", first=2, last=3, ceiling=0.3).read(evidence)  # 1 to 3 would be above 1/3
    assert rest.verdict == REPLICATED
    (seeds,) = Overlap(["query"], "seeds", last=1, less="chance", floor=0.5).read(evidence)
    assert seeds.value == pytest.approx(1 - 1 / 64, abs=1e-3) and seeds.verdict == REPLICATED and seeds.n == 4
    (more,) = Overlap(["query"], "seeds", last=1, less="value", floor=0).read(evidence)
    assert more.value is not None and more.value > 0.5 and more.verdict == REPLICATED
    assert "mini/updates/r16s1.safetensors" in seeds.sources


def test_ranks_of_one_seed_share_random_numbers_and_are_not_compared(tmp_path: Path) -> None:
    evidence = probed_evidence(tmp_path)
    for run in evidence.probed("subspace"):  # whatever a seed's trainings share, no two seeds do
        run.arrays["query.basis_0"] = np.roll(np.eye(64), 16 * run.seed, axis=0)[:, : run.rank]
    (reading,) = Overlap(["query"], "ranks", first=1, last=8, floor=0.5).read(evidence)
    assert reading.value == 0 and reading.verdict == REFUTED and reading.n == 4


def test_two_seeds_give_no_verdict_however_clear(tmp_path: Path) -> None:
    evidence = probed_evidence(tmp_path, seeds=(0, 1))
    for between in ("ranks", "seeds"):
        (reading,) = Overlap(["query"], between, floor=0.5).read(evidence)
        assert reading.value == pytest.approx(1, abs=1e-3) and reading.n == 2 and reading.verdict == INCONCLUSIVE
    three = probed_evidence(tmp_path / "three", seeds=(0, 1, 2))
    assert Overlap(["query"], "seeds", floor=0.5).read(three)[0].verdict == REPLICATED


def test_a_run_s_value_is_the_mean_of_its_layers_and_the_interval_is_over_seeds(tmp_path: Path) -> None:
    """Layers that differ are no uncertainty; seeds that differ are, by Student's t."""
    evidence = probed_evidence(tmp_path)
    values = {0: 1.0, 1: 2.0, 2: 3.0, 3: 6.0}
    for run in evidence.probed("delta_w"):
        run.arrays["query.norm"] = np.array([[9.0, 9.0], [values[run.seed] - 1, values[run.seed] + 1]], np.float32)
        run.arrays[f"query.inside_{run.rank}"] = np.ones((2, 2), np.float32)
    (reading,) = NormRatio(["query"], "norm", "inside", "smallest", floor=0.5).read(evidence)
    error = np.std(list(values.values()), ddof=1) / 2
    reach = 3.18245 * error
    assert reading.value == 3 and (reading.low, reading.high) == pytest.approx((3 - reach, 3 + reach), abs=1e-4)
    assert reading.notes[0].startswith("layers: median 2.50, middle 95 %")
    for run in evidence.probed("delta_w"):
        run.arrays["query.norm"] = np.array([[9.0, 9.0], [1.0, 9.0]], np.float32)
    (same,) = NormRatio(["query"], "norm", "inside", "smallest", floor=4).read(evidence)
    assert (same.low, same.value, same.high, same.verdict) == (5, 5, 5, REPLICATED)


def test_an_adapter_that_learned_nothing_passes_no_claim_on_its_directions(tmp_path: Path) -> None:
    """Random directions lie little in W's top ones: that alone says nothing of what was learned, at each rank that is judged."""
    claim = next(claim for claim in CLAIMS if claim.id == "not_the_top")
    for ranks, verdict in (((8, 16), REPLICATED), ((16,), INCONCLUSIVE), ((), INCONCLUSIVE)):
        evidence = probed_evidence(tmp_path / str(len(ranks)))
        for run in evidence.probed("subspace"):
            for kind in ("query", "value"):
                random = random_basis(64, 64, seed=run.rank + 100 * run.seed + 7 * len(kind))
                first = np.eye(64)[:, :1] if run.rank in ranks else random[:, :0]
                basis = np.linalg.qr(np.concatenate([first, random[:, : run.rank - first.shape[1]]], axis=1))[0]
                run.arrays[f"{kind}.basis_0"] = basis
        readings = claim.test.read(evidence)
        assert claim.test.verdict(readings) == verdict
    assert [r.what for r in readings if "r = 8" in r.what] == [
        f"φ of directions 1–4 between seeds, r = 8, {name} − chance" for name in ("W_q", "W_v")
    ]


@pytest.mark.parametrize("phi, verdict", [(0.2, REPLICATED), (0.28, REFUTED)])
def test_what_an_update_repeats_of_w_is_held_to_the_chance_level(tmp_path: Path, phi: float, verdict: str) -> None:
    """Chance is 6 of 64 directions: 0.28 is twice as far above it as the paper's 0.2."""
    claim = next(claim for claim in CLAIMS if claim.id == "not_the_top")
    evidence = probed_evidence(tmp_path)
    for run in evidence.probed("subspace"):
        run.arrays["value.basis_0"] = run.arrays["query.basis_0"]
        for kind in ("query", "value"):
            run.arrays[f"{kind}.weight_similarity_0"] = np.full((64, run.rank), phi, np.float32)
    readings = claim.test.read(evidence)
    assert readings[0].value == pytest.approx(phi - 6 / 64) and f"φ {phi:.2f}, chance 0.09" in readings[0].notes
    assert claim.test.verdict(readings) == verdict


def test_directions_and_norms_at_rates_nobody_searched_give_no_verdict(tmp_path: Path) -> None:
    tests = (Overlap(["query"], "seeds", floor=0.5), WithWeight(["query"], 0.1, 4, ceiling=0.3),
             NormRatio(["query"], "norm", "inside", "smallest", floor=5))  # fmt: skip
    for place, ranks in enumerate(((), (8, 16))):
        evidence = probed_evidence(tmp_path / str(place))
        cells = [Guess(**vars(cell)) if cell.axes["row.rank"] in ranks else cell for cell in evidence.cells("subspace")]
        evidence._cells["subspace"] = evidence._cells["delta_w"] = cells
        readings = [reading for test in tests for reading in test.read(evidence)]
        assert {reading.verdict for reading in readings} == {INCONCLUSIVE if ranks else REPLICATED}
        assert all(("LoRA, r = 8: rate not searched" in reading.notes) == bool(ranks) for reading in readings[1:])
    assert all("with at least 3 seeds and searched rates" in test.rule for test in tests)


def test_norms_are_the_last_step_s_at_the_rank_of_the_run(tmp_path: Path) -> None:
    evidence = probed_evidence(tmp_path)
    (small,) = NormRatio(["query"], "norm", "inside", "smallest", floor=5).read(evidence)
    assert small.value == 8 and small.verdict == REPLICATED and "r = 8" in small.what and small.n == 4
    assert "random directions: 24.00" in small.notes  # 8 / 0.5 and 8 / 0.25: a larger factor than the trained one's
    (over,) = NormRatio(["query"], "norm", "inside", "smallest/largest", floor=1).read(evidence)
    assert over.value == pytest.approx(2) and over.verdict == REPLICATED and over.n == 4
    each = NormRatio(["value"], "inside", "weight_random", floor=3).read(evidence)
    assert [(r.value, r.verdict) for r in each] == [(3, INCONCLUSIVE)] * 2  # on the threshold
    for run in evidence.probed("delta_w"):  # a draw of more directions scatters less, and stands for fewer
        run.arrays["value.weight_random_32"] = np.array([2.0, 2.0], np.float32)
    each = NormRatio(["value"], "inside", "weight_random", floor=3).read(evidence)
    assert [r.value for r in each] == [2, 1]  # 1 over 2 · 8/32 and 2 · 16/32
    (weight,) = WithWeight(["query"], 0.1, 4, ceiling=0.3).read(evidence)
    assert weight.value == pytest.approx(0.15 - 6 / 64) and weight.verdict == REPLICATED


def test_amplification_is_judged_against_random_directions(tmp_path: Path) -> None:
    """Planted: ||D|| is 8 at r 8 and 4 at r 16, alpha / r 2 and 1: with alpha fixed the quotient of the ranks alone is 2."""
    evidence = probed_evidence(tmp_path)
    both = NormRatio(["query"], "norm", "inside", "smallest/largest", forms="both", floor=1.5)
    ratios = both.read(evidence)
    assert [reading.value for reading in ratios] == [pytest.approx(2), pytest.approx(1)] and "without α/r" in ratios[1].what
    assert [reading.verdict for reading in ratios] == [REPLICATED, REFUTED] and both.verdict(ratios) == INCONCLUSIVE
    claims = {claim.id: claim.test for claim in CLAIMS}
    # ||U^T W V|| is 1 in the update's directions, 0.5 and 0.25 in random ones, whose factor is the larger one.
    readings = claims["amplification"].read(evidence)
    assert [reading.value for reading in readings] == [pytest.approx(0.375)] * 2
    assert {reading.verdict for reading in readings} == {REFUTED}
    assert claims["amplification"].verdict(readings) == CONTRADICTED  # as the paper's own numbers have it
    assert NormRatio(["query"], "weight_random", "inside", "smallest", floor=1, printed=2).verdict(readings) == REFUTED
    assert claims["amplification"].verdict([replace(readings[0], verdict=REPLICATED)]) == REPLICATED


def test_a_larger_rank_holds_more_of_w_in_random_directions_too(tmp_path: Path) -> None:
    """So a factor that falls just as it does there says nothing: the quotient is 1, where the factor's own is 2."""
    evidence = probed_evidence(tmp_path)
    (test,) = [claim.test for claim in CLAIMS if claim.id == "amplification_rank"]
    for times, verdict in ((1.0, INCONCLUSIVE), (2.0, REPLICATED), (0.5, CONTRADICTED)):
        for run in evidence.probed("delta_w"):
            for kind in ("query", "value"):
                base = np.array([0.5, 0.25], np.float32)
                run.arrays[f"{kind}.weight_random_{run.rank}"] = base * (times if run.rank == 8 else 1)
        readings = test.read(evidence)
        assert [reading.value for reading in readings] == [pytest.approx(times)] * 2 and test.verdict(readings) == verdict


def test_the_stable_rank_of_an_update_beside_its_r(tmp_path: Path) -> None:
    """Of a literal ΔW = B A of rank 8, whose squared norm one direction holds nearly alone; of rank 4 with four equal ones."""
    rng, cells = np.random.default_rng(0), []
    for rank, weights in ((4, [1, 1, 1, 1]), (8, [9, 1, 1, 1, 1, 1, 1, 1]), (1, [1]), (0, [3.0, 4.0])):
        for seed in range(3):
            left, right = (np.linalg.qr(rng.standard_normal((16, len(weights))))[0] for _ in "BA")
            update = left @ np.diag(weights) @ right.T
            key, row = f"r{rank}s{seed}", "lora" if rank else "full"
            method = {"rank": rank, "alpha": 16} if rank else {}
            config = {"task": {"name": "x"}, "backbone": {"name": "tiny"}, "method": method}
            cells.append(Cell(Row(row, row, 1, 4, True, {}, {}), seed, {}, (), key, config, Path(key)))
            plant(tmp_path, key, 1)
            (tmp_path / "updates").mkdir(exist_ok=True)
            values = np.linalg.svd(update, compute_uv=False)[None].astype(np.float32)
            norms = np.array([[7.0], [np.linalg.norm(update)]], np.float32)  # of two observed steps the last counts
            save_file({"query.norm": norms, "query.spectrum": values}, tmp_path / "updates" / f"{key}.safetensors")
    evidence = noted_evidence(tmp_path)
    evidence._cells["delta_w"] = cells
    equal, one = StableRank(["query"], least=4, ceiling=0.5).read(evidence)
    assert (equal.value, one.value) == (pytest.approx(1), pytest.approx((81 + 7) / 81 / 8))
    assert (equal.verdict, one.verdict) == (REFUTED, REPLICATED) and "r = 8" in one.what
    assert "stable rank: 1.09" in one.notes and f"of full fine-tuning: {(9 + 16) / 16:.2f}" in one.notes
    evidence = noted_evidence(tmp_path)
    evidence._cells["delta_w"] = [cell for cell in cells if cell.signature not in ("r8s0", "r4s0", "r4s1", "r4s2")]
    (two,) = StableRank(["query"], least=4, ceiling=0.5).read(evidence)
    assert (two.n, two.verdict) == (2, INCONCLUSIVE)


def test_the_source_s_own_numbers_are_the_quotients_of_table_7() -> None:
    tests = {claim.id: claim.test for claim in CLAIMS if isinstance(claim.test, NormRatio)}
    assert tests["amplification"].printed == pytest.approx(0.02 / 0.32)
    assert tests["amplification_rank"].printed == pytest.approx((0.02 / 0.32) / (0.33 / 1.90), abs=0.01)


def test_a_single_run_that_says_otherwise_is_told_beside_the_mean(tmp_path: Path) -> None:
    evidence = probed_evidence(tmp_path)
    runs = evidence.probed("delta_w")
    ratio = NormRatio(["query"], "norm", "inside", "smallest", floor=3)
    runs[0].arrays["query.norm"] = np.full((2, 2), 2.9)
    (reading,) = ratio.read(evidence)
    assert reading.value == pytest.approx(6.725) and reading.verdict == INCONCLUSIVE and reading.inside == "3 of 4 values inside"


def test_one_seed_of_probed_runs_gives_no_verdict(tmp_path: Path) -> None:
    evidence = probed_evidence(tmp_path, seeds=(0,))
    assert NormRatio(["query"], "norm", "inside", floor=0.5).read(evidence)[0].verdict == INCONCLUSIVE
    for between in ("ranks", "seeds"):  # no pair
        assert [one.verdict for one in Overlap(["query"], between, floor=0.5).read(evidence)] == [NOT_RUN]
    parts = [Overlap(["query"], "seeds", floor=0.5)]
    assert [reading.verdict for reading in AllOf(parts).read(evidence)] == [NOT_RUN]


def latency(tmp_path: Path, slow: dict[str, dict[int, float]], load: float = 0.1) -> Evidence:
    """slow: row -> batch -> factor on the plain model's time, with a little noise of each round's own."""
    noise = np.random.default_rng(0)
    entries = []
    for batch in sorted({batch for factors in slow.values() for batch in factors}):
        plain = 10 + noise.random(30)
        for row, factors in {"plain": {batch: 1.0}, **slow}.items():
            times = plain * factors[batch] * (1 if row == "plain" else noise.normal(1, 0.01, 30))
            entries.append({"backbone": "gpt2", "batch": batch, "length": 128, "row": row, "ms": [float(t) for t in times]})
    write_json(tmp_path / "measures" / "latency.json", {
        "schema": record.SCHEMA, "name": "latency", "latency": entries, "backbones": {"gpt2": "GPT-2"},
        "where": {"device": "cpu", "load_before": load},
    })  # fmt: skip
    return noted_evidence(tmp_path)


def test_latency_merged_is_plain_and_adapters_cost_most_at_the_smallest_batch(tmp_path: Path) -> None:
    evidence = latency(tmp_path, {"lora_merged": {1: 1.0, 16: 1.0}, "adapter": {1: 1.2, 16: 1.05}}, load=3.0)
    (merged,) = Slowdown(["lora_merged"], floor=-2, ceiling=2).read(evidence)
    assert merged.verdict == REPLICATED and merged.n == 30 and "busy (load 3.0)" in merged.notes[2]
    assert merged.sources == ("mini/measures/latency.json",)
    (least,) = Slowdown(["adapter"], "least", floor=0).read(evidence)
    (more,) = Slowdown(["adapter"], "least − most", floor=0).read(evidence)
    assert least.value == pytest.approx(20, abs=2) and more.value == pytest.approx(15, abs=2) and more.verdict == REPLICATED
    assert Slowdown(["adapter"], floor=-2, ceiling=2).read(evidence)[0].verdict == REFUTED
    assert Slowdown(["adapter", "gone"], floor=0).read(evidence)[0].verdict == INCONCLUSIVE
    assert Slowdown(["adapter"], floor=0).read(noted_evidence(tmp_path / "nothing")) == []
    mixture = latency(tmp_path / "mixed", {"adapter": {1: 1.2, 16: 1.05}, "other": {1: 0.97, 16: 0.99}})
    (reading,) = Slowdown(["adapter", "other"], "least", floor=0).read(mixture)
    assert re.fullmatch(r"its 2 cells lie from −(2|3)\.\d to \+(19|20)\.\d", reading.notes[1])
    assert reading.verdict == REPLICATED and reading.inside == "1 of 2 cells inside"  # the mean decides; one of two adds nothing


def test_a_batch_of_two_is_no_large_one(tmp_path: Path) -> None:
    """The paper's largest batch is 32 times its smallest: twice the rows cannot show that the slow-down goes away."""
    for largest, verdict in ((8, INCONCLUSIVE), (16, REPLICATED)):
        evidence = latency(tmp_path / str(largest), {"adapter": {1: 1.2, largest: 1.05}})
        (reading,) = Slowdown(["adapter"], "least − most", floor=0).read(evidence)
        assert reading.verdict == verdict and reading.value == pytest.approx(15, abs=2)
        assert any("batches of 1 and 8" in note for note in reading.notes) == (verdict == INCONCLUSIVE)


def test_rows_of_a_cell_share_its_rounds(tmp_path: Path) -> None:
    """What one round did to all rows alike does not average out over rows: ten copies of a row say no more than it does."""
    evidence = latency(tmp_path, {"adapter": {1: 1.2, 16: 1.05}})
    path = tmp_path / "measures" / "latency.json"
    content = record.read(path)
    copies = [{**e, "row": f"copy{i}"} for e in content["latency"] if e["row"] == "adapter" for i in range(10)]
    (one,) = Slowdown(["adapter"], "least", floor=0).read(evidence)
    write_json(path, {**content, "latency": [*content["latency"], *copies]})
    (ten,) = Slowdown([f"copy{i}" for i in range(10)], "least", floor=0).read(noted_evidence(tmp_path))
    assert (one.low, one.high) == pytest.approx((ten.low, ten.high))


def test_measured_memory_is_the_quotient_of_peaks_of_one_model(tmp_path: Path) -> None:
    peaks = {("gpt2", "lora"): 40, ("gpt2", "full"): 100, ("llama", "lora"): 90, ("llama", "full"): 100, ("bert", "lora"): 1}
    entries = [{"backbone": backbone, "row": row, "peak_mib": peak} for (backbone, row), peak in peaks.items()]
    content = {"schema": record.SCHEMA, "memory": entries, "where": {"device": "cpu"}, "backbones": {"gpt2": "G", "llama": "L"}}
    write_json(tmp_path / "measures" / "latency.json", content)
    evidence = noted_evidence(tmp_path)
    (reading,) = MeasuredMemory("lora", "full", ceiling=1).read(evidence)
    assert (reading.low, reading.high, reading.n, reading.verdict) == (0.4, 0.9, 2, REPLICATED)
    assert MeasuredMemory("lora", "full", ceiling=0.8).read(evidence)[0].verdict == INCONCLUSIVE
    assert MeasuredMemory("lora", "full", ceiling=0.8).read(noted_evidence(tmp_path / "none")) == []


# The whole ledger, from records that conf/ asks for.


def test_the_ledger_is_written_from_records_alone_and_repeats_byte_for_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    some = ("e2e_lora_full", "start", "saving_base", "merged_latency")
    claims = [claim for claim in CLAIMS if claim.id in some]
    monkeypatch.setattr(ledger, "load", lambda: claims)
    monkeypatch.setattr(show, "names", lambda: ["e2e"])  # the page of what was run composes the cells of every table
    assert command.main(["claims"], tmp_path) == 2 and "nothing is published" in capsys.readouterr().err
    folder = tmp_path / "results" / "smoke"
    for cell in declared_cells("e2e", "smoke", ["row/e2e=lora,full", "seed=0,1,2"]):
        e2e(folder, cell.signature, 9 if cell.row.name == "lora" else 6)
    note(tmp_path / "results")
    ledgers = []
    for _ in range(2):
        assert command.main(["claims"], tmp_path) == 0
        ledgers.append([(tmp_path / "results" / f"claims.{ending}").read_text(encoding="utf-8") for ending in ("md", "csv")])
    assert ledgers[0] == ledgers[1]
    assert "smoke: 1 arithmetic, 1 inconclusive, 1 not run at this scale, 1 tested" in capsys.readouterr().out
    text, rows = ledgers[0]
    assert "- `smoke`: tiny. Generated data." in text and "**inconclusive** at smoke, generated data; better: **" in text
    assert "30 test inputs; a verdict needs 200" in text and "rate not searched" in text
    assert f"**{TESTED}**" in text and len(re.findall(r"\]\(smoke/records/", text)) == 6
    for link in re.findall(r"\]\((smoke/[^)]+)\)", text):
        assert (tmp_path / "results" / link).is_file()
    assert sum(row.startswith("e2e_lora_full,smoke,inconclusive,") for row in rows.splitlines()) == 1


def e2e(folder: Path, key: str, matches: int) -> None:
    plant(folder, key, 1, caption="synthetic E2E")
    entry = record.read(folder / "records" / f"{key}.json")
    entry["measured"]["scores"] = {"bleu": matches / 10}
    plant_record(folder / "records" / f"{key}.json", entry)
    line = f'{{"matches": [{matches}, {matches}, {matches}, {matches}], "totals": [10, 10, 10, 10], "hyp_len": 10, "ref_len": 10'
    write_text(folder / "predictions" / f"{key}.jsonl", "".join(f'{line}, "key": "{i}"}}\n' for i in range(30)))


def test_tasks_of_a_mean_are_drawn_apart_in_a_claim(tmp_path: Path) -> None:
    right = {(row, task, None, seed): n for row, n in (("a", 150), ("b", 120)) for task in "xy" for seed in range(3)}
    evidence = evidence_of(tmp_path, right, tasks=("x", "y"))
    (mean,) = Compare([["t/a", "t/b"]], floor=0).read(evidence)
    one, _ = Compare([["t/a", "t/b"]], floor=0, tasks="each").read(evidence)
    assert mean.value == pytest.approx(one.value) and mean.detectable == pytest.approx(one.detectable / math.sqrt(2), rel=0.15)
