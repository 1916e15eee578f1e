"""The resolvers of conf/resolvers.yaml: `${name:argument}` calls a function that the yaml names, as `_target_` names a class.

So conf/ may use what needs a model's code or published records, of which nothing in this package knows. A function is imported
when a value that refers to it is resolved.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lora_repro.config import yaml_file
from lora_repro.config.paths import CONF


def use() -> None:
    """Register them with OmegaConf, in this process. A user's own folder cannot add any."""
    for name, function in yaml_file.values(CONF / "resolvers.yaml").items():
        OmegaConf.register_new_resolver(name, _by_name(function), replace=True)


def _by_name(function: str) -> Callable[..., Any]:
    module, _, name = function.rpartition(".")

    def resolve(*arguments: Any, _parent_: DictConfig) -> Any:
        return getattr(import_module(module), name)(*arguments, _parent_)

    return resolve
