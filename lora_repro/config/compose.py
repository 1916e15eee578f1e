"""Composing configurations outside a Hydra program, and building objects from configuration nodes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from importlib import import_module
from typing import Any

from hydra import compose as hydra_compose
from hydra import main as hydra_main
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue, OmegaConfBaseException

from lora_repro.config import blocks, environment, file_hashes, hydra_internals, paths, resolvers
from lora_repro.config.disk_cache import load_or_make
from lora_repro.config.families import own_task
from lora_repro.config.hydra_errors import one_line
from lora_repro.config.hydra_internals import Hydra, Override, override_value
from lora_repro.config.paths import CONF as CONF
from lora_repro.config.schema import class_name, is_trusted, not_trusted
from lora_repro.config.signature import signature
from lora_repro.config.validation import check_node, check_root
from lora_repro.errors import UserError
from lora_repro.signals import deferred

# At import, since a launcher's worker composes and resolves too.
blocks.use()
environment.use()
file_hashes.use()
resolvers.use()

FLAGS = ("-m", "--multirun", "-r", "--run", "--resolve", "-p", "--package")
QUESTIONS = ("--cfg", "-c", "--info", "-i", "--hydra-help", "-sc", "--shell-completion")  # Hydra answers them and runs nothing
_readings = 0


def compose(overrides: list[str], hydra_node: bool = False) -> DictConfig:
    """The configuration that `lora-repro run <overrides>` would give one job; `hydra_node` keeps Hydra's own node.

    Raises UserError, in one line, for whatever Hydra refuses.
    """
    with _tree(*overrides) as loader:
        if hydra_node:
            try:
                config = hydra_compose("config", overrides=overrides, return_hydra_config=True)
                _read_all(config.hydra)
                return config
            except OmegaConfBaseException as error:
                raise UserError(f"{error.full_key}: {one_line(error)}" if error.full_key else one_line(error)) from error
            except ConfigCompositionException:
                compose([item for item in overrides if not item.startswith("hydra")])  # raises a better message
                raise
        # As in Hydra, group choices come first, then single values; equal choices are composed once.
        values = [item for item in hydra_internals.parse(overrides) if _is_value(item, loader)]
        lines = {item.input_line for item in values}
        config = _chosen(_folders(), tuple(item for item in overrides if item not in lines)).copy()
        try:
            hydra_internals.apply_values(values, config)
        except ConfigCompositionException as error:
            raise UserError(one_line(error, config)) from error
        return config


def _read_all(node: DictConfig) -> None:
    """Read every value of Hydra's own node, since a reference that gives none fails only where Hydra reads it.

    What Hydra fills in later is missing now. Raises OmegaConfBaseException.
    """
    for key in node:
        with suppress(MissingMandatoryValue, InterpolationToMissingValueError):
            if isinstance(value := node[key], DictConfig):
                _read_all(value)


def _is_value(item: Override, loader: Any) -> bool:
    """Whether an override sets a single value: it neither chooses a group's file nor sets anything of Hydra's own."""
    key = str(item.key_or_group)
    return not (item.is_sweep_override() or key.startswith(("hydra.", "hydra/")) or hydra_internals.is_group(key, loader))


@cache
def _chosen(folders: tuple[str, ...], choices: tuple[str, ...]) -> DictConfig:
    config: DictConfig = OmegaConf.create(
        cached_values(("config", *choices), lambda: OmegaConf.to_container(hydra_compose("config", overrides=list(choices))))
    )
    OmegaConf.set_struct(config, True)  # as Hydra does: an unknown key is an error
    return config


def cached_values(
    key: Sequence[str], make: Callable[[], Any], code: Sequence[str] = (), packages: Sequence[str] = ()
) -> Any:
    """Plain values made from compositions, cached on disk as by `load_or_make`.

    Nothing is cached while the user has a configuration folder.
    """
    return load_or_make(key, make, code, packages) if _folders() == (str(paths.CONF),) else make()


@contextmanager
def _tree(*chosen: str) -> Iterator[Any]:
    """Hydra's loader over conf/, even while Hydra runs something else in this process; its errors become UserErrors."""
    try:
        # A job of a sweep may compose the run it starts from. A signal inside OmegaConf would become another error.
        with deferred(), hydra_internals.in_place_of_the_running(lambda: _hydra(_folders())) as loader:
            yield loader
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(one_line(error)) from error
    except ValueError as error:  # a group chosen as null
        raise UserError(f"{one_line(error)} (with {' '.join(chosen)})") from error


def _folders() -> tuple[str, ...]:
    """conf/ and the user's own folder, if there is one."""
    return tuple(map(str, paths.folders()))


@cache
def _hydra(folders: tuple[str, ...]) -> Hydra:
    """Hydra over these folders, created once, so that their files are read once."""
    return hydra_internals.main_hydra(folders)


def read_again() -> None:
    """Forget every file that was read and every configuration that was composed: to be called when files of the user's own
    folder, or which folder it is, have changed within this process.
    """
    global _readings
    for function in (_hydra, _chosen, _axes, compose_cached):
        function.cache_clear()
    _readings += 1


def readings() -> int:
    """How often `read_again` was called: what was computed from configurations holds while this stays the same."""
    return _readings


def sweep_jobs(arguments: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The swept keys and each job's overrides, as Hydra's own sweeper gets them from a command line and the experiment's axes.

    A key that the experiment sweeps counts as swept even if the command line fixes it to one value. A job's overrides are those
    that the command line fixes, then the row, then the axes. Raises UserError, in one line, for whatever Hydra refuses.
    """
    with _tree() as loader:
        overrides = hydra_internals.parse([item for item in arguments if not item.startswith("-")], loader)
        constants = [str(item.input_line) for item in overrides if not item.is_sweep_override()]
        params = _axes(_folders(), tuple(constants))
        axes = hydra_internals.parse([f"{key}={value}" for key, value in params.items()], loader)
        job_overrides = [item for item in overrides if not str(item.key_or_group).startswith(("hydra.", "hydra/"))]
        jobs = hydra_internals.split_jobs([*axes, *job_overrides])
    for item in job_overrides:  # with a + Hydra takes the key for another one than the axis, and the axis wins
        if str(item.key_or_group) in params and str(item.input_line).startswith("+"):
            raise UserError(f"{item.input_line}: the experiment already sets it; write {str(item.input_line).lstrip('+')}")
    swept = [*params, *(item.get_key_element() for item in job_overrides if item.is_sweep_override())]

    def place(item: str) -> tuple[int, int]:
        key = item.partition("=")[0]
        return (0, 0) if key not in swept else (1, 0) if key.startswith("row/") else (2, swept.index(key))

    return list(dict.fromkeys(swept)), [sorted(job, key=place) for job in jobs]


@cache
def _axes(folders: tuple[str, ...], overrides: tuple[str, ...]) -> dict[str, Any]:
    """What the experiment sweeps: key -> values as its yaml spells them."""

    def make() -> Any:
        config = hydra_compose("config", overrides=list(overrides), return_hydra_config=True)
        node = config.hydra.sweeper.get("params")
        params: Any = OmegaConf.to_container(node, resolve=True) if node else {}
        if own := own_task(str(config.hydra.runtime.choices.get("task")), params.get("task")):
            params["task"] = own
        return params

    params = cached_values(("axes", *overrides), make)
    return {str(key): value for key, value in params.items() if value is not None}


def hydra_program(job: Callable[[DictConfig], Any]) -> None:
    """Hand the command line (sys.argv) to Hydra, which composes each job's configuration and calls `job` with it.

    Raises UserError, in one line, for whatever Hydra refuses.
    """
    arguments = sys.argv[1:]
    check_options(arguments)
    settings = [item for item in arguments if not item.startswith("-") and ("=" in item or item.startswith("~"))]
    # Hydra's parser accepts no settings after an option that stands between settings.
    config_dir = ["--config-dir", paths.own()] if paths.own() else []
    sys.argv[1:] = [*config_dir, *(item for item in arguments if item not in settings), *settings]
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors leave Hydra as they are: it would print and swallow them
    try:
        hydra_main(config_path=str(CONF), config_name="config", version_base=hydra_internals.BASE)(job)()
    except HydraException as error:
        raise UserError(one_line(error)) from error
    finally:
        sys.argv[1:] = arguments


def check_options(arguments: Sequence[str]) -> None:
    """Raise UserError for an option that is not one of Hydra's here: others replace conf/ or unpickle a file."""
    options = {*FLAGS, *QUESTIONS}
    if unknown := [item for item in arguments if item.startswith("-") and item.partition("=")[0] not in options]:
        raise UserError(f"no option {unknown[0]}; see --help")


def unswept(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The overrides of a command line with one value, and those with several. Raises UserError for one without a key."""
    settings = [item for item in arguments if not item.startswith("-")]
    if bad := [item for item in settings if item.startswith("=")]:
        raise UserError(f"{bad[0]!r} is not a setting: write key=value")
    with _tree() as loader:
        overrides = hydra_internals.parse(settings, loader)
    several = [str(item.input_line) for item in overrides if item.is_sweep_override()]
    return [item for item in settings if item not in several], several


def job_overrides() -> list[str]:
    """Inside a job: the overrides that composed it, as they were given, without Hydra's own."""
    overrides: Any = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    return list(overrides)


def resolved(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain values.

    Raises UserError, in one line, for a value that refers to a missing one, is not of its field's type, or is out of range.
    Only `paths` may read the environment; a value that refers to such a path is refused as one that reads it itself.
    """
    try:
        with deferred(), unresolved():
            values = {str(key): _resolved(config, key) for key in config}
    except RecursionError:
        raise UserError("a value refers to itself through ${...}: write the value out") from None
    _refuse_unscripted(config)  # first: `check_root` would complain about its empty values
    check_root(values)
    return values


@contextmanager
def unresolved() -> Iterator[None]:
    """Raise UserError, in one line with its key, for a value read inside the block that cannot be resolved."""
    try:
        yield
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key or 'a value'}: {one_line(error)}") from error


def _resolved(config: DictConfig, key: Any) -> Any:
    with nullcontext() if key == "paths" else environment.unread():
        value = config[key]
        return OmegaConf.to_container(value, resolve=True, throw_on_missing=True) if OmegaConf.is_config(value) else value


def resolved_with_starts(config: DictConfig, overrides: Sequence[str]) -> dict[str, Any]:
    """What names a run: its plain values and the signatures of the runs that it starts from, if any (`starts_from`).

    `overrides`: those that composed `config`. Raises UserError as `resolved` does.
    """
    values = resolved(config)
    signatures = [signature(resolved_with_starts(*start)) for start in starts_of(config, overrides)]
    return {**values, "starts_from": signatures} if signatures else values


def starts_of(config: DictConfig, overrides: Sequence[str]) -> list[tuple[DictConfig, tuple[str, ...]]]:
    """The configuration of each run that this one starts from, and the overrides that compose it.

    `starts` lists in what each start differs; otherwise it is the same command, so a sweep meets its dependencies in any order.
    If a start has another method, overrides of method settings are dropped. A start has no starts of its own unless it says so.
    Raises UserError unless `starts` is a list of mappings, as [{task: mnli}].
    """
    starts = []
    for item in config.get("starts") or ():
        if not isinstance(item, DictConfig):
            raise UserError(f"starts must be a list of each start's own settings, such as [{{task: mnli}}], not of {item!r}")
        row_settings: Any = OmegaConf.to_container(item, resolve=True)
        pairs = [pair for pair in (text.split("=", 1) for text in overrides) if pair[0] not in {*row_settings, "starts"}]
        pairs = [pair for pair in pairs if "method" not in row_settings or not pair[0].startswith("method.")]
        # Setting these after composing gives the same result in a fraction of the time.
        late = {"seed": config.seed} if "seed" not in row_settings else {}
        late |= {key: OmegaConf.select(config, key) for key, *_ in pairs if key.startswith("row.")}
        settings = {key: value for key, *value in pairs if key not in late}
        words = tuple("=".join((key, *value)) for key, value in settings.items())
        words += tuple(f"{key}={override_value(value)}" for key, value in ({"starts": None} | row_settings).items())
        start = compose_cached(words).copy()
        for key, value in late.items():
            OmegaConf.update(start, key, value)
        starts.append((start, (*words, *(f"{key}={value}" for key, value in late.items()))))
    return starts


@cache
def compose_cached(overrides: tuple[str, ...]) -> DictConfig:
    """The result of `compose`, cached: copy it before you change it."""
    return compose(list(overrides))


resolvers.use_tasks(compose_cached)


def _refuse_unscripted(config: DictConfig) -> None:
    """Raise UserError for recipe=scripts on a sentence task at the paper's scale if no released script trains it."""
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
    """The profile that a command line names, else `mini`, and its other overrides. Raises UserError for other arguments."""
    if bad := [item for item in overrides if "=" not in item]:
        raise UserError(f"{bad[0]!r} is not an override; write key=value, for example profile=mini")
    profiles = [item.partition("=")[2] for item in overrides if item.startswith("profile=")]
    return (profiles or ["mini"])[-1], [item for item in overrides if not item.startswith("profile=")]


def target(node: Mapping[str, Any]) -> Any:
    """The class that `_target_` names. Raises UserError unless it belongs to this project or to a package the user trusts.

    A node may come from an adapter of unknown origin, so nothing but such classes is ever called: no
    `lora_repro.records.record.os.system`.
    """
    name = str(node["_target_"])
    module, _, attribute = name.rpartition(".")
    try:
        cls = getattr(import_module(module), attribute, None) if is_trusted(module) else None
    except (ImportError, MemoryError, OSError, RuntimeError, SyntaxError, SystemError) as error:
        if not (isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")):
            raise UserError(f"_target_ {name}: {type(error).__name__}: {error}") from error
        cls = None
    if not isinstance(cls, type) or not is_trusted(cls.__module__):
        raise UserError(not_trusted(name))
    return cls


def build(node: DictConfig | Mapping[str, Any]) -> Any:
    """Call `_target_` with the node's other keys; nodes among them are built first.

    Unlike `hydra.utils.instantiate` it does not wrap our own errors. Raises UserError if a target is not an allowed class
    (`target`), does not take one of the keys, or lacks one.
    """
    with environment.unread():
        values: Any = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node
    name = node._key() if isinstance(node, DictConfig) else None
    target(values)  # checked before `check_node` reads its source
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
    cls, name = target(values), values.pop("_target_")
    try:
        return cls(**values)
    except TypeError as error:
        raise UserError(f"{name}: {error}") from error
