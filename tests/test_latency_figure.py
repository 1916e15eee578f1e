"""The heat maps: equal bytes at every rendering, every number in its cell, one scale with white at zero."""

from __future__ import annotations

from pathlib import Path

from latency_measure import entry, measurement
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from lora_repro.report.subjects import latency


def test_a_panel_says_each_value_where_it_belongs() -> None:
    axis = Figure().subplots()
    entries = [entry("adapter_l_large", batch, length) for batch, length in ((1, 64), (1, 128), (2, 128))]
    entries[2]["slowdown"] = {"median": -20.0, "low": -21.0, "high": 3.0, "n": 3}
    latency._panel(axis, entries, Normalize(-21.5, 21.5))
    labels = {text.get_position(): (text.get_text(), text.get_color()) for text in axis.texts}
    assert labels[0, 1] == ("+21.5\n[+19.0, +24.2]", "white")
    assert labels[1, 1] == ("−20.0 =\n[−21.0, +3.0]", "white") and (1, 0) not in labels
    (image,) = axis.images
    values = image.get_array()
    assert values[1, 1] == -20 and values[0, 0] == 21.5 and bool(values.mask[0, 1])
    assert [label.get_text() for label in axis.get_xticklabels()] == ["1", "2"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["64", "128"]


def test_the_scale_is_symmetric_and_labelled_and_every_method_has_a_panel() -> None:
    benchmark = measurement()
    entries = [one for one in benchmark["latency"] if one["slowdown"]]
    figure = latency._figure(benchmark, entries)
    titles = {axis.get_title() for axis in figure.axes}
    assert {"Plain model, second copy", "LoRA, merged", "AdapterL, r 224"} <= titles
    bar = next(axis for axis in figure.axes if axis.get_ylabel() == latency.SCALE)
    assert bar.get_ylim() == (-15, 15)  # 21.5 is beyond it, as its arrow and its cell say


def test_nothing_timed_gives_no_figure(tmp_path: Path) -> None:
    assert latency.draw(measurement(latency=[]), tmp_path / "x") == [] and not list(tmp_path.iterdir())
