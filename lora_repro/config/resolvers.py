"""Functions that a value of conf/ calls: `${name:argument}`.

Those of conf/resolvers.yaml are named there, as `_target_` names a class. So conf/ may use what needs a model's code or published
records, of which nothing in this package knows. A function is imported when a value that refers to it is resolved.
`${tasks:[rte, cola]}` gives the components of several tasks, each composed as by `task=rte` at the configuration's profile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from lora_repro.config import yaml_file
from lora_repro.config.paths import CONF
from lora_repro.errors import UserError


def use() -> None:
    """Register those of conf/resolvers.yaml with OmegaConf, in this process. A user's own folder cannot add any."""
    for name, function in yaml_file.values(CONF / "resolvers.yaml").items():
        OmegaConf.register_new_resolver(name, _by_name(function), replace=True)


def _by_name(function: str) -> Callable[..., Any]:
    module, _, name = function.rpartition(".")

    def resolve(*arguments: Any, _parent_: DictConfig) -> Any:
        return getattr(import_module(module), name)(*arguments, _parent_)

    return resolve


def use_tasks(compose: Callable[[tuple[str, ...]], DictConfig]) -> None:
    """Register `tasks` with OmegaConf, in this process. `compose`: from overrides to a configuration."""

    def tasks(names: Sequence[str], *, _root_: DictConfig) -> list[Any]:
        if not isinstance(names, list | tuple | ListConfig) or _root_.task.name in names:
            raise UserError(f"task.names must be a list such as [rte,cola], not {names!r}")
        profile = f"profile={_root_.profile_name}"
        return [OmegaConf.to_container(compose((f"task={name}", profile)).task, resolve=True) for name in names]

    OmegaConf.register_new_resolver("tasks", tasks, replace=True)
