"""Arrays kept between processes: the same values, made again when a file, the code or the kept file itself has changed."""

from pathlib import Path

import numpy as np
import pytest

from lora_repro.stats import kept as module
from lora_repro.stats.kept import kept


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "CACHE", tmp_path / "cache")
    for one in (module._home, module._content):
        one.cache_clear()
    yield tmp_path / "cache" / "resamples"
    module._home.cache_clear()


def test_what_was_computed_is_found_again_until_its_file_changes(home: Path, tmp_path: Path) -> None:
    read, made = tmp_path / "a.jsonl", []
    read.write_text("1")

    def make() -> dict[str, np.ndarray]:
        made.append(float(read.read_text()))
        return {"value": np.asarray(made[-1]), "nan": np.array([np.nan, 1.0]), "text": np.asarray(["é", "b"])}

    def value(*asked: object) -> float:
        found = kept(asked, [read, None], make)
        assert np.isnan(found["nan"][0]) and found["text"].tolist() == ["é", "b"]
        return float(found["value"])

    assert [value("bleu", 0), value("bleu", 0), value("bleu", 1)] == [1, 1, 1] and made == [1, 1]
    read.write_text("2.5")
    module._content.cache_clear()  # a file may be rewritten within the clock's tick
    assert value("bleu", 0) == 2.5 and len(made) == 3
    for path in home.rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:100])  # cut off
    assert value("bleu", 0) == 2.5 and len(made) == 4


def test_other_code_of_the_scores_starts_anew(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(["x"], [], lambda: {"value": np.asarray(1)})
    (old,) = home.iterdir()
    monkeypatch.setattr(module, "version", lambda name: "another")
    module._home.cache_clear()
    assert kept(["x"], [], lambda: {"value": np.asarray(2)})["value"] == 2
    assert not old.exists() and len([*home.iterdir()]) == 1


def test_a_folder_that_cannot_be_written_costs_time_alone(home: Path, tmp_path: Path) -> None:
    home.parent.write_text("a file in its place")
    assert kept(["x"], [], lambda: {"value": np.asarray(3)})["value"] == 3
