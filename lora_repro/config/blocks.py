"""Blocks: a config path that continues past a yaml file names a block inside it, so that one file replaces a small folder.

    conf/experiment/rank.yaml:  profiles: {mini: {train: {steps: 120}}}     is  experiment/rank/profiles/mini
    conf/printed/paper/text.yaml: e2e: {lora: {train: {lr: 2e-4}}}          is  printed/paper/text/e2e/lora

A defaults list takes a block like any other config (`optional /experiment/rank: profiles/${profile}`), so precedence, sweeps,
launchers, `--cfg job` and `--info` treat it by Hydra's own rules. A block goes where its file's `@package` says, and may have a
defaults list of its own. Composing a file itself leaves out its blocks (`HELD`) unless they are named.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins import file_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf

from lora_repro.signals import deferred

HELD = ("profiles", "families")


class FileConfigSource(file_config_source.FileConfigSource):
    """Hydra's file source, extended to blocks. It keeps the scheme by which Hydra finds its source of files."""

    def load_config(self, config_path: str) -> ConfigResult:
        file, keys = self._place(config_path)
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
        return bool(keys) and super().is_config(file) and _inside(_read(Path(self.path, f"{file}.yaml")), keys) is not None

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


WHOLE = deferred()(ConfigLoaderImpl.load_configuration)  # a signal inside OmegaConf would become another error


def use() -> None:
    """Let Hydra read blocks, in this process, with signals deferred while it reads. Repeated calls have no effect."""
    ConfigLoaderImpl.load_configuration = WHOLE  # type: ignore[method-assign]
    SourcesRegistry.instance().types["file"] = FileConfigSource
