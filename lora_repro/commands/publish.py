"""Copy this checkout's finished, clean records and rate searches to results/<profile>/, then render every published table.

    lora-repro publish profile=mini                    (--force or FORCE=1 replaces what is published and differs)
    lora-repro publish profile=mini --prune            list published files that no experiment asks for any more
    lora-repro publish profile=mini --prune --delete   delete them from results/mini, with their hashes; git keeps them

It prints what it left out and why, such as a run that no experiment asks for, which no table would show. Only --force replaces
a published record by a different one. All files appear together with their hashes, or none does; after a kill repeat the command.
If a setting has changed, the records that it leaves behind are counted at the end.

--prune copies nothing. It keeps a file if an experiment asks for its run at this profile, or for a run that starts from it, and a
search if such a run adopts its rate; any other file comes from an earlier protocol. Measurements without training
(results/<profile>/measures) are not touched.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from lora_repro import console
from lora_repro.config.hydra_errors import empty_profile_message
from lora_repro.config.paths import ROOT, checkout_root
from lora_repro.costs import measures
from lora_repro.errors import UserError
from lora_repro.planning.cells import Cell
from lora_repro.records import manifest, rates
from lora_repro.records.record import read
from lora_repro.report import publish, show
from lora_repro.report.publish import requested_runs


@console.command
@rates.published_only()
def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """Publish one profile; returns the exit status."""
    parser = console.parser("publish", __doc__)
    parser.add_argument("profile", nargs="?", default="profile=mini", help="profile=mini (default)")
    parser.add_argument("--force", action="store_true", help="replace published records that differ (or FORCE=1)")
    parser.add_argument("--prune", action="store_true", help="list published files that nothing asks for; copy nothing")
    parser.add_argument("--delete", action="store_true", help="with --prune: delete them")
    options = parser.parse_args(arguments)
    profile = console.named_profile(options.profile)
    if options.delete and not options.prune:
        raise UserError("--delete is for --prune: give both, or leave it out")
    if options.prune:
        checkout_root("pruning what is published")
        publish.prune(profile, options.delete, root)
        return 0
    if profile == "smoke":
        raise UserError("profile smoke is for tests and is not published: its numbers mean nothing")
    checkout_root("publishing")
    force = options.force or os.environ.get("FORCE", "") not in ("", "0")
    results = root / "results"
    manifest.check_evidence(results / profile)
    if not (runs := root / "runs" / profile).is_dir():
        raise UserError(empty_profile_message(profile, f"no record under {runs}: make a run first"))
    with manifest.changing(results) as change:
        cells = requested_runs(profile)
        outcomes = publish.publish_searches(change, runs, cells, force)
        if {publish.PUBLISHED, publish.REPLACED} & set(outcomes.values()):
            with rates.published_only(change.staged):  # the runs are those at the rates that are published with them
                cells = requested_runs(profile)
        publish.publish(change, runs, force, _wanted(cells, runs), bool(outcomes))
    if old := publish.leftover(results / profile, cells):
        prune = f"`lora-repro publish profile={profile} --prune` lists them"
        console.say(f"results/{profile}: files that nothing asks for any more: {len(old)}; {prune}")
    show.render_published(show.names(), root)
    return 0


def _wanted(cells: Iterable[Cell], runs: Path) -> set[str]:
    """The signatures of the runs and measurements that experiments ask for."""
    signatures = {cell.signature for cell in cells}
    for path in (runs / "measures").glob("*.json"):  # asked for anew, on its own number of threads
        signatures.add(measures.signature_of(measures.declared("latency", runs.name, read(path)["asked"]["overrides"])))
    return signatures
