"""Learning rates that trials chose: `${searched:2e-3}` in a row is the rate chosen for exactly this setting, else 2e-3.

A setting is all that a training depends on except its seed and its rate: backbone, method, task, data, length. So a rate searched
for another length, rank or amount of data is never adopted silently. The trials are in results/<profile>/trials/<setting>.json,
written by `python -m lora_repro tune`, which starts from the number after the colon.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lora_repro.config.paths import CONF, ROOT
from lora_repro.records import record

RESULTS = ROOT / "results"
SHIPPED = CONF.parent / "results"  # an installed package brings the searches that were published with it
MOST = 7  # rates of a search that has found none above chance: the default of tune.most
AFTER = ("seed", "decode", "probe", "bench")  # not part of a setting: the seed, and what the weights do not depend on


def use() -> None:
    """Register `${searched:...}` with OmegaConf, in this process."""
    OmegaConf.register_new_resolver("searched", _searched, replace=True)


def setting_signature(asked: dict[str, Any]) -> str:
    """16 hex digits that name a setting. `asked`: a resolved configuration, whatever its rate."""
    kept = {key: value for key, value in asked.items() if key not in AFTER}
    for group, key in (("train", "lr"), ("data", "n_test")):
        kept[group] = {name: value for name, value in asked[group].items() if name != key}
    return record.signature({**kept, "starts_from": asked.get("starts")})


def trials_path(profile: str, name: str) -> Path:
    """Where the trials of a setting are kept."""
    return RESULTS / profile / "trials" / f"{name}.json"


def load_trials(profile: str, name: str) -> dict[str, Any] | None:
    """The trials of a setting; None if there are none. Raises UserError if the file cannot be read."""
    paths = (trials_path(profile, name), SHIPPED / profile / "trials" / f"{name}.json")
    return next((record.read(path) for path in paths if path.is_file()), None)


def chosen_rate(asked: dict[str, Any], first: float) -> float:
    """The rate that trials chose for this setting, or the first guess without trials. Raises UserError as `load_trials` does."""
    trials = load_trials(str(asked["profile_name"]), setting_signature(asked))
    return float(trials["chosen"] if trials else first)


def stopped(search: dict[str, Any]) -> int:
    """After how many rates one search of a setting stopped at chance, as none may (`sweep.tune`) since 2026-11-28; else 0.

    A search in which no rate rose above chance has `learnt: false`; if it tried `MOST` rates, it did what the rule asks.
    """
    tried = len({one["lr"] for one in search["trials"]})
    return 0 if search.get("learnt", True) or tried >= MOST else tried


def first_guess(config: DictConfig) -> float | None:
    """Where a search of this configuration's rate begins; None if the rate is given, so that nothing is searched."""
    train: Any = OmegaConf.to_container(config.train, resolve=False)
    text = train.get("lr")
    named = re.fullmatch(r"\$\{searched:(.+)\}", text) if isinstance(text, str) else None
    return float(named.group(1)) if named else None


def _searched(first: float, *, _root_: DictConfig) -> float:
    profile = str(_root_.profile_name)
    if not any((folder / profile / "trials").is_dir() for folder in (RESULTS, SHIPPED)):
        return float(first)
    starts = OmegaConf.select(_root_, "starts")
    asked: dict[str, Any] = {"starts": OmegaConf.to_container(starts, resolve=True) if OmegaConf.is_config(starts) else starts}
    for key, node in _root_.items_ex(resolve=False):
        if key == "train":
            asked[key] = {name: node[name] for name in node if name != "lr"}
        elif isinstance(node, DictConfig) and "_target_" in node and key not in AFTER:
            asked[str(key)] = OmegaConf.to_container(node, resolve=True)
    return chosen_rate({**asked, "profile_name": profile}, first)
