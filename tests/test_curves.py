"""Curves: colours that colour-blind eyes tell apart, one a family; collapsed seeds marked; everything inside the figure."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Annotation

from lora_repro.report.captions import Caption
from lora_repro.report.columns import Column
from lora_repro.report.figures import curves, style
from lora_repro.report.figures.curves import Curve, CurvePoint, Plot
from lora_repro.report.figures.scored import _absent, _ticks, mark, panel
from lora_repro.report.figures.style import COLOURS, blank, to_mathtext, write
from lora_repro.report.numbers import Mean, Metric
from lora_repro.report.scores import Lost, Result
from lora_repro.report.sheet import Scores

SETS = ["W_q", "W_q, W_v", "W_q, W_k, W_v, W_o"]
# Machado et al. (2009), severity 1, on linear RGB.
EYES = {
    "any": np.eye(3),
    "protan": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "deutan": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]),
    "tritan": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]]),
}


def lab(colour: str, eyes: str) -> np.ndarray:
    """CIE L*a*b* (D65) of an sRGB colour as these eyes see it."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(EYES[eyes] @ linear, 0, 1) / to_xyz.sum(axis=1)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eyes", EYES)
def test_every_two_colours_differ_for_every_eye(eyes: str) -> None:
    """A distance of 2.3 is just noticeable; the seven of Okabe and Ito keep 16."""
    assert len(COLOURS) == 8
    for one, other in itertools.combinations(COLOURS, 2):
        assert np.linalg.norm(lab(one, eyes) - lab(other, eyes)) > 15, (one, other)


def drawn(plots: list[Plot], columns: int = 1) -> Figure:
    """The figure, laid out as it is saved."""
    figure = curves._figure(plots, columns, "One statement of many words " * 6, "Whose numbers these are, in many words. " * 9)
    figure.draw_without_rendering()
    return figure


def rank_plot() -> Plot:
    """Three sets of matrices adapted at two ranks, and each in full."""
    ends = [(CurvePoint(1, 50 + n, 1.0), CurvePoint(4, 60 + n, 1.0)) for n in range(len(SETS))]
    lora_curves = [Curve(f"LoRA on {name}", points, name) for points, name in zip(ends, SETS, strict=True)]
    across = [Curve(f"{name} in full", (CurvePoint(None, 70 + n, 2.0),), name) for n, name in enumerate(SETS)]
    return Plot("title", "r", "score", (*across, *lora_curves), ((1.0, "1"), (4.0, "4")))


def test_a_set_of_matrices_is_one_colour_broken_in_full_and_solid_adapted() -> None:
    (axis,) = drawn([rank_plot()]).axes
    handles = {label: handle for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    colours = set()
    for name in SETS:
        full, lora = handles[to_mathtext(f"{name} in full")], handles[to_mathtext(f"LoRA on {name}")][0]
        assert to_hex(full.get_color()) == to_hex(lora.get_color())
        assert lora.get_linestyle() == "-" != full.get_linestyle()
        colours.add((to_hex(full.get_color()), full.get_linestyle()))
    assert len({colour for colour, _ in colours}) == len({style for _, style in colours}) == 3  # told apart without colour


def test_a_method_has_one_look_everywhere_and_methods_of_one_figure_have_several() -> None:
    order = ("full", "lora", "bitfit")
    for names in (order, order[::-1]):
        plot = Plot("t", "x", "y", tuple(Curve(name.title(), (CurvePoint(1, 1, 1.0),), method=name) for name in names))
        (axis,) = drawn([plot]).axes
        handles = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
        colours = {n: style.style_of(n).colour for n in order}
        assert {n: to_hex(handles[n.title()][0].get_color()) for n in order} == colours
    # One that stands once keeps its look beside several of another method, which have its colour no more.
    styles = style.assign_styles({"q": "lora", "v": "lora", "all": "full"})
    assert styles["all"] == style.style_of("full") and len({one.colour for one in styles.values()}) == 3
    looks = list(style.LOOKS.values())
    assert len(set(looks)) == len(looks)
    new = style.style_of("a_new_one")
    assert new == style.style_of("a_new_one") and new.colour != style.BLUE


def test_the_paper_s_curve_is_solid_and_claims_no_seeds() -> None:
    plot = Plot("", "r", "y", (Curve("LoRA", (CurvePoint(1, 70, None), CurvePoint(2, 71, None))),), quoted=True)
    figure = drawn([plot])
    assert texts(figure) == ["as printed in the paper, bars ± sd where it prints one"]
    (line,) = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 2]
    assert line.get_markerfacecolor() != "white"


def test_eight_methods_have_eight_colours_and_markers() -> None:
    plot = Plot("t", "x", "y", tuple(Curve(f"method {n}", (CurvePoint(1, n, 1.0), CurvePoint(2, n, 1.0))) for n in range(8)))
    (axis,) = drawn([plot]).axes
    lines = [handle[0] for handle in axis.get_legend_handles_labels()[0]]
    assert len({to_hex(line.get_color()) for line in lines}) == len({line.get_marker() for line in lines}) == 8


@pytest.mark.parametrize("panels", [1, 2])
def test_legend_title_notes_and_bars_stay_inside_the_figure(panels: int) -> None:
    plot = rank_plot()
    long_curves = tuple(replace(curve, label=f"{curve.label}, of another kind") for curve in plot.curves)
    long = replace(plot, title="A title of many words " * 8, curves=long_curves, absent=("LoRA at r 4 (lost)",) * 9)
    figure = drawn([long] * panels, panels)
    canvas = figure.bbox.padded(1)
    over, under = (text.get_window_extent() for text in figure.texts)
    (legend,) = (legend.get_window_extent() for legend in figure.legends)
    boxes = [axis.get_tightbbox() for axis in figure.axes]
    for box in [over, under, legend, *boxes]:
        assert box and canvas.x0 <= box.x0 and box.x1 <= canvas.x1 and canvas.y0 <= box.y0 and box.y1 <= canvas.y1
    assert under.y1 <= legend.y0 and all(box and legend.y1 <= box.y0 + 1 and box.y1 <= over.y0 + 1 for box in boxes)


def test_a_horizontal_line_has_one_style_in_every_panel() -> None:
    """Full fine-tuning was dotted in one panel and dashed in the other, where dots were another row's."""
    rows = [Curve(name, (CurvePoint(None, 80.0 + n, 1.0),)) for n, name in enumerate(("Full", "Query", "Value"))]
    figure = drawn([Plot("t", "x", "y", tuple(rows[1:] + rows[:1])), Plot("u", "x", "y", tuple(rows))], 2)
    styles = [{line.get_label(): line.get_linestyle() for line in axis.lines if line.get_linestyle() in ("--", "-.", ":")}
              for axis in figure.axes]  # fmt: skip
    assert styles[0] == styles[1] and len(set(styles[0].values())) == 3
    assert all(line.get_zorder() > 1.5 for axis in figure.axes for line in axis.lines)  # above the grid


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axis in figure.axes for text in axis.texts if isinstance(text, Annotation)]


def test_a_survivor_says_what_became_of_the_other_seed_and_bars_stay_explained() -> None:
    curve = Curve("AdapterH", (CurvePoint(1, 70, 1.0), CurvePoint(64, 89, None, "1 of 2 collapsed")))
    plot = Plot("t", "x", "y", (curve,), absent=("PreLayer at size 8 (2 of 2 collapsed)",))
    remark, note = (text.replace("\n", " ") for text in texts(drawn([plot])))
    assert remark == "1 of 2 collapsed"
    assert "bars ± sd" in note and "hollow: one seed" in note and "not drawn: PreLayer at size 8 (2 of 2 collapsed)" in note
    single = Plot("t", "x", "y", (Curve("LoRA", (CurvePoint(1, 70, None),)),))
    for position in (1, 8, 64):  # the remark of a cell at the edge does not lie over the axis' numbers
        curve = Curve("LoRA", tuple(CurvePoint(x, 70, None, "1 of 1 collapsed" if x == position else "") for x in (1, 8, 64)))
        (axis,) = drawn([Plot("t", "x", "y", (curve,))]).axes
        box, inside = (each.get_window_extent() for each in (axis.texts[0], axis))
        assert inside.x0 <= box.x0 and box.x1 <= inside.x1, position
    assert texts(drawn([single])) == ["hollow: one seed, no spread: supports no verdict"]
    assert texts(drawn([replace(single, spreadless=True)])) == [""]  # rounds have no seeds


def test_lost_seeds_are_counted_against_all_of_them() -> None:
    result = Result("h", "AdapterH", "published", {"size_64": Mean(88.9, 1.0, 2)}, 2,
                    lost={"size_64": (Lost(1, "collapsed"),), "size_1": (Lost(2, "collapsed"), Lost(1, "diverged"))})  # fmt: skip
    one, eight, most = (Column(Metric(f"size_{n}", f"size {n}"), "accuracy", n) for n in (1, 8, 64))
    assert mark(result, most) == "1 of 2 collapsed" and mark(result, eight) == ""
    assert mark(result, one) == "2 of 3 collapsed, 1 of 3 diverged"
    assert _absent([result], most) == []
    assert _absent([result], one) == ["AdapterH at size 1 (2 of 3 collapsed, 1 of 3 diverged)"]


def test_a_method_whose_seeds_are_lost_is_named_on_the_figure_of_points() -> None:
    average = Column(Metric("average", "Average"), "")
    results = (
        Result("lora", "LoRA", "published", {"average": Mean(80, None, 1)}, 1, 10, 0, notes=("RTE: 1 diverged", "a remark"),
               lost_notes=("RTE: 1 diverged",)),
        Result("prelayer", "PreLayer", "published", {}, 1, 10, 0, lost_notes=("RTE: 1 collapsed",)),
        Result("full", "Full fine-tuning", "published", {}),
    )
    caption = Caption("T", "p", ("B",), "D", "1")
    figure = panel(Scores("GLUE", "full FT", "mini", "b", caption, results, (), (average,), average, True, "Score"), quoted=False)
    assert [point.label for point in figure.points] == ["LoRA (RTE: 1 diverged)"]
    assert figure.title == "Not drawn: PreLayer (RTE: 1 collapsed)"
    rte, mrpc = (Column(Metric(name, name.upper()), "accuracy", name) for name in ("rte", "mrpc"))
    part = Result("adapter", "AdapterH", "published", {"rte": Mean(50, 1, 3)}, 3, 10, 0, lost_notes=("RTE: 1 collapsed",))
    columns = (rte, mrpc, average)
    both = (*results[:1], part)
    figure = panel(Scores("GLUE", "full FT", "mini", "b", caption, both, (), columns, average, True, "Score"), False)
    assert figure.title == ""  # it was not run on MRPC, and its collapsed run has a score


def test_a_layout_that_ends_in_other_last_digits_is_the_same_file(tmp_path: Path) -> None:
    """An SVG names what it cuts off by the digits of where that lies."""

    class Noisy(ConstrainedLayoutEngine):
        noise = 0.0

        def execute(self, fig: Figure) -> None:  # type: ignore[override]
            super().execute(fig)
            for axis in fig.axes:
                box = axis.get_position(original=True).shrunk(1 - self.noise, 1)
                axis._set_position(box, which="original")

    def drawn() -> Figure:
        figure = blank(3, 2)
        figure.set_layout_engine(Noisy())
        figure.subplots().plot([1, 2], [3, 4])
        return figure

    files = []
    for Noisy.noise in (0, 1e-12):
        files.append([path.read_bytes() for path in write(drawn, tmp_path / "figure")])
    assert files[0] == files[1]


def test_names_below_the_axis_never_touch() -> None:
    labels = ["W_q (r = 8)", "W_q, W_k (r = 4)", "W_q, W_v (r = 4)", "W_q, W_k, W_v, W_o (r = 2)"] * 2
    for count in (2, 8):
        ticks = _ticks(labels[:count])
        curve = Curve("a", tuple(CurvePoint(x, 1, None) for x, _ in ticks))
        figure = curves._figure([Plot("", "", "Score (%)", (curve,), ticks, "places")], 1, "", "")
        figure.draw_without_rendering()
        boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
        assert len(boxes) == count and all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
