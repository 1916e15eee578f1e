"""What a comparison says of planted runs: no winner among equals, one where there is one, and nothing learnt from noise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted import seal

from lora_repro.compare import answer as answering
from lora_repro.compare.advice import advice, table
from lora_repro.compare.answer import Answer, answer
from lora_repro.planning.cells import Cell, Row
from lora_repro.report.table import markdown
from lora_repro.results import OWN, Store

ROWS = 300
STEPS = {"steps": 30, "train_seconds": 3.0, "train_losses": [[step, 0.7 - 0.2 * min(step, 10) / 10] for step in range(1, 31)],
         "dev_scores": [[10, 0.8], [20, 0.85], [30, 0.85]], "dev_losses": [[10, 0.5], [20, 0.4], [30, 0.4]]}  # fmt: skip


def planted(
    folder: Path,
    correct: dict[str, Sequence[Sequence[bool]]],
    seeds: Sequence[int] = (0, 1, 2),
    **measured: Any,
) -> tuple[list[Cell], Store]:
    """Cells and records of a sentence task: `correct[row][seed]` says which inputs that run had right."""
    cells, records = [], {}
    for order, (name, runs) in enumerate(correct.items()):
        for seed, right in zip(seeds, runs, strict=False):
            signature = f"{name}{seed}"
            place = folder / signature
            place.mkdir(parents=True)
            lines = [{"key": str(key), "correct": int(one)} for key, one in enumerate(right)]
            (place / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
            config = {
                "task": {"name": "own_labels", "metrics": ["accuracy"], "held_out": 100},
                "train": {"lr": 1e-3, "select_by": "score"},
                "method": {
                    "name": name,
                    **({"name": name[:-1], "rank": int(name[-1])} if name[-1].isdigit() else {}),
                },
                "backbone": {"name": "b"},
                "data": {},
                "seed": seed,
            }
            counts = {"method": 1000 * (order + 1), "head": 10, "total": 10**6}
            record = {
                "schema": 1,
                "signature": signature,
                "status": "finished",
                "asked": config,
                "row": {"table": "t", "name": name, "label": name},
                "measured": {
                    "scores": {"accuracy": float(np.mean(right))},
                    "parameters": counts,
                    **STEPS,
                    **measured,
                },
                "where": {
                    "data": {"caption": "own", "hashes": {}},
                    "backbone": {"label": "b", "sha256": "0"},
                },
            }
            seal(place, record)
            records[signature] = json.loads((place / "record.json").read_text())
            row = Row(name, name, order, 9, True, {}, {})
            cells.append(Cell(row, seed, {}, (f"row/t={name}",), signature, config, place))
    return cells, Store(OWN, folder, records)


def answered(
    folder: Path,
    correct: dict[str, Sequence[Sequence[bool]]],
    monkeypatch: pytest.MonkeyPatch,
    **measured: Any,
) -> Answer:
    cells, store = planted(folder, correct, **measured)
    monkeypatch.setattr(answering, "_learnt", lambda rows, metric: (50.0, {}))
    comparison = answer("planted", cells, store, {}, {"accuracy"}.__contains__)
    assert comparison is not None
    return comparison


def alike(chance: np.ndarray, generator: np.random.Generator, seeds: int = 3) -> list[list[bool]]:
    """Runs of one method: each input right with its own chance, and a seed that is better or worse at all of them."""
    return [
        [
            bool(one)
            for one in generator.random(len(chance)) < np.clip(chance + generator.normal(0, 0.01), 0, 1)
        ]
        for _ in range(seeds)
    ]


def test_of_methods_that_are_the_same_almost_never_one_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    winners, pairwise = 0, 0
    for repeat in range(20):
        chance = generator.beta(4, 1, ROWS)
        runs = {name: alike(chance, generator) for name in ("a", "b", "c", "d")}
        comparison = answered(tmp_path / str(repeat), runs, monkeypatch)
        winners += not comparison.rivals
        pairwise += any(one.low > 0 for one in comparison.pairs.values())
    print(f"{winners} winners, {pairwise} with an uncorrected interval above 0, of 20")
    assert winners <= 1, f"{winners} of 20 comparisons of equal methods name a winner"
    assert winners <= pairwise  # correcting for all pairs never makes more of them


def test_a_method_that_is_better_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    chance = generator.beta(4, 1, ROWS)
    runs = {"good": alike(chance, generator), "bad": alike(chance - 0.25, generator)}
    comparison = answered(tmp_path, runs, monkeypatch)
    assert comparison.best.name == "good" and not comparison.rivals
    assert comparison.better(comparison.best, comparison.rows[1]) and not comparison.better(comparison.rows[1], comparison.best)
    assert any("good" in line and "better than bad" in line for line in advice(comparison))
    assert "good" in markdown([table(comparison)])


def test_with_one_seed_nothing_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    chance = generator.beta(4, 1, ROWS)
    comparison = answered(
        tmp_path,
        {"good": alike(chance, generator, 1), "bad": alike(chance - 0.25, generator, 1)},
        monkeypatch,
    )
    assert [row.name for row in comparison.rivals] == ["bad"]
    assert any("seed" in line for line in advice(comparison))


def test_what_still_rises_is_neither_better_nor_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(1)
    chance = generator.beta(4, 1, ROWS)
    rising = [[10, 0.6], [20, 0.7], [30, 0.9]]
    runs = {"good": alike(chance, generator), "bad": alike(chance - 0.25, generator)}
    comparison = answered(tmp_path, runs, monkeypatch, dev_scores=rising)
    assert comparison.rivals and all("rising" in row.doubt for row in comparison.rows)
    assert any("train longer" in line for line in advice(comparison))


def test_the_cheapest_of_those_that_are_not_worse_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(2)
    chance = generator.beta(4, 1, ROWS)
    runs = {
        "small": alike(chance, generator),
        "large": alike(chance, generator),
        "bad": alike(chance - 0.3, generator),
    }
    comparison = answered(tmp_path, runs, monkeypatch)
    words = advice(comparison)
    assert any("small trains the fewest values (1,010)" in line for line in words)
    assert not any("bad" in line for line in words)
    assert any("would decide it" in line for line in words)


def test_the_smallest_rank_that_is_not_worse_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(6)
    chance = generator.beta(4, 1, ROWS)
    runs = {
        "lora1": alike(chance - 0.3, generator),
        "lora4": alike(chance, generator),
        "lora8": alike(chance, generator),
    }
    words = advice(answered(tmp_path, runs, monkeypatch))
    assert any(
        line.startswith("Rank 4 is the smallest that is not shown to be worse than rank ") for line in words
    )
    assert any(
        line.startswith("In our own table (MiniLM-L6 on SST-2) ranks 1 to 384 lie at most 0.9 points apart")
        for line in words
    )


def test_noise_is_not_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(3)
    half = np.full(ROWS, 0.5)
    cells, store = planted(tmp_path, {name: alike(half, generator) for name in ("a", "b")})
    constant = [{"correct": int(one)} for one in generator.random(ROWS) < 0.5]

    def learnt(rows: Any, metric: str) -> tuple[float, dict[str, Any]]:
        return answering.from_constant(rows, metric, 0.5, constant)

    monkeypatch.setattr(answering, "_learnt", learnt)
    comparison = answer("planted", cells, store, {}, {"accuracy"}.__contains__)
    assert comparison is not None and comparison.nothing_learnt
    assert advice(comparison)[0].startswith("Nothing is learnt")


def test_texts_are_learnt_where_two_seeds_lie_far_above_the_untuned_model(tmp_path: Path) -> None:
    """Corrected for the four trained rows, not for the ten pairs that a table of five rows has."""
    generator = np.random.default_rng(8)
    rows = {"untuned": np.full(ROWS, 0.2)} | {name: np.full(ROWS, 0.7) for name in ("full", "lora", "bitfit", "adapter_h")}
    cells, store = planted(tmp_path, {name: alike(chance, generator, 2) for name, chance in rows.items()}, (0, 1))
    for cell in cells:
        if cell.row.name == "untuned":
            store.records[cell.signature]["measured"]["parameters"] |= {"method": 0, "head": 0}
    comparison = answer("planted", cells, store, {}, {"accuracy"}.__contains__)
    assert comparison is not None and comparison.constant is None and len(comparison.learnt) == 4
    assert not comparison.nothing_learnt and not advice(comparison)[0].startswith("Nothing")
    assert all(comparison.learnt[name].p < comparison.pairs[name, "untuned"].p for name in comparison.learnt)


def test_the_frame_has_a_line_for_each_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(4)
    chance = generator.beta(4, 1, ROWS)
    runs = {"full": alike(chance, generator), "lora": alike(chance, generator)}
    frame = answered(tmp_path, runs, monkeypatch).frame()
    assert list(frame["row"]) == ["full", "lora"] and frame["reference"].unique() == ["full"]
    mean = 100 * np.mean([np.mean(one) for one in runs["lora"]])
    assert frame.loc[1, "accuracy"] == pytest.approx(mean)
    gap = mean - 100 * np.mean([np.mean(one) for one in runs["full"]])
    assert (
        frame.loc[1, "difference"] == pytest.approx(gap) and frame.loc[1, "low"] < gap < frame.loc[1, "high"]
    )
    assert frame.loc[0, "difference"] is None or np.isnan(frame.loc[0, "difference"])
    assert frame.loc[0, "step_ms"] == pytest.approx(100.0)
