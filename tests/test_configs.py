"""Every yaml of conf/ composes and builds; what a profile, recipe or tuned file sets reaches the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from lora_repro.backbone.spec import BackboneSpec
from lora_repro.config.compose import CONF, build, compose
from lora_repro.config.schema import fields
from lora_repro.errors import UserError
from lora_repro.record import signature

ROWS = sorted(path.stem for path in (CONF / "row" / "e2e").glob("*.yaml"))
PROFILES = sorted(path.stem for path in (CONF / "profile").glob("*.yaml"))
RECIPES = sorted(path.stem for path in (CONF / "recipe").glob("*.yaml"))
COMPONENTS = [
    (group, path.stem)
    for group in ("backbone", "method", "task", "train", "decode", "tracker")
    for path in sorted((CONF / group).glob("*.yaml"))
    if path.stem not in ("decoder", "encoder")  # what each profile takes for one
]


def resolved(*overrides: str) -> dict[str, Any]:
    return OmegaConf.to_container(compose(list(overrides)), resolve=True)  # type: ignore[return-value]


def test_the_walk_finds_the_tree() -> None:
    assert len(ROWS) == 12 and PROFILES == ["laptop", "mini", "paper", "smoke"] and RECIPES == ["paper", "scripts"]
    assert {group for group, _ in COMPONENTS} == {"backbone", "method", "task", "train", "decode", "tracker"}


@pytest.mark.parametrize("group, name", COMPONENTS)
def test_every_component_builds(group: str, name: str) -> None:
    family = ["task=sentiment"] if name in ("labels", "glue") else []  # each kind of task has its own
    built = build(compose([*family, f"{group}={name}"])[group])
    if group == "backbone":
        assert isinstance(built, BackboneSpec)


@pytest.mark.parametrize("group, name", [*COMPONENTS, ("probe", "updates"), ("data", ""), ("bench", "")])
def test_every_field_of_a_component_stands_in_its_yaml(group: str, name: str) -> None:
    """So the command line takes and completes all of them."""
    family = ["task=sentiment"] if name in ("labels", "glue") else []
    asked = [f"{group}={name}"] if name else ["experiment=latency", "row/latency=plain"]
    node = compose([*family, *asked])[group]
    assert set(fields(node["_target_"])) <= set(node)


def test_options_that_most_runs_leave_alone_are_accepted() -> None:
    asked = resolved(
        "task=sentiment", "train.steps=5", "train.select_by=score", "train.group_by_length=true", "tune.n_train=5",
        "starts=[{task:entailment}]",
    )  # fmt: skip
    assert (asked["train"]["steps"], asked["train"]["select_by"], asked["train"]["group_by_length"]) == (5, "score", True)
    assert asked["tune"]["n_train"] == 5 and asked["starts"] == [{"task": "entailment"}]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("row", ROWS)
def test_every_row_composes_and_builds_at_every_profile(row: str, profile: str) -> None:
    config = compose(["experiment=e2e", f"row/e2e={row}", f"profile={profile}"])
    assert config.row.table == "e2e" and config.row.label
    for group in ("backbone", "method", "task", "train", "decode"):
        build(config[group])


@pytest.mark.parametrize("backbone", ["gpt2_medium", "gpt2_large"])
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("row", ["lora", "prelayer", "adapter_l_large"])
def test_the_paper_profile_composes_for_every_recipe(row: str, recipe: str, backbone: str) -> None:
    asked = resolved("experiment=e2e", f"row/e2e={row}", "profile=paper", f"recipe={recipe}", f"backbone={backbone}")
    assert asked["backbone"]["hub_id"] == "openai-community/" + backbone.replace("_", "-")
    assert len(asked["backbone"]["revision"]) == 40
    assert asked["decode"]["length_penalty"] == {"paper": 0.9, "scripts": 0.8}[recipe]
    assert asked["train"]["select"] == {"paper": "best", "scripts": "last"}[recipe]
    train = asked["train"]
    assert (train["epochs"], train["batch_size"], train["warmup"], train["weight_decay"]) == (5, 8, 500, 0.01)
    assert asked["task"]["text_form"] == "tokenised" and asked["data"]["n_train"] is None


def test_lora_at_paper_scale_has_the_paper_s_hyper_parameters() -> None:
    asked = resolved("experiment=e2e", "row/e2e=lora", "profile=paper")
    assert asked["train"]["lr"] == 2e-4 and asked["train"]["label_smoothing"] == 0.1
    method = asked["method"]
    assert (method["rank"], method["alpha"], method["dropout"], method["targets"]) == (4, 32, 0.1, ["query", "value"])
    assert (asked["decode"]["beam"], asked["decode"]["no_repeat_ngram"], asked["decode"]["max_new_tokens"]) == (10, 4, 64)


def test_precedence_component_row_profile_tuned_command_line() -> None:
    assert resolved("experiment=e2e", "row/e2e=lora", "profile=mini")["train"]["lr"] == 6e-3  # the row's
    tuned = float(OmegaConf.load(CONF / "tuned" / "laptop.yaml").e2e.lora.lr)
    assert resolved("experiment=e2e", "row/e2e=lora", "profile=laptop")["train"]["lr"] == tuned
    assert resolved("experiment=e2e", "row/e2e=lora", "profile=laptop", "train.lr=1e-9")["train"]["lr"] == 1e-9


def test_argument_order_does_not_change_the_identity() -> None:
    one = resolved("experiment=e2e", "row/e2e=lora", "profile=laptop", "seed=2")
    other = resolved("seed=2", "profile=laptop", "row/e2e=lora", "experiment=e2e")
    assert signature(one) == signature(other)


@pytest.mark.parametrize("path", sorted((CONF / "tuned").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_tuned_table_holds_learning_rates_of_tasks_and_methods_and_no_more(path: Path) -> None:
    met: set[str] = set()
    for task, methods in OmegaConf.load(path).items():
        assert (CONF / "task" / f"{task}.yaml").is_file()
        for method, values in methods.items():
            assert (CONF / "method" / f"{method}.yaml").is_file() and list(values) == ["lr"]
            if not {task, method} <= met:  # each task and each method reaches a run once
                asked = resolved(f"profile={path.stem}", f"task={task}", f"method={method}")
                assert asked["train"]["lr"] == float(values.lr)
            met |= {task, method}


@pytest.mark.parametrize(
    "override, names",
    [
        ("method=lroa", "lroa"),
        ("backbone=gpt5", "gpt5"),
        ("task=e3e", "e3e"),
        ("profile=huge", "huge"),
        ("methd.rank=3", "methd"),
        ("method.rnk=3", "rnk"),
    ],
)
def test_misspelt_configuration_is_one_clear_line(override: str, names: str) -> None:
    with pytest.raises(UserError) as caught:
        compose([override])
    assert names in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "override, message",
    [
        ("method.rank=0", "rank"),
        ("method.targets=[query,keys]", "keys"),
        ("method.dropout=1.5", "dropout"),
        ("train.lr=-1", "lr"),
        ("train.beta1=1", "beta1"),
        ("train.weight_decay=-1", "weight_decay"),
        ("train.eval_every=-1", "eval_every"),
        ("decode.beam=0", "beam"),
        ("task.source=cloud", "source"),
    ],
)
def test_nonsense_values_are_refused_by_name(override: str, message: str) -> None:
    config = compose([override])
    with pytest.raises(UserError, match=message):
        for group in ("method", "task", "train", "decode"):
            build(config[group])


@pytest.mark.parametrize(
    "target", [
        "os.system",
        "lora_repro.record.os.system",  # a walk through a module of ours: an adapter from elsewhere may ask for it
        "lora_repro.record.Path",
        "lora_repro.record.write_text",
        "lora_repro.train.loop.Typo",
        "lora_repro.nowhere.X",
    ],
)  # fmt: skip
def test_build_calls_nothing_but_classes_of_the_project(target: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{target} is no class of lora_repro"):
        build(OmegaConf.create({"_target_": target, "command": f"touch {tmp_path}/ran"}))
    assert not list(tmp_path.iterdir())


def test_build_refuses_an_unknown_key() -> None:
    with pytest.raises(UserError, match="colour"):
        build(OmegaConf.create({"_target_": "lora_repro.train.loop.TrainConfig", "lr": 1, "colour": "red"}))
