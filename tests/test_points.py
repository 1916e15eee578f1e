"""Points over parameters: equal bytes at every rendering, labels that can be read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lora_repro.report.captions import Caption
from lora_repro.report.columns import Column
from lora_repro.report.figures import points, scored
from lora_repro.report.figures.scored import panel, provenance, short, statement, titles
from lora_repro.report.figures.style import in_sentence, wrapped
from lora_repro.report.numbers import Difference, Mean, Metric
from lora_repro.report.scores import Result
from lora_repro.report.sheet import Scores
from lora_repro.report.table import Origin


def test_figure_bytes_repeat_and_hold_no_date(tmp_path: Path) -> None:
    marks = (points.Point("LoRA", 2e5, 60, None, "lora", single=True), points.Point("Full", 1e8, 61, 0.4),
              points.Point("Paper", 3e5, 70, 0.1, quoted=True), points.Point("Untuned", 0, 5, None),
              points.Point("Human", 0, 62, None))  # fmt: skip
    panels = [points.Panel("title", marks)]
    first = [path.read_bytes() for path in points.save(panels, "BLEU", tmp_path / "a" / "x")]
    second = [path.read_bytes() for path in points.save(panels, "BLEU", tmp_path / "b" / "x")]
    assert first == second
    assert b"<dc:date>" not in first[0] and b"Matplotlib v" not in first[0] and b"Software" not in first[1]


def test_labels_of_neighbours_do_not_overlap() -> None:
    names = ["LoRA", "AdapterL (small)", "PreLayer", "BitFit"]
    marks = tuple(points.Point(name, 2e5 + 1e4 * i, 60 + 0.02 * i, None) for i, name in enumerate(names))
    (axis,) = points._figure([points.Panel("t", marks)], "y", "t", "c").axes
    boxes = [points._extent(axis, text) for text in axis.texts if text.get_text()]
    assert len(boxes) == 4 and not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


def test_labels_of_marks_with_one_x_have_the_order_of_the_marks() -> None:
    """Two labels of three discs were swapped: each stood free of the others, but beside the wrong disc."""
    rows = (("LoRA, bf16", 64.5), ("QLoRA", 65.1), ("LoRA", 64.7))
    marks = tuple(points.Point(label, 1.22e6, y, 1.4, "lora") for label, y in rows)
    (axis,) = points._figure([points.Panel("t", (*marks, points.Point("Full", 1e8, 64.8, 0.7)))], "y", "t", "c").axes
    middles = {text.get_text(): box.y0 + box.y1 for text in axis.texts if (box := points._extent(axis, text)) and text.get_text()}
    assert middles["QLoRA"] > middles["LoRA"] > middles["LoRA, bf16"]


def test_a_box_is_reckoned_where_the_text_is_drawn() -> None:
    marks = (points.Point("A", 1e5, 1, None), points.Point("B", 1e6, 3, None))
    (axis,) = points._figure([points.Panel("t", marks)], "y", "", "").axes
    text, own = axis.texts[0], axis.transData.transform(axis.texts[0].xy)
    for words in ("QLoRA on all\nlayers", "LoRA on $W_q$"):
        size = points._moved(axis, text, 0, words, (1, 1)).size
        for side in points.SIDES:
            box, estimate = points._moved(axis, text, 22, words, side), points._box(own, 22 * axis.figure.dpi / 72, size, side)
            assert abs(box.extents - estimate.extents).max() < 2  # pixels


def test_a_label_is_not_beside_another_s_mark() -> None:
    marks = (points.Point("FT-Top2", 7e6, -0.1, None, quoted=True), points.Point("Full fine-tuning", 1e8, 0.0, None))
    far = points.Point("Prompt tuning", 2e4, -6, None)
    (axis,) = points._figure([points.Panel("t", (*marks, far))], "y", "t", "c").axes
    for text in axis.texts:
        if text.get_text():
            box, own = points._extent(axis, text), axis.transData.transform(text.xy)
            others = [axis.transData.transform((point.x, point.y)) for point in (*marks, far) if (point.x, point.y) != text.xy]
            assert points._distance(box, own) < min(points._distance(box, other) for other in others)


def test_a_bar_that_goes_on_below_the_frame_ends_in_an_arrow() -> None:
    marks = (points.Point("A", 1e5, -13, None, ends=(-40, 0)), points.Point("B", 1e6, -1, None, ends=(-15, 1)))
    (axis,) = points._figure([points.Panel("t", marks, floor=-12)], "y", "t", "c").axes
    assert -40 < axis.get_ylim()[0] < -15
    (arrow,) = [line for line in axis.lines if line.get_marker() == "v"]
    assert np.ravel(arrow.get_data()).tolist() == [1e5, axis.get_ylim()[0]]


def test_a_line_out_of_range_is_told_in_words() -> None:
    lines = (points.Point("Untuned", 0, 5, None), points.Point("Human", 0, 61, None), points.Point("Best", 0, 99, None))
    (axis,) = points._figure([points.Panel("t", (*lines, points.Point("Full", 1e8, 61, 0.4)))], "y", "t", "c").axes
    labels = [text.get_text() for text in axis.texts]
    assert labels == ["Human 61.0", "Untuned 5.0 (below this range); Best 99.0 (above this range)", "Full"]


def test_a_label_between_two_bars_is_broken_where_one_line_has_no_room() -> None:
    from matplotlib.text import Annotation, Text

    marks = tuple(
        points.Point(label, x, y, sd, "lora" if "LoRA" in label else "full")
        for label, x, y, sd in (
            ("LoRA on W_q, W_v", 2.3e5, 64.58, 2.0),
            ("QLoRA on all linear layers", 1.22e6, 65.05, 1.2),
            ("LoRA on all linear layers", 1.22e6, 64.7, 1.6),
            ("Full fine-tuning", 1.345e8, 64.7, 1.0),
        )
    )
    axis = points._figure([points.Panel("t", marks)], "BLEU", "", "").axes[0]
    labels = [Text.get_window_extent(text) for text in axis.texts if isinstance(text, Annotation)]
    bars = [points._bar_box(axis, point) for point in marks]
    assert len(labels) == 4 and not any(label.overlaps(bar) for label in labels for bar in bars)


def test_no_line_from_a_label_to_its_point_crosses_another_label() -> None:
    """Two methods with one count of parameters and nearly one score, between bars: the second label has to go farther out."""
    from matplotlib.path import Path as Line

    cells = (("Full fine-tuning", 2.3e7, 84.8, 0.6), ("LoRA", 7.4e4, 79.9, 6.2), ("LoRA + prompt tuning", 8.1e4, 69.5, 18),
             ("LoRA on attention (r = 5)", 9.3e4, 83.6, 0.5), ("LoRA on the MLP (r = 4)", 9.3e4, 83.6, 0.4),
             ("LoRA (r = 64)", 5.9e5, 83, 0.4), ("rsLoRA (r = 64)", 5.9e5, 61, 19.2), ("LoRA+", 7.4e4, 71.2, 16.6),
             ("LoRA + PreLayer", 1.5e5, 72.1, 5.1))  # fmt: skip
    marks = tuple(points.Point(label, x, y, sd, "lora" if " on " in label else "") for label, x, y, sd in cells)
    (axis,) = points._figure([points.Panel("t", marks)], "Average", "", "").axes
    labels = [points._extent(axis, text) for text in axis.texts if text.get_text()]
    lines = [text for text in axis.texts if not text.get_text()]
    assert len(labels) == len(cells) and lines
    for line in lines:
        start = axis.transData.transform(line.xy)
        path = Line([start, start + np.array(line.xyann) * axis.figure.dpi / 72])
        assert sum(bool(path.intersects_bbox(label)) for label in labels) == 0


def test_a_number_and_its_unit_stay_on_one_line() -> None:
    assert wrapped("LoRA 79.9 with 73.7 k", 1.4).splitlines() == ["LoRA 79.9 with", "73.7\u00a0k"]


def scores(*results: Result) -> Scores:
    average = Column(Metric("bleu", "BLEU"), "")
    caption = Caption("E2E", "mini", ("SmolLM2-135M (random)",), "D", "3", scores="S")
    return Scores("E2E", "full FT", "mini", "b", caption, results, (), (average,), average, False, "BLEU", "full")


def result(row: str, mean: float, millions: float, paper: bool = False, **more: Any) -> Result:
    label = {"full": "Full fine-tuning", "lora": "LoRA"}.get(row, row)
    counts: dict[str, Any] = {"printed_millions": millions} if paper else {"method_parameters": round(1e6 * millions)}
    source, origin = ("paper (GPT-2 M)", Origin.PAPER) if paper else ("published", Origin.OURS)
    return Result(row, label, source, {"bleu": Mean(mean, 1.0, 3)}, 3, method=row, origin=origin, **counts, **more)


def test_a_cell_of_other_seeds_than_its_row_says_so() -> None:
    cells = {"bleu": Mean(70, 1.0, 3), "more": Mean(83.2, 0.8, 5)}
    columns = (Column(Metric("bleu", "BLEU"), ""), Column(Metric("more", "More"), ""))
    sheet = replace(scores(Result("lora", "LoRA", "published", cells, 3)), columns=columns)
    (row,) = sheet.table().rows
    assert row[4:7] == ("70.0 ± 1.0", "83.2 ± 0.8 (5)", "3") and row[5].value == 83.2 and row[5].n == 5  # type: ignore[attr-defined]
    assert sheet.table().footnotes[-1].startswith("n: the smallest number of seeds")
    same = replace(sheet, results=(replace(sheet.results[0], cells=dict.fromkeys(cells, Mean(70, 1.0, 3))),))
    assert same.table().rows[0][5] == "70.0 ± 1.0" and not same.table().footnotes


def test_ours_and_the_paper_s_share_a_picture_as_differences_and_shares() -> None:
    versus = {"bleu": Difference(1.5, -1.0, 4.0, 3)}
    more: dict[str, Any] = {"differences": versus, "head_parameters": 100_000}
    ours = (result("full", 70, 100), result("lora", 71.5, 0.4, **more), result("bitfit", 30, 0.1))
    papers = (result("full", 68.2, 350, True), result("lora", 70.4, 0.35, True))
    again = (replace(one, source="this checkout", cells={"bleu": Mean(1, 1.0, 3)}) for one in ours)
    picture = scored.panel_beside_paper(scores(*ours, *papers))
    assert picture and scored.panel_beside_paper(scores(*ours, *again, *papers)) == picture  # of two sources the first alone
    by = {(point.label, point.quoted): point for point in picture.points}
    lora, paper = by["LoRA", False], by["LoRA", True]
    assert (lora.x, lora.y, lora.span) == (pytest.approx(0.5), 1.5, (-1.0, 4.0)) and lora.method == paper.method == "lora"
    assert (paper.x, paper.y) == (pytest.approx(0.1), pytest.approx(2.2))
    assert by["Full fine-tuning", False].x == 100 and ("Full fine-tuning", True) not in by
    assert by["bitfit", False].y == -40 < -12.5 == picture.floor  # an arrow at the foot
    wide = scored.panel_beside_paper(scores(*ours, papers[0], result("lora", 48.2, 0.35, True)))
    assert wide and wide.floor == pytest.approx(-50)
    sentence = scored.statement_beside_paper(scores(*ours, *papers))
    ours_said, paper_said = sentence.split("; ")
    assert ours_said == "E2E: LoRA trains 0.50 % of the parameters and scores +1.5 [−1.0, +4.0] BLEU against full FT"
    assert paper_said == "in the paper 0.10 % and +2.2"
    assert scored.panel_beside_paper(scores(*ours)) is None and scored.panel_beside_paper(scores(ours[1], ours[2])) is None


def test_the_paper_s_row_is_the_one_of_our_name() -> None:
    """GPT-3's LoRA is printed in two sizes; below the paper's scale the larger one alone may be run."""
    small, large = (replace(result("lora", 70, size, True), label=name) for name, size in (("LoRA", 4.7), ("LoRA (large)", 37.7)))
    ours = replace(result("lora", 71.5, 0.5), label="LoRA (large)")
    sentence = scored.statement_beside_paper(scores(result("full", 70, 100), ours, result("full", 68, 350, True), small, large))
    assert sentence.startswith("E2E: LoRA (large) trains 0.50 %") and "in the paper 10.77 % and +2.0" in sentence


def test_a_bar_reaches_from_its_low_to_its_high_end_within_the_axis() -> None:
    bar = points.Panel("t", (points.Point("LoRA", 1e5, 1, None, ends=(-60, 4)), points.Point("Full", 1e8, 0, None)), floor=-19)
    (axis,) = points._figure([bar], "y", "t", "c").axes
    (span,) = [segment for one in axis.containers for bars in one[2] for segment in bars.get_segments()]  # type: ignore[index]
    low, high = axis.get_ylim()
    assert span[:, 1].tolist() == pytest.approx([-60, 4]) and low < -60 and high > 4


def test_what_lies_in_the_axis_is_a_point_and_what_lies_below_it_is_named() -> None:
    """A bar may take the axis below the floor: a point between the two was an arrow at the wrong place, without its value."""
    rows = (("LoRA", 1e5, 1.0), ("inside", 1e6, -22.0), ("a long name " * 6, 1e7, -60.0), ("Full", 1e8, 0.0))
    dots = (points.Point(label, x, y, None, ends=(-30, 4) if label == "LoRA" else None) for label, x, y in rows)
    panel = points.Panel("t", tuple(dots), floor=-19)
    figure = points._figure([panel], "y", "t", "c")
    axis = figure.axes[0]
    labels = [text.get_text().replace("\n", " ") for text in axis.texts]
    assert any("below this range: a long name" in text and "−60.0" in text for text in labels)
    assert not any("−22" in text for text in labels)
    marks = {tuple(line.get_xydata()[0]) for line in axis.lines if len(line.get_xydata()) == 1}
    assert (1e6, -22.0) in marks and (1e7, axis.get_ylim()[0]) in marks
    figure.draw_without_rendering()
    for text in axis.texts:
        box = points._extent(axis, text)
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1, text.get_text()


def test_human_texts_that_have_other_references_say_so() -> None:
    human = replace(result("human", 60, 0), label="Human")
    assert [point.label for point in panel(scores(human, replace(human, compared=False)), False).points] == [
        "Human", "Human (against other references)"]  # fmt: skip


def test_panels_are_named_by_what_they_differ_in_and_the_caption_has_all_data() -> None:
    one = scores(result("lora", 70, 1))
    captions = [replace(one.caption, data=data, scores=f"{task} accuracy") for data, task in (("D", "RTE"), ("E", "SST-2"))]
    both = [replace(one, caption=caption) for caption in captions]
    assert titles([one]) == [""] and titles([both[0], both[0]]) == ["", ""]
    assert titles(both) == ["RTE accuracy", "SST-2 accuracy"]
    other = replace(both[1], caption=replace(captions[1], backbones=("MPNet (b)",)))
    assert titles([both[0], other]) == ["SmolLM2-135M. RTE accuracy", "MPNet. SST-2 accuracy"]
    assert provenance(*both) == "E2E, profile mini. Backbone: SmolLM2-135M (random). Data: D. Data: E. Seeds per cell: n = 3."


def test_a_title_says_the_numbers_and_its_backbone_stands_below() -> None:
    one = scores(result("full", 70, 134.5), result("lora", 71.5, 0.23), result("full", 68, 350, True))
    assert statement(one) == "E2E, BLEU: LoRA 71.5 with 230 k trained parameters, full fine-tuning 70.0 with 134 M"
    assert statement(scores(result("lora", 71.5, 0.23))) == "E2E: BLEU against trained parameters"
    assert statement(one, panel="RTE").startswith("E2E, RTE, BLEU: LoRA 71.5")
    assert "SmolLM2-135M" in provenance(one) and "profile mini" in provenance(one)
    assert [*map(short, (230_400, 999_499, 999_700, 134_515_008, 999.7, 12))] == ["230 k", "999 k", "1 M", "135 M", "1 k", "12"]
    assert [*map(in_sentence, ("Prompt tuning", "DoRA", "FT-Top2", "LoRA"))] == ["prompt tuning", "DoRA", "FT-Top2", "LoRA"]


def test_nothing_of_a_figure_lies_outside_it() -> None:
    marks = tuple(points.Point(f"Method {i}", 10.0**i, 60 + i, 0.5, "lora") for i in range(1, 6))
    figure = points._figure([points.Panel("a title of words " * 9, marks)], "BLEU", "a statement of words " * 9, "facts " * 60)
    canvas = figure.bbox.padded(1)
    for text in [*figure.texts, figure.axes[0].title, *figure.axes[0].texts]:
        box = text.get_window_extent()
        assert canvas.x0 <= box.x0 and box.x1 <= canvas.x1 and canvas.y0 <= box.y0 and box.y1 <= canvas.y1, text
