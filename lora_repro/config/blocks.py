"""Blocks: a config path that continues past a yaml file names a block inside it, so that one file replaces a small folder.

    conf/experiment/rank.yaml:  profiles: {mini: {train: {steps: 120}}}     is  experiment/rank/profiles/mini
    conf/printed/paper/text.yaml: e2e: {lora: {train: {lr: 2e-4}}}          is  printed/paper/text/e2e/lora
    conf/row/e2e.yaml: lora: {method: {rank: 4}}                            is  row/e2e/lora, chosen by row/e2e=lora
    conf/tracker.yaml: wandb: {_target_: ...}                               is  tracker/wandb, chosen by tracker=wandb

A defaults list takes a block like any other config (`optional /experiment/rank: profiles/${profile}`), so precedence, sweeps,
launchers, `--cfg job` and `--info` treat it by Hydra's own rules. A block goes where its file's `@package` says, and may have a
defaults list of its own. Composing a file itself leaves out its blocks (`HELD`) unless they are named.

A file of conf/row, and one at the top of a folder, is a group of its blocks to Hydra, as a folder of one file a block would be. A
file of conf/row is a table: a row's name and place, and the paper's values, come from where it stands (`_placed`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra.errors import ConfigCompositionException, HydraException
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lora_repro.config import hydra_internals, hydra_node, paper_values, yaml_file
from lora_repro.config.hydra_internals import ConfigLoaderImpl, ObjectType
from lora_repro.config.paths import CONF, blocks_in, holds_choices, table_of
from lora_repro.errors import UserError
from lora_repro.files import once_per_version
from lora_repro.signals import deferred

HELD = ("profiles", "families")


class FileConfigSource(hydra_internals.FileConfigSource):
    """Hydra's file source, extended to blocks. It keeps the scheme by which Hydra finds its source of files."""

    def load_config(self, config_path: str) -> ConfigResult:
        file, keys = self._place(config_path)
        path = Path(self.path, f"{file}.yaml")
        header, values = _read(path, Path(self.path)) if path.is_file() else ({}, None)
        if not isinstance(values, dict):
            return super().load_config(config_path)  # Hydra says what is wrong
        block = _inside(values, keys) or {}
        if not keys:
            block = {key: value for key, value in block.items() if key not in HELD}
        if table_of(config_path):
            try:
                block = _placed(block, Path(self.path), config_path)
            except UserError as error:  # Hydra shows errors of its own in one line
                raise ConfigCompositionException(str(error)) from error
        return ConfigResult(self.provider, f"{self.scheme()}://{self.path}", DictConfig(block), dict(header))

    def is_config(self, config_path: str) -> bool:
        file, keys = self._place(config_path)
        path = Path(self.path, f"{file}.yaml")
        if not path.is_file() or (not keys and table_of(f"{file}/row")):
            return False
        return not keys or _inside(_read(path, Path(self.path))[1], keys) is not None

    def is_group(self, config_path: str) -> bool:
        return bool(super().is_group(config_path)) or self._is_file_of_choices(config_path)

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        names = set(super().list(config_path, results_filter) if super().is_group(config_path) else [])
        if config_path == "row" and results_filter != ObjectType.CONFIG:
            names |= {path.stem for path in Path(self.path, "row").glob("[!.]*.yaml")}
        if results_filter != ObjectType.GROUP and self._is_file_of_choices(config_path):
            path = Path(self.path, f"{config_path}.yaml")
            _read(path, Path(self.path))  # checks it
            names |= {*blocks_in(path)}
        return sorted(names)

    def _is_file_of_choices(self, config_path: str) -> bool:
        return holds_choices(config_path) and Path(self.path, f"{config_path}.yaml").is_file()

    def _place(self, config_path: str) -> tuple[str, Sequence[str]]:
        """The file that a path names or passes through, and the keys inside it."""
        parts = config_path.removesuffix(".yaml").split("/")
        for n in range(len(parts), 0, -1):
            if super().is_config(file := "/".join(parts[:n])):
                return file, parts[n:]
        return config_path, []


@once_per_version
def _read(path: Path, folder: Path) -> tuple[dict[str, str | None], Any]:
    """The header (`@package`) and values of a file of `folder`.

    Raises UserError for a file that yaml cannot read, or that breaks the limits on a user's own files (`yaml_file`).
    """
    if folder != CONF:
        yaml_file.check(path, folder)
    with yaml_file.named(path):
        source = hydra_internals.FileConfigSource("read", str(path.parent))
        result = source.load_config(path.name)
    return result.header, OmegaConf.to_container(result.config, resolve=False)


def _inside(values: Any, keys: Sequence[str]) -> dict[Any, Any] | None:
    """The block below those keys, None if there is none."""
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values if isinstance(values, dict) else None


def _placed(block: dict[Any, Any], folder: Path, config_path: str) -> dict[Any, Any]:
    """A row with what its place says, unless it says otherwise: its name, its order (10, 20, ...) and the paper's values."""
    _, table, name = config_path.removesuffix(".yaml").split("/")
    rows, paper = blocks_in(folder / "row" / f"{table}.yaml"), folder / "paper" / f"{table}.csv"
    paper_values.check_rows(paper, [*rows, *(path.stem for path in (folder / "row" / table).glob("[!.]*.yaml"))])
    order = {"order": 10 * (rows.index(name) + 1)} if name in rows else {}
    return {**block, "row": {"name": name, **order, **paper_values.of_row(paper, name), **(block.get("row") or {})}}


@deferred()  # a signal inside OmegaConf would become another error
def _checked(loader: ConfigLoaderImpl, config_name: str | None, overrides: list[str], *how: Any, **named: Any) -> DictConfig:
    """What Hydra composes, with its own settings checked (`hydra_node`). Raises UserError, or Hydra's errors."""
    for item in overrides:
        if item.lstrip("+~").startswith(hydra_node.SEARCH):
            hydra_node.check_folders(hydra_internals.parse([item])[0].value())
    try:
        config = hydra_internals.load_configuration(loader, config_name, overrides, *how, **named)
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
    return hydra_internals.load_configuration(hydra_internals.loader_over(str(CONF)), config_name, list(overrides), RunMode.RUN)


def _endless(error: RecursionError) -> str:
    """Which file's defaults list leads back to it, from the frames of Hydra's search; else that something is nested too deep."""
    visits: Counter[str] = Counter()
    trace = error.__traceback__
    while trace:
        if path := hydra_internals.defaults_list_of(trace.tb_frame):
            visits[path] += 1
        trace = trace.tb_next
    if visits:
        return f"{visits.most_common(1)[0][0]}.yaml leads back to itself through its defaults list"
    return "the configuration is nested too deep, or a value refers to itself"


def use() -> None:
    """Let Hydra read blocks and check its own settings, in this process. Repeated calls have no effect."""
    hydra_internals.check_loading(_checked)
    hydra_internals.use_file_source(FileConfigSource)
