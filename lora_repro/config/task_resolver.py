"""`${tasks:[rte, cola]}`: the components of several tasks, each composed as by `task=rte` at the configuration's profile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from lora_repro.errors import UserError


def use(compose: Callable[[tuple[str, ...]], DictConfig]) -> None:
    """Register this resolver with OmegaConf, in this process. `compose`: from overrides to a configuration."""

    def tasks(names: Sequence[str], *, _root_: DictConfig) -> list[Any]:
        if not isinstance(names, list | tuple | ListConfig) or _root_.task.name in names:
            raise UserError(f"task.names must be a list such as [rte,cola], not {names!r}")
        profile = f"profile={_root_.profile_name}"
        return [OmegaConf.to_container(compose((f"task={name}", profile)).task, resolve=True) for name in names]

    OmegaConf.register_new_resolver("tasks", tasks, replace=True)
