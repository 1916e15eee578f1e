"""Blocks: a config path that continues past a yaml file names a block inside it, so that one file replaces a small folder.

    conf/experiment/rank.yaml:  profiles: {mini: {train: {steps: 120}}}     is  experiment/rank/profiles/mini
    conf/printed/paper/text.yaml: e2e: {lora: {train: {lr: 2e-4}}}          is  printed/paper/text/e2e/lora

A defaults list takes a block like any other config (`optional /experiment/rank: profiles/${profile}`), so precedence, sweeps,
launchers, `--cfg job` and `--info` treat it by Hydra's own rules. A block goes where its file's `@package` says, and may have a
defaults list of its own. Composing a file itself leaves out its blocks (`HELD`) unless they are named.
"""

from __future__ import annotations

import inspect
from collections import Counter
from functools import cache, wraps
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins import file_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra._internal.utils import create_config_search_path
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lora_repro.config import hydra_node, yaml_file
from lora_repro.config.paths import CONF
from lora_repro.errors import UserError
from lora_repro.signals import deferred

HELD = ("profiles", "families")


class FileConfigSource(file_config_source.FileConfigSource):
    """Hydra's file source, extended to blocks. It keeps the scheme by which Hydra finds its source of files."""

    def load_config(self, config_path: str) -> ConfigResult:
        file, keys = self._place(config_path)
        path = Path(self.path, f"{file}.yaml")
        if Path(self.path) != CONF and path.is_file():
            yaml_file.check(path, Path(self.path))
        with yaml_file.named(path):
            result = super().load_config(file)
        if isinstance(result.config, DictConfig):
            block = _inside(result.config, keys)
            result.config = block or DictConfig({})
            if not keys:
                for key in HELD:
                    result.config.pop(key, None)
        return result

    def is_config(self, config_path: str) -> bool:
        if super().is_config(config_path):
            return True
        file, keys = self._place(config_path)
        return bool(keys) and super().is_config(file) and _inside(self._whole(file), keys) is not None

    def _whole(self, file: str) -> Any:
        path = Path(self.path, f"{file}.yaml")
        with yaml_file.named(path):
            return _read(path)

    def _place(self, config_path: str) -> tuple[str, list[str]]:
        """The file that a path names or passes through, and the keys inside it."""
        parts = config_path.removesuffix(".yaml").split("/")
        for n in range(len(parts), 0, -1):
            if super().is_config(file := "/".join(parts[:n])):
                return file, parts[n:]
        return config_path, []


@cache
def _read(path: Path) -> Any:
    return OmegaConf.load(path)


def _inside(config: Any, keys: list[str]) -> DictConfig | None:
    """A copy of the block below those keys, None if there is none."""
    for key in keys:
        config = config._get_node(key) if isinstance(config, DictConfig) and key in config else None
    return DictConfig(OmegaConf.to_container(config, resolve=False)) if isinstance(config, DictConfig) else None


_load = inspect.unwrap(ConfigLoaderImpl.load_configuration)  # Hydra's own, also where this module is imported anew


@deferred()  # a signal inside OmegaConf would become another error
@wraps(_load)
def _checked(loader: ConfigLoaderImpl, config_name: str | None, overrides: list[str], *how: Any, **named: Any) -> DictConfig:
    """What Hydra composes, with its own settings checked (`hydra_node`). Raises UserError, or Hydra's errors."""
    for item in overrides:
        if item.lstrip("+~").startswith(hydra_node.SEARCH):
            hydra_node.check_folders(OverridesParser.create().parse_override(item).value())
    try:
        config: DictConfig = _load(loader, config_name, overrides, *how, **named)
        hydra_node.check(config, lambda asked: _ours(config_name, asked))
    except RecursionError as error:
        raise UserError(_endless(error)) from None
    except (HydraException, OmegaConfBaseException):
        raise
    except (LookupError, TypeError, AttributeError, AssertionError) as error:  # what a setting of Hydra's own may cause
        raise UserError(f"Hydra cannot compose this: {type(error).__name__}: {' '.join(str(error).split())}") from error
    return config


@cache
def _ours(config_name: str | None, overrides: tuple[str, ...]) -> DictConfig:
    """What conf/ alone gives for these overrides."""
    loader = ConfigLoaderImpl(create_config_search_path(str(CONF)))
    composed: DictConfig = _load(loader, config_name, list(overrides), RunMode.RUN)
    return composed


def _endless(error: RecursionError) -> str:
    """Which file's defaults list leads back to it, from the frames of Hydra's search; else that something is nested too deep."""
    met: Counter[str] = Counter()
    trace = error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_name == "_create_defaults_tree_impl":
            met[str(trace.tb_frame.f_locals.get("path"))] += 1
        trace = trace.tb_next
    if met:
        return f"{met.most_common(1)[0][0]}.yaml leads back to itself through its defaults list"
    return "the configuration is nested too deep, or a value refers to itself"


def use() -> None:
    """Let Hydra read blocks and check its own settings, in this process. Repeated calls have no effect."""
    ConfigLoaderImpl.load_configuration = _checked  # type: ignore[method-assign,assignment]
    SourcesRegistry.instance().types["file"] = FileConfigSource
