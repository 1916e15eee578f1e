"""What the profiles sweep for each family of tasks, and when an experiment's own task stands in its place."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lora_repro.config.paths import CONF


def own_task(task: str, swept: str | None) -> str:
    """The task that an experiment chose, where its family's tasks would silently replace it; empty where they stand for it.

    A profile's tasks stand for those of another profile's: at mini generated tasks stand for GLUE's. They do not stand for a task
    that no profile sweeps, such as one of the user's own. swept: the tasks swept, as the yaml spells them.
    """
    families = [block for path in sorted((CONF / "profile").glob("*.yaml")) for block in _families(path).values()]
    lists = [tasks for block in families if (tasks := _swept_tasks(block))]
    if swept not in lists or any(task in tasks.split(",") for tasks in lists):
        return ""
    return task


@cache
def _families(path: Path) -> dict[str, Any]:
    """What a profile sets for each family of tasks."""
    profile: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    return dict(profile.get("families") or {})


def _swept_tasks(block: Mapping[str, Any]) -> str | None:
    """The tasks that a profile sweeps for a family; None if it sweeps none."""
    value = ((block.get("hydra") or {}).get("sweeper") or {}).get("params") or {}
    return value.get("task")
