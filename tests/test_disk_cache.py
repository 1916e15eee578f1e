"""lora_repro/config/disk_cache.py: a composition read from disk is Hydra's own, and only of the conf/ that it was made of."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError
from own_models import own_model
from planted import note

from lora_repro.config import compose as composing
from lora_repro.config import disk_cache, paths
from lora_repro.errors import UserError
from lora_repro.files import write_json
from lora_repro.planning import cells
from lora_repro.records import rates, record

ASKED = ["experiment=rank", "profile=mini", "row/rank=lora_q", "task=sst2", "row.rank=4", "seed=3"]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(disk_cache, "CACHE", tmp_path)
    forget()
    yield
    forget()


def forget() -> None:
    """As if this were another process."""
    for function in (composing._chosen, composing._axes, composing.compose_cached, cells._run, disk_cache._compositions):
        function.cache_clear()


def no_hydra(*_: object, **__: object) -> None:
    pytest.fail("composed again")


def files(tmp_path: Path) -> list[Path]:
    return sorted(tmp_path.rglob("*.json"))


def composed(tmp_path: Path) -> list[Path]:
    """The files of compositions; the sizes of a backbone, which one process makes once, have files of their own."""
    return [path for path in files(tmp_path) if "sst2" in path.read_text(encoding="utf-8")]


def plain(config: DictConfig) -> object:
    return OmegaConf.to_container(config, resolve=False), composing.resolved(config)


def test_what_is_remembered_is_what_hydra_composes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composing, "cached_values", lambda asked, make: make())
    hydra, jobs = plain(composing.compose(ASKED)), composing.sweep_jobs(["experiment=rank", "profile=mini"])
    monkeypatch.undo()
    forget()
    first = composing.compose(ASKED)
    assert plain(first) == hydra and composing.sweep_jobs(["experiment=rank", "profile=mini"]) == jobs
    forget()
    monkeypatch.setattr(composing, "hydra_compose", no_hydra)
    second = composing.compose(ASKED)
    assert plain(second) == hydra and composing.sweep_jobs(["experiment=rank", "profile=mini"]) == jobs
    with pytest.raises(ConfigAttributeError):
        _ = second.no_such_key


def test_a_damaged_file_is_made_anew(tmp_path: Path) -> None:
    config = plain(composing.compose(ASKED))
    (path,) = composed(tmp_path)
    text = path.read_text(encoding="utf-8")
    for bad in (text.replace("sst2", "sst3"), text[:-4], "", "\x00"):
        path.write_text(bad, encoding="utf-8")
        forget()
        assert plain(composing.compose(ASKED)) == config
        assert path.read_text(encoding="utf-8") == text


def test_another_conf_is_composed_and_the_old_one_forgotten(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    composing.compose(ASKED)
    (old,) = composed(tmp_path)
    monkeypatch.setattr(disk_cache, "version", lambda package: "another")
    forget()
    composing.compose(ASKED)
    (new,) = composed(tmp_path)
    assert new.parent != old.parent and new.name == old.name


def test_checkouts_that_share_a_cache_forget_their_own_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    composing.compose(ASKED)
    (first,) = composed(tmp_path)
    monkeypatch.setattr(disk_cache, "CONF", tmp_path / "another")
    forget()
    composing.compose(ASKED)
    assert first in composed(tmp_path) and len(composed(tmp_path)) == 2


def test_the_paper_s_numbers_are_part_of_conf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(disk_cache, "CONF", tmp_path)
    for text in ("60", "61"):
        (tmp_path / "e2e.csv").write_text(text)
        disk_cache._compositions.cache_clear()
        home = disk_cache._compositions()
    (tmp_path / "e2e.csv").write_text("60")
    disk_cache._compositions.cache_clear()
    assert disk_cache._compositions() != home


def test_what_other_code_decides_is_made_anew_when_it_changes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    monkeypatch.setattr(disk_cache, "LIBRARY", tmp_path)
    calls = []

    def value(text: str) -> int:
        (tmp_path / "methods" / "lora.py").write_text(text)
        disk_cache._text_of.cache_clear()
        return disk_cache.load_or_make(["sizes"], lambda: calls.append(text) or len(calls), ("methods",))

    assert [value("a"), value("a"), value("b"), value("a")] == [1, 1, 2, 1]
    disk_cache._text_of.cache_clear()


def test_the_oldest_files_go_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(disk_cache, "MOST", 2)
    for n in range(4):
        disk_cache.load_or_make([str(n)], lambda: 0)
    for age, path in enumerate(files(tmp_path)):
        os.utime(path, (age, age))
    survivors = files(tmp_path)[-2:]
    forget()
    disk_cache._compositions()
    assert files(tmp_path) == survivors


def test_an_editor_s_lock_is_no_file_of_conf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Emacs makes a dangling link beside a file that it edits."""
    conf = tmp_path / "conf"
    (conf / "method").mkdir(parents=True)
    (conf / "method" / "lora.yaml").write_text("x: 1")
    (conf / "method" / ".#lora.yaml").symlink_to(tmp_path / "nowhere")
    for module in (disk_cache, paths):
        monkeypatch.setattr(module, "CONF", conf)
    assert disk_cache._compositions().name and paths.choices("method") == ["lora"]


def test_where_nothing_can_be_kept_it_is_composed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(disk_cache, "CACHE", tmp_path / "file")
    assert composing.compose(ASKED).seed == 3


def test_what_an_environment_variable_gives_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("/first", "/second"):
        monkeypatch.setenv("WHERE", folder)
        (cell,) = cells.cells(["task=rte", "method=lora", "paths.data='${oc.env:WHERE}/glue'"])
        assert cell.asked["paths"]["data"] == f"{folder}/glue"
        forget()


def test_a_model_s_folder_is_read_anew_by_every_command(tmp_path: Path) -> None:
    """Another model in the same folder took the records of the first."""
    words = ["profile=smoke", "method=lora", "task=e2e", "backbone=own", f"backbone.path={tmp_path / 'mine'}", "seed=0"]
    names = set()
    for width in (32, 64):
        own_model(tmp_path / "mine", "gpt2", n_embd=width)
        (run,), fresh = cells.cells(words), cells.cell_of(composing.compose(words), words)
        assert (run.signature, run.asked["backbone"]) == (fresh.signature, fresh.asked["backbone"])
        names.add(run.signature)
        forget()
    assert len(names) == 2


def test_runs_are_remembered_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the runs that they start from, their axes and their rows."""
    overrides = ["experiment=fusion", "profile=mini", "row/fusion=fusion,lora", "data.n_test=7"]
    runs = cells.cells(overrides)
    forget()
    for name in ("compose", "starts_of"):
        monkeypatch.setattr(cells, name, no_hydra)
    assert cells.cells(overrides) == runs and any(cell.starts for cell in runs)


def test_a_remembered_run_takes_the_rate_that_is_searched_today(unsearched: Path) -> None:
    overrides = ["experiment=rank", "profile=mini", "row/rank=lora_q", "row.rank=4"]
    (before,) = cells.cells(overrides)
    assert before.unsearched and before.asked["train"]["lr"] == before.guess
    forget()
    path = rates.own_path(rates.RESULTS, "mini", rates.setting_signature(before.asked))
    write_json(path, {"schema": record.SCHEMA, "chosen": 0.125})
    note(unsearched)
    (after,) = cells.cells(overrides)
    assert after.asked["train"]["lr"] == 0.125 and after.signature != before.signature and not after.unsearched


def test_remembered_values_meet_the_code_of_today(monkeypatch: pytest.MonkeyPatch) -> None:
    cells.cells(["method=lora"])
    forget()

    def stricter(values: object) -> None:
        raise UserError("out of range since today")

    monkeypatch.setattr(cells, "check_root", stricter)
    with pytest.raises(UserError, match="since today"):
        cells.cells(["method=lora"])
