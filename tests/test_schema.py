"""Defaults read from source are those that the constructors have."""

from __future__ import annotations

import dataclasses
import json

import pytest
from conftest import components

from lora_repro.config.compose import target
from lora_repro.config.schema import defaults
from lora_repro.errors import UserError

TARGETS = sorted({node["_target_"] for group, node in components() if group not in ("tracker", "launcher")})  # they name no run


@pytest.mark.parametrize("name", TARGETS)
def test_defaults_read_from_source_are_the_constructors(name: str) -> None:
    fields = {field.name: field for field in dataclasses.fields(target({"_target_": name}))}
    real = {
        key: field.default if field.default is not dataclasses.MISSING else field.default_factory()  # type: ignore[misc]
        for key, field in fields.items()
        if not (field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING)
    }
    assert json.dumps(defaults(name), sort_keys=True) == json.dumps(real, sort_keys=True)


def test_the_walk_finds_components() -> None:
    assert len(TARGETS) > 20


@pytest.mark.parametrize(
    "name",
    [
        "lora_repro.methods.lora.Lorra",
        "lora_repro.nowhere.Lora",
        "Lora",
        "json.Nothing",
        "no_such_package.x.Y",
    ],
)
def test_what_is_no_class_is_one_line(name: str) -> None:
    with pytest.raises(UserError, match="is not a class"):
        defaults(name)
