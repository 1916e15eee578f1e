"""The configuration tree outside a Hydra program, and configuration nodes turned into objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lora_repro.errors import UserError

# Absolute: a relative path works under `python -m` but not when main() is imported by a test or a console script.
CONF = Path(__file__).resolve().parents[1] / "conf"


def compose(overrides: list[str], hydra_node: bool = False) -> DictConfig:
    """The configuration that `python -m lora_repro.run <overrides>` would give one job; `hydra_node` keeps Hydra's own.

    Raises UserError, in one line, for whatever Hydra refuses.
    """
    running = GlobalHydra.instance().hydra  # a job of a sweep may compose the run it starts from
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
            return hydra_compose("config", overrides=overrides, return_hydra_config=hydra_node)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(one_line(error)) from error
    finally:
        GlobalHydra.instance().hydra = running


def resolved(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain values. Raises UserError, in one line, where a value refers to one that is not there."""
    try:
        return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise UserError(one_line(error)) from error


def one_line(error: Exception) -> str:
    """What Hydra says of a mistake, without its search path and type names."""
    text = str(error).partition("Config search path")[0]
    lines = [" ".join(line.split()) for line in text.splitlines()]
    kept = [line for line in lines if line and not line.startswith(("full_key:", "object_type="))]
    return " ".join(kept)


def build(node: DictConfig) -> Any:
    """Call `_target_` with the node's other keys. Unlike `hydra.utils.instantiate` it lets our own errors through whole.

    Raises UserError if the target does not take one of the keys, or misses one.
    """
    values: dict[str, Any] = OmegaConf.to_container(node, resolve=True)  # type: ignore[assignment]
    target = values.pop("_target_")
    if not str(target).startswith("lora_repro."):
        raise UserError(f"_target_ {target} is not part of lora_repro")
    try:
        return get_object(target)(**values)
    except TypeError as error:
        raise UserError(f"{target}: {error}") from error
