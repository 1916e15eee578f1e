"""The figure of values that are known to lie between two bounds."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from lora_repro.report.figures import brackets
from lora_repro.report.figures.brackets import Bracket, BracketPanel, BracketRow
from lora_repro.report.figures.style import EDGE

TICKS = ((17e6, "17"), (23e6, "23"), (109e6, "109"))


def drawn(*rows: BracketRow, panels: int = 1) -> Figure:
    figure = brackets._figure([BracketPanel("SST-2", "values", "d90", rows, TICKS)] * panels, "d90 by size", "From records.")
    figure.draw_without_rendering()
    return figure


def test_a_bar_reaches_from_bound_to_bound_and_an_arrow_away_from_the_only_one() -> None:
    said = BracketRow("SAID", (Bracket(17e6, 64, 256), Bracket(23e6, 64, 256), Bracket(109e6, None, 64)), "said")
    twin = BracketRow("SAID of random weights", (Bracket(17e6, 65536, None), Bracket(23e6, 65536, None)), "said")
    (axis,) = drawn(said, twin).axes
    bars = [tuple(line.get_ydata()) for line in axis.lines if len(line.get_ydata())]
    assert bars == [(64, 256), (64, 256)]
    arrows = [(one.xyann[1], one.xy[1]) for one in axis.texts if one.arrow_patch]
    assert [(start, tip > start) for start, tip in arrows] == [(64, False), (65536, True), (65536, True)]
    low, high = axis.get_ylim()
    assert all(low < tip < high for _, tip in arrows)
    assert [text.get_text() for text in axis.get_yticklabels()] == ["64", "256", "65,536"]


def test_bars_of_two_rows_at_one_size_stand_side_by_side_under_one_name_each() -> None:
    figure = drawn(*(BracketRow(name, (Bracket(17e6, 64, 256), Bracket(23e6, 64, 256))) for name in ("DID", "SAID")))
    (axis,) = figure.axes
    bars = [line for line in axis.lines if len(line.get_ydata())]
    assert len({tuple(line.get_xdata()) for line in bars}) == 4
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["DID", "SAID"]
    assert len({line.get_color() for line in bars}) == 2


@pytest.mark.parametrize("panels", [1, 2])
def test_all_text_is_inside_the_figure(panels: int) -> None:
    figure = drawn(BracketRow("A row whose name is long", (Bracket(17e6, 64, 64000), Bracket(23e6, 1e6, None))), panels=panels)
    width, height = (float(size) * figure.dpi for size in figure.get_size_inches())
    for axis in figure.axes:
        labels = (*axis.get_xticklabels(), *axis.get_yticklabels(), axis.xaxis.label, axis.yaxis.label)
        for text in (*axis.texts, axis.title, *labels):
            box = text.get_window_extent()
            assert not text.get_text() or (box.x0 >= 0 and box.x1 <= width - EDGE and box.y0 >= 0 and box.y1 <= height)
