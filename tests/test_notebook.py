"""docs/quickstart.ipynb runs from its first cell to its last, and what it draws is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib
import pytest

PAGE = Path(__file__).resolve().parents[1] / "docs" / "quickstart.ipynb"


@pytest.mark.filterwarnings("ignore")
def test_the_notebook_runs_as_it_stands() -> None:
    matplotlib.use("Agg")
    book = json.loads(PAGE.read_text(encoding="utf-8"))
    known: dict[str, Any] = {}
    for cell in book["cells"]:
        assert not cell.get("outputs"), "outputs stay out of the repository"
        if cell["cell_type"] == "code":
            # What only a notebook understands: the lines for Colab, which are no Python.
            text = "".join(line.replace("%pip", "pass  #") for line in cell["source"])
            exec(compile(text, str(PAGE), "exec"), known)
    assert {"label", "value", "method_parameters"} <= set(known["found"].columns)  # as many lines as are published now
    assert known["losses"][-1] < known["losses"][0] - 0.2
    assert known["phi"].shape == (8, 8) and len(known["figure"].axes) == 2
    matplotlib.pyplot.close("all")
