"""Arrays kept between processes: the same values, made again when a file, the code or the kept file itself has changed."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from lora_repro.report.figures import style
from lora_repro.stats import kept as module
from lora_repro.stats.kept import kept


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "CACHE", tmp_path / "cache")
    module._home.cache_clear()
    yield tmp_path / "cache" / "resamples"
    module._home.cache_clear()


def test_what_was_computed_is_found_again_until_its_file_changes(home: Path, tmp_path: Path) -> None:
    read, calls = tmp_path / "a.jsonl", []
    read.write_text("1")

    def make() -> dict[str, np.ndarray]:
        calls.append(float(read.read_text()))
        return {"value": np.asarray(calls[-1]), "nan": np.array([np.nan, 1.0]), "bytes": np.frombuffer("é".encode(), np.uint8)}

    def value(*asked: object) -> float:
        arrays = kept(asked, [read, None], make)
        assert np.isnan(arrays["nan"][0]) and arrays["bytes"].tobytes().decode() == "é"
        return float(arrays["value"])

    assert [value("bleu", 0), value("bleu", 0), value("bleu", 1)] == [1, 1, 1] and calls == [1, 1]
    read.write_text("2.5")
    assert value("bleu", 0) == 2.5 and len(calls) == 3
    for path in home.rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:100])  # cut off
    assert value("bleu", 0) == 2.5 and len(calls) == 4


def test_other_code_of_the_scores_starts_anew(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(["x"], [], lambda: {"value": np.asarray(1)})
    (old,) = home.iterdir()
    monkeypatch.setattr(module, "version", lambda name: "another")
    module._home.cache_clear()
    assert kept(["x"], [], lambda: {"value": np.asarray(2)})["value"] == 2
    assert not old.exists() and len([*home.iterdir()]) == 1


def test_a_figure_is_drawn_once_until_what_it_shows_or_its_code_changes(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heights = []

    def figure(numbers: np.ndarray) -> Figure:
        height = numbers.sum()
        heights.append(height)
        fig = Figure(figsize=(1, 1))
        fig.add_axes((0, 0, 1, 1)).plot([0, height])
        return fig

    def files(*values: float) -> list[bytes]:
        numbers = np.zeros(3000)  # of which a repr leaves out the middle
        numbers[1500] = sum(values)
        return [path.read_bytes() for path in style.write(figure, tmp_path / "x", numbers)]

    first = files(1)
    (tmp_path / "x.svg").unlink()
    assert files(1) == first and heights == [1]
    other = files(2)
    assert other != first and heights == [1, 2]
    assert files(1 + 1e-14) == first and heights == [1, 2]  # as another CPU computes it
    for path in home.parent.rglob("*.safetensors"):
        path.write_bytes(b"damaged")
    assert files(2) == other and heights == [1, 2, 2]
    monkeypatch.setattr(module, "version", lambda name: "another")
    module._home.cache_clear()
    assert files(2) == other and heights[3:] == [2]


def test_a_folder_that_cannot_be_written_costs_time_alone(home: Path, tmp_path: Path) -> None:
    home.parent.write_text("a file in its place")
    assert kept(["x"], [], lambda: {"value": np.asarray(3)})["value"] == 3
