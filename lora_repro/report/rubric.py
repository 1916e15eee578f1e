"""Grade this reproduction by conf/rubric.yaml, a tree of weighted criteria of the paper, and write results/rubric.md.

    python -m lora_repro rubric    (make claims does it too)

A leaf is met if what it points to exists: every test it names in tests/, a command, a published record of a table's row (at any
profile), or a verdict on a claim (a claim that does not replicate is answered too). The share of a node is the weighted mean of
the nodes below it. It reads results/report.json, trains nothing and needs no network.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lora_repro import cli
from lora_repro.config.paths import CONF, ROOT, checkout_root
from lora_repro.errors import UserError
from lora_repro.records import manifest
from lora_repro.records.disk import write_text
from lora_repro.report import report_json
from lora_repro.report.claims.held_by_tests import has_test
from lora_repro.report.claims.reading import INCONCLUSIVE, NOT_RUN

NAME = "rubric.md"
RUBRIC = CONF / "rubric.yaml"
# What answers a leaf -> its category in PaperBench's words.
KINDS = {"tests": "Code Development", "command": "Code Execution", "record": "Code Execution", "claim": "Result Analysis"}


@dataclass(frozen=True)
class Node:
    """A criterion with its weight among its siblings. A leaf has a `category`, is `met` or not, and says why in `said`."""

    requirement: str
    weight: int
    below: tuple[Node, ...] = ()
    category: str = ""
    met: bool = False
    said: str = ""

    @property
    def share(self) -> float:
        """The fulfilled share, 0 to 1: sum w_i s_i / sum w_i over the nodes below; 0 or 1 for a leaf."""
        if not self.below:
            return float(self.met)
        return sum(node.weight * node.share for node in self.below) / sum(node.weight for node in self.below)

    @property
    def leaves(self) -> list[Node]:
        return [leaf for node in self.below for leaf in node.leaves] if self.below else [self]


def graded(node: Mapping[str, Any], report: report_json.Answer) -> Node:
    """The tree of conf/rubric.yaml with its leaves graded. Raises UserError for a node that is neither a leaf nor a branch."""
    kinds = [key for key in (*KINDS, "sub_tasks") if key in node]
    if len(kinds) != 1 or set(node) - {"requirements", "weight", *kinds} or int(node.get("weight", 1)) < 1:
        named, wanted = node.get("requirements", node), ", ".join([*KINDS, "sub_tasks"])
        raise UserError(f"rubric: {named!r} needs a requirement, a weight of 1 or more, and one of {wanted}")
    (kind,), requirement, weight = kinds, str(node["requirements"]), int(node.get("weight", 1))
    if kind == "sub_tasks":
        return Node(requirement, weight, tuple(graded(one, report) for one in node["sub_tasks"]))
    met, said = ANSWERS[kind](node[kind], report)
    return Node(requirement, weight, (), KINDS[kind], met, said)


def _tests(names: Sequence[str], _: report_json.Answer) -> tuple[bool, str]:
    missing = [name for name in names if not has_test(name)]
    return not missing and bool(names), ", ".join(f"`{name}`{' is missing' if name in missing else ''}" for name in names)


def _command(verb: str, _: report_json.Answer) -> tuple[bool, str]:
    return verb in cli.VERBS, f"`python -m lora_repro {verb}`{'' if verb in cli.VERBS else ' does not exist'}"


def _record(place: str, report: report_json.Answer) -> tuple[bool, str]:
    """Whether anything is published of `place`: `table/row`, or a view's table, which has no rows of cells."""
    table, _, row = place.partition("/")
    found = []
    for profile, tables in report["tables"].items():
        shown = tables.get(table, {"cells": [], "sheets": []})
        names = {name for cell in shown["cells"] if cell["row"] == row for name in cell["records"]}
        names |= {str(i) for i, sheet in enumerate(shown["sheets"]) if sheet["rows"] and not row}
        found += [f"{len(names)} at {profile}"] if names else []
    return bool(found), f"{'records' if row else 'tables'} of `{place}`: {', '.join(found) or 'none published'}"


def _claim(name: str, report: report_json.Answer) -> tuple[bool, str]:
    for claim in report["claims"]:
        if claim["id"] == name:
            verdicts = {profile: one["verdict"] for profile, one in claim["profiles"].items()}
            decided = {profile: found for profile, found in verdicts.items() if found not in (INCONCLUSIVE, NOT_RUN)}
            said = ", ".join(f"{verdict} at {profile}" for profile, verdict in (decided or verdicts).items())
            return bool(decided), f"[{name}](claims.md#{name}): {said}"
    return False, f"`{name}` is not in the ledger"


ANSWERS = {"tests": _tests, "command": _command, "record": _record, "claim": _claim}


def told(root: Node) -> str:
    """The fulfilled share in words."""
    leaves = root.leaves
    return f"{100 * root.share:.0f} % fulfilled by weight: {sum(leaf.met for leaf in leaves)} of {len(leaves)} leaves met"


def by_category(root: Node) -> dict[str, tuple[int, int]]:
    """Category -> (leaves met, leaves)."""
    every, met = Counter(leaf.category for leaf in root.leaves), Counter(leaf.category for leaf in root.leaves if leaf.met)
    return {category: (met[category], every[category]) for category in dict.fromkeys(KINDS.values())}


def markdown(root: Node) -> str:
    """The share, the leaves by category, then the tree."""
    lines = [
        "# Rubric\n",
        "How much of the paper is reproduced: a tree of weighted criteria (`conf/rubric.yaml`, in the form of PaperBench's),",
        "which `make rubric` grades from this checkout. A leaf is met if what it names exists:\n",
        "- Code Development: the tests.",
        "- Code Execution: the command or the published record. A record counts at any profile, with generated data and small",
        "  models too: it shows that the row was run, not at what scale.",
        "- Result Analysis: a verdict on the claim; *not replicated* counts as much as *replicated*, *inconclusive* does not.\n",
        f"**{told(root)}**\n",
        "| Category | Leaves | Met |",
        "| --- | ---: | ---: |",
    ]
    lines += [f"| {category} | {every} | {met} |" for category, (met, every) in by_category(root).items()]
    return "\n".join([*lines, "", *_lines(root, 0)]) + "\n"


def _lines(node: Node, depth: int) -> list[str]:
    mark = f"{100 * node.share:.0f} %" if node.below else "met" if node.met else "**open**"
    weight = f"weight {node.weight}, " if depth else ""
    own = f"{'  ' * depth}- {node.requirement} ({weight}{mark}){': ' + node.said if node.said else ''}"
    return [own, *(line for below in node.below for line in _lines(below, depth + 1))]


def write(results: Path) -> Node:
    """Grade what results/report.json says and write rubric.md beside it."""
    found = load(report_json.read(results))
    with manifest.changing(results) as change:
        write_text(change.staged / NAME, markdown(found))
    return found


def load(report: report_json.Answer, path: Path = RUBRIC) -> Node:
    tree: Any = OmegaConf.to_container(OmegaConf.load(path))
    return graded(tree, report)


def parser() -> argparse.ArgumentParser:
    return cli.parser("rubric", __doc__)


@cli.command
def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """The command line above; returns the exit status. `root`: the folder that holds results/."""
    parser().parse_args(arguments)
    checkout_root("grading the rubric")
    print(f"{told(write(root / 'results'))}; wrote results/rubric.md")
    return 0
