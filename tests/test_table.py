"""One hand-made table as terminal text, Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io

from lora_repro.tables import report
from lora_repro.tables.latex import latex
from lora_repro.tables.report import Cell, Line, Metric
from lora_repro.tables.table import Table, cell_text, comma_separated, markdown, terminal

BLEU, SER = Metric("bleu", "BLEU", +1, 100, 1), Metric("slot_error_rate", "SER", -1, 100, 1)


def example_table() -> Table:
    single = Line("lora", "LoRA & co_", "published", {"bleu": Cell(61.26, None, 1)}, 1, 230400, 0,
                  difference=report.Difference(-0.5, -1.0, 0.2, 1), notes=("a | b",))  # fmt: skip
    several = Line("lora", "LoRA & co_", "paper (P)", {"bleu": Cell(70.4, 0.1, 3)}, 3, printed_millions=0.35)
    facts = ("T, profile p", "Backbone: B", "Data: D", "Seeds a row: n = 1")
    return Table("p", "b", facts, (single, several), ("note",), (BLEU, SER), BLEU, "full FT")


def test_a_negative_score_has_the_sign_that_differences_have() -> None:
    assert cell_text(Cell(-3.04, None, 1), 1) == "−3.0†" and cell_text(Cell(-3.0, 1.25, 2), 1) == "−3.0 ± 1.2"


def test_renderings_agree_and_mark_a_single_seed() -> None:
    table = example_table()
    for text in (terminal([table]), markdown([table]), latex([table])):
        assert "61.3" in text and "230,400" in text and "0.35M" in text and "Backbone: B" in text
    assert "61.3†" in markdown([table]) and "70.4 ± 0.1 |" in markdown([table])
    assert "SER ↓" in terminal([table]) and "BLEU ↑" in terminal([table])
    assert "−0.5 [−1.0, +0.2]†" in markdown([table]) and r"a \| b" in markdown([table])
    assert r"LoRA \& co\_" in latex([table]) and r"70.4 $\pm$ 0.1" in latex([table])
    pipes = {
        line.replace(r"\|", "").count("|") for line in markdown([table]).splitlines() if line.startswith("|")
    }
    assert len(pipes) == 1
    rows = list(csv.DictReader(io.StringIO(comma_separated([table]))))
    assert [rows[0][key] for key in ("bleu", "bleu_sd", "slot_error_rate", "method_parameters", "n")] == [
        "61.26", "", "", "230400", "1"]  # fmt: skip
    assert rows[1]["bleu_sd"] == "0.1" and rows[1]["difference"] == ""
