"""Points over parameters: equal bytes at every rendering, labels that can be read."""

from __future__ import annotations

from pathlib import Path

from lora_repro.report.figures import points


def test_figure_bytes_repeat_and_hold_no_date(tmp_path: Path) -> None:
    made = (points.Point("LoRA", 2e5, 60, None, single=True), points.Point("Full", 1e8, 61, 0.4),
              points.Point("Paper", 3e5, 70, 0.1, quoted=True), points.Point("Untuned", 0, 5, None),
              points.Point("Human", 0, 62, None))  # fmt: skip
    panels = [points.Panel("title", made)]
    first = [path.read_bytes() for path in points.save(panels, "BLEU", tmp_path / "a" / "x")]
    second = [path.read_bytes() for path in points.save(panels, "BLEU", tmp_path / "b" / "x")]
    assert first == second
    assert b"<dc:date>" not in first[0] and b"Matplotlib v" not in first[0] and b"Software" not in first[1]


def test_labels_of_neighbours_do_not_overlap() -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation, Text

    axis = FigureCanvasAgg(Figure(figsize=(7, 4))).figure.subplots()
    names = ["LoRA", "AdapterL (small)", "PreLayer", "BitFit"]
    panel = points.Panel(
        "t", tuple(points.Point(name, 2e5 + 1e4 * i, 60 + 0.3 * i, None) for i, name in enumerate(names))
    )
    points._draw(axis, panel, "y")
    points._label(axis, panel)
    boxes = [Text.get_window_extent(text) for text in axis.texts if isinstance(text, Annotation)]
    assert len(boxes) == 4
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
