"""docs/quickstart.ipynb runs from its first cell to its last, and what it shows is what it computes now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib
import pytest

PAGE = Path(__file__).resolve().parents[1] / "docs" / "quickstart.ipynb"
AGAIN = "save it with its outputs: jupyter nbconvert --to notebook --execute --inplace docs/quickstart.ipynb"


@pytest.mark.filterwarnings("ignore")
def test_the_notebook_runs_as_it_stands_and_shows_what_it_computes() -> None:
    matplotlib.use("Agg")
    cells = [cell for cell in json.loads(PAGE.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    namespace: dict[str, Any] = {}
    for cell in cells:
        # What only a notebook understands: the lines for Colab, which are no Python.
        text = "".join(line.replace("%pip", "pass  #") for line in cell["source"])
        exec(compile(text, str(PAGE), "exec"), namespace)
    assert all(cell["outputs"] for cell in cells[1:]), AGAIN
    outputs = [output for cell in cells for output in cell["outputs"]]
    table = next("".join(output["data"]["text/plain"]) for output in outputs if "text/html" in output.get("data", {}))
    assert table.split() == repr(namespace["scores"]).split(), AGAIN
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    for losses in (namespace["losses"], namespace["full_losses"]):
        assert sum(losses[-5:]) < sum(losses[:5]) - 0.5  # both learn
    assert namespace["phi"].shape == (8, 8) and len(namespace["figure"].axes) == 2
    matplotlib.pyplot.close("all")
