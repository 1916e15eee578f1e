"""A table of words in three forms."""

from __future__ import annotations

from lora_repro.tables.sheet import Sheet, latex, markdown, terminal

SHEET = Sheet(("Costs", "of things"), ("Method", "%"), "lr", (("A|B", "−1.0"), ("C", "12.25")), ("A note & more.",))


def test_terminal_aligns_words_left_and_numbers_right() -> None:
    lines = terminal([SHEET]).splitlines()
    assert lines[:2] == ["Costs. of things.", ""] and lines[-2:] == ["", "A note & more."]
    assert lines[2:-2] == ["Method      %", "-------------", "A|B      −1.0", "C       12.25"]


def test_markdown_escapes_the_bar_and_says_the_sides() -> None:
    lines = markdown([SHEET]).splitlines()
    assert lines[:5] == ["**Costs. of things**", "", "| Method | % |", "| --- | ---: |", "| A\\|B | −1.0 |"]
    assert lines[-1] == "- A note & more."


def test_latex_escapes_what_it_must() -> None:
    text = latex([SHEET, SHEET])
    assert text.count(r"\begin{table}") == 2 and r"\begin{tabular}{lr}" in text
    assert r"A note \& more." in text and r"Method & \% \\" in text and "C & 12.25" in text
