"""One hand-made table in every form, and on terminals that are too narrow for it."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from lora_repro.report.captions import Caption
from lora_repro.report.columns import Column
from lora_repro.report.html import html
from lora_repro.report.numbers import Difference, Mean, Metric
from lora_repro.report.scores import Result
from lora_repro.report.sheet import Scores, tables_of
from lora_repro.report.table import Origin, Table, comma_separated, latex, markdown
from lora_repro.report.terminal import terminal

ROOT = Path(__file__).resolve().parents[1]
BLEU, SER = Column(Metric("bleu", "BLEU"), "bleu"), Column(Metric("slot_error_rate", "SER", -1), "slot_error_rate")
PLAIN = Table(("Costs", "of things"), ("Method", "%"), "lr", (("A|B", "−1.0"), ("C", "12.25")), ("A note & more.",))


def scored() -> Table:
    single = Result("lora", "LoRA & co_", "published", {"bleu": Mean(61.26, None, 1)}, 1, 230400, 0,
                    differences={"bleu": Difference(-0.5, -1.0, 0.2, 1)}, notes=("a | b",))  # fmt: skip
    cells = {"bleu": Mean(70.4, 0.1, 3)}
    several = Result("lora", "LoRA & co_", "paper (P)", cells, 3, printed_millions=0.35, origin=Origin.PAPER)
    caption = Caption("T", "p", ("B",), "D", "1", command="python " * 12)
    scores = Scores("T", "full FT", "p", "b", caption, (single, several), ("note",), (BLEU, SER), BLEU, False, "BLEU")
    (table,) = tables_of([scores])
    return table


def test_renderings_agree_and_mark_a_single_seed() -> None:
    table = scored()
    for text in (terminal([table]), markdown([table]), latex([table]), str(html(table))):
        assert "61.3" in text and "230,400" in text and "0.35M" in text
    assert all("Backbone: B" in text for text in (terminal([table]), markdown([table]), latex([table])))
    assert "61.3†" in markdown([table]) and "70.4 ± 0.1 |" in markdown([table])
    assert "SER ↓" in terminal([table]) and "BLEU ↑" in terminal([table])
    assert "−0.5 [−1.0, +0.2]†" in markdown([table]) and r"a \| b" in markdown([table])
    assert r"LoRA \& co\_" in latex([table]) and r"70.4 $\pm$ 0.1" in latex([table])
    assert "LoRA &amp; co_" in html(table) and 'data-n="61.26"' in html(table)
    pipes = {line.replace(r"\|", "").count("|") for line in markdown([table]).splitlines() if line.startswith("|")}
    assert len(pipes) == 1
    rows = list(csv.DictReader(io.StringIO(comma_separated([table]))))
    assert [rows[0][key] for key in ("bleu", "bleu_sd", "slot_error_rate", "method_parameters", "n")] == [
        "61.26", "", "", "230400", "1"]  # fmt: skip
    assert rows[1]["bleu_sd"] == "0.1" and rows[1]["difference"] == ""
    assert rows[0]["difference"] == "-0.5" and rows[0]["difference_p"] == rows[0]["detectable"] == ""  # NaN is no value


def test_all_that_published_latex_holds_is_plain() -> None:
    charsets = {file: set(file.read_text(encoding="utf-8")) for file in (ROOT / "results").rglob("*.tex")}
    assert len(charsets) > 20 and not {
        str(file): odd for file, charset in charsets.items() if (odd := {c for c in charset if ord(c) > 127})
    }


def test_signs_of_any_table_are_latex_commands() -> None:
    signs = Table(("S",), ("Parameters", "λ = 0.5 → ΔW"), "lr", (("1,152–2,304", "−1.0 ± 0.2 ‖ΔW‖"),), ())
    body = latex([signs])
    assert r"$\lambda$ = 0.5" in body and "1,152--2,304" in body and r"$-$1.0 $\pm$ 0.2" in body
    assert {sign for sign in body if ord(sign) > 127} == {"→"}  # what is not known stays as it is


def test_a_csv_of_several_tables_has_every_column_once_and_its_last_ones_last() -> None:
    one, other = ({"row": "x", "a": "1", "n": "2"}, {"row": "y", "b": "3", "n": "4"})
    tables = [replace(PLAIN, numbers=(line,)) for line in (one, other)]
    assert comma_separated(tables) == "row,a,b,n\nx,1,,2\ny,,3,4\n"
    assert comma_separated([PLAIN]) == "table,Method,%\nCosts,A|B,−1.0\nCosts,C,12.25\n"


def test_a_terminal_aligns_words_left_and_numbers_right() -> None:
    lines = terminal([PLAIN]).splitlines()
    assert lines[:2] == ["Costs. of things.", ""] and lines[-2:] == ["", "A note & more."]
    assert lines[2:-2] == ["Method      %", "-------------", "A|B      −1.0", "C       12.25"]


def test_a_narrow_terminal_gets_no_longer_line_and_is_told_what_is_missing() -> None:
    table = scored()
    wide = terminal([table], width=200)
    assert "Left out" not in wide and "Notes" in wide and "Method / source" not in wide
    for width in (60, 80):
        lines = terminal([table], "runs/p/tables/t.md", width).splitlines()
        command = next(line for line in lines if line.startswith("To reproduce"))
        assert all(len(line) <= width for line in lines if line != command) and command.count("python") == 12
        text = "\n".join(lines)
        assert "Method / source" in text and "\n  published" in text and "61.3†" in text and "−0.5 [−1.0, +0.2]†" in text
        assert f"Left out at {width} columns: Notes" in text and "runs/p/tables/t.md" in text
    # What is not `minor` is never left out: it goes on below.
    narrow = terminal([replace(table, minor=())], width=60)
    assert narrow.count("Method / source") > 1 and "Left out" not in narrow and "a | b" in narrow


def test_a_label_above_its_sources_takes_no_room_from_them() -> None:
    rows = (("A label that is longer than its sources", "ours", "1.0", "2.0"), ("", "theirs", "3.0", "4.0"))
    table = replace(PLAIN, header=("Method", "Source", "BLEU ↑", "NIST ↑"), sides="llrr", rows=rows, keys=2)
    lines = terminal([table], width=40).splitlines()
    assert lines[2] == "Method / source  BLEU ↑  NIST ↑"
    assert lines[4:7] == [rows[0][0], "  ours              1.0     2.0", "  theirs            3.0     4.0"]


def test_columns_that_go_on_below_leave_out_the_sources_without_a_value_there() -> None:
    rows = (("Full", "ours", "1.0", "2.0"), ("", "paper", "3.0", "—"), ("LoRA", "paper", "4.0", "—"), ("No", "ours", "—", "5.0"))
    table = replace(PLAIN, header=("Method", "Source", "BLEU ↑", "General loss ↓"), sides="llrr", rows=rows, keys=2)
    above, below = terminal([table], width=32).split("\n\n")[1:3]
    assert above.count("paper") == 2 and "LoRA" in above and above.endswith("No\n  ours                —")
    assert below.splitlines()[2:] == ["Full", f"  ours{'2.0':>25}", "No", f"  ours{'5.0':>25}"]
    empty = replace(table, rows=tuple((*row[:3], "—") for row in rows))
    assert terminal([empty], width=32).count("paper") == 4  # a column without any value says so


def test_the_terminal_s_own_width_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert terminal([scored()]) == terminal([scored()], width=60) != terminal([scored()], width=200)


def test_markdown_escapes_the_bar_and_says_the_sides() -> None:
    lines = markdown([PLAIN]).splitlines()
    assert lines[:5] == ["**Costs. of things**", "", "| Method | % |", "| --- | ---: |", "| A\\|B | −1.0 |"]
    assert lines[-1] == "- A note & more."


def test_latex_escapes_what_it_must() -> None:
    text = latex([PLAIN, PLAIN])
    assert text.count(r"\begin{table}") == 2 and r"\begin{tabular}{lr}" in text
    assert r"A note \& more." in text and r"Method & \% \\" in text and "C & 12.25" in text
    assert "p $<$ 0.05 $>$ $|$x$|$" in latex([replace(PLAIN, footnotes=("p < 0.05 > |x|",))])


def test_the_text_of_a_cell_is_no_markup() -> None:
    table = replace(PLAIN, rows=(("<b>", "1"), ("", "2")))
    text = html(table)
    assert "&lt;b&gt;" in text and "<b>" not in text
    assert text.count("&lt;b&gt;") == 2 and 'class="again"' in text  # a blank first cell repeats the one above


def test_a_browser_breaks_no_line_between_a_sign_and_its_number() -> None:
    rows = (("A", "+3.5 [+0.8, +6.3]†, Δ 7.0"),)
    assert "Δ\u00a07.0" in str(html(replace(PLAIN, rows=rows)))
