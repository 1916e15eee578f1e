"""Claims that no record can show: a test of this repository checks them whenever the tests run."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from lora_repro.config.paths import ROOT
from lora_repro.errors import UserError
from lora_repro.report.claims.base import ClaimTest
from lora_repro.report.claims.evidence import Evidence
from lora_repro.report.claims.reading import Reading
from lora_repro.stats.verdict import TESTED


def has_test(test: str) -> bool:
    """Whether tests/ has the test `file.py::name`."""
    file, _, name = test.partition("::")
    path = ROOT / "tests" / file
    tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.Module([], [])
    return name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


class HeldByTests(ClaimTest):
    """Held by tests, each `file.py::name`. Raises UserError if one of them does not exist."""

    anywhere = True

    def __init__(self, tests: Sequence[str], says: str) -> None:
        self.tests, self.says = list(tests), says
        for test in self.tests:
            if not has_test(test):
                raise UserError(f"no test {test} in tests/")

    @property
    def rule(self) -> str:
        return f"{self.says}: {', '.join(f'`tests/{test}`' for test in self.tests)} must pass"

    def read(self, evidence: Evidence) -> list[Reading]:
        return [Reading("checked by tests of this repository, not by a record", "", TESTED, notes=tuple(self.tests))]
