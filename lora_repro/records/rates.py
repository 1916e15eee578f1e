"""Learning rates that trials chose: `${searched:2e-3}` in a row is the rate chosen for exactly this setting, else 2e-3.

A setting is all that a training depends on except its seed and its rate: backbone, method, task, data, length. So a rate searched
for another length, rank or amount of data is never adopted silently. `lora-repro tune` starts from the number after the
colon and keeps what it finds in <paths.runs>/<profile>/trials/<setting>.json; `publish` copies the searches of declared rows to
results/<profile>/trials.

A published search counts before one's own: so no private search renames a run that is published or moves a published table.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lora_repro.config import signature
from lora_repro.config.paths import CONF, ROOT
from lora_repro.errors import UserError
from lora_repro.files import SEAL
from lora_repro.records import manifest, record

RESULTS = ROOT / "results"
SHIPPED = CONF.parent / "results"  # an installed package brings the searches that were published with it
PRUNED = "pruned"  # the status of a trial that was given up on the way
PLANNED = "LORA_REPRO_RATES"  # a sweep's settings and their rates, as JSON: a search that ends meanwhile moves none of its runs
MOST = 7  # rates of a search that has found none above chance: the default of tune.most
AFTER = ("seed", "decode", "probe", "bench")  # not part of a setting: the seed, and what the weights do not depend on
_searches = 0  # that this process has saved
_view: tuple[Path, ...] | None = None  # within `published_only`: folders like results/ to look in first


def setting_signature(config: dict[str, Any]) -> str:
    """16 hex digits that name a setting. `config`: a resolved configuration, whatever its rate."""
    settings = {key: value for key, value in config.items() if key not in AFTER}
    for group, key in (("train", "lr"), ("data", "n_test")):
        settings[group] = {name: value for name, value in config[group].items() if name != key}
    return signature.signature({**settings, "starts_from": config.get("starts")})


@contextmanager
def published_only(*before: Path) -> Iterator[None]:
    """Within it runs adopt published rates alone, so that what is published looks the same in every checkout.

    before: folders like results/ in which to look first; their files have no hashes yet.
    """
    global _view
    outer, _view = _view, before
    try:
        yield
    finally:
        _view = outer


def view() -> object:
    """What tells apart rates that were looked up at different times: where, in which state of what is published, and after how
    many searches of this process.
    """
    return _view, manifest.stamp(RESULTS), _searches


def changed() -> None:
    """To be called when this process has saved a search: rates are then looked up again."""
    global _searches
    _searches += 1


def own_path(runs: str | Path, profile: str, name: str) -> Path:
    """Where `tune` keeps the trials of a setting. runs: `paths.runs`."""
    return Path(runs) / profile / "trials" / f"{name}.json"


def published_trials(profile: str, name: str) -> dict[str, Any] | None:
    """The published trials of a setting; None if there are none. Raises UserError if the file is not what was published."""
    path = f"{profile}/trials/{name}.json"
    for folder in _view or ():
        if (folder / path).is_file():
            return record.read(folder / path)
    for results in dict.fromkeys((RESULTS, SHIPPED)):
        file = results / path
        now = file.stat().st_mtime_ns if file.is_file() else 0
        if (trials := _published(results, path, now, manifest.stamp(results))) is not None:
            return trials
    return None


@cache
def _published(results: Path, path: str, mtime: int, stamp: object) -> dict[str, Any] | None:
    """The trials at results/`path`, read once a state of that file and of the manifest. Copy them before you change them."""
    if (text := manifest.read_text(results, path)) is None:
        return None
    try:
        return record.checked(record.parse(text))
    except ValueError as error:
        raise UserError(f"{results / path} cannot be read ({error})") from None


def own_trials(path: Path) -> dict[str, Any] | None:
    """The trials that `tune` kept at `path`, without their hash; None if there are none. Raises UserError for an altered file."""
    if not path.is_file():
        return None
    trials = record.read(path)
    if trials.pop(SEAL, None) is None:
        raise UserError(f"{path} has no hash of its own, so it may have been altered: delete it, then search again")
    return trials


def load_trials(profile: str, name: str, runs: str | Path) -> dict[str, Any] | None:
    """The trials of a setting, published ones first; None if there are none. Raises UserError for files that were altered."""
    if trials := published_trials(profile, name):
        return trials
    return own_trials(own_path(runs, profile, name)) if _view is None else None


def chosen_rate(config: dict[str, Any], first: float) -> float:
    """The rate that trials chose for this setting, or the first guess without trials; within a sweep the one that it planned.

    Raises UserError as `load_trials` does.
    """
    name = setting_signature(config)
    planned = json.loads(os.environ.get(PLANNED, "{}")) if _view is None else {}
    if name in planned:
        return float(planned[name])
    trials = load_trials(str(config["profile_name"]), name, config["paths"]["runs"])
    return float(trials["chosen"] if trials else first)


def trials_of(head: Mapping[str, Any], searches: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The content of a setting's file. Of several searches of one length and number of seeds the last is kept.

    head: what tells the setting. The longest search, of equally long ones the one with more seeds, gives the rate.
    """
    last_searches = {(search["length"], search.get("seeds", 1)): search for search in searches}
    ranking = [last_searches[kind] for kind in sorted(last_searches)]
    longest = {key: ranking[-1][key] for key in ("chosen", "edge", "learnt", "length") if key in ranking[-1]}
    return {**head, **longest, "searches": ranking}


def stopped(search: dict[str, Any]) -> int:
    """After how many rates one search of a setting stopped at chance, as none may (`sweep.tune`) since 2026-11-28; else 0.

    A search in which no rate rose above chance has `learnt: false`; if it tried `MOST` rates, it did what the rule asks.
    """
    n_rates = len({trial["lr"] for trial in search["trials"]})
    return 0 if search.get("learnt", True) or n_rates >= MOST else n_rates


def first_guess(config: DictConfig) -> float | None:
    """Where a search of this configuration's rate begins; None if the rate is given, so that nothing is searched."""
    train: Any = OmegaConf.to_container(config.train, resolve=False)
    text = train.get("lr")
    match = re.fullmatch(r"\$\{searched:(.+)\}", text) if isinstance(text, str) else None
    return float(match.group(1)) if match else None


def searched(first: float, parent: DictConfig) -> float:
    """`${searched:...}` (conf/resolvers.yaml): the rate that trials chose for the configuration around `parent`, else `first`.

    Raises UserError as `load_trials` does.
    """
    root: Any = parent._get_root()
    profile, runs = str(root.profile_name), str(root.paths.runs)
    if not _any_trials(profile, runs):
        return float(first)
    starts = OmegaConf.select(root, "starts")
    config: dict[str, Any] = {"starts": OmegaConf.to_container(starts, resolve=True) if OmegaConf.is_config(starts) else starts}
    for key, node in root.items_ex(resolve=False):
        if key == "train":
            config[key] = {name: node[name] for name in node if name != "lr"}
        elif isinstance(node, DictConfig) and "_target_" in node and key not in AFTER:
            config[str(key)] = OmegaConf.to_container(node, resolve=True)
    return chosen_rate({**config, "profile_name": profile, "paths": {"runs": runs}}, first)


def _any_trials(profile: str, runs: str) -> bool:
    """Whether anything was searched at a profile, here or published; a published search that is gone counts, too."""
    folders = [Path(runs), *(_view or ()), RESULTS, SHIPPED]
    if any((folder / profile / "trials").is_dir() for folder in folders):
        return True
    return any(name.startswith(f"{profile}/trials/") for name in manifest.read_manifest(RESULTS) or ())
