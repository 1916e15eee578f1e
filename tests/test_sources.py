"""Data by command: what conf/source promises, and a download that breaks off, resumes, is checked and is not repeated."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import interrupted
from local_hub import Fault, LocalHub

from lora_repro.backbone import availability
from lora_repro.commands import fetch
from lora_repro.errors import NotAvailable, UserError
from lora_repro.sources import data, download
from lora_repro.tasks import _files
from lora_repro.tasks.e2e import files as e2e_files
from lora_repro.tasks.glue import files as glue_files

BODY = b"".join(b"%06d\n" % n for n in range(30_000))  # more than one piece


def packed(form: str) -> bytes:
    out = io.BytesIO()
    if form == "zip":
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("data/a.tsv", "one\n")
            archive.writestr("data/b.tsv", "two\n")
    else:
        with tarfile.open(fileobj=out, mode="w:bz2") as tar:
            for name, text in (("data/a.tsv", b"one\n"), ("data/b.tsv", b"two\n")):
                info = tarfile.TarInfo(name)
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text))
    return out.getvalue()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    monkeypatch.setattr(download, "PAUSE", 0)
    with LocalHub({}, {"x.txt": BODY, "a.zip": packed("zip"), "a.tar.bz2": packed("tar")}) as hub:
        yield hub


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def test_every_source_names_its_licence_and_pins_its_files() -> None:
    sources = data.known()
    assert set(sources) == {"e2e", "webnlg", "dart", "wikisql", "samsum", "glue", "authors"}
    for source in sources.values():
        assert source.licence and source.title
        for path, about in source.files.items():
            assert about["url"].startswith("https://") and set(about) <= {"url", "sha256", "blob", "member", "archive_blob"}
            by_commit = re.search(r"/[0-9a-f]{40}/", about["url"])
            # GLUE's server has no versions and no published checksums; everything else is pinned twice.
            assert source.name == "glue" or by_commit, path
    files = [about for source in sources.values() for about in source.files.values() if source.name != "glue"]
    assert all("sha256" in about or "blob" in about or "archive_blob" in about for about in files)


def test_a_download_that_breaks_off_goes_on_where_it_was(server: LocalHub, tmp_path: Path) -> None:
    server.faults += [Fault("x.txt", cut=100_000), Fault("x.txt", 503)]
    path = download.retrieve(f"{server.url}/plain/x.txt", tmp_path, "x.txt", sha256(BODY))
    assert path.read_bytes() == BODY and len(server.asked) == 3
    server.faults += [Fault("x.txt", cut=100_000), *(Fault("x.txt", 503) for _ in range(3))]
    with pytest.raises(NotAvailable, match=r"cannot download .*x\.txt \(HTTP 503\): run the same command again to resume"):
        download.retrieve(f"{server.url}/plain/x.txt", tmp_path / "again", "x.txt", sha256(BODY))
    assert not (tmp_path / "again" / "x.txt").exists()
    (part,) = (tmp_path / "again").glob(".*.part")
    assert 0 < part.stat().st_size < len(BODY)
    assert download.retrieve(f"{server.url}/plain/x.txt", tmp_path / "again", "x.txt").read_bytes() == BODY
    with pytest.raises(NotAvailable, match="HTTP 404"):
        download.retrieve(f"{server.url}/plain/none", tmp_path, "none")


def test_another_content_is_refused(server: LocalHub, tmp_path: Path) -> None:
    for checksum in ({"sha256": sha256(b"other")}, {"blob": "0" * 40}):
        with pytest.raises(UserError, match="is not the file described in conf/source"):
            download.retrieve(f"{server.url}/plain/x.txt", tmp_path, "x.txt", **checksum)
        assert not (tmp_path / "x.txt").exists()
    blob = hashlib.sha1(b"blob %d\0" % len(BODY) + BODY).hexdigest()
    assert download.retrieve(f"{server.url}/plain/x.txt", tmp_path, "x.txt", blob=blob).read_bytes() == BODY


@pytest.mark.parametrize("form", ["zip", "tar.bz2"])
def test_archives_are_got_once_and_what_is_here_is_not_asked_for(form: str, server: LocalHub, tmp_path: Path) -> None:
    url = f"{server.url}/plain/a.{form}"
    files = {
        "set/a.tsv": {"url": url, "member": "data/a.tsv", "sha256": sha256(b"one\n")},
        "set/b.tsv": {"url": url, "member": "data/b.tsv"},
        "x.txt": {"url": f"{server.url}/plain/x.txt"},
    }
    source = data.Source("some", "Some data", "CC0", files)
    data.fetch(source, tmp_path)
    assert (tmp_path / "set/b.tsv").read_text() == "two\n" and len(server.asked) == 2
    data.fetch(source, tmp_path)
    assert len(server.asked) == 2
    (tmp_path / "set/b.tsv").write_text("changed")
    data.fetch(source, tmp_path)
    assert (tmp_path / "set/b.tsv").read_text() == "two\n" and len(server.asked) == 3
    (tmp_path / data.RECEIPTS / "some.json").write_text("{")  # it says nothing of b.tsv any more
    data.fetch(source, tmp_path)
    assert len(server.asked) == 5 and "set/b.tsv" in (tmp_path / data.RECEIPTS / "some.json").read_text()
    lacking = data.Source("other", "", "", {"c": {"url": url, "member": "data/c.tsv"}})
    with pytest.raises(UserError, match=r"lacks data/c\.tsv"):
        data.fetch(lacking, tmp_path)
    wrong = data.Source("wrong", "", "", {"c": {"url": url, "member": "data/a.tsv", "sha256": sha256(b"two\n")}})
    with pytest.raises(UserError, match="is not the file described in conf/source"):
        data.fetch(wrong, tmp_path)
    assert not (tmp_path / "c").exists()


def test_mrpc_is_split_as_glue_splits_it(tmp_path: Path) -> None:
    head = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String"
    (tmp_path / "msr_paraphrase_train.txt").write_text(f"{head}\r\n1\t10\t11\ta\tb\r\n0\t20\t21\tc\td\r\n", encoding="utf-8")
    (tmp_path / "mrpc_dev_ids.tsv").write_text("20\t21\n", encoding="utf-8")
    data.split_mrpc(tmp_path)
    assert (tmp_path / "train.tsv").read_text().splitlines() == [head[1:], "1\t10\t11\ta\tb"]
    assert (tmp_path / "dev.tsv").read_text().splitlines()[1:] == ["0\t20\t21\tc\td"]


@pytest.mark.parametrize("name", ["msr_paraphrase_train.txt", "mrpc_dev_ids.tsv"])
@pytest.mark.parametrize("served", ["", "<html><body>Please log in</body></html>"])
def test_a_page_served_in_mrpc_s_place_is_not_kept(served: str, name: str, tmp_path: Path) -> None:
    """The files have no published checksum: kept, they would be right from then on."""
    (tmp_path / "msr_paraphrase_train.txt").write_text("Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t20\t21\tc\td\n")
    (tmp_path / "mrpc_dev_ids.tsv").write_text("20\t21\n")
    (tmp_path / name).write_text(served)
    with pytest.raises(UserError, match=f"{name} is not the file that GLUE is made from: run the same command again"):
        data.split_mrpc(tmp_path)
    assert not (tmp_path / name).exists()


def test_what_was_fetched_is_where_tasks_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_files, "DATA", tmp_path)
    (tmp_path / "e2e").mkdir()  # what a fetch leaves that broke off at once
    (tmp_path / "e2e" / ".train.txt.part").touch()
    message = r"^E2E is not here: run lora-repro fetch e2e, or name the folder that holds e2e/ with DATA="
    with pytest.raises(UserError, match=message):
        e2e_files.find_files(None, "tokenised")
    with pytest.raises(UserError, match="run lora-repro fetch glue"):
        glue_files.find_files(None, "RTE", {"train": "train.tsv"})
    with pytest.raises(UserError, match=r"^SICK is not here, and fetch does not have it: name its parent folder with DATA="):
        glue_files.find_files(None, "SICK", {"train": "SICK_train.txt"})
    for name in ("e2e/train.txt", "e2e/valid.txt", "e2e/test.txt", "RTE/train.tsv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert e2e_files.find_files(None, "tokenised")["dev"] == tmp_path / "e2e" / "valid.txt"
    assert glue_files.find_files(None, "RTE", {"train": "train.tsv"})["train"] == tmp_path / "RTE" / "train.tsv"
    for folder in (tmp_path, tmp_path / "e2e"):  # a folder of the user's, as fetch lays it out, or E2E's own
        assert e2e_files.find_files(str(folder), "tokenised")["dev"] == tmp_path / "e2e" / "valid.txt"
    with pytest.raises(UserError, match=r"^mine is not here, and fetch does not have it"):
        _files.home(None, "mine", "Mine", "mine")  # a task without conf/source/mine.yaml


def test_names_are_listed_and_misspelt_ones_understood(capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch.main([]) == 0
    output = capsys.readouterr().out
    assert "CC BY-SA 4.0" in output and re.search(r"gpt2_medium +backbone, from the model hub", output)
    assert "random_gpt2" not in availability.known()
    assert fetch.main(["gleu"]) == 2
    assert capsys.readouterr().err == "error: cannot fetch 'gleu': no such data or backbone; did you mean glue?\n"
    assert fetch.main(["deberta_v2_xxlarge"]) == 2 and "has no pinned revision" in capsys.readouterr().err


def test_the_page_of_the_data_names_every_source_at_its_commit() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
    for source in data.known().values():
        assert f"\n| {source.name} |" in page and source.licence.partition(" (")[0].partition(":")[0] in page, source.name
        for about in source.files.values():
            commit = re.search(r"[0-9a-f]{40}", about["url"])
            assert (commit[0] if commit else "fbaipublicfiles.com") in page, about["url"]


def test_a_full_disk_is_not_taken_for_a_broken_connection(server: LocalHub, tmp_path: Path) -> None:
    """It was tried three times, and the answer said that the network failed (exit code 3)."""

    def fetched() -> int:
        try:
            download.retrieve(f"{server.url}/plain/x.txt", tmp_path, "x.txt")
        except NotAvailable:
            return 3
        except UserError as error:
            return 2 if "cannot write" in str(error) and "No space left" in str(error) else 1
        return 0

    assert [interrupted(fetched, tmp_path, number, "full") for number in (1, 2)] == [2, 2]
    assert interrupted(fetched, tmp_path, 0) == 0 and (tmp_path / "x.txt").read_bytes() == BODY
