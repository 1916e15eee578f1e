"""Searches of learning rates by trials on held-out rows; `commands/tune.py` says by which rule."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lora_repro import console
from lora_repro.config.compose import build, compose
from lora_repro.data import dev_subset
from lora_repro.errors import Busy, UserError
from lora_repro.files import sealed, write_json
from lora_repro.planning.cells import Cell, cells, with_starts
from lora_repro.records import provenance, rates, record
from lora_repro.records.run_folder import clean
from lora_repro.run.stages import read
from lora_repro.sweep.grid import (
    FACTOR,
    FIRST,
    PAUSE,
    best_place,
    edge,
    kept,
    loss_on_the_way,
    mean_ranking_key,
    next_place,
)
from lora_repro.sweep.trial import TRIAL, Trial, give_up, resolve_starts, trial, trial_config

WAIT_SECONDS = 5.0


def chance_of(config: DictConfig) -> float:
    """The least `ranking_key` of a trial that has learnt nothing. `config`: a trial's.

    By score: a held-out score of at most that of the constant prediction (the commonest answer; 0 for a correlation) plus 1/√n,
    which is two standard errors of an accuracy of 1/2 on n rows. By loss: infinite, since there is no constant prediction.
    """
    if config.train.select_by != "score":
        return math.inf
    task, data = build(config.task), build(config.data)
    gold = [example.target for example in dev_subset(read(task, config.paths.data), data)]
    ((commonest, _),) = Counter(gold).most_common(1)
    score = task.quality([commonest] * len(gold), gold)
    return -((0.0 if math.isnan(score) else score) + 1 / math.sqrt(len(gold)))


@dataclass(frozen=True)
class Search:
    """One setting's search: the cell that it is for, its configuration, and `first`, the rate in the middle of the grid."""

    cell: Cell
    config: DictConfig
    first: float

    @property
    def name(self) -> str:
        return self.cell.setting

    @property
    def profile(self) -> str:
        return str(self.config.profile_name)

    @property
    def length(self) -> float:
        return float(self.config.tune.length)

    def rate(self, place: int) -> float:
        return float(f"{self.first * float(FACTOR) ** place:.3g}")

    @property
    def path(self) -> Path:
        """Where this checkout's searches of the setting are kept."""
        return rates.own_path(self.config.paths.runs, self.profile, self.name)

    def own(self) -> list[dict[str, Any]]:
        """The ended searches of this setting that this checkout made; they differ in length or number of seeds."""
        search_record = rates.own_trials(self.path)
        return list(search_record["searches"]) if search_record else []

    def known(self) -> list[dict[str, Any]]:
        """The ended searches of this setting, those that are published first."""
        search_record = rates.published_trials(self.profile, self.name)
        return [*(search_record["searches"] if search_record else []), *self.own()]

    @property
    def seeds(self) -> int:
        return int(self.config.tune.seeds)

    @cached_property
    def chance(self) -> float:
        """`chance_of` its trials, which does not depend on what they start from."""
        return chance_of(trial_config(OmegaConf.merge(self.config, {"starts": None}), self.first)[0])  # type: ignore[arg-type]

    def ended(self) -> bool:
        """Whether it was made, here or by whoever published it, with as many seeds at least, and did not stop at chance."""
        matches = [search for search in self.known() if search["length"] == self.length and search.get("seeds", 1) >= self.seeds]
        return any(not 0 < rates.stopped(search) < int(self.config.tune.most) for search in matches)

    def begun(self) -> dict[int, list[Trial]]:
        """The trials of this search, by place, if it stopped at chance: it goes on from them.

        None of them if they lie on another grid, since the row's first guess has changed.
        """
        places = {self.rate(place): place for place in range(-rates.MOST, rates.MOST + 1)}
        trials: dict[int, list[Trial]] = {}
        for search in self.known():
            if (search["length"], search.get("seeds", 1)) == (self.length, self.seeds) and rates.stopped(search):
                if any(trial["lr"] not in places for trial in search["trials"]):
                    return {}
                trials = {}  # of two that stopped, the later one went on from the other's trials
                for trial in search["trials"]:
                    trials.setdefault(places[trial["lr"]], []).append(trial)
        return trials

    def trial(self, config: DictConfig, lr: float, number: int, pause_after: float) -> Trial:
        """`trial`, run once more if it is not of one commit, as this code is: it was made, or resumed, under another one."""
        result = trial(config, lr, number, pause_after)
        if result.get("dirty") and not provenance.code()["dirty"]:
            folder = trial_config(config, lr, number)[1]
            (folder / TRIAL).unlink(missing_ok=True)
            clean(folder)
            result = trial(config, lr, number, pause_after)
        return result

    def trials(self, config: DictConfig, places: Iterable[int], pause_after: float = 1) -> dict[int, list[Trial]]:
        """The trials at each place. Raises Busy if another process is running some; the others are then done."""
        trials: dict[int, list[Trial]] = {}
        busy = None
        for place, number in product(places, range(self.seeds)):
            try:
                trials.setdefault(place, []).append(self.trial(config, self.rate(place), number, pause_after))
            except Busy as error:
                busy = error
        if busy:
            raise busy
        return trials

    def pruned(self, config: DictConfig, places: Iterable[int], before: Mapping[int, list[Trial]]) -> dict[int, list[Trial]]:
        """`trials`, of which those that lie behind on the way are given up there. before: the trials at all other places.

        A trial that had ended before stays as it is; a rate with a trial that is older than the curves goes on uncompared.
        """
        by = str(self.config.train.select_by)
        current_trials = self.trials(config, places, PAUSE[by])
        every = {**before, **current_trials}
        full_trials = {place: [trial for trial in those if trial["status"] == "finished"] for place, those in every.items()}
        old = {place for place, those in full_trials.items() if not all(trial.get("train_losses") for trial in those)}
        losses = {place: loss_on_the_way(those, PAUSE[by]) for place, those in every.items() if place not in old}
        going_on = old | kept(losses, by)
        candidates = [place for place, those in current_trials.items() if any(trial["status"] == "paused" for trial in those)]
        ends = self.trials(config, [place for place in candidates if place in going_on])
        pruned_trials = {
            place: [
                give_up(config, self.rate(place), number, trial) if trial["status"] == "paused" else trial
                for number, trial in enumerate(current_trials[place])
            ]
            for place in candidates
            if place not in going_on
        }
        return current_trials | ends | pruned_trials

    def run(self) -> dict[str, Any]:
        """Run the missing trials, save all of them, and return the search.

        Raises UserError, and Busy if another process is running a trial or has saved them meanwhile.
        """
        by = str(self.config.train.select_by)
        trials = self.begun()
        keys = {place: mean_ranking_key(group, by) for place, group in trials.items()}
        config = resolve_starts(self.config, self.cell.overrides)
        while (place := next_place(keys, int(self.config.tune.most), self.chance)) is not None:
            places = [first for first in FIRST if first not in keys] or [place]
            new_trials = self.pruned(config, places, trials) if self.config.tune.prune else self.trials(config, places)
            trials |= new_trials
            keys |= {place: mean_ranking_key(group, by) for place, group in new_trials.items()}
        dirty = any(trial.get("dirty") for group in trials.values() for trial in group)
        if dirty and not provenance.code()["dirty"]:
            raise UserError("this checkout changed while its trials ran: commit the changes, then search again")
        search = {
            "length": self.length,
            "seed": int(self.config.tune.seed),
            **({"seeds": self.seeds} if self.seeds > 1 else {}),
            "by": by,
            "chosen": self.rate(best_place(keys)),
            "edge": edge(keys),
            **({"learnt": False} if keys[best_place(keys)][0] >= self.chance < math.inf else {}),
            "trials": [trial for place in sorted(trials) for trial in trials[place]],
        }
        with record.lock(self.path.with_name(f"search-{self.name}")):
            if self.ended():
                raise Busy(f"another process has made the search {self.name}")
            self.save(search)
        return search

    def save(self, search: Mapping[str, Any]) -> None:
        """Write the search beside this checkout's others of the setting."""
        for leftover in self.path.parent.glob(f".{self.path.name}.*.tmp"):  # by a killed process
            leftover.unlink()
        row = {key: self.cell.asked["row"][key] for key in ("table", "name")}
        head = {"schema": record.SCHEMA, "setting": self.name, "row": row, "task": self.cell.task, "axes": self.cell.axes}
        write_json(self.path, sealed(rates.trials_of(head, [*self.own(), search])))
        rates.changed()


def searches(arguments: Sequence[str]) -> list[Search]:
    """The searches of a command line, one per setting without a prescribed rate; settings that others start from come first.

    Raises UserError if there are none.
    """
    by_setting: dict[str, Search] = {}
    for cell in sorted(with_starts(cells(arguments)), key=lambda cell: bool(cell.starts)):
        name = cell.setting
        if name not in by_setting and cell.guess:
            by_setting[name] = Search(cell, compose(list(cell.overrides)), cell.guess)
    if not by_setting:
        raise UserError("nothing to search: every learning rate is given; name an experiment: experiment=e2e row/e2e=lora")
    return list(by_setting.values())


def tune(arguments: Sequence[str]) -> list[tuple[Search, dict[str, Any]]]:
    """Run every search of a command line that has not ended, and print each when it ends; returns those searches."""
    console.warn_ignored_tracker(arguments, "trials")
    all_searches = searches(arguments)
    if provenance.code()["dirty"]:
        note = "this code has no commit, or differs from it, so these searches are for your own runs: publish leaves them out"
        console.say(note)
    waiting = [search for search in all_searches if not search.ended()]
    console.say(f"{len(all_searches)} learning rates to choose, {len(all_searches) - len(waiting)} of them chosen already")
    results = []
    while waiting:
        busy = []
        for search in waiting:
            try:
                if not search.ended():  # another process may have run it meanwhile
                    results.append((search, search.run()))
                    print(search_line(*results[-1]), flush=True)
                    if rates.published_trials(search.profile, search.name):
                        console.say("  runs keep the published rate of this setting until publish adds the search to it")
            except Busy:
                busy.append(search)
        if len(busy) == len(waiting):
            time.sleep(WAIT_SECONDS)
        waiting = busy
    return results


def search_line(search: Search, outcome: Mapping[str, Any]) -> str:
    """The line printed for a search: its rate and its trials, with their held-out scores and losses."""
    texts, metric = [], record.main_metric(search.cell.asked)
    for entry in outcome["trials"]:
        score = "" if entry.get("dev_score") is None else f"{metric} {entry['dev_score']:.4f}, "
        reason = rates.PRUNED if entry.get("status") == rates.PRUNED else "diverged"
        texts.append(f"{entry['lr']:.3g}: " + (reason if entry["dev_loss"] is None else f"{score}loss {entry['dev_loss']:.4f}"))
    side = f" (at the {outcome['edge']} edge)" if outcome["edge"] else ""
    title = f"{search.cell.titled(search.cell.axes)} {search.cell.task}"
    return f"{title}: lr {outcome['chosen']:.3g}{side}; {'; '.join(texts)}"
