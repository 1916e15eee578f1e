"""The configuration tree outside a Hydra program, and configuration nodes turned into objects."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from typing import Any

from hydra import compose as hydra_compose
from hydra import main as hydra_main
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, HydraException
from hydra.types import RunMode
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lora_repro.config import blocks, members, place, rates
from lora_repro.config.kinds import check_node, check_root
from lora_repro.config.mistakes import one_line
from lora_repro.config.place import CONF as CONF
from lora_repro.config.remembered import remembered
from lora_repro.config.schema import class_name
from lora_repro.errors import UserError
from lora_repro.records.record import signature
from lora_repro.signals import deferred

rates.use()  # at import: a launcher's worker meets the rows' rates, too


def compose(overrides: list[str], hydra_node: bool = False) -> DictConfig:
    """The configuration that `python -m lora_repro.run <overrides>` would give one job; `hydra_node` keeps Hydra's own.

    Raises UserError, in one line, for whatever Hydra refuses.
    """
    with _tree(*overrides) as loader:
        if hydra_node:
            try:
                return hydra_compose("config", overrides=overrides, return_hydra_config=True)
            except ConfigCompositionException:
                compose([item for item in overrides if not item.startswith("hydra")])  # which knows what may have been meant
                raise
        # As Hydra does it: first the choices of groups, then the single values. Those who choose alike compose once.
        values = [item for item in OverridesParser.create().parse_overrides(overrides) if _is_value(item, loader)]
        lines = {item.input_line for item in values}
        config = _chosen(_folders(), tuple(item for item in overrides if item not in lines)).copy()
        try:
            ConfigLoaderImpl._apply_overrides_to_config(values, config)
        except ConfigCompositionException as error:
            raise UserError(one_line(error, config)) from error
        return config


def _is_value(item: Override, loader: ConfigLoaderImpl) -> bool:
    """Whether an override sets a value, and chooses no file of a group and nothing of Hydra's own."""
    key = str(item.key_or_group)
    return not (item.is_sweep_override() or key.startswith(("hydra.", "hydra/")) or loader.repository.group_exists(key))


@cache
def _chosen(folders: tuple[str, ...], choices: tuple[str, ...]) -> DictConfig:
    config: DictConfig = OmegaConf.create(
        known(("config", *choices), lambda: OmegaConf.to_container(hydra_compose("config", overrides=list(choices))))
    )
    OmegaConf.set_struct(config, True)  # as Hydra leaves it: a key that is not there is a mistake
    return config


def known(asked: Sequence[str], make: Callable[[], Any]) -> Any:
    """Plain values made of compositions, remembered on disk; what a reader's own folder takes part in is made anew."""
    return remembered(asked, make) if _folders() == (str(place.CONF),) else make()


@contextmanager
def _tree(*chosen: str) -> Iterator[Any]:
    """Hydra over conf/ (its loader), whatever else it is at in this process; what it refuses becomes a UserError."""
    running = GlobalHydra.instance().hydra  # a job of a sweep may compose the run it starts from
    try:
        with deferred():  # OmegaConf, interrupted, raises an error of its own
            GlobalHydra.instance().hydra = hydra = _hydra(_folders())
            yield hydra.config_loader
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(one_line(error)) from error
    except ValueError as error:  # a group that is chosen by null
        raise UserError(f"{one_line(error)} (with {' '.join(chosen)})") from error
    finally:
        GlobalHydra.instance().hydra = running


def _folders() -> tuple[str, ...]:
    """conf/ and, where there is one, the reader's own folder."""
    return tuple(filter(None, (str(CONF), place.own())))


@cache
def _hydra(folders: tuple[str, ...]) -> Hydra:
    """Hydra over these folders, made once: their files are read once."""
    blocks.use()
    GlobalHydra.instance().clear()
    search = create_config_search_path(folders[0])
    for folder in folders[1:]:
        search.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="schema"))  # as Hydra has --config-dir
    version.setbase("1.3")
    hydra = Hydra.create_main_hydra2(task_name="lora_repro", config_search_path=search)
    loader: Any = hydra.config_loader
    loader.repository = _ReadOnce(loader.repository)
    return hydra


class _ReadOnce:
    """The files of conf/ as Hydra asks for them, each parsed once in a process: half the time of composing is parsing."""

    def __init__(self, repository: Any) -> None:
        self.repository = repository
        self.read: dict[str, Any] = {}

    def __deepcopy__(self, memo: Any) -> _ReadOnce:
        return self  # Hydra copies it for every composition, to forget what it read

    def __getattr__(self, name: str) -> Any:
        return getattr(self.repository, name)

    def load_config(self, config_path: str) -> Any:
        if config_path not in self.read:
            self.read[config_path] = self.repository.load_config(config_path)
        return deepcopy(self.read[config_path])  # Hydra builds the configuration of these very nodes


def sweep_jobs(arguments: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """What Hydra's own sweeper makes of a command line and of the experiment's axes: the keys it sweeps, each job's overrides.

    A key that the experiment sweeps counts although the command line holds it at one value. A job's overrides: what the
    command line fixes, then the row, then the axes. Raises UserError, in one line, for whatever Hydra refuses.
    """
    with _tree():
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        given = parser.parse_overrides([item for item in arguments if not item.startswith("-")])
        fixed = [str(item.input_line) for item in given if not item.is_sweep_override()]
        params = _axes(_folders(), tuple(fixed))
        axes = parser.parse_overrides([f"{key}={value}" for key, value in params.items()])
        own = [item for item in given if not str(item.key_or_group).startswith(("hydra.", "hydra/"))]
        (jobs,) = BasicSweeper.split_arguments([*axes, *own], None)
    for item in own:  # Hydra would take it for another key than the axis, which then wins
        if str(item.key_or_group) in params and str(item.input_line).startswith("+"):
            raise UserError(f"{item.input_line}: the experiment already sets it; write {str(item.input_line).lstrip('+')}")
    swept = [*params, *(item.get_key_element() for item in own if item.is_sweep_override())]

    def place(item: str) -> tuple[int, int]:
        key = item.partition("=")[0]
        return (0, 0) if key not in swept else (1, 0) if key.startswith("row/") else (2, swept.index(key))

    return list(dict.fromkeys(swept)), [sorted(job, key=place) for job in jobs]


@cache
def _axes(folders: tuple[str, ...], fixed: tuple[str, ...]) -> dict[str, Any]:
    """What the experiment sweeps: key -> values as its yaml spells them."""

    def make() -> Any:
        params = hydra_compose("config", overrides=list(fixed), return_hydra_config=True).hydra.sweeper.get("params")
        return OmegaConf.to_container(params, resolve=True) if params else {}

    params = known(("axes", *fixed), make)
    return {str(key): value for key, value in params.items() if value is not None}


def hydra_program(job: Callable[[DictConfig], Any]) -> None:
    """Hand the command line (sys.argv) to Hydra, which composes each job's configuration and calls `job` with it."""
    blocks.use()
    given = sys.argv[1:]
    settings = [item for item in given if not item.startswith("-") and ("=" in item or item.startswith("~"))]
    # Its parser takes no settings behind an option that stands between them.
    sys.argv[1:] = [*(item for item in given if item not in settings), *settings]
    if place.own() and not {"--config-dir", "-cd"} & set(sys.argv):
        sys.argv[1:1] = ["--config-dir", place.own()]
    hydra_main(config_path=str(CONF), config_name="config", version_base="1.3")(job)()


def unswept(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The overrides of a command line that hold one value, and those that hold several. Raises UserError for what is none."""
    given = [item for item in arguments if not item.startswith("-")]
    if bad := [item for item in given if item.startswith("=")]:
        raise UserError(f"{bad[0]!r} is not a setting: write key=value")
    with _tree() as loader:
        parsed = OverridesParser.create(config_loader=loader).parse_overrides(given)
    several = [str(item.input_line) for item in parsed if item.is_sweep_override()]
    return [item for item in given if item not in several], several


def job_overrides() -> list[str]:
    """Inside a job: the overrides that composed it, without Hydra's own."""
    return list(HydraConfig.get().overrides.task)


def in_sweep() -> bool:
    """Inside a job: whether it is one of several."""
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def resolved(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain values.

    Raises UserError, in one line, where a value refers to one that is not there, is not of its field's type, or out of range.
    """
    try:
        with deferred():
            values: dict[str, Any] = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key or 'a value'}: {one_line(error)}") from error
    except RecursionError:
        raise UserError("a value refers to itself through ${...}: write the value out") from None
    _refuse_unscripted(config)  # before its empty values are found to be no settings
    check_root(values)
    return values


def asked_of(config: DictConfig, overrides: Sequence[str]) -> dict[str, Any]:
    """What a run is named by: its plain values and, where it starts from other runs, their signatures (`starts_from`).

    `overrides` composed it. Raises UserError, as `resolved` does.
    """
    values = resolved(config)
    found = [signature(asked_of(*start)) for start in starts_of(config, overrides)]
    return {**values, "starts_from": found} if found else values


def starts_of(config: DictConfig, overrides: Sequence[str]) -> list[tuple[DictConfig, tuple[str, ...]]]:
    """The runs that this one starts from (`starts`, each what it has otherwise): the configuration of each, and what composes it.

    Apart from that it is the same command, so that a sweep meets its dependencies in any order; but what is said of a method's
    settings goes with the method, if a start has another. A start has none of its own unless it says so.
    Raises UserError unless `starts` is a list of mappings, as [{task: mnli}].
    """
    found = []
    for item in config.get("starts") or ():
        if not isinstance(item, DictConfig):
            raise UserError(f"starts must be a list of each start's own settings, such as [{{task: mnli}}], not of {item!r}")
        own = {str(key): value for key, value in item.items()}
        kept = [pair for pair in (text.split("=", 1) for text in overrides) if pair[0] not in {*own, "starts"}]
        kept = [pair for pair in kept if "method" not in own or not pair[0].startswith("method.")]
        # These are the same set afterwards as composed with, at a fraction of the time.
        late = {"seed": config.seed} if "seed" not in own else {}
        late |= {key: OmegaConf.select(config, key) for key, *_ in kept if key.startswith("row.")}
        given = {key: value for key, *value in kept if key not in late}
        words = tuple("=".join((key, *value)) for key, value in given.items())
        words += tuple(f"{key}={value}" for key, value in ({"starts": "null"} | own).items())
        start = composed(words).copy()
        for key, value in late.items():
            OmegaConf.update(start, key, value)
        found.append((start, (*words, *(f"{key}={value}" for key, value in late.items()))))
    return found


@cache
def composed(overrides: tuple[str, ...]) -> DictConfig:
    """What `compose` gives, made once: copy it before you change it."""
    return compose(list(overrides))


members.use(composed)


def _refuse_unscripted(config: DictConfig) -> None:
    """Raise UserError for a sentence task at the paper's scale with recipe=scripts that no released script trains."""
    if config.recipe_name != "scripts" or config.profile_name != "paper" or config.task.get("kind", "text") == "text":
        return
    printed = config.get("printed") or {}
    if config.task.name not in printed.get(config.backbone.name, {}):
        row = f"row {config.row.name} of {config.row.table}" if config.row.table else f"method={config.method.name}"
        raise UserError(
            f"no released script trains {row} on {config.backbone.name} and {config.task.name}: use recipe=paper, or a row of "
            "conf/printed/paper/scripts.yaml (row/glue=lora)"
        )


def profile_of(overrides: Sequence[str]) -> tuple[str, list[str]]:
    """The profile that a command line names, `mini` if none, and its other overrides. Raises UserError for anything else."""
    if bad := [item for item in overrides if "=" not in item]:
        raise UserError(f"{bad[0]!r} is not an override; write key=value, for example profile=mini")
    given = [item.partition("=")[2] for item in overrides if item.startswith("profile=")]
    return (given or ["mini"])[-1], [item for item in overrides if not item.startswith("profile=")]


def target(node: Mapping[str, Any]) -> Any:
    """The class of this project, or of a package that the reader trusts, that `_target_` names. Raises UserError for others.

    A node may come from an adapter that somebody sent, so nothing but such classes is ever called: no
    `lora_repro.records.record.os.system`.
    """
    name = str(node["_target_"])
    within = tuple(f"{package}." for package in place.trusted())
    try:
        found = get_object(name) if name.startswith(within) else None
    except ImportError:
        found = None
    if not isinstance(found, type) or not f"{found.__module__}.".startswith(within):
        top = name.partition(".")[0]
        way = "" if top in place.trusted() else f"; if it is yours: --trust {top}"
        raise UserError(f"_target_ {name} is not a class of {' or '.join(place.trusted())}{way}")
    return found


def build(node: DictConfig | Mapping[str, Any]) -> Any:
    """Call `_target_` with the node's other keys, those that are such nodes built first.

    Unlike `hydra.utils.instantiate` it lets our own errors through whole. Raises UserError if a target is no class of ours,
    does not take one of the keys, or misses one.
    """
    values: Any = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node
    name = node._key() if isinstance(node, DictConfig) else None
    target(values)  # before its source is read
    check_node(values, str(name or class_name(values["_target_"])))
    return _built(values)


def _built(value: Any) -> Any:
    if isinstance(value, list):
        return [_built(item) for item in value]
    if not isinstance(value, dict):
        return value
    values = {key: _built(item) for key, item in value.items()}
    if "_target_" not in values:
        return values
    made, name = target(values), values.pop("_target_")
    try:
        return made(**values)
    except TypeError as error:
        raise UserError(f"{name}: {error}") from error
