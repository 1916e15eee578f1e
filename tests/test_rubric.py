"""The rubric: shares by hand, what each kind of leaf asks for, and that conf/rubric.yaml points at what can be there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from planted import note

from lora_repro.config.paths import CONF
from lora_repro.errors import UserError
from lora_repro.report import report_json, rubric
from lora_repro.report.claims import ledger

CELL = {"row": "a", "records": ["s0", "s1"]}
REPORT: report_json.Answer = {
    "tables": {"mini": {"t": {"cells": [CELL, {"row": "b", "records": []}], "sheets": []},
                        "v": {"cells": [], "sheets": [{"rows": [["1"]]}]}}},
    "claims": [{"id": "yes", "profiles": {"mini": {"verdict": "not replicated"}, "laptop": {"verdict": "inconclusive"}}},
               {"id": "no", "profiles": {"mini": {"verdict": "inconclusive"}, "laptop": {"verdict": "not run at this scale"}}}],
}  # fmt: skip


@pytest.mark.parametrize(
    "leaf, met, said",
    [
        ({"tests": ["test_lora.py::test_initialisation"]}, True, "`test_lora.py::test_initialisation`"),
        ({"tests": ["test_lora.py::test_initialisation", "test_lora.py::test_x"]}, False, "`test_lora.py::test_x` is missing"),
        ({"command": "rubric"}, True, "`python -m lora_repro rubric`"),
        ({"command": "grade"}, False, "does not exist"),
        ({"record": "t/a"}, True, "2 at mini"),
        ({"record": "t/b"}, False, "none published"),
        ({"record": "t"}, False, "none published"),
        ({"record": "v"}, True, "1 at mini"),
        ({"claim": "yes"}, True, "not replicated at mini"),
        ({"claim": "no"}, False, "inconclusive at mini"),
        ({"claim": "other"}, False, "not in the ledger"),
    ],
)
def test_a_leaf_counts_if_what_it_names_is_there(leaf: dict[str, Any], met: bool, said: str) -> None:
    found = rubric.graded({"requirements": "x", **leaf}, REPORT)
    assert found.met == met and said in found.said and found.share == met


def test_shares_are_weighted_means_of_what_is_below() -> None:
    yes, no = ({"requirements": "r", "command": verb} for verb in ("rubric", "grade"))
    branch = {"requirements": "b", "weight": 2, "sub_tasks": [yes, no, no]}
    tree = {"requirements": "all", "sub_tasks": [{**yes, "weight": 3}, branch]}
    found = rubric.graded(tree, REPORT)
    assert found.share == pytest.approx((3 + 2 / 3) / 5)
    text = rubric.markdown(found)
    assert "**73 % fulfilled by weight: 2 of 4 leaves met**" in text and "| Code Execution | 4 | 2 |" in text
    assert "\n  - b (weight 2, 33 %)\n    - r (weight 1, met)" in text and "**open**" in text


@pytest.mark.parametrize("wrong", [{}, {"command": "run", "claim": "yes"}, {"command": "run", "weight": 0}, {"comand": "run"}])
def test_a_node_is_a_leaf_or_a_branch(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="rubric: 'x' needs"):
        rubric.graded({"requirements": "x", **wrong}, REPORT)


def test_the_declared_rubric_names_tests_commands_claims_and_rows_that_exist() -> None:
    def leaves(node: dict[str, Any]) -> list[dict[str, Any]]:
        return [leaf for one in node["sub_tasks"] for leaf in leaves(one)] if "sub_tasks" in node else [node]

    tree: Any = OmegaConf.to_container(OmegaConf.load(rubric.RUBRIC))
    claims = {claim.id for claim in ledger.load()}
    answered = {id(leaf): rubric.graded(leaf, REPORT) for leaf in leaves(tree)}
    for leaf in leaves(tree):
        if "tests" in leaf or "command" in leaf:
            assert answered[id(leaf)].met, answered[id(leaf)].said
        if "claim" in leaf:
            assert leaf["claim"] in claims
        if "record" in leaf:
            table, _, row = leaf["record"].partition("/")
            path = CONF / (f"row/{table}/{row}.yaml" if row else f"experiment/{table}.yaml")
            assert path.is_file(), leaf
            # Table 2 has these two in the restricted setup alone; any other row is one that the paper prints.
            if row and leaf["record"] not in ("glue/adapter_h", "glue/adapter_p"):
                assert OmegaConf.load(path).row.paper, leaf
    assert {found.category for found in answered.values()} == set(rubric.KINDS.values())
    asked = {leaf.get("claim") for leaf in leaves(tree)}
    assert len(asked) > 25


def test_the_published_rubric_is_what_report_json_gives() -> None:
    results = CONF.parent / "results"
    report = json.loads((results / report_json.NAME).read_text(encoding="utf-8"))
    text = (results / "rubric.md").read_text(encoding="utf-8")
    assert text == rubric.markdown(rubric.load(report)), "make rubric writes it again"


def test_the_command_writes_it_and_tells_the_share(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / report_json.NAME).write_text(json.dumps(REPORT))
    note(tmp_path / "results")
    assert rubric.main([], tmp_path) == 0
    text = (tmp_path / "results" / "rubric.md").read_text(encoding="utf-8")
    assert "% fulfilled by weight: " in capsys.readouterr().out and text.startswith("# Rubric\n")
