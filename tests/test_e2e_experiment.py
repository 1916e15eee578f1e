"""The E2E table against conf/ as it is: what a row declares, what is shown, and that rendering repeats itself."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import plant_record
from planted import note

from experiments import e2e
from lora_repro.commands.render import main
from lora_repro.planning.cells import Cell
from lora_repro.report import exhibit
from lora_repro.report.numbers import GENERAL_RISE
from lora_repro.results import declared_cells, frame
from lora_repro.tasks.e2e.task import E2E as Task

ROWS = [
    "full", "ft_top2", "lora", "adapter_l_small", "versatile_lm", "adapter_l_large", "adapter_h", "prelayer_key_value",
    "prelayer", "prompt_tuning", "bitfit", "linear_probe", "untuned", "human",
]  # fmt: skip


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    return declared_cells("e2e", "mini")


def test_every_row_of_the_table_is_declared_in_order(cells: list[Cell]) -> None:
    assert {cell.asked["backbone"]["name"] for cell in cells} == {"smollm2_135m"}
    assert list(dict.fromkeys(cell.row.name for cell in cells)) == ROWS
    seeds = {name: [cell.seed for cell in cells if cell.row.name == name] for name in ROWS}
    assert seeds == {name: [0] if name in ("untuned", "human") else [0, 1, 2] for name in ROWS}
    assert len({cell.signature for cell in cells}) == len(cells) == 38


def test_sizes_follow_lora_and_the_printed_counts(cells: list[Cell]) -> None:
    def method(cells: list[Cell], name: str) -> dict[str, Any]:
        return dict(next(cell for cell in cells if cell.row.name == name).asked["method"])

    def adapter_l(layers: int, d: int, r: int) -> int:
        return layers * (2 * d * r + r + d) + layers * 2 * d

    small, large = (method(cells, f"adapter_l_{size}")["bottleneck"] for size in ("small", "large"))
    lora = 30 * 4 * ((576 + 576) + (576 + 192))
    assert abs(adapter_l(30, 576, small) / lora - 1) < 0.08
    assert abs(adapter_l(30, 576, large) / lora - 30) < 0.3
    prelayer = method(cells, "prelayer")
    assert abs(30 * 576 * (prelayer["prefix"] + prelayer["infix"]) / lora - 1) < 0.08
    assert 30 * 2 * 192 * method(cells, "prelayer_key_value")["prefix"] == lora  # as served
    medium = declared_cells("e2e", "mini", ["backbone=gpt2_medium", "row/e2e=adapter_l_small,adapter_l_large", "seed=0"])
    counts = [adapter_l(24, 1024, cell.asked["method"]["bottleneck"]) / 1e6 for cell in medium]
    assert [round(count, 2) for count in counts] == [cell.row.paper["gpt2_medium"]["params_m"] for cell in medium]


def test_metrics_and_directions_are_those_of_the_task() -> None:
    *scores, forgotten = e2e.TABLE.metrics
    assert {metric.key: metric.direction for metric in scores} == Task.directions and forgotten is GENERAL_RISE


def record(signature: str, config: dict[str, Any], row: str, bleu: float, count: int) -> dict[str, Any]:
    scores = {"bleu": bleu, "nist": 5.0, "meteor": None, "rouge_l": 0.5, "cider": 1.5, "slot_error_rate": 0.1}
    return {
        "schema": 1,
        "signature": signature,
        "status": "finished",
        "asked": {"task": config["task"], "seed": config["seed"]},
        "row": {"table": "e2e", "name": row, "label": row},
        "measured": {"scores": scores, "parameters": {"method": count, "head": 0, "total": 10}},
        "where": {
            "dirty": False,
            "backbone": {"label": "a backbone", "sha256": "ab"},
            "data": {"caption": "synthetic E2E-style data", "hashes": {}},
        },
    }


def fill(
    root: Path, cells: list[Cell], seeds: dict[str, int], shift: float = 0.0, published: bool = False, losses: Any = None
) -> None:
    for cell in cells:
        if cell.seed >= seeds.get(cell.row.name, 0):
            continue
        folder = root / "results/mini/records" if published else root / "runs/mini" / cell.signature
        place = folder / (f"{cell.signature}.json" if published else "record.json")
        count = 0 if cell.row.name == "human" else 1000 * cell.row.order
        run = record(cell.signature, cell.asked, cell.row.name, 0.5 + shift + 0.01 * cell.seed, count)
        if losses:
            run["measured"] |= {"train_losses": losses, "dev_losses": losses[-1:]}
        plant_record(place, run)
    if published:
        note(root / "results")


@pytest.fixture
def composed(cells: list[Cell], monkeypatch: pytest.MonkeyPatch) -> list[Cell]:
    """The same cells, so that each test need not compose the tree again."""
    monkeypatch.setattr(exhibit, "declared_cells", lambda name, profile, extra=(): cells)
    monkeypatch.setenv("COLUMNS", "400")  # a line for each source
    return cells


def test_shows_this_checkout_beside_published_and_paper(
    tmp_path: Path, composed: list[Cell], capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, composed, {"lora": 1, "human": 1})
    fill(tmp_path, composed, {"lora": 3, "full": 3}, shift=0.1, published=True)
    assert main(["e2e", "profile=mini"], tmp_path) == 0
    output = capsys.readouterr().out
    lora = output[output.index("\nLoRA ") :].splitlines()[1:5]
    assert ["this checkout" in lora[0], "published" in lora[1], "paper (GPT-2 M)" in lora[2]] == [True] * 3
    assert "50.0†" in lora[0] and "61.0 ± 1.0" in lora[1] and "70.4 ± 0.1" in lora[2]
    assert "reruns by others (GPT-2 M)" in lora[3] and "68.8 ± 0.1" in lora[3]
    assert (
        "supports no verdict" in output
        and "The data are generated" in output
        and "runs asked for are recorded" in output
    )
    assert "experiment=e2e profile=mini" in output
    rows = list(csv.DictReader((tmp_path / "runs/mini/tables/e2e.csv").read_text().splitlines()))
    assert {line["source"] for line in rows} == {
        "this checkout",
        "paper (GPT-2 M)",
        "reruns by others (GPT-2 M)",
    }
    assert next(line for line in rows if line["row"] == "lora")["meteor"] == ""
    assert not (tmp_path / "results/mini/tables").exists()


def test_published_tables_repeat_byte_for_byte(tmp_path: Path, composed: list[Cell]) -> None:
    fill(tmp_path, composed, dict.fromkeys(ROWS, 1) | {"lora": 3}, published=True)
    contents = []
    for _ in range(2):
        assert main(["tables", "e2e"], tmp_path) == 0
        paths = sorted(path for path in (tmp_path / "results/mini").rglob("e2e.*"))
        contents.append({path: path.read_bytes() for path in paths})
    assert [path.suffix for path in paths] == [".png", ".svg", ".csv", ".md", ".tex"]
    assert contents[0] == contents[1]
    assert (
        "profile mini. Backbone: a backbone. Data: synthetic"
        in (tmp_path / "results/mini/tables/e2e.md").read_text()
    )


def test_what_a_training_takes_stands_beside_the_scores_where_it_was_measured(tmp_path: Path, composed: list[Cell]) -> None:
    fill(tmp_path, composed, {"lora": 2, "full": 1}, published=True)
    table = tmp_path / "results/mini/tables/e2e.md"
    assert main(["tables", "e2e"], tmp_path) == 0
    assert "eneral loss" not in table.read_text()
    for cell in composed:
        path = tmp_path / f"results/mini/records/{cell.signature}.json"
        if cell.row.name == "lora" and path.is_file():
            run = json.loads(path.read_text())
            run["measured"]["general_loss"] = {"before": 3.0, "after": 3.5 + cell.seed}
            plant_record(path, run)
    note(tmp_path / "results")
    assert main(["tables", "e2e"], tmp_path) == 0
    header, *rows = [[text.strip() for text in line.split("|")] for line in table.read_text().splitlines() if line[:1] == "|"]
    place = header.index("General loss: rise (nats per token) ↓")
    rises = {(row[1], row[2]): row[place] for row in rows}
    assert rises["LoRA", "published"] == "1.00 ± 0.71" and rises["Full fine-tuning", "published"] == "—"
    assert "twelve passages of general text" in table.read_text()
    numbers = csv.DictReader((tmp_path / "results/mini/tables/e2e.csv").read_text().splitlines())
    assert {line["general_rise"] for line in numbers if line["source"] == "published"} == {"1", ""}


def test_published_runs_on_other_data_are_not_shown_beside_ours(
    tmp_path: Path, composed: list[Cell], capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, composed, {"lora": 1})
    fill(tmp_path, composed, {"lora": 1}, published=True)
    path = next((tmp_path / "results/mini/records").glob("*.json"))
    other = json.loads(path.read_text())
    other["where"]["data"]["caption"] = "E2E NLG"
    plant_record(path, other)
    note(tmp_path / "results")
    assert main(["e2e"], tmp_path) == 0
    output = capsys.readouterr().out
    assert "published runs are not shown beside these: different data" in output
    assert output.count("this checkout") == len(ROWS)


@pytest.mark.parametrize(
    "arguments",
    [
        *(["e2e", "profile=nowhere"], ["e2e", "mini"], ["e2e", "method.rnak=4"], ["e3e"], ["table", "e2e"], ["profile=mini"]),
        *(["tables", "e2e", "seed=0"], ["claims", "e2e"]),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments, tmp_path) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1, error


def test_a_notebook_gets_both_stores_as_one_table(tmp_path: Path, cells: list[Cell]) -> None:
    lora = [cell for cell in cells if cell.row.name == "lora"]
    fill(tmp_path, lora, {"lora": 1})
    fill(tmp_path, lora, {"lora": 2}, shift=0.1, published=True)
    table = frame("e2e", "mini", ["row/e2e=lora"], root=tmp_path)
    main_score = table[table.main]
    assert set(main_score.metric) == {"bleu"} and set(table.row) == {"lora"} and "meteor" not in set(table.metric)
    values = main_score.groupby(["source", "seed"]).value.mean().to_dict()
    assert values == pytest.approx({("published", 0): 0.6, ("published", 1): 0.61, ("this checkout", 0): 0.5})
    assert set(main_score.signature) == {cell.signature for cell in lora[:2]}
