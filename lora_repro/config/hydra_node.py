"""What Hydra's own settings (`hydra.*`) may be. From them Hydra builds objects, sets up logging and changes the environment, so
they are checked after composing and before Hydra uses them.

- Whoever sets them: Hydra builds the launchers, sweepers and samplers of docs/scaling.md and nothing else.
- A folder of one's own (`--config-dir`) may choose these by name (`override hydra/launcher: joblib`) and set `hydra.mode` and
  `hydra.sweeper.params`. All other settings come from conf/ or the command line: a launcher's may name commands or hosts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lora_repro.config.environment import unread
from lora_repro.config.hydra_errors import one_line
from lora_repro.config.hydra_internals import BASIC_LAUNCHER, BASIC_SWEEPER
from lora_repro.config.paths import CONF, LIBRARY
from lora_repro.errors import UserError

PLUGINS = "hydra_plugins"
BUILT = {  # setting -> the classes that its _target_ may name
    "hydra.launcher": (
        BASIC_LAUNCHER,
        f"{PLUGINS}.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
        f"{PLUGINS}.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
        f"{PLUGINS}.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
        f"{PLUGINS}.lora_repro.RayLauncher",
    ),
    "hydra.sweeper": (BASIC_SWEEPER, f"{PLUGINS}.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper"),
    "hydra.sweeper.sampler": tuple(
        f"optuna.samplers.{name}Sampler" for name in ("TPE", "Random", "CmaEs", "NSGAII", "MOTPE", "Grid")
    ),
}
EMPTY = (  # settings from which Hydra would call, write or export something else
    *("hydra.callbacks", "hydra.job.env_set", "hydra.job.env_copy", "hydra.sweeper.custom_search_space"),
    *("hydra.job_logging.root", "hydra.hydra_logging.root"),  # without a root logger Hydra configures no logging
)
CHOSEN = ("hydra/launcher", "hydra/sweeper", "hydra/sweeper/sampler")  # groups
SEARCH = "hydra.searchpath"
WRITTEN = ("hydra.overrides", "hydra.runtime", "hydra.job.override_dirname", "hydra.job.name")  # by Hydra itself
FREE = ("hydra.mode", "hydra.sweeper.params", SEARCH, *WRITTEN)  # what a folder may set, or need not have set


def check_folders(search_path: object) -> None:
    """Raise UserError for an entry of hydra.searchpath that is neither a folder nor in this package: Hydra would import it."""
    for item in search_path if isinstance(search_path, list) else ():
        scheme, _, place = str(item).rpartition("://")
        ours = scheme == "pkg" and place.partition(".")[0] == LIBRARY.name
        if not ours and not (scheme in ("", "file") and Path(place).is_dir()):
            raise UserError(f"{SEARCH}: {item} is neither a folder nor pkg://{LIBRARY.name}")


def check(config: DictConfig, ours: Callable[[tuple[str, ...]], DictConfig]) -> None:
    """Raise UserError, with the key, for a setting that the rules above exclude.

    ours: from overrides to the configuration that conf/ alone gives.
    """
    for key, value in _values(config.hydra, "hydra"):
        group, _, name = key.rpartition(".")
        if name == "_target_" and value not in BUILT.get(group, ()):
            raise UserError(f"{key}: Hydra builds launchers and sweepers only, chosen by name (hydra/launcher=joblib)")
    for key in ("hydra.launcher", "hydra.sweeper"):
        node = _selected(config, key)
        if not isinstance(node, DictConfig) or "_target_" not in node:
            raise UserError(f"{key} must be chosen by name, such as {key.replace('.', '/')}=basic")
    for key in EMPTY:
        if _selected(config, key):
            raise UserError(f"{key} must stay empty")
    _check_kinds(config.hydra)
    sources = config.hydra.runtime.config_sources
    if any(source.schema == "file" and Path(source.path) != CONF for source in sources):
        _check_same(config, ours(_asked(config.hydra)))


def _selected(config: DictConfig, key: str) -> Any:
    try:
        return OmegaConf.select(config, key, default=None)
    except OmegaConfBaseException as error:
        raise UserError(f"{key}: {one_line(error)}") from error


def _check_kinds(hydra: DictConfig) -> None:
    """What Hydra takes without a check and then fails on."""
    most, verbose = hydra.sweeper.get("max_batch_size"), hydra.verbose
    if most is not None and (not isinstance(most, int) or most < 1):
        raise UserError(f"hydra.sweeper.max_batch_size must be a whole number of at least 1, or null, not {most!r:.40}")
    names = list(verbose) if isinstance(verbose, ListConfig) else [verbose]
    if not isinstance(verbose, bool) and not all(isinstance(name, str) for name in names):
        raise UserError(f"hydra.verbose must be true, false or names of loggers, not {verbose!r:.40}")


def _asked(hydra: DictConfig) -> tuple[str, ...]:
    """The overrides that give Hydra's settings: its groups' choices, then what the command line sets."""
    choices = [f"{group}={hydra.runtime.choices[group]}" for group in CHOSEN if hydra.runtime.choices.get(group)]
    overrides = [item for item in hydra.overrides.hydra if item.lstrip("+~").partition("=")[0] not in (*CHOSEN, SEARCH)]
    return (*choices, *overrides)


def _check_same(config: DictConfig, ours: DictConfig) -> None:
    settings, usual = (dict(_plain(OmegaConf.to_container(root.hydra, resolve=False), "hydra")) for root in (config, ours))
    if differing := [key for key in {**settings, **usual} if settings.get(key) != usual.get(key)]:
        raise UserError(
            f"{differing[0]} is set by a file of your own: that may set hydra.mode and hydra.sweeper.params, and choose "
            "hydra/launcher and hydra/sweeper by name; give other settings of Hydra on the command line"
        )


def _plain(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """The unresolved values below a key, without `FREE`."""
    if key in FREE:
        return
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _plain(item, f"{key}.{name}")
    else:
        yield key, value


def _values(node: DictConfig | ListConfig, path: str) -> Iterator[tuple[str, Any]]:
    """Every value below a node by its key, interpolations resolved, also where one stands for a whole mapping.

    A value that cannot be resolved (yet) is left out. Raises UserError for one that reads the environment.
    """
    names: Sequence[Any] = list(node) if isinstance(node, DictConfig) else range(len(node))
    for name in names:
        if (key := f"{path}.{name}") in WRITTEN:
            continue
        try:
            with unread() if path.startswith("hydra.sweeper") else nullcontext():
                value = node[name]
        except OmegaConfBaseException as error:
            if str(error).startswith(UserError.__name__):  # a resolver of ours refuses
                raise UserError(f"{key}: {one_line(error)}") from error
            continue
        yield key, value
        if isinstance(value, DictConfig | ListConfig):
            yield from _values(value, key)
