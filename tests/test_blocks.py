"""Blocks of yamls, as Hydra composes them: where they are named and nowhere else, seen alike by whoever asks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from lora_repro.config import blocks
from lora_repro.config.compose import CONF, compose
from lora_repro.errors import UserError

PROFILES = {path.stem for path in (CONF / "profile").glob("*.yaml")}
EXPERIMENTS = sorted((CONF / "experiment").glob("*.yaml"))


def test_an_experiment_s_block_counts_at_its_profile_alone_and_leaves_no_trace() -> None:
    row = ["experiment=rank", "row/rank=full"]
    mini, laptop = (compose([*row, f"profile={name}"], hydra_node=True) for name in ("mini", "laptop"))
    assert (mini.train.steps, laptop.train.steps, laptop.train.epochs) == (120, None, 1)
    assert mini.hydra.sweeper.params.task == "sentiment" and laptop.hydra.sweeper.params.task == "stsb,sst2"
    assert not {"profiles", "families"} & set(mini)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_names_the_blocks_that_it_holds(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    profiles = set(yaml.safe_load(text).get("profiles", {}))
    assert profiles <= PROFILES and bool(profiles) == (f"/experiment/{path.stem}: profiles/${{profile}}" in text)


def test_a_profile_says_what_both_families_run_on() -> None:
    families = set(OmegaConf.load(CONF / "family.yaml"))
    for name in PROFILES:
        assert set(OmegaConf.load(CONF / "profile" / f"{name}.yaml").families) == families
        for task, family in (("e2e", "decoder"), ("sentiment", "encoder")):
            table = OmegaConf.load(CONF / "backbone" / f"{family}.yaml")
            assert f"/{compose([f'profile={name}', f'task={task}']).backbone.name}@" in table[name].defaults[0]


def test_a_block_goes_where_its_file_says_and_may_lead_to_others(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("# @package b.c\nx:\n  y: {defaults: [z], n: 1}\nprofiles: {q: {m: 2}}\nk: 3\n")
    source = blocks.FileConfigSource("test", str(tmp_path))
    block = source.load_config("a/x/y")
    assert block.header["package"] == "b.c" and block.config == {"defaults": ["z"], "n": 1}
    assert source.load_config("a").config == {"x": {"y": {"defaults": ["z"], "n": 1}}, "k": 3}  # without what it holds
    assert source.is_config("a/profiles/q") and not source.is_config("a/profiles/p") and not source.is_config("a/k")


def test_a_block_that_is_not_there_is_one_line() -> None:
    with pytest.raises(UserError, match="decoder/huge") as error:
        compose(["backbone=decoder/huge"])
    assert "\n" not in str(error.value)


def test_what_the_command_line_shows_of_a_job_is_what_runs() -> None:
    command = [sys.executable, "-m", "lora_repro.run", "experiment=rank", "profile=laptop", "row/rank=full", "--cfg", "all"]
    config = OmegaConf.create(subprocess.run(command, cwd=CONF.parent, capture_output=True, text=True, check=True).stdout)
    assert config.train == compose(command[3:6]).train and config.hydra.sweeper.params["row.rank"] == "1,2,4,8,64,384"
