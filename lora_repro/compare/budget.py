"""Fits a comparison into the time there is, and says what was given up for it.

Before anything trains, a run's time is forecast from this machine's measured speed (`costs.forecast`). A search takes 3 to
`tune.most` trials; it is counted as `TRIALS`. What does not fit is given up in this order, each step for all methods alike:

1. seeds, down to `FEWEST`;
2. training rows, as many as do not fit, down to `LEAST` (and 64 prompts);
3. methods, the costliest first, but neither full fine-tuning nor LoRA while another one is left.

`ROOM` of the time is planned, since a forecast is none too sure.

The search then gets at most two thirds of the time: `tune.most` is lowered, for all methods alike. After it the time of a run
is known from its trials, and only so many seeds are begun as fit. Nothing of this looks at a score.

What was decided is kept in FOLDER/plan.json: the same command, after an interruption or on a busier machine, goes on with it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from lora_repro.compare.declare import FULL
from lora_repro.compare.request import TEXTS, Request
from lora_repro.costs.plan import Line, clock, plan_runs, size
from lora_repro.errors import UserError
from lora_repro.files import write_json
from lora_repro.planning.cells import Cell, cells, unique
from lora_repro.tasks.own.data import SHARE

TRIALS = 4  # of an ordinary search
FEWEST = 2  # seeds: with one there is no spread
LEAST = 500  # training rows
FEWEST_TEXTS = 64
KEPT = (FULL, "lora")
SEARCH_SHARE = 2 / 3
ROOM = 0.85
FILE = "plan.json"


@dataclass(frozen=True)
class Cost:
    """Of one row: forecast seconds of a trial (0: nothing is searched) and of a run, of which `training` grows with the rows."""

    name: str
    trial: float
    run: float
    training: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What is to be run: the request as it fits, its costs, `most` trials a search, and what was given up."""

    request: Request
    lines: tuple[Line, ...]
    most: int
    given_up: tuple[str, ...] = ()

    @property
    def costs(self) -> list[Cost]:
        return costs(self.lines)

    @property
    def seconds(self) -> float:
        return total(self.costs, self.request.seeds, trials=min(TRIALS, self.most))

    @property
    def text(self) -> str:
        """Runs, trials, time, memory and disk, in lines."""
        rows, seeds = self.costs, self.request.seeds
        searches = [row for row in rows if row.trial]
        trials = f"3 to {self.most} trials" if self.most > 3 else "3 trials"
        memory = max(line.forecast.memory for line in self.lines)
        disk = sum(line.forecast.kept for line in self.lines)
        done = sum(line.state == "yes" for line in self.lines)
        summary = [
            f"{', '.join(row.name for row in rows)}: {len(rows)} methods with {seeds} seed{'s' * (seeds > 1)}, "
            f"{len(rows) * seeds} runs, {done} of them here already",
            f"a rate for each of {len(searches)}: {trials} each, chosen on {len(self.request.data.parts.dev):,} held-out rows"
            if searches
            else "no rate is to be chosen",
            f"about {clock(self.seconds)} on this machine, at most {size(memory)} of memory, {size(disk)} of disk",
        ]
        return "\n".join([*summary, *(f"given up for the budget: {item}" for item in self.given_up)])


def plan(request: Request, arguments: Sequence[str]) -> Plan:
    """The plan of a request whose files are written. arguments: of its `run`. Raises UserError if nothing fits the time."""
    lines = plan_runs(declared(request, arguments))
    most = int(lines[0].cell.asked.get("tune", {}).get("most", 7)) if lines else 7
    full_plan = Plan(request, tuple(lines), most)
    if request.seconds is None:
        return full_plan
    return decided_before(full_plan) or fit(full_plan, request.seconds)


def keep(decision: Plan, request: Request) -> None:
    """Write down what was decided for a request."""
    shorter = decision.request
    values = {"seeds": shorter.seeds, "without": shorter.without, "overrides": shorter.overrides,
              "most": decision.most, "given_up": decision.given_up}  # fmt: skip
    write_json(request.folder / FILE, {"request": _facts(request), **values})


def decided_before(full_plan: Plan) -> Plan | None:
    """What was decided for the same request before; None if nothing was, or if the file is not one that `keep` wrote."""
    request = full_plan.request
    try:
        decision = json.loads((request.folder / FILE).read_text(encoding="utf-8"))
        if decision["request"] != _facts(request):
            return None
        without, overrides = tuple(map(str, decision["without"])), tuple(map(str, decision["overrides"]))
        shorter = request.shorter(seeds=int(decision["seeds"]), without=without, overrides=overrides)
        return Plan(shorter, full_plan.lines, int(decision["most"]), tuple(map(str, decision["given_up"])))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _facts(request: Request) -> dict[str, Any]:
    """What tells one request from another, as JSON gives it back."""
    names = ("model", "revision", "methods", "ranks", "targets", "metric", "function", "seeds", "seconds", "overrides")
    facts = {name: getattr(request, name) for name in names} | {"sha256": dict(request.data.sha256)}
    return dict(json.loads(json.dumps(facts)))


def again(shorter: Plan, arguments: Sequence[str]) -> Plan:
    """A shortened plan with the forecasts of its own runs, whose files are written."""
    return replace(shorter, lines=tuple(plan_runs(declared(shorter.request, arguments))))


def declared(request: Request, arguments: Sequence[str]) -> list[Cell]:
    """The comparison's runs, each once, in the order of its rows."""
    return unique(
        sorted(
            cells([f"row/{request.name}=glob(*)", *arguments]), key=lambda cell: (cell.row.order, cell.seed)
        )
    )


def fit(full_plan: Plan, seconds: float) -> Plan:
    """The plan within `seconds`, or the first step that fits. Raises UserError if not even the last one does."""
    request, rows, given_up = full_plan.request, full_plan.costs, []
    remaining = {row.name: row for row in rows}
    seeds, share = request.seeds, 1.0

    def needed() -> float:
        return total([*remaining.values()], seeds, share)

    def fits() -> bool:
        return needed() <= ROOM * seconds * (1 + 1e-9)

    def fewer_rows() -> float:
        """The largest share of the rows that fits."""
        answering = total([*remaining.values()], seeds, 0.0)
        room, training = ROOM * seconds - answering, total([*remaining.values()], seeds) - answering
        return min(1.0, max(least / train, room / training)) if training else 1.0

    while not fits() and seeds > FEWEST:
        seeds -= 1
    if seeds < request.seeds:
        given_up.append(f"{request.seeds - seeds} of {request.seeds} seeds")
    train = len(request.data.parts.train)
    least = FEWEST_TEXTS if request.family == TEXTS else LEAST
    if not fits() and train > least:
        share = fewer_rows()
    methods = {variant.name: variant.method for variant in request.variants}
    removals = []
    while not fits() and len(remaining) > 2:
        others = [name for name in remaining if methods[name] not in KEPT] or [*remaining]
        dearest = max(others, key=lambda name: remaining[name].trial * TRIALS + remaining[name].run * seeds)
        del remaining[dearest]
        removals.append(f"method {dearest}")
        share = fewer_rows() if train > least else share
    if share < 1:
        given_up.append(f"{train - int(share * train):,} of {train:,} training rows")
    given_up += removals
    if needed() > seconds:
        raise UserError(
            f"--budget: even so shortened {len(remaining)} methods need about {clock(needed())} here; give more time"
        )
    searching = share * sum(row.trial for row in remaining.values())
    most = max(3, min(full_plan.most, int(SEARCH_SHARE * seconds / searching))) if searching else full_plan.most
    if most < full_plan.most:
        given_up.append(f"a search of more than {most} rates")
    max_train = int(share * train)
    if "dev" not in request.files:  # its rows are held out of those that max_train leaves, a share of them at most
        max_train = min(int(max_train / (1 - SHARE)), max_train + len(request.data.parts.dev))
    cut = [f"task.max_train={max_train}"] if share < 1 else []
    without = tuple(name for name in methods if name not in remaining)
    shorter = request.shorter(seeds=seeds, without=without, overrides=(*request.overrides, *cut))
    lines = [line for line in full_plan.lines if line.cell.row.name in remaining and line.cell.seed < seeds]
    return Plan(shorter, tuple(lines), most, tuple(given_up))


def costs(lines: Sequence[Line]) -> list[Cost]:
    """Each row's, from the forecasts of its missing runs; what is here already costs nothing."""
    row_costs = []
    for name in dict.fromkeys(line.cell.row.name for line in lines):
        row_lines = [line for line in lines if line.cell.row.name == name]
        trial = (
            fmean(line.forecast.train_seconds for line in row_lines)
            if any(line.cell.unsearched for line in row_lines)
            else 0.0
        )
        missing = [line for line in row_lines if line.state != "yes"]
        run = sum(line.seconds for line in missing) / len(row_lines)
        training = sum(min(line.seconds, line.forecast.train_seconds) for line in missing) / len(row_lines)
        row_costs.append(Cost(name, trial, run, training))
    return row_costs


def total(rows: Sequence[Cost], seeds: int, share: float = 1.0, trials: int = TRIALS) -> float:
    """Seconds of the searches and of `seeds` runs of each row, with this share of the training rows: answering costs the same."""
    return sum(share * trials * row.trial + seeds * (row.run - (1 - share) * row.training) for row in rows)


def seeds_that_fit(request: Request, rows: Sequence[Cost], seconds: float) -> int:
    """How many seeds of every row fit into `seconds`, one at least. rows: with measured times of a run."""
    all_seconds = sum(row.run for row in rows)
    return request.seeds if not all_seconds else max(1, min(request.seeds, int(seconds / all_seconds)))
