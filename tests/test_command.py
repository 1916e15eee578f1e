"""The command a model card prints composes the recorded run again, to the signature."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from lora_repro.command import command
from lora_repro.compose import compose, resolved
from lora_repro.record import identity, signature

RESULTS = Path(__file__).parents[1] / "results"
PUBLISHED = [sorted((RESULTS / p / "records").glob("*.json"))[index] for p in ("mini", "laptop") for index in (0, -1)]


def composed(text: str) -> dict[str, Any]:
    words = shlex.split(text)
    assert words[:3] == ["python", "-m", "lora_repro.run"]
    return resolved(compose(words[3:]))


def recorded(*overrides: str) -> dict[str, Any]:
    asked = resolved(compose(list(overrides)))
    row = {key: asked["row"][key] for key in ("table", "name", "label")}
    return {"signature": signature(asked), "asked": identity(asked), "row": row}


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_a_published_run_has_its_command(path: Path) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    text = command(record, path.parents[1].name)
    assert text is not None and signature(composed(text)) == record["signature"]


@pytest.mark.parametrize(
    "overrides",
    [
        ["method=lora", "method.targets=[query,key]", "seed=3", "profile=smoke", "train.eval_every=7", "+train.steps=3"],
        ["experiment=glue", "row/glue=lora", "task=rte", "profile=laptop", "init_from=null", "recipe=scripts"],
        ["method=bitfit", "profile=smoke", "backbone.separator=' it\\'s {odd}: '", "data.n_train=null"],
    ],
)
def test_any_settings_come_back(overrides: list[str]) -> None:
    record = recorded(*overrides)
    profile = next(item for item in overrides if item.startswith("profile=")).partition("=")[2]
    text = command(record, profile)
    assert text is not None and signature(composed(text)) == record["signature"]
    assert text.endswith(" paths.data=/path/to/data") == ("profile=laptop" in overrides)


def test_a_run_that_conf_composes_no_more_has_none() -> None:
    record = recorded("method=lora", "profile=smoke")
    record["asked"]["train"]["gone"] = 1
    record["signature"] = "0" * 16
    assert command(record, "smoke") is None
