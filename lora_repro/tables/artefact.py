"""What a table is made of, and its assembly: this checkout's lines, the published, the paper's and reruns by others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lora_repro.errors import UserError
from lora_repro.tables.report import Line, Metric, measured, quoted
from lora_repro.tables.rows import Block, data_hint
from lora_repro.tables.stores import Store, one_origin, records_of
from lora_repro.tables.table import Table


@dataclass(frozen=True)
class Artefact:
    """A table and its figure.

    name: the stem of conf/experiment, conf/row and results/*/tables. title: what captions call it.
    compared, reference: the metric and row of the difference column, `reference_label` its short name.
    paper: backbone -> how the paper's numbers for it are called; any other backbone is shown beside the first.
    """

    name: str
    title: str
    metrics: tuple[Metric, ...]
    compared: Metric
    reference: str
    reference_label: str
    paper: dict[str, str]
    remarks: tuple[str, ...] = ()
    by: str = ""  # "task", "data.n_train", "row.size": a column for each of its values (grid.py) instead of one a metric
    size: str = "size"  # what row.size is called in columns
    x: str = ""  # the figure's x where it is a curve: "data.n_train", "row.size", "parameters" or "row"

    def scale(self, backbone: str) -> str:
        """The backbone whose printed numbers stand beside `backbone`."""
        return backbone if backbone in self.paper else next(iter(self.paper))


def tables(
    artefact: Artefact,
    blocks: Sequence[Block],
    stores: Sequence[Store],
    profile: str,
    extra: Sequence[str] = (),
) -> list[Table]:
    """One table a backbone, its lines sorted by row, then store, then paper, then reruns.

    Raises UserError where one store's records differ in data, text form or backbone. A further store whose records
    differ from the first one's is left out, with a footnote: its numbers would not compare.
    """
    for store in stores:
        for task in {block.task for block in blocks}:
            same = [block for block in blocks if block.task == task]
            one_origin(records_of(same, store), same_backbone=False)
    return [_table(artefact, block, stores, profile, extra) for block in blocks]


def _table(
    artefact: Artefact, block: Block, stores: Sequence[Store], profile: str, extra: Sequence[str]
) -> Table:
    ours: list[Line] = []
    shown: list[dict[str, Any]] = []
    refused = []
    for store in stores:
        records = records_of([block], store)
        if store is not stores[0] and not records:
            continue
        lines = measured(block, store, artefact.metrics, artefact.reference, artefact.compared.key)
        try:
            one_origin([*shown, *records])
        except UserError as error:
            refused.append(f"The {store.source} runs are not shown beside these: {error}.")
            continue
        ours, shown = [*ours, *lines], [*shown, *records]
    scale = artefact.scale(block.backbone)
    everything = [*ours, *quoted(block, artefact.metrics, scale, artefact.paper[scale])]
    order = {row.name: index for index, row in enumerate(block.rows)}
    everything.sort(key=lambda line: order[line.row])  # stable: sources keep their order within a row
    counts = [line.n for line in ours if line.n]
    facts = (
        *identity(artefact, profile, block.config, shown, counts),
        *_recipe(artefact, profile, block, extra),
    )
    notes = (*footnotes(artefact, ours, shown), *refused)
    return Table(
        profile,
        block.backbone,
        facts,
        tuple(everything),
        notes,
        artefact.metrics,
        artefact.compared,
        artefact.reference_label,
    )


def identity(
    artefact: Artefact,
    profile: str,
    config: dict[str, Any],
    shown: Sequence[dict[str, Any]],
    counts: Sequence[int],
) -> tuple[str, ...]:
    """Experiment and profile, backbone, data, n: as the records say, not as the configuration hoped."""
    backbones = [record["where"]["backbone"] for record in shown]
    labels = [backbone["label"] for backbone in backbones if backbone.get("sha256")]
    data = shown[0]["where"]["data"]["caption"] if shown else "no record yet"
    n = "-".join(str(count) for count in sorted({min(counts), max(counts)})) if counts else "0"
    backbone = labels[0] if labels else config["backbone"]["label"]
    return (
        f"{artefact.title}, profile {profile}",
        f"Backbone: {backbone}",
        f"Data: {data}",
        f"Seeds a row: n = {n}",
    )


def _recipe(artefact: Artefact, profile: str, block: Block, extra: Sequence[str]) -> tuple[str, ...]:
    decode = block.config["decode"]
    return (
        f"Decoding: beam {decode['beam']}, length penalty {decode['length_penalty']}, no repeated "
        f"{decode['no_repeat_ngram']}-gram, at most {decode['max_new_tokens']} new tokens",
        reproduce(artefact.name, profile, block.config, extra),
    )


def reproduce(table: str, profile: str, config: dict[str, Any], extra: Sequence[str] = ()) -> str:
    """The command that runs a whole table again; where the reader's data lie is theirs to fill in."""
    hint = [] if any(item.startswith("paths.data=") for item in extra) else data_hint(config["task"])
    return " ".join(["To reproduce: python -m lora_repro.run", f"experiment={table}", f"profile={profile}", *extra, *hint])


def footnotes(artefact: Artefact, ours: Sequence[Line], shown: Sequence[dict[str, Any]]) -> list[str]:
    notes = list(artefact.remarks)
    notes.append(
        "Mean ± sample sd over n seeds; arrows say which direction is better; — is not run, not measured or not "
        "printed, never 0."
    )
    if any(line.n == 1 for line in ours):
        notes.append("† n = 1: no spread over seeds, supports no verdict.")
    if any(line.difference for line in ours):
        notes.append(
            f"{artefact.compared.label} − {artefact.reference_label}: paired bootstrap over test inputs, 95 % "
            "interval of the mean over the seeds that both have. It covers the choice of "
            "inputs, not of seeds. A row scored against other references is compared with none."
        )
    captions = {record["where"]["data"]["caption"] for record in shown}
    if any(word in caption for caption in captions for word in ("synthetic", "generated")):
        notes.append("The data are generated: these scores compare with each other, not with the paper's.")
    if any(record["status"] != "finished" for record in shown):
        notes.append("Diverged, collapsed and failed runs are counted under Notes and enter no mean.")
    return notes
