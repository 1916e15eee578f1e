"""Everything of Hydra that its documentation does not promise; no other module imports `hydra._internal` or `hydra.core`,
but for `HydraConfig`, which is documented.

Tried with Hydra 1.3.8 (`TRIED`). tests/test_hydra_internals.py checks the version, the signatures and the attributes that are
used here, so that another version fails there, with the name of what moved, before anything else does.

What the public `hydra.compose` and `hydra.main` cannot do, and who needs it:

    compose again inside a job, from files that are read once    `main_hydra`, `in_place_of_the_running`    config/compose.py
    compose in little more than half the time                    `_merge`, `_Choices`                       here
    set single values without composing anew                     `apply_values`                             config/compose.py
    the jobs of a sweep without running them                     `parse`, `split_jobs`                      config/compose.py
    a value, spelled as a command line has it                    `override_value`                           config/compose.py
    files with blocks; a check of what was composed              `FileConfigSource`, `use_file_source`,
                                                                 `load_configuration`, `check_loading`      config/blocks.py
    classes that Hydra builds                                    `BASIC_LAUNCHER`, `BASIC_SWEEPER`          config/hydra_node.py
    a launcher without a distribution of its own                 `register_launcher`, `Singleton`, ...      sweep/ray_launcher.py
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy, deepcopy
from functools import wraps
from itertools import takewhile
from types import FrameType
from typing import Any

from hydra import version
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl as ConfigLoaderImpl
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.core_plugins.file_config_source import FileConfigSource as FileConfigSource
from hydra._internal.hydra import Hydra as Hydra
from hydra._internal.sources_registry import SourcesRegistry
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.default_element import InputDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType as ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override as Override
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton as Singleton
from hydra.core.utils import JobReturn as JobReturn
from hydra.core.utils import JobStatus as JobStatus
from hydra.core.utils import run_job as run_job
from hydra.core.utils import setup_globals as setup_globals
from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

TRIED = ("1.3.8",)
BASE = "1.3"  # the version whose defaults Hydra keeps to
BASIC_LAUNCHER, BASIC_SWEEPER = (f"{plugin.__module__}.{plugin.__qualname__}" for plugin in (BasicLauncher, BasicSweeper))
_load = inspect.unwrap(ConfigLoaderImpl.load_configuration)  # Hydra's own, also where this module is imported anew


def main_hydra(folders: Sequence[str]) -> Hydra:
    """Hydra over these folders, the later ones first in its search, which reads each file once. The global one is cleared."""
    GlobalHydra.instance().clear()
    search = create_config_search_path(folders[0])
    for folder in folders[1:]:
        search.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="schema"))  # as Hydra does for --config-dir
    version.setbase(BASE)
    hydra = Hydra.create_main_hydra2(task_name="lora_repro", config_search_path=search)
    loader: Any = hydra.config_loader
    loader.repository = _ReadOnce(loader.repository)
    return hydra


class _ReadOnce:
    """Hydra's repository with each file parsed once per process: parsing is half the time of composing.

    What it gives must not be modified (`_Copies`).
    """

    def __init__(self, repository: Any) -> None:
        self.repository = repository
        self.read: dict[str, Any] = {}
        self.plain: dict[str, Any] = {}  # the files' values without OmegaConf
        self.merged: dict[Any, DictConfig] = {}  # Hydra's own node, by the files that it was merged from

    def __deepcopy__(self, memo: Any) -> _ReadOnce:
        return self  # Hydra copies the repository for every composition, which would lose what was read

    def __getattr__(self, name: str) -> Any:
        return getattr(self.repository, name)

    def load_config(self, config_path: str) -> Any:
        if config_path not in self.read:
            self.read[config_path] = self.repository.load_config(config_path)
        return copy(self.read[config_path])

    def values(self, config_path: str) -> Any:
        """The plain values of a file. Raises _Typed if it is no untyped mapping."""
        if config_path not in self.plain:
            read = self.read.get(config_path)
            config = read.config if read else None
            if not isinstance(config, DictConfig) or config._is_typed() or config._is_none() or config._is_missing():
                raise _Typed
            self.plain[config_path] = OmegaConf.to_container(config)
        return self.plain[config_path]


class _Copies:
    """A repository whose configurations Hydra may modify, as its own merging does."""

    def __init__(self, repository: Any) -> None:
        self.repository = repository

    def __getattr__(self, name: str) -> Any:
        return getattr(self.repository, name)

    def load_config(self, config_path: str) -> Any:
        if (result := copy(self.repository.load_config(config_path))) is not None:
            result.config = deepcopy(result.config)
        return result


class _Typed(Exception):
    """This takes Hydra's own merging."""


def _merge(self: ConfigLoaderImpl, defaults: Sequence[Any], repo: Any) -> Any:
    """What Hydra merges from the files of a defaults list, in less time.

    Hydra's own node has types, so Hydra merges it, once for the files that come first. All else is plain yaml, and merged as
    mappings, but for what a backbone's yaml adds to sizes that a resolver gives. Whatever is not plain, or wrong, Hydra merges.
    """
    once = getattr(repo, "delegate", None)
    if not isinstance(once, _ReadOnce):
        return _merge_typed(self, defaults, repo)
    try:
        first = list(takewhile(lambda default: f"{default.package}.".startswith("hydra."), defaults))
        key = tuple((default.config_path, default.package) for default in first)
        if key not in once.merged:
            once.merged[key] = _merge_typed(self, first, _Copies(repo))
        values: dict[str, Any] = {}
        backbone = OmegaConf.create({})
        for default in defaults[len(first) :]:
            package = once.read[default.config_path].header["package"] if default.package is None else default.package
            block = once.values(default.config_path)
            for name in reversed(package.split(".") if package else []):
                block = {name: block}
            if "searchpath" in (block.get("hydra") or {}):
                raise _Typed
            if "backbone" in block:
                backbone.merge_with({"backbone": block["backbone"]})
                block = {**block, "backbone": None}  # keeps its place
            _add(values, block)
        config = deepcopy(once.merged[key])
        with flag_override(config, "no_deepcopy_set_nodes", True):
            config.merge_with({"hydra": values.pop("hydra", {})})
            config.merge_with(values | dict(backbone))
        return config
    except (_Typed, KeyError, OmegaConfBaseException):
        return _merge_typed(self, defaults, _Copies(repo))


def _add(mapping: dict[Any, Any], more: dict[Any, Any]) -> None:
    """Merge as OmegaConf does: mappings key by key, all else replaced, and `???` leaves what is there. Raises _Typed where one
    of the two is a mapping and the other a list, or a reference that may lead to another mapping.
    """
    for key, value in more.items():
        old = mapping.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            _add(old, value)
        elif {type(value), type(old)} == {dict, list} or (isinstance(value, dict) and isinstance(old, str) and "${" in old):
            raise _Typed
        elif value != "???" or key not in mapping:
            mapping[key] = deepcopy(value) if isinstance(value, dict | list) else value


_merge_typed: Any = ConfigLoaderImpl._compose_config_from_defaults_list
ConfigLoaderImpl._compose_config_from_defaults_list = _merge  # type: ignore[method-assign]


class _Choices:
    """The choices that an interpolation in a defaults list may name, gathered when the first one asks.

    Hydra gathers them for every file that it expands, a fourth of the time of composing; few files have such an interpolation.
    """

    def __init__(self, overrides: Any, defaults_list: Any, self_added: bool) -> None:
        self.asked = overrides, defaults_list, self_added
        self.known: Any = None

    def resolve(self, default: InputDefault, value: str | None) -> str:
        self.known = self.known or _gather(*self.asked)
        return str(_resolve(default, self.known, value))


_gather: Any = defaults_list._create_interpolation_map
_resolve: Any = InputDefault._resolve_interpolation_impl
defaults_list._create_interpolation_map = _Choices  # type: ignore[assignment]
InputDefault._resolve_interpolation_impl = lambda self, choices, value: choices.resolve(self, value)  # type: ignore


@contextmanager
def in_place_of_the_running(make: Callable[[], Hydra]) -> Iterator[Any]:
    """Within it `hydra.compose` uses what `make` gives, whose loader it yields, even while Hydra runs something else in this
    process.
    """
    running = GlobalHydra.instance().hydra
    try:
        GlobalHydra.instance().hydra = hydra = make()
        yield hydra.config_loader
    finally:
        GlobalHydra.instance().hydra = running


def parse(overrides: Sequence[str], loader: Any = None) -> list[Override]:
    """The overrides by Hydra's grammar. With a loader, a `glob(...)` knows what it stands for."""
    return OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))


def override_value(value: object) -> str:
    """`value` in Hydra's override grammar."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        word = re.fullmatch(r"[A-Za-z_][\w./-]*", value) and value.lower() not in ("null", "true", "false", "nan", "inf")
        return value if word else QuotedString(value, Quote.single).with_quotes()
    if isinstance(value, list | tuple):
        return f"[{','.join(map(override_value, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{override_value(item)}" for key, item in value.items()) + "}"
    return repr(value)


def is_group(key: str, loader: Any) -> bool:
    """Whether a key chooses the file of a group."""
    return bool(loader.repository.group_exists(key))


def apply_values(values: Sequence[Override], config: DictConfig) -> None:
    """Set single values in a composed configuration, as Hydra does. Raises ConfigCompositionException."""
    ConfigLoaderImpl._apply_overrides_to_config(list(values), config)


def split_jobs(overrides: Sequence[Override]) -> list[list[str]]:
    """The overrides of each job of a sweep, in the order of Hydra's own sweeper."""
    (jobs,) = BasicSweeper.split_arguments(list(overrides), None)
    return jobs


def load_configuration(loader: ConfigLoaderImpl, *asked: Any, **named: Any) -> DictConfig:
    """Hydra's own composing, whatever `check_loading` has put in its place."""
    config: DictConfig = _load(loader, *asked, **named)
    return config


def loader_over(folder: str) -> ConfigLoaderImpl:
    """A loader that searches one folder and what Hydra brings."""
    return ConfigLoaderImpl(create_config_search_path(folder))


def check_loading(load: Callable[..., DictConfig]) -> None:
    """Let whatever composes in this process call `load(loader, config_name, overrides, run_mode, ...)` instead."""
    ConfigLoaderImpl.load_configuration = wraps(_load)(load)  # type: ignore[method-assign]


def use_file_source(source: type[FileConfigSource]) -> None:
    """Read all yaml files by `source` in this process."""
    SourcesRegistry.instance().types["file"] = source


def defaults_list_of(frame: FrameType) -> str | None:
    """The config path whose defaults list Hydra expands in this frame of its search; None for any other frame."""
    if frame.f_code.co_name != "_create_defaults_tree_impl":
        return None
    return str(frame.f_locals.get("path"))


def register_launcher(name: str, launcher: type) -> None:
    """Let `_target_: name` mean this class in this process: Hydra builds launchers of installed plugins only."""
    Plugins.instance().class_name_to_class[name] = launcher
