"""Choose the learning rate of every row of an experiment by trials on held-out rows.

    lora-repro tune experiment=e2e profile=laptop paths.data=/data/e2e                   every row
    lora-repro tune experiment=glue row/glue=lora task=rte profile=laptop paths.data=/data/glue

One rule for every method and task:

    grid       factor 3 around the row's first guess, at least three rates, at most `tune.most` (7); it grows on the side of
               the best rate until worse rates lie on both sides, and on both in turn while the best score is at most 1/√n
               above a constant prediction's (n held-out rows)
    trial      the run itself without decoding, with a seed that no table reports (`tune.seed`), for `tune.length` of the
               run's length; with `tune.seeds` above 1 the mean over that many seeds decides, since some settings learn on
               some seeds only
    criterion  the one that selects the run's checkpoint: on a sentence task the held-out score, ties by the held-out loss;
               on a text task the held-out loss
    pruning    none by default; with `tune.prune=true` a rate that lies far behind on the way, by its training loss, is given up
               (`lora_repro.sweep.grid`)
    data       never test data; GLUE at the paper's scale reports its dev rows, so a trial there holds out `tune.held_out`
               training rows, which the run itself trains on
    starts     if a run starts from others, their rates are chosen first; its trials start from the runs of the table's
               first seed, which are made if they are missing

Each search is saved with its trials in <paths.runs>/<profile>/trials/<setting>.json, where later runs find the rate unless one is
published for the setting (`lora_repro.records.rates`); `publish` brings the searches of declared rows to results/. A stopped
search resumes from its trials, an ended one that stopped at chance (its best score no higher than above) goes on from them;
several processes can share the work of one command, and of one search. A setting may be searched at several lengths, to see
whether shorter trials choose the same rate; runs use the longest search, of equally long ones the one with more seeds.
"""

from __future__ import annotations

from collections.abc import Sequence

from lora_repro import console
from lora_repro.sweep import tune


@console.command
def main(arguments: Sequence[str]) -> int:
    """The command line above; returns the exit status."""
    tune.tune(arguments)
    return 0
