"""experiments/e2e.py against conf/ as it is: what a row declares, what is shown, and that rendering repeats itself."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from experiments import e2e
from lora_repro.errors import UserError
from lora_repro.tables import present, rows
from lora_repro.tables.report import Metric
from lora_repro.tables.rows import Block, declared
from lora_repro.tasks.e2e import E2E as Task

ROWS = [
    "full", "ft_top2", "lora", "adapter_l_small", "adapter_l_large", "adapter_h", "prelayer", "prompt_tuning",
    "bitfit", "linear_probe", "untuned", "human",
]  # fmt: skip


@pytest.fixture(scope="module")
def blocks() -> list[Block]:
    return declared("e2e", "mini")


def test_every_row_of_the_table_is_declared_in_order(blocks: list[Block]) -> None:
    assert [block.backbone for block in blocks] == ["smollm2_135m"]
    assert [row.name for row in blocks[0].rows] == ROWS
    seeds = {row.name: sorted(row.asked) for row in blocks[0].rows}
    assert seeds == {name: [0] if name in ("untuned", "human") else [0, 1, 2] for name in ROWS}
    signatures = [key for row in blocks[0].rows for key, _ in row.asked.values()]
    assert len(set(signatures)) == len(signatures) == 32


def test_a_cell_is_what_the_training_command_composes(blocks: list[Block]) -> None:
    from omegaconf import OmegaConf

    from lora_repro.compose import compose
    from lora_repro.record import signature

    config = compose(["experiment=e2e", "row/e2e=adapter_h", "seed=2"])
    resolved = OmegaConf.to_container(config, resolve=True)
    row = next(row for row in blocks[0].rows if row.name == "adapter_h")
    assert row.asked[2][0] == signature(resolved)  # type: ignore[arg-type]


def test_sizes_follow_lora_and_the_printed_counts(blocks: list[Block]) -> None:
    def method(block: Block, name: str) -> dict[str, Any]:
        return dict(next(row for row in block.rows if row.name == name).asked[0][1]["method"])

    def adapter_l(layers: int, d: int, r: int) -> int:
        return layers * (2 * d * r + r + d) + layers * 2 * d

    small, large = (method(blocks[0], f"adapter_l_{size}")["bottleneck"] for size in ("small", "large"))
    lora = 30 * 4 * ((576 + 576) + (576 + 192))
    assert abs(adapter_l(30, 576, small) / lora - 1) < 0.08
    assert abs(adapter_l(30, 576, large) / lora - 30) < 0.3
    prelayer = method(blocks[0], "prelayer")
    assert abs(30 * 576 * (prelayer["prefix"] + prelayer["infix"]) / lora - 1) < 0.08
    medium = declared("e2e", "mini", ["backbone=gpt2_medium", "row/e2e=adapter_l_small,adapter_l_large"])[0]
    counts = [adapter_l(24, 1024, method(medium, row.name)["bottleneck"]) / 1e6 for row in medium.rows]
    printed = [row.paper["gpt2_medium"]["params_m"] for row in medium.rows]
    assert [round(count, 2) for count in counts] == printed


def test_overrides_narrow_or_change_cells(blocks: list[Block]) -> None:
    (block,) = declared("e2e", "mini", ["row/e2e=lora", "seed=1"])
    lora = next(row for row in blocks[0].rows if row.name == "lora")
    assert [row.asked for row in block.rows] == [{1: lora.asked[1]}]
    (changed,) = declared("e2e", "mini", ["row/e2e=lora", "seed=1", "method.rank=8"])
    assert changed.rows[0].asked[1][0] != lora.asked[1][0]
    with pytest.raises(UserError, match="no row 'loar'"):
        declared("e2e", "mini", ["row/e2e=loar"])
    with pytest.raises(UserError, match="asks for seed 9"):
        declared("e2e", "mini", ["row/e2e=lora", "seed=9"])


@pytest.mark.parametrize("override", ["seed=range(3)", "row.size=a,b"])
def test_a_table_takes_numbers_with_commas(override: str) -> None:
    with pytest.raises(UserError, match="whole numbers with commas"):
        declared("e2e", "smoke", [override])


def test_the_paper_profile_has_a_block_for_each_of_its_backbones() -> None:
    made = declared("e2e", "paper", ["row/e2e=lora"])
    assert [block.backbone for block in made] == ["gpt2_medium", "gpt2_large"]
    assert all(block.rows[0].asked[0][1]["train"]["lr"] == 2e-4 for block in made)


def test_metrics_and_directions_are_those_of_the_task() -> None:
    shown: dict[str, int] = {
        metric.key: metric.direction for metric in e2e.E2E.metrics if isinstance(metric, Metric)
    }
    assert shown == Task.directions


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
    root: Path, block: Block, seeds: dict[str, int], shift: float = 0.0, published: bool = False
) -> None:
    for row in block.rows:
        for seed in range(seeds.get(row.name, 0)):
            key, config = row.asked[seed]
            place = (
                root / "results/mini/records" / f"{key}.json"
                if published
                else root / "runs/mini" / key / "record.json"
            )
            place.parent.mkdir(parents=True, exist_ok=True)
            count = 0 if row.name == "human" else 1000 * row.order
            place.write_text(json.dumps(record(key, config, row.name, 0.5 + shift + 0.01 * seed, count)))


@pytest.fixture
def composed(blocks: list[Block], monkeypatch: pytest.MonkeyPatch) -> list[Block]:
    """The same blocks, so that each test need not compose the tree again."""
    monkeypatch.setattr(present, "declared", lambda table, profile, extra=(): blocks)
    return blocks


def test_shows_this_checkout_beside_published_and_paper(
    tmp_path: Path, composed: list[Block], capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, composed[0], {"lora": 1, "human": 1})
    fill(tmp_path, composed[0], {"lora": 3, "full": 3}, shift=0.1, published=True)
    assert e2e.main(["profile=mini"], tmp_path) == 0
    said = capsys.readouterr().out
    lora = said[said.index("\nLoRA ") :].splitlines()[1:5]
    assert ["this checkout" in lora[0], "published" in lora[1], "paper (GPT-2 M)" in lora[2]] == [True] * 3
    assert "50.0†" in lora[0] and "61.0 ± 1.0" in lora[1] and "70.4 ± 0.1" in lora[2]
    assert "reruns by others (GPT-2 M)" in lora[3] and "68.8 ± 0.1" in lora[3]
    assert (
        "supports no verdict" in said
        and "The data are generated" in said
        and "2 of 32 declared cells" in said
    )
    assert "experiment=e2e profile=mini" in said
    kept = list(csv.DictReader((tmp_path / "runs/mini/tables/e2e.csv").read_text().splitlines()))
    assert {line["source"] for line in kept} == {
        "this checkout",
        "paper (GPT-2 M)",
        "reruns by others (GPT-2 M)",
    }
    assert next(line for line in kept if line["row"] == "lora")["meteor"] == ""
    assert not (tmp_path / "results/mini/tables").exists()


def test_published_tables_repeat_byte_for_byte(tmp_path: Path, composed: list[Block]) -> None:
    fill(tmp_path, composed[0], dict.fromkeys(ROWS, 1) | {"lora": 3}, published=True)
    contents = []
    for _ in range(2):
        assert e2e.main(["--published"], tmp_path) == 0
        made = sorted(path for path in (tmp_path / "results/mini").rglob("e2e.*"))
        contents.append({path: path.read_bytes() for path in made})
    assert [path.suffix for path in made] == [".png", ".svg", ".csv", ".md", ".tex"]
    assert contents[0] == contents[1]
    assert (
        "profile mini. Backbone: a backbone. Data: synthetic"
        in (tmp_path / "results/mini/tables/e2e.md").read_text()
    )


def test_published_runs_on_other_data_are_not_shown_beside_ours(
    tmp_path: Path, composed: list[Block], capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, composed[0], {"lora": 1})
    fill(tmp_path, composed[0], {"lora": 1}, published=True)
    path = next((tmp_path / "results/mini/records").glob("*.json"))
    other = json.loads(path.read_text())
    other["where"]["data"]["caption"] = "E2E NLG"
    path.write_text(json.dumps(other))
    assert e2e.main([], tmp_path) == 0
    said = capsys.readouterr().out
    assert "published runs are not shown beside these: different data" in said
    assert said.count("this checkout") == 12


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["profile=nowhere"], ["mini"], ["--published", "seed=0"], ["method.rnak=4"]):
        assert e2e.main(arguments, tmp_path) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1, error


def test_a_table_shows_what_its_training_command_sweeps() -> None:
    assert rows.swept("e2e", "paper", "backbone") == ["gpt2_medium", "gpt2_large"]
    assert rows.swept("e2e", "mini", "backbone") == [] and rows.swept("e2e", "mini", "seed") == ["0"]
    assert rows.swept("glue", "mini", "task") == ["sentiment", "entailment", "similarity"]
    assert [block.backbone for block in declared("e2e", "paper", ["row/e2e=lora"])] == ["gpt2_medium", "gpt2_large"]
