"""Rows, steps and tokens of a run: as published records have them, counted on data or taken from the documented means."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

from lora_repro.config.compose import CONF, build, compose
from lora_repro.costs import arithmetic
from lora_repro.costs.forecast import rows, workload
from lora_repro.costs.meta_model import MetaModel, build_meta_model
from lora_repro.errors import UserError
from lora_repro.records.record import load_records
from lora_repro.results import declared_cells
from lora_repro.run.stages import backbone_of
from lora_repro.tasks.base import Example, Splits

SMOKE = ["experiment=e2e", "row/e2e=lora", "profile=smoke"]


def asking(*overrides: str) -> DictConfig:
    return compose(list(overrides))


def framed(config: DictConfig) -> MetaModel:
    return build_meta_model(backbone_of(config), build(config.method))


def data(config: DictConfig) -> Any:
    return build(config.task).load(None)


def published(table: str, *narrowed: str) -> list[tuple[Any, dict[str, Any]]]:
    """(configuration, what was measured) of a table's published cells at laptop."""
    records = load_records(CONF.parent / "results" / "laptop" / "records")
    cells = declared_cells(table, "laptop", narrowed)
    return [(cell.asked, records[cell.signature]["measured"]) for cell in cells if cell.signature in records]


@pytest.mark.parametrize(
    ("table", "narrowed"),
    [("glue", ("row/glue=lora,full", "task=rte,cola")), ("e2e", ("row/e2e=lora,full,prelayer", "seed=0"))],
)
def test_documented_amounts_are_those_of_published_records(table: str, narrowed: tuple[str, ...]) -> None:
    cells = published(table, *narrowed)
    if not cells:
        pytest.skip(f"no run of {table} is published at laptop")
    for config, measurements in cells:
        settings = OmegaConf.create(config)
        outline = framed(settings)
        work, source = workload(settings, outline, None)
        assert source == "documented" and work.steps == measurements["steps"]
        assert work.train_tokens == pytest.approx(measurements["train_tokens"], rel=0.08)
        assert outline.outline.method == measurements["parameters"]["method"]
        peak = arithmetic.memory(outline.outline, work, 2) / 2**20
        assert 0.5 < peak / measurements["peak_memory_mb"] < 1.3


def test_tokens_are_counted_where_data_and_tokenizer_are_at_hand() -> None:
    config = asking(*SMOKE)
    work, source = workload(config, framed(config), data(config))
    assert source == "counted"
    assert (work.train_rows, work.dev_rows, work.test_rows, work.steps) == (16, 8, 4, 2)
    assert work.beam == 2 and work.most_new == work.new == 8 and work.longest >= work.length > work.scored > 8
    plain, _ = workload(config, framed(config), None)
    assert plain.length < work.length / 2  # bytes are more than tokens


def test_virtual_tokens_are_paid_for() -> None:
    for splits in (None, data(asking(*SMOKE))):
        plain, longer = (
            workload(config, framed(config), splits)[0]
            for config in (asking(*SMOKE), asking("profile=smoke", "method=prompt_tuning", "method.prefix=5", "method.infix=2"))
        )
        assert longer.length - plain.length == pytest.approx(7) and longer.prompt - plain.prompt == pytest.approx(7)


def test_examples_in_the_prompt_are_paid_for() -> None:
    few = ["profile=smoke", "task=wikisql", "method=untuned"]
    for with_data in (False, True):
        lengths = []
        for shots in (0, 2):
            config = asking(*few, f"data.shots={shots}", "data.max_length=2048")
            lengths.append(workload(config, framed(config), data(config) if with_data else None)[0].prompt)
        assert lengths[1] > 2.5 * lengths[0], with_data


def test_documented_lengths_end_where_rows_are_cut() -> None:
    config = asking("task=rte", "profile=paper", "method=lora", "data.max_length=32")
    work, source = workload(config, framed(config), None)
    assert source == "documented" and max(work.length, work.dev_length, work.prompt, work.longest) == 32


def test_a_probe_of_a_sentence_task_runs_over_features() -> None:
    config = asking("profile=smoke", "task=sentiment", "method=linear_probe")
    work, _ = workload(config, framed(config), data(config))
    assert work.features and work.new == 0 and work.beam == 1


def test_grouped_batches_pad_less() -> None:
    usual = ["task=mnli", "profile=paper", "method=lora"]
    loads = []
    for more in ([], ["train.group_by_length=true"]):
        config = asking(*usual, *more)
        loads.append(workload(config, framed(config), None)[0])
    assert loads[0].length > loads[1].length and loads[0].train_rows == 392702 and loads[0].test_rows == 9815 + 9832


def test_a_task_of_unknown_size_asks_for_its_data() -> None:
    config = asking("task=rte", "profile=paper", "~task.rows.train", "task.name=new")
    with pytest.raises(UserError, match="the number of rows of task new is unknown"):
        workload(config, framed(config), None)


def test_every_task_has_documented_lengths() -> None:
    lengths = yaml.safe_load((CONF / "plan.yaml").read_text(encoding="utf-8"))["lengths"]
    tasks = {path.stem for path in (CONF / "task").glob("*.yaml")}
    assert {name for name in tasks if not name.startswith("own_")} == set(lengths)  # the user's own files are counted
    for name, mean in lengths.items():
        assert mean["mean"] <= mean["grouped"] <= mean["padded"] <= mean["longest"], name


def test_rows_are_those_of_the_data_that_are_read() -> None:
    """DART trains on its own texts or on WebNLG's; the whole MNLI is read with other settings of the same task."""
    def declared(*overrides: str) -> int:
        return rows(asking("data.n_train=null", "profile=paper", *overrides), None)[0]

    assert declared("task=dart") == 62659 and declared("task=dart", "task.train_from=webnlg") == declared("task=webnlg") == 18025
    with pytest.raises(UserError, match="n_dev=9, but the split has 2 examples"):
        few = [Example("k", "in", "out")] * 2
        rows(asking("data.n_train=null", "data.n_dev=9", "data.n_test=null"), Splits([], few, [], "", {}))
    assert declared("task=mnli_text") == 19999
    assert declared("task=mnli_text", "task.rows.train=392702", "task.rows.matched=9815") == 392702
