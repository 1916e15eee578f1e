"""The adapter that a comparison leaves: exported once, its card written each time, nothing of the user's deleted."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import refused

from lora_repro.compare import best
from lora_repro.errors import UserError
from lora_repro.exchange.open_checkpoint import ORIGIN


def answer(signature: str) -> Any:
    run = SimpleNamespace(signature=signature, cell=SimpleNamespace(folder=Path("run")))
    return SimpleNamespace(best=SimpleNamespace(median_run=run))


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    folders: list[Path] = []

    def export(run: Path, target: Path) -> None:
        if target.exists() and any(target.iterdir()):
            raise UserError(f"{target} is not empty: give a new folder")
        target.mkdir(exist_ok=True)
        folders.append(target)
        (target / ORIGIN).write_text(f'{{"record": {{"signature": "s{len(folders)}"}}}}')
        (target / "README.md").write_text("# Card\n")

    monkeypatch.setattr(best, "export", export)
    monkeypatch.setattr(best, "table", lambda found: found)
    monkeypatch.setattr(best, "markdown", lambda tables: "| a table |\n")
    return folders


def test_the_card_has_the_comparison_once(exported: list[Path], tmp_path: Path) -> None:
    for words in (["First."], ["Second."]):
        assert best.leave(answer("s1"), words, {"train": "abc"}, tmp_path / "best") == tmp_path / "best"
    card = (tmp_path / "best" / "README.md").read_text()
    assert exported == [tmp_path / "best"]
    assert card.startswith("# Card") and card.count("## Comparison") == 1
    assert "Second." in card and "First." not in card and "- train: `abc`" in card and "| a table |" in card


def test_another_best_run_replaces_the_export_and_a_folder_of_the_user_s_stays(exported: list[Path], tmp_path: Path) -> None:
    best.leave(answer("s1"), ["x"], {}, tmp_path / "best")
    best.leave(answer("s2"), ["x"], {}, tmp_path / "best")
    assert len(exported) == 2
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    assert best.leave(answer("s3"), ["x"], {}, mine) is None
    assert (mine / "notes.txt").read_text() == "mine"
    refused(lambda: best.export(Path("run"), mine), "not empty")


def test_a_disk_that_fails_is_no_method_that_peft_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def export(run: Path, target: Path) -> None:
        raise UserError(f"cannot write {target}: No space left on device") from OSError()

    monkeypatch.setattr(best, "export", export)
    refused(lambda: best.leave(answer("s1"), ["x"], {}, tmp_path / "best"), "No space left")
