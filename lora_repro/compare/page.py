"""A comparison as one HTML file that asks nothing of a network: advice, table, pictures, disagreements, and how it was made.

Without --with-texts it holds no text of the user's data: no input, no answer and no name of a class. Files are told by their
names and hashes.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lora_repro.compare import pictures
from lora_repro.compare.advice import table
from lora_repro.compare.answer import Answer
from lora_repro.compare.budget import Plan
from lora_repro.compare.disagreements import disagreements
from lora_repro.compare.request import Request
from lora_repro.config import paths
from lora_repro.report.captions import on_cut_inputs
from lora_repro.report.numbers import score
from lora_repro.report.page.build import filled
from lora_repro.report.table import EMPTY, Number, Table, format_count

TEMPLATE = Path(__file__).with_name("page.html")
LICENCES = (
    "The model and the data keep their licences, and weights trained from them are subject to both; "
    "the code is under the MIT licence."
)


def page(request: Request, answer: Answer, words: Sequence[str], plan: Plan) -> str:
    """The page of an answer. words: its advice. Raises UserError if predictions cannot be read."""
    return filled(
        TEMPLATE,
        title=answer.title,
        words=words,
        screen=table(answer),
        trade_offs=pictures.trade_offs(answer),
        learning=pictures.learning(answer, len(request.data.parts.dev)),
        searches=pictures.searches(answer),
        distances=[
            f"{search.row.label}: {search.chosen:.2g}, {search.distance}"
            for search in map(pictures.tried, answer.rows)
            if search
        ],
        disagreements=disagreements(answer, request),
        with_texts=request.with_texts,
        facts=dict(_facts(request, answer)),
        command=command(request, answer),
        given_up=plan.given_up,
        files=_files(request),
        runs=_runs(answer),
        licences=LICENCES,
    )


def command(request: Request, answer: Answer) -> str:
    """The command that makes the same comparison: of what fitted into the budget, where there was one.

    If rows were given up, it is that of the written configuration, which has the others alone.
    """
    if request.without:
        profile = (
            []
            if any(item.startswith("profile=") for item in request.overrides)
            else [f"profile={request.profile}"]
        )
        words = [
            "run",
            "--config-dir",
            str(request.configs),
            f"experiment={request.name}",
            *profile,
            *request.overrides,
        ]
        return shlex.join(["lora-repro", *words])
    options: dict[str, str | None] = {
        "--model": request.model,
        "--revision": request.revision,
        **{f"--{split}": file for split, file in request.files.items()},
        "--columns": ",".join(f"{role}={column}" for role, column in request.columns.items()),
        "--methods": ",".join(request.methods),
        "--ranks": ",".join(map(str, request.ranks)),
        "--metric": request.metric,
        "--function": request.function,
        "--seeds": str(max(len(row.runs) for row in answer.rows)),
        "--trust": ",".join(sorted(paths.trusted())) if request.function else None,
    }
    words = [word for option, value in options.items() if value for word in (option, value)]
    words += [word for those in request.targets for word in ("--targets", ",".join(those))]
    words += ["--with-texts"] if request.with_texts else []
    return shlex.join(["lora-repro", "compare", *words, *request.overrides])


def _facts(request: Request, answer: Answer) -> Iterator[tuple[str, str]]:
    """What was compared on what: model, profile, seeds, device, code."""
    run = answer.best.median_run
    where, backbone = run.record["where"], run.record["where"]["backbone"]
    digest = backbone.get("sha256") or ""
    yield "Model", f"{backbone['label']}, {f'SHA-256 {digest}' if digest else 'weights drawn at random'}"
    spec = run.record["asked"].get("backbone", {})
    if spec.get("source") == "hub":
        yield "From the hub", f"{spec['hub_id']} at revision {spec['revision']}"
    yield "Profile", request.profile
    yield "Seeds", _seeds(request, answer)
    records = [run.record for row in answer.rows for run in row.runs.values()]
    for sentence in on_cut_inputs([run for row in answer.rows for run in row.runs.values()]):
        yield "Too long", sentence
    yield "Device", _all(record["where"].get("device") for record in records)
    yield "Precision", _all(record["where"].get("precision") for record in records)
    yield (
        "Commit",
        _all(
            f"{record['where'].get('git_sha') or 'unknown'}{' with uncommitted changes' * bool(record['where'].get('dirty'))}"
            for record in records
        ),
    )
    if versions := where.get("versions"):
        yield "Versions", ", ".join(f"{name} {version}" for name, version in versions.items())
    if days := sorted(
        str(record["where"]["finished_at"])[:10] for record in records if record["where"].get("finished_at")
    ):
        yield "Run on", days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"


def _seeds(request: Request, answer: Answer) -> str:
    """How many each method has, and how many were asked for if a method has fewer."""
    counts = {len(row.runs) for row in answer.rows if row.trained}
    n_seeds = " to ".join(map(str, sorted(counts))) if counts else "0"
    fewer = f" of the {request.seeds} asked for" if counts and min(counts) < request.seeds else ""
    return f"{n_seeds} a method{fewer}; the search of the rates has one of its own, which no score is from"


def _all(values: Any) -> str:
    return "; ".join(dict.fromkeys(str(value) for value in values if value)) or "unknown"


def _files(request: Request) -> Table:
    """Each file with its hash, and how many rows of it are used for what."""
    data = request.data
    lines = []
    for split, rows in (("train", data.parts.train), ("dev", data.parts.dev), ("test", data.parts.test)):
        given = split in data.sources
        file = data.names[split] if given else f"held out of {data.names['train']}"
        lines.append((split, file, format_count(len(rows)), data.sha256[split] if given else EMPTY))
    return Table(("The data",), ("Rows for", "File", "Rows", "SHA-256"), "llrl", tuple(lines))


def _runs(answer: Answer) -> Table:
    """Every run with how it ended, so that one that diverged or collapsed is seen."""
    lines = []
    for row in answer.rows:
        for seed, run in sorted(row.runs.items()):
            measurements, value = run.record["measured"], score(run, row.cell.score)
            lines.append((
                row.label if seed == min(row.runs) else "",
                Number(str(seed), seed),
                str(run.record["status"]),
                EMPTY if value is None else Number(f"{100 * value:.1f}", 100 * value),
                format_count(measurements.get("steps") or None),
                _counted(measurements.get("train_seconds")),
                _counted(measurements.get("peak_memory_mb")),
                run.signature,
            ))  # fmt: skip
    header = ("Method", "Seed", "Status", answer.metric, "Steps", "Training, s", "Memory, MiB", "Run")
    return Table(("Every run",), header, "lrlrrrrl", tuple(lines))


def _counted(value: float | None) -> str:
    return EMPTY if value is None else Number(f"{value:,.0f}", value)
