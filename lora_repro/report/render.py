"""Writes anew what is derived from published records: the ledger of claims with its figure, what was run, the report pages.

Tables and figures: `show.render_published`. Nothing but results/, conf/, docs/claims.md and docs/results.md is read. What was run
of each table at what cost (results/README.md) comes from the published records, trials and measurements, and from
conf/pruned.yaml, which sums up what is no longer published; the lines on claims in README.md from results/report.json alone.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lora_repro import console
from lora_repro.config.paths import CONF
from lora_repro.errors import UserError
from lora_repro.files import write_text
from lora_repro.planning.cells import Cell, unique
from lora_repro.records import manifest, rates, record
from lora_repro.report import report_json, show
from lora_repro.report.claims import ledger
from lora_repro.report.figures import forest
from lora_repro.report.page.build import BEHIND, FRONT, pages
from lora_repro.report.show import all_published
from lora_repro.report.table import EMPTY
from lora_repro.results import declared_cells, grouped, place, published
from lora_repro.stats.verdict import CONTRADICTED, REFUTED, REPLICATED

NAME, PRUNED = "README.md", CONF / "pruned.yaml"
OUTSIDE = "*outside any table*"  # counts the runs of grids that are no table
HEAD = """# What was run

- [claims.md](claims.md): which claims hold. [How to read the results](../docs/reading-results.md).
- `<profile>/report.html`: what was learnt, and behind it the pages; [report.json](report.json): the same for programs.

"""
COLUMNS = (
    "Profile", "Table", "Cells run", "Seeds", "Rates searched", "Runs", "Runs failed", "Run hours", "Rate trials",
    "Trials failed", "Trial hours",
)  # fmt: skip
FOOT = """- Cells run: a cell is a row of the table at one task, rank or size. A run that several tables show counts in each.
- A table without runs of its own (—) mostly has no file: its cells stand in the table that they were run for (`glue_dagger` in
  `glue`, `rank_e2e` in `e2e`, `gpt3_sizes` in `gpt3`).
- Rates searched: how many of the cells run have a searched learning rate. Cells with a prescribed rate are not counted.
- Runs, run hours: a run that several tables show counts only in the table that it was first run for. Hours are wall time,
  including what a killed run had done before it was resumed.
- Runs failed: collapsed and diverged runs are published and scored in every mean, like all others.
- Rate trials, trial hours: learning-rate search; training time only.
- No longer published: deleted or replaced since, and kept in git ([what holds now](../docs/results.md)).{pruned}
- Not counted: `make bench`, `make torture`, tests, rendering, and attempts that were abandoned before they left a record.
"""


@dataclass
class Spent:
    """The runs and trials of one table, with their seconds."""

    runs: int = 0
    run_seconds: float = 0.0
    trials: int = 0
    trial_seconds: float = 0.0
    failed: Counter[str] = field(default_factory=Counter)  # status other than finished -> how many runs
    trials_failed: Counter[str] = field(default_factory=Counter)

    def add(self, other: Spent) -> None:
        self.runs += other.runs
        self.run_seconds += other.run_seconds
        self.trials += other.trials
        self.trial_seconds += other.trial_seconds
        self.failed += other.failed
        self.trials_failed += other.trials_failed

    def columns(self) -> tuple[str, ...]:
        runs, trials = (self.runs, self.failed, self.run_seconds), (self.trials, self.trials_failed, self.trial_seconds)
        return (*_columns(*runs), *_columns(*trials))


def _columns(count: int, statuses: Counter[str], seconds: float) -> tuple[str, str, str]:
    failures = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
    return str(count or EMPTY), failures or EMPTY, f"{seconds / 3600:.1f}" if seconds else EMPTY


def spent(folder: Path) -> dict[str, Spent]:
    """table -> its runs and trials in results/<profile>/ (`folder`), measurements included."""
    by_table: defaultdict[str, Spent] = defaultdict(Spent)
    for run in record.load_records(folder / "records").values():
        failures = Counter([run["status"]] if run["status"] != "finished" else [])
        by_table[run["row"]["table"] or OUTSIDE].add(Spent(1, run["measured"].get("wall_seconds", 0), failed=failures))
    for path in sorted((folder / "measures").glob("*.json")):
        by_table[path.stem].add(Spent(1, json.loads(path.read_text(encoding="utf-8"))["where"]["wall_seconds"]))
    for path in sorted((folder / "trials").glob("*.json")):
        search = json.loads(path.read_text(encoding="utf-8"))
        # A search with more seeds has the trials of the one before.
        trials = list({trial["signature"]: trial for stage in search["searches"] for trial in stage["trials"]}.values())
        failures = Counter(trial["status"] for trial in trials if trial["status"] not in ("finished", rates.PRUNED))
        seconds = sum(trial["train_seconds"] for trial in trials)
        by_table[search["row"]["table"] or OUTSIDE].add(Spent(trials=len(trials), trial_seconds=seconds, trials_failed=failures))
    return by_table


def covered(cells: Sequence[Cell], signatures: set[str]) -> tuple[str, str, str]:
    """How many places of a table were run, with how many seeds, and how many of them at a searched learning rate."""
    places = grouped(unique(cells), lambda cell: (cell.row.name, place(cell)))
    counts = [(those[0], sum(cell.signature in signatures for cell in those)) for those in places]
    ran = [(cell, count) for cell, count in counts if count]
    if not ran:
        return f"0 of {len(places)}", EMPTY, EMPTY
    least, most = min(count for _, count in ran), max(count for _, count in ran)
    candidates = [cell for cell, _ in ran if cell.guess]
    searches = f"{sum(not cell.unsearched for cell in candidates)} of {len(candidates)}" if candidates else "given"
    return f"{len(ran)} of {len(places)}", str(least) if least == most else f"{least}-{most}", searches


def no_more(path: Path = PRUNED) -> dict[str, tuple[Spent, str]]:
    """profile -> (runs and trials that are no longer published, why), from conf/pruned.yaml."""
    entries: Any = OmegaConf.to_container(OmegaConf.load(path))
    by_profile = {}
    for profile, entry in entries.items():
        hours = [3600 * entry[key] for key in ("hours", "trial_hours")]
        spent = Spent(entry["runs"], hours[0], entry["trials"], hours[1], Counter(entry["failed"]))
        by_profile[profile] = spent, str(entry["why"])
    return by_profile


def page(results: Path, file: Path = PRUNED) -> str:
    """The text of results/README.md: every published profile."""
    lines, notes, total = [], [], Spent()
    for folder in sorted(path for path in results.iterdir() if (path / "records").is_dir()):
        took, signatures = spent(folder), {path.stem for path in (folder / "records").glob("*.json")}
        missing = []
        for name in sorted({*took, *show.names()}):
            coverage = ("measured" if (folder / "measures" / f"{name}.json").is_file() else EMPTY, EMPTY, EMPTY)
            if coverage[0] == EMPTY and name in show.names():
                coverage = covered(declared_cells(name, folder.name), signatures)
            if name not in took and coverage[1] == EMPTY:
                missing.append(name)
                continue
            once = took.get(name, Spent())
            lines.append((folder.name, name, *coverage, *once.columns()))
            total.add(once)
        if missing:
            notes.append(f"- Not run at {folder.name}: {', '.join(missing)}.\n")
    removals = no_more(file)
    for profile, (took_once, _) in removals.items():
        lines.append((profile, "*no longer published*", EMPTY, EMPTY, EMPTY, *took_once.columns()))
        total.add(took_once)
    lines.append(("**all**", "", "", "", "", *total.columns()))
    why = "".join(f" At {profile}: {reason}." for profile, (_, reason) in removals.items())
    rule = ("---", "---", *["---:"] * (len(COLUMNS) - 2))
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in (COLUMNS, rule, *lines))
    return f"{HEAD}{text}\n\n{''.join(notes)}{FOOT.format(pruned=why)}"


MARKS = "<!-- make claims writes the lines from here -->\n", "<!-- to here -->\n"


def claim_lines(claims: list[report_json.Answer]) -> str:
    """For each profile, real data first, and each verdict: how many claims have it, and their statements."""
    later_count = sum(claim["after_the_paper"] for claim in claims)
    parts = []
    for profile in claims[0]["profiles"] if claims else ():
        outcomes = [(claim["statement"], claim["profiles"][profile]) for claim in claims]
        generated = any(reading["generated"] for _, outcome in outcomes for reading in outcome["readings"])
        data = "generated" if generated else "real"
        part = f"- `{profile}`, {data} data, [{len(claims)} claims](results/claims.md), {later_count} from later work:\n"
        for verdict in (REPLICATED, REFUTED, CONTRADICTED):
            statements = [statement for statement, outcome in outcomes if outcome["verdict"] == verdict]
            if statements:
                part += f"    - **{len(statements)} {verdict}**: {' '.join(statements)}\n"
        parts.append((generated, part))
    return "".join(part for _, part in sorted(parts, key=lambda part: part[0]))


def write_claim_lines(root: Path) -> bool:
    """Write `claim_lines` into README.md of `root`, which holds results/. Returns whether the file has the marks."""
    path = root / "README.md"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if not all(mark in text for mark in MARKS):
        return False
    head, rest = text.split(MARKS[0])
    for leftover in root.glob(".README.md.*.tmp"):  # by a killed process
        leftover.unlink()
    claims = claim_lines(report_json.read(root / "results")["claims"])
    write_text(path, f"{head}{MARKS[0]}{claims}{MARKS[1]}{rest.split(MARKS[1])[1]}")
    return True


@rates.published_only()
def render_claims(root: Path) -> None:
    """Judge every claim; write results/{claims.md,claims.csv,README.md,report.json}, a figure of them for each profile, and the
    lines on results in README.md.

    root: the folder that holds results/ and README.md. Raises UserError if nothing is published there.
    """
    results = root / "results"
    verdicts = ledger.judge_all(ledger.load(), results)
    runs = page(results)
    with manifest.changing(results) as change:
        write_text(change.staged / "claims.md", ledger.markdown(verdicts))
        write_text(change.staged / "claims.csv", ledger.comma_separated(verdicts))
        report_json.update_report(change, claims=report_json.claim_entries(verdicts))
        write_text(change.staged / NAME, runs)
        for profile in verdicts.scales:
            forest.save(verdicts, profile, change.staged / profile / "figures" / "claims")
    more = ", README.md" if write_claim_lines(root) else ""
    for profile in verdicts.scales:
        counts = Counter(outcomes[profile].verdict for _, outcomes in verdicts.entries)
        print(f"{profile}: " + ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())))
    print(f"wrote results/claims.md, claims.csv, report.json, README.md, */figures/claims.{{svg,png}}{more}")


@rates.published_only()
def render_pages(root: Path, profile: str | None = None, data: str | None = None) -> None:
    """Write report.html of one published profile, by default of each, and the pages behind it, report/<experiment>.html.

    root: the folder that holds results/ and runs/. profile: profile=NAME. data: a folder with the real data, whose texts the page
    then shows; it is written under runs/, because the data's own texts never enter results/. Raises UserError if the profile is
    not published.
    """
    for name in _profiles(profile, root):
        target = root / ("runs" if data else "results") / name / FRONT
        store = published(root / "results" / name)
        texts = pages(store, target, all_published(store), data)
        old = {path.relative_to(target.parent).as_posix(): path for path in (target.parent / BEHIND).glob("*.html")}
        leftovers = [path for address, path in old.items() if address not in texts]
        with manifest.writing_to(target.parent, leftovers) as folder:
            for address, text in texts.items():
                write_text(folder / address, text)
        size = sum(len(text.encode()) for text in texts.values()) / 1000
        print(f"wrote {target.relative_to(root)} and {len(texts) - 1} pages behind it ({size:,.0f} kB)")


def _profiles(name: str | None, root: Path) -> list[str]:
    """The profile that profile=NAME names, by default each that is published."""
    names = sorted(path.parent.name for path in (root / "results").glob("*/records"))
    if name is None:
        if not names:
            raise UserError("nothing is published under results/ yet; see make publish")
        return names
    profile = console.named_profile(name)
    if profile not in names:
        raise UserError(f"no records under results/{profile}; published: {', '.join(names) or 'none'}")
    return [profile]
