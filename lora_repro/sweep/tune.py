"""Choose the learning rate of every row of an experiment by trials on held-out rows.

    python -m lora_repro tune experiment=e2e profile=laptop paths.data=/data/e2e                   every row
    python -m lora_repro tune experiment=glue row/glue=lora task=rte profile=laptop paths.data=/data/glue

One rule for every method and task:

    grid       factor 3 around the row's first guess, at least three rates, at most `tune.most` (7); it grows on the side of
               the best rate until worse rates lie on both sides, and on both sides while the best score is at most 1/√n
               above a constant prediction's (n held-out rows)
    trial      the run itself without decoding, with a seed that no table reports (`tune.seed`), for `tune.length` of the
               run's length; with `tune.seeds` above 1 the mean over that many seeds decides, since some settings learn on
               some seeds only
    criterion  the one that selects the run's checkpoint: on a sentence task the held-out score, ties by the held-out loss;
               on a text task the held-out loss
    data       never test data; GLUE at the paper's scale reports its dev rows, so a trial there holds out `tune.held_out`
               training rows, which the run itself trains on
    starts     if a run starts from others, their rates are chosen first; its trials start from the runs of the table's
               first seed, which are made if they are missing

Each search is saved with its trials as results/<profile>/trials/<setting>.json, where later runs read the rate
(`lora_repro.config.rates`). A stopped search resumes from its trials; several processes can share the work of one command, and
of one search. A setting may be searched at several lengths, to see whether shorter trials choose the same rate; runs use the
longest search, of equally long ones the one with more seeds. `tune.packed=true` trains LoRA's first three rates (and seeds) in
lockstep over one frozen backbone: on a GPU in little more than the time of one, on a CPU no faster.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lora_repro import cli
from lora_repro.cells import Cell, cells, with_starts
from lora_repro.config import rates
from lora_repro.config.compose import build, compose, resolved
from lora_repro.data import dev_subset
from lora_repro.errors import Busy, UserError
from lora_repro.records import manifest, provenance, record
from lora_repro.records.disk import write_json
from lora_repro.stages import Pack, adapt, backbone_of, encode, label_of, learn, objective_of, read
from lora_repro.sweep.trial_sources import resolve_starts
from lora_repro.tracking.metrics import Metrics
from lora_repro.train import resume_files
from lora_repro.train.pack import Member, train_together
from lora_repro.train.precision import resolve_precision
from lora_repro.train.progress import Trained
from lora_repro.train.ranks import Ranks

FACTOR = 3
FIRST = (0, -1, 1)  # places of the grid that every search has
WAIT_SECONDS = 5.0
TRIAL = "trial.json"
Trial = dict[str, Any]


def trial_config(config: DictConfig, lr: float, number: int = 0) -> tuple[DictConfig, Path]:
    """(the configuration of trial `number` at rate `lr`, its folder).

    Raises UserError for starts that are not folders (`resolve_starts`).
    """
    starts = list(config.get("starts") or ())
    if not all(isinstance(start, str) for start in starts):
        raise UserError(f"such a trial cannot start from other runs (starts={config.starts}): set starts=null")
    config = config.copy()
    OmegaConf.set_struct(config, False)
    config.pop("probe", None)  # a trial is only trained
    if config.tune.held_out and config.task.get("held_out") == 0:
        config.task.held_out = config.tune.held_out
        if config.data.n_train is not None and "train" in (config.task.get("rows") or {}):  # a run may use all of them
            config.data.n_train = min(config.data.n_train, config.task.rows.train - config.task.held_out)
    train, length = config.train, float(config.tune.length)
    train.lr, config.seed = lr, config.tune.seed + number
    train.epochs *= length
    for key in ("steps", "eval_every"):  # as many evaluations as the run has
        if train[key] is not None:
            train[key] = max(1, round(train[key] * length))
    if train.warmup >= 1:
        train.warmup = max(1, round(train.warmup * length))
    asked = resolved(config)
    # Decoding is not part of a trial.
    first = {"starts_from": [Path(start).name for start in starts]} if starts else {}
    name = record.signature({**{key: value for key, value in asked.items() if key != "decode"}, **first})
    return config, Path(config.paths.runs) / config.profile_name / "trials" / name


def trial(config: DictConfig, lr: float, number: int = 0) -> Trial:
    """Train once at `lr`, unless that trial was run before, and return its measurements (no loss or score if it diverged).

    number: which of the trials at this rate, each with a seed of its own. Raises UserError if there is nothing to train.
    """
    config, folder = trial_config(config, lr, number)
    path = folder / TRIAL
    if path.exists():
        return record.read(path)
    with record.lock(folder):
        if path.exists():  # another process has run it meanwhile
            return record.read(path)
        return save_trial(config, folder, *train_trial(config, folder))


def save_trial(config: DictConfig, folder: Path, trained: Trained, parameters: Mapping[str, int], packed: int = 1) -> Trial:
    """Save and return a trial's measurements; delete its weights. packed: how many trials shared its steps."""
    facts = trained.facts()
    finished = trained.status == "finished"
    result = {
        "schema": record.SCHEMA,
        "signature": folder.name,
        "row": {"name": config.row.name},
        "lr": float(config.train.lr),
        "status": trained.status,
        # The values from before it diverged do not count for this rate.
        "dev_loss": facts["dev_loss"] if finished else None,
        "dev_score": facts.get("dev_score") if finished else None,
        "steps": facts["steps"],
        "train_seconds": facts["train_seconds"],
        **({"packed": packed} if packed > 1 else {}),
        "parameters": dict(parameters),
        **trained.code,
        "finished_at": provenance.now(),
    }
    write_json(folder / TRIAL, result)
    resume_files.clean(folder)
    (folder / resume_files.ADAPTER).unlink(missing_ok=True)
    return result


def run_packed(config: DictConfig, wanted: Sequence[tuple[float, int]]) -> None:
    """Run the missing trials (rate, number) in lockstep over one frozen backbone (`train.pack`), if the method supports it.

    Their `train_seconds` are those of the pack. Raises UserError as `trial` does, and if the training cannot be packed.
    """
    if not build(config.method).packs:
        return
    with ExitStack() as locks:
        missing = []
        for lr, number in wanted:
            own, folder = trial_config(config, lr, number)
            if not (folder / TRIAL).exists():
                locks.enter_context(record.lock(folder))
                if not (folder / TRIAL).exists():  # another process may have run it meanwhile
                    missing.append((own, folder))
        if len(missing) > 1:
            for (own, folder), found in zip(missing, train_trials(missing), strict=True):
                save_trial(own, folder, *found, packed=len(missing))


def train_trials(trials: Sequence[tuple[DictConfig, Path]]) -> list[tuple[Trained, dict[str, int]]]:
    """The result of `train_trial` for each trial. They differ only in rate and seed."""
    config = trials[0][0]
    task, method, data = (build(config[group]) for group in ("task", "method", "data"))
    objective, ranks = objective_of(config), Ranks.here(config.device)
    if ranks.size > 1:
        raise UserError("tune.packed=true needs a single process: start one, or set tune.packed=false")
    pack = Pack.of(backbone_of(config), resolve_precision(config.train.precision, ranks.device), ranks.device)
    starts = [Path(start) for start in config.get("starts") or ()]
    models = [adapt(pack, method, own.seed, ranks.device, starts) for own, _ in trials]
    joint = pack.joined([model.backbone for model in models])
    rows = encode(read(task, config.paths.data), objective, models[0].backbone, method, data)
    with ExitStack() as logs:
        members = []
        for model, (own, folder) in zip(models, trials, strict=True):
            log = logs.enter_context(Metrics(folder / "metrics.jsonl")).log
            label = f"{label_of(own)}, {len(trials)} rates at once"
            settings = build(own.train)
            members.append(Member(model.backbone, model.trainable, settings, own.seed, folder / "checkpoints", log, label))
        found = train_together(joint, members, rows, objective)
    return [(trained, model.counts) for trained, model in zip(found, models, strict=True)]


def train_trial(config: DictConfig, folder: Path) -> tuple[Trained, dict[str, int]]:
    """(how a trial's training ended, its parameter counts). Raises UserError if there is nothing to train."""
    task, method, data, settings = (build(config[group]) for group in ("task", "method", "data", "train"))
    objective, ranks = objective_of(config), Ranks.here(config.device)
    splits = read(task, config.paths.data)
    starts = [Path(start) for start in config.get("starts") or ()]
    method.check_starts(len(starts))
    model = adapt(backbone_of(config), method, config.seed, ranks.device, starts)
    if not model.trainable.parameters():
        raise UserError(f"{config.method.name} trains nothing: it has no learning rate to choose")
    rows = encode(splits, objective, model.backbone, method, data)
    metrics = Metrics(folder / "metrics.jsonl")
    trained = learn(model, rows, objective, settings, config.seed, folder, metrics, label_of(config), ranks)
    return trained, model.counts


def ranking_key(found: Mapping[str, Any], by: str) -> tuple[float, float]:
    """The key by which trials are ranked, lowest best: (negated score, loss), or by=loss (loss, loss); infinite if diverged."""
    loss, score = (found.get(key) for key in ("dev_loss", "dev_score"))
    if loss is None:
        return math.inf, math.inf
    return (loss if by == "loss" else math.inf if score is None else -score), loss


def chance_of(config: DictConfig) -> float:
    """The least `ranking_key` of a trial that has learnt nothing.

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


def mean_ranking_key(found: Sequence[Mapping[str, Any]], by: str) -> tuple[float, float]:
    """The mean `ranking_key` over the trials of one rate, each with a seed of its own."""
    scores, losses = zip(*(ranking_key(one, by) for one in found), strict=True)
    return statistics.fmean(scores), statistics.fmean(losses)


def next_place(done: Mapping[int, tuple[float, float]], most: int, chance: float = math.inf) -> int | None:
    """The grid's next exponent of 3; None when the search has ended. `done`: exponent -> `ranking_key` of the trials so far.

    chance: a trial at or above this badness (`chance_of`) has learnt nothing; its neighbours then differ by noise alone and do
    not bracket it. No larger rate is tried after one that diverged.
    """
    for place in FIRST:
        if place not in done:
            return place
    if len(done) >= most:
        return None
    low, high = min(done), max(done)
    side = edge(done)
    if side is None and min(done.values())[0] >= chance:
        side = "low" if -low <= high or done[high][0] == math.inf else "high"
    return {"low": low - 1, "high": high + 1, None: None}[side]


def edge(done: Mapping[int, tuple[float, float]]) -> str | None:
    """`low` or `high`: the side on which the best trial has no worse neighbour; None if it is bracketed.

    A diverged trial is worse than any other. If all diverged, the rates are too large, and the edge is `low`.
    """
    best = min(done, key=lambda place: (done[place], place))
    return "low" if best == min(done) else "high" if best == max(done) else None


@dataclass(frozen=True)
class Search:
    """One setting's search: the cell that it is for, its configuration, and `first`, the rate in the middle of the grid."""

    cell: Cell
    config: DictConfig
    first: float

    @property
    def name(self) -> str:
        return rates.setting_signature(self.cell.asked)

    @property
    def profile(self) -> str:
        return str(self.config.profile_name)

    @property
    def length(self) -> float:
        return float(self.config.tune.length)

    def rate(self, place: int) -> float:
        return float(f"{self.first * float(FACTOR) ** place:.3g}")

    def published(self) -> list[dict[str, Any]]:
        """The ended searches of this setting, which differ in length or number of seeds."""
        found = rates.load_trials(self.profile, self.name)
        return list(found["searches"]) if found else []

    @property
    def seeds(self) -> int:
        return int(self.config.tune.seeds)

    def ended(self) -> bool:
        return any(found["length"] == self.length and found.get("seeds", 1) >= self.seeds for found in self.published())

    def trial(self, config: DictConfig, lr: float, number: int) -> Trial:
        """`trial`, run again if the existing one is from uncommitted code (`search` may have made it)."""
        path = trial_config(config, lr, number)[1] / TRIAL
        if path.exists() and record.read(path).get("dirty"):
            path.unlink(missing_ok=True)
        return trial(config, lr, number)

    def trials(self, config: DictConfig, places: Iterable[int]) -> dict[int, list[Trial]]:
        """The trials at each place. Raises Busy if another process is running some; the others are then done."""
        found: dict[int, list[Trial]] = {}
        busy = None
        for place, number in product(places, range(self.seeds)):
            try:
                found.setdefault(place, []).append(self.trial(config, self.rate(place), number))
            except Busy as error:
                busy = error
        if busy:
            raise busy
        return found

    def run(self) -> dict[str, Any]:
        """Run the missing trials, publish all of them, and return the search. Raises UserError, Busy."""
        by = str(self.config.train.select_by)
        done: dict[int, tuple[float, float]] = {}
        trials: dict[int, list[Trial]] = {}
        config = resolve_starts(self.config, self.cell.overrides)
        chance = chance_of(trial_config(config, self.first)[0])
        if config.tune.packed:
            run_packed(config, [(self.rate(place), number) for place in FIRST for number in range(self.seeds)])
        while (place := next_place(done, int(self.config.tune.most), chance)) is not None:
            made = self.trials(config, [first for first in FIRST if first not in done] or [place])
            trials |= made
            done |= {place: mean_ranking_key(found, by) for place, found in made.items()}
        if any(one.get("dirty") for found in trials.values() for one in found):
            raise UserError("this checkout changed while its trials ran: commit the changes, then search again")
        best = min(done, key=lambda place: (done[place], place))
        found = {
            "length": self.length,
            "seed": int(self.config.tune.seed),
            **({"seeds": self.seeds} if self.seeds > 1 else {}),
            "by": by,
            "chosen": self.rate(best),
            "edge": edge(done),
            "trials": [one for place in sorted(trials) for one in trials[place]],
        }
        searches = sorted([*self.published(), found], key=lambda one: (one["length"], one.get("seeds", 1)))
        row = {key: self.cell.asked["row"][key] for key in ("table", "name")}
        head = {"schema": record.SCHEMA, "setting": self.name, "row": row, "task": self.cell.task, "axes": self.cell.axes}
        longest = {key: searches[-1][key] for key in ("chosen", "edge", "length")}
        path = rates.trials_path(self.profile, self.name)
        write_json(path, {**head, **longest, "searches": searches})
        manifest.record_files(rates.RESULTS, [path])
        return found


def searches(arguments: Sequence[str]) -> list[Search]:
    """The searches of a command line, one per setting without a prescribed rate; settings that others start from come first.

    Raises UserError if there are none.
    """
    found: dict[str, Search] = {}
    for cell in sorted(with_starts(cells(arguments)), key=lambda cell: bool(cell.starts)):
        name = rates.setting_signature(cell.asked)
        if name not in found and cell.guess:
            found[name] = Search(cell, compose(list(cell.overrides)), cell.guess)
    if not found:
        raise UserError("nothing to search: every learning rate is given; name an experiment: experiment=e2e row/e2e=lora")
    return list(found.values())


def tune(arguments: Sequence[str]) -> list[tuple[Search, dict[str, Any]]]:
    """Run every search of a command line that has not ended, and print each when it ends; returns those searches.

    Raises UserError on uncommitted code, since such trials could not be reproduced.
    """
    cli.warn_ignored_tracker(arguments, "trials")
    wanted = searches(arguments)
    if provenance.code()["dirty"]:
        raise UserError("trials are published, and this checkout has uncommitted changes: commit them, then search")
    waiting = [search for search in wanted if not search.ended()]
    cli.say(f"{len(wanted)} learning rates to choose, {len(wanted) - len(waiting)} of them chosen already")
    ended = []
    while waiting:
        busy = []
        for search in waiting:
            try:
                if not search.ended():  # another process may have run it meanwhile
                    ended.append((search, search.run()))
                    print(told(*ended[-1]), flush=True)
            except Busy:
                busy.append(search)
        if len(busy) == len(waiting):
            time.sleep(WAIT_SECONDS)
        waiting = busy
    return ended


def told(search: Search, found: Mapping[str, Any]) -> str:
    """The line printed for a search: its rate and its trials."""
    shown = []
    for one in found["trials"]:
        score = "" if one.get("dev_score") is None else f"{one['dev_score']:.4f}, "
        shown.append(f"{one['lr']:.3g}: " + ("diverged" if one["dev_loss"] is None else f"{score}loss {one['dev_loss']:.4f}"))
    side = f" (at the {found['edge']} edge)" if found["edge"] else ""
    title = f"{search.cell.titled(search.cell.axes)} {search.cell.task}"
    return f"{title}: lr {found['chosen']:.3g}{side}; {'; '.join(shown)}"


@cli.command
def main(arguments: Sequence[str]) -> int:
    tune(arguments)
    return 0
