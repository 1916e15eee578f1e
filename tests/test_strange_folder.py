"""Someone else's configuration folder, and settings that mean harm: one line names the key or the file, nothing is run, and no
value of the environment is read.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_repro import cli
from lora_repro.commands import plan as plan_command
from lora_repro.commands import run
from lora_repro.config import paths
from lora_repro.config.compose import compose, job_overrides, resolved, sweep_jobs
from lora_repro.errors import UserError

SECRET, FOLDER = "verysecretkey0123456789", "some_folder_0123456789"
HEAD = "# @package _global_\n"
ASKED = ["profile=smoke", "task=sentiment", "experiment=mine"]
Refused = Callable[..., str]


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The file that exists once anything of the folder was run."""
    return tmp_path / "RAN"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder, and an environment with something to hide."""
    monkeypatch.setenv(paths.OWN, str(tmp_path / "mine"))
    monkeypatch.setenv(paths.TRUSTED, "")
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.setenv("SCRATCH_FOLDER", FOLDER)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "mine"


@pytest.fixture
def refused(folder: Path, mark: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Refused:
    """Call with a command's main and its arguments: asserts that it refuses in one line, which is returned, and runs nothing."""

    def call(main: Callable[[list[str]], Any], *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["lora_repro", *arguments])
        assert main(list(arguments)) == 2
        output = capfd.readouterr()
        assert output.err.startswith("error: ") and output.err.count("\n") == 1, output.err
        assert not mark.exists()
        assert not any(secret in output.out + output.err for secret in (SECRET, FOLDER))
        return output.err

    return call


def write(folder: Path, text: str | bytes, name: str = "experiment/mine.yaml") -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def evil(mark: Path) -> str:
    return f"{{_target_: distutils.spawn.spawn, cmd: [touch, {mark}]}}"


# What a file sets (EVIL calls a program), and the key that the line names.
BUILT = {
    "hydra: {callbacks: {x: EVIL}}": "hydra.callbacks",
    "harmless: {x: EVIL}\nhydra: {callbacks: '${harmless}'}": "hydra.callbacks",
    "hydra: {launcher: {_target_: distutils.spawn.spawn}}": "hydra.launcher",
    "hydra: {sweeper: {_target_: distutils.spawn.spawn}}": "hydra.sweeper",
    "hydra: {sweeper: {params: {x: EVIL}}}": "hydra.sweeper.params.x",
    "defaults: [override /hydra/sweeper: optuna]\nhydra: {sweeper: {sampler: {_target_: distutils.spawn.spawn}}}":
        "hydra.sweeper.sampler",
    "defaults: [override /hydra/sweeper: optuna]\nhydra: {sweeper: {custom_search_space: os.system}}": "custom_search_space",
    "hydra: {job_logging: {version: 1, handlers: {x: {'()': distutils.spawn.spawn, cmd: [touch, MARK]}}, root: {handlers: [x]}}}":
        "hydra.job_logging",
    "hydra: {hydra_logging: {version: 1, handlers: {x: {class: logging.FileHandler, filename: MARK}}, root: {handlers: [x]}}}":
        "hydra.hydra_logging",
    "hydra: {job: {env_set: {JAVA_HOME: /theirs}}}": "hydra.job.env_set",
    "hydra: {job: {env_copy: [WANDB_API_KEY]}}": "hydra.job.env_",
    "hydra: {run: {dir: elsewhere}}": "hydra.run.dir",
    "hydra: {output_subdir: elsewhere}": "hydra.output_subdir",
    "defaults: [override /hydra/launcher: slurm]\nhydra: {launcher: {setup: [touch MARK]}}": "hydra.launcher.setup",
    "method: EVIL": "--trust distutils",
    "method: {_target_: evil.inside.Method}": "--trust evil",
}  # fmt: skip


@pytest.mark.parametrize(("text", "key"), BUILT.items(), ids=BUILT)
def test_nothing_of_a_folder_is_built(text: str, key: str, folder: Path, mark: Path, refused: Refused) -> None:
    write(folder, HEAD + text.replace("EVIL", evil(mark)).replace("MARK", str(mark)))
    assert key in refused(run.started, *ASKED)


def test_a_package_that_is_not_trusted_is_not_imported(
    folder: Path, mark: Path, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To look for the source of `evil.inside.Method` would import `evil`."""
    write(tmp_path / "code", f"open({str(mark)!r}, 'w')\n", "evil/__init__.py")
    write(tmp_path / "code", "class Method: pass\n", "evil/inside.py")
    write(folder, HEAD + "method: {_target_: evil.inside.Method}")
    monkeypatch.syspath_prepend(tmp_path / "code")
    assert "--trust evil" in refused(run.started, *ASKED)


def test_a_file_that_claims_a_place_inside_hydra_is_refused(folder: Path, mark: Path, refused: Refused) -> None:
    write(folder, f"# @package hydra.callbacks.x\n{evil(mark)}", "method/theirs.yaml")
    write(folder, HEAD + "defaults: [override /method: theirs]")
    assert "hydra.callbacks" in refused(run.started, *ASKED)


def test_launchers_are_those_of_the_docs(folder: Path, refused: Refused) -> None:
    write(folder, "defaults: [joblib]\nn_jobs: 2", "hydra/launcher/theirs.yaml")
    write(folder, HEAD + "defaults: [override /hydra/launcher: theirs]")
    assert "no hydra/launcher 'theirs'" in refused(run.started, *ASKED)
    launcher = "defaults: [override /hydra/launcher: joblib]\n"
    write(folder, HEAD + launcher + "hydra: {mode: MULTIRUN, sweeper: {params: {seed: '0,1'}}}", "experiment/other.yaml")
    arguments = [*ASKED[:-1], "experiment=other"]  # a process reads a file once
    assert "joblib" in compose([*arguments, "hydra.launcher.n_jobs=2"], hydra_node=True).hydra.launcher._target_
    assert [job for job in sweep_jobs(arguments)[1] if "seed=1" in job]


CALLBACK = "+hydra.callbacks.x={_target_:distutils.spawn.spawn,cmd:[touch,MARK]}"
WAYS: dict[str, tuple[Callable[..., Any], list[str]]] = {
    "run": (run.started, []),
    "sweep": (run.started, ["-m", "seed=0,1"]),
    "question": (run.started, ["--cfg", "job"]),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_command_line_and_a_folder_are_held_to_one_rule(way: str, folder: Path, mark: Path, refused: Refused) -> None:
    main, words = WAYS[way]
    write(folder, "seed: 1")
    arguments = ["profile=smoke", "task=sentiment", *words]
    assert "hydra.callbacks" in refused(main, *arguments, CALLBACK.replace("MARK", str(mark)))
    write(folder, f"# @package _global_\nhydra: {{callbacks: {{x: {evil(mark)}}}}}", "tracker/theirs.yaml")
    assert "hydra.callbacks" in refused(main, *arguments, "tracker=theirs")


def test_no_other_option_of_hydra_is_handed_on(refused: Refused, folder: Path) -> None:
    """They replace conf/ or unpickle a file."""
    for option in ("--experimental-rerun=x.pickle", "--config-path=x", "--config-name=x", "-cn"):
        assert option in refused(run.started, "--cfg", "job", option)


READS = [
    "backbone: {label: 'a ${oc.env:WANDB_API_KEY}'}",
    "backbone: {name: '${oc.env:WANDB_API_KEY,x}'}",
    "task: {label: '${oc.decode:${oc.env:WANDB_API_KEY}}'}",
    "method: {name: '${oc.create:{a:${oc.env:WANDB_API_KEY}}}'}",
    "row: {label: '${oc.env:WANDB_API_KEY}'}",
    "row: {table: '${oc.env:WANDB_API_KEY}'}",
    "seed: ${oc.env:WANDB_API_KEY}",
    "train: {batch_size: '${oc.env:WANDB_API_KEY}'}",
    "extra: {paths: {x: '${oc.env:SCRATCH_FOLDER}'}}",
    "paths: {data: '${oc.env:WANDB_API_KEY}'}",
    "paths: {data: '${oc.env:SCRATCH_FOLDER}'}\nbackbone: {label: '${paths.data}'}",
    "paths: {data: '${oc.env:SCRATCH_FOLDER}'}\nbackbone: {label: '${oc.select:paths.data}'}",
    "paths: {data: '${oc.env:SCRATCH_FOLDER}'}\nstarts: [{backbone.label: '${paths.data}'}]",
    "hydra: {mode: '${oc.env:WANDB_API_KEY}'}",
    "hydra: {sweeper: {params: {row.label: '${oc.env:WANDB_API_KEY}'}}}",
    "paths: {data: '${oc.env:SCRATCH_FOLDER}'}\nhydra: {mode: MULTIRUN, sweeper: {params: {row.label: '${paths.data}'}}}",
]


@pytest.mark.parametrize("text", READS)
def test_no_value_but_a_path_reads_the_environment(text: str, folder: Path, refused: Refused) -> None:
    write(folder, HEAD + text)
    for main in (run.started, plan_command.main) if "hydra" not in text else (run.started,):
        message = refused(main, *ASKED)
        assert any(f"error: {key}" in message for key in [line.partition(":")[0] for line in text.splitlines()])


def test_what_a_sweep_prints_holds_no_key(folder: Path, refused: Refused) -> None:
    write(folder, HEAD + "backbone: {label: '${oc.env:WANDB_API_KEY}'}")
    assert "backbone.label" in refused(run.started, "--emit", "lines", *ASKED, "seed=0,1")


def test_a_path_may_read_the_environment_and_stays_unread_in_the_words_of_a_job(folder: Path) -> None:
    write(folder, HEAD + "paths: {data: '/data/${oc.env:SCRATCH_FOLDER}', runs: '${oc.env:NO_SUCH_VARIABLE,runs}'}")
    assert resolved(compose(ASKED))["paths"] == {"data": f"/data/{FOLDER}", "runs": "runs"}
    overrides = []
    words = [*ASKED, "paths.data='${oc.env:SCRATCH_FOLDER}'"]

    def job(config: Any) -> None:
        overrides.extend([*job_overrides(), str(config.paths.data)])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lora_repro", *words])
        run.hydra_program(job)
    assert overrides == [*words, FOLDER]


LOGINS = ["backbone.hub_id=https://me:TOKEN@host/x", "backbone.hub_id='https://TOKEN@host/x'", "paths.data=https://me:TOKEN@host/x"]


@pytest.mark.parametrize("setting", LOGINS)
def test_a_login_in_a_url_is_never_shown(setting: str, refused: Refused, folder: Path) -> None:
    write(folder, "seed: 1")
    message = refused(run.started, "profile=smoke", setting)
    assert setting.partition("=")[0] in message and "TOKEN" not in message
    message = refused(run.started, "profile=smoke", f"{setting} and more")  # which Hydra's parser does not read
    assert "TOKEN" not in message


NESTED = "\n".join(f"{'  ' * depth}a:" for depth in range(300))
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9))
BROKEN: dict[str, str | bytes] = {
    "tab": "a:\n\tb: 1",
    "key twice": "seed: 1\nseed: 2",
    "NUL": "a: \0",
    "tag": "a: !!python/object/apply:os.system [ls]",
    "no such alias": "b: {<<: *x}",
    "300 lists": "a: " + "[" * 300 + "]" * 300,
    "100,000 lists": "a: " + "[" * 100_000,
    "300 mappings": NESTED,
    "bomb": BOMB,
    "bomb of merges": "a: &a {k: 1}\n" + "".join(f"b{i}: {{<<: [{', '.join(['*a'] * 900)}]}}\n" for i in range(30)),
    "inside itself": "a: &a [*a]",
    "number": "3",
    "two documents": "a: 1\n---\nb: 2",
    "no UTF-8": b"a: \xff",
    "too large": "#" * 2**19,
    "itself": "defaults: [mine]",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_named(kind: str, folder: Path, refused: Refused) -> None:
    text = BROKEN[kind]
    write(folder, HEAD.encode() + text if isinstance(text, bytes) else HEAD + text)
    assert "experiment/mine.yaml" in refused(run.started, *ASKED)


def test_files_that_lead_to_each_other_are_named(folder: Path, refused: Refused) -> None:
    write(folder, HEAD + "defaults: [other]")
    write(folder, HEAD + "defaults: [mine]", "experiment/other.yaml")
    message = refused(run.started, *ASKED)
    assert "experiment/mine.yaml" in message or "experiment/other.yaml" in message


def test_a_link_out_of_the_folder_is_not_followed(folder: Path, refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "hosts.yaml").write_text(f"label: {SECRET}\n")
    (folder / "backbone").mkdir(parents=True)
    (folder / "backbone" / "x.yaml").symlink_to(tmp_path / "hosts.yaml")
    assert "x.yaml" in refused(run.started, "profile=smoke", "backbone=x")
    write(folder, HEAD + "defaults: [../../hosts]")
    assert "hosts.yaml" in refused(run.started, *ASKED)


def test_aliases_of_a_usual_size_are_read(folder: Path) -> None:
    write(folder, HEAD + "x: &x {epochs: 3}\ntrain: {<<: *x, lr: 0.5}")
    train = compose(ASKED).train
    assert (train.epochs, train.lr) == (3, 0.5)


HYDRA = {
    **dict.fromkeys([f"hydra.searchpath=[{place}]" for place in ("pkg://os", "pkg://this", "/nowhere")], "searchpath"),
    **dict.fromkeys(["hydra.sweeper.max_batch_size=0", "hydra.sweeper.max_batch_size=-1"], "hydra.sweeper.max_batch_size"),
    **dict.fromkeys(["hydra.launcher=3", "hydra.launcher=null", "hydra.launcher._target_=os.system"], "hydra.launcher"),
    **dict.fromkeys(["hydra.callbacks=3", "hydra.callbacks=[1]", "hydra.callbacks='${x}'"], "callbacks"),
    **dict.fromkeys(["hydra.job_logging=3", "hydra.job_logging.root=3", "hydra/job_logging=default"], "job_logging"),
    **dict.fromkeys(["hydra.verbose={a:1}", "hydra.verbose=[1]"], "hydra.verbose"),
    **{f"hydra.{name}='${{nope}}'": "nope" for name in ("output_subdir", "job.chdir", "run.dir", "sweep.dir", "verbose")},
    **dict.fromkeys(["hydra.job.env_copy=[NO_SUCH_VARIABLE]", "+hydra.job.env_set.A=b"], ""),
    **dict.fromkeys(["hydra=3", "hydra=null"], "hydra"),
    **dict.fromkeys(["~hydra", "hydra.mode=X", "hydra.mode='${seed}'", "hydra.run.dir=null", "hydra.foo=1"], "hydra"),
    **dict.fromkeys(["hydra.run.dir='${oc.env:WANDB_API_KEY}'", "hydra.run.dir='${oc.env:SCRATCH_FOLDER}'"], "hydra.run.dir"),
}


@pytest.mark.parametrize(("setting", "key"), HYDRA.items(), ids=HYDRA)
def test_a_setting_of_hydra_that_it_fails_on_is_one_line(setting: str, key: str, folder: Path, refused: Refused) -> None:
    write(folder, "seed: 1")
    assert key in refused(run.started, "profile=smoke", "task=sentiment", setting)


@pytest.mark.parametrize("line", [
    "launch.keep_gb=" + "9" * 400, "train.lr=" + "9" * 400, "train.beta2=0", "train.beta2=0.0",
    "experiment=e2e row/e2e=lora 'train.warmup=${.lr}'",
    "'row.label=\"\x1b[2J\"'", "method=\x1b[2J", "method=\udc80", "\x1b[2J=3",
])  # fmt: skip
def test_a_bad_setting_is_one_line_of_visible_characters(line: str, folder: Path, refused: Refused) -> None:
    write(folder, "seed: 1")
    message = refused(run.started, "profile=mini", *shlex.split(line))
    assert message.rstrip("\n").isprintable() and len(message) < 300


def test_a_file_s_huge_number_is_one_line(folder: Path, refused: Refused) -> None:
    write(folder, HEAD + f"train: {{lr: 0x{'f' * 6000}}}")
    assert "train.lr" in refused(run.started, *ASKED)


def test_a_variable_that_names_no_folder_is_refused_as_the_option_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(paths.OWN, "/nowhere")
    assert cli.main(["run", "profile=smoke"]) == 2
    message = capsys.readouterr().err
    assert paths.OWN in message and message.count("\n") == 1


def test_an_error_is_one_visible_line_without_a_login() -> None:
    message = str(UserError("a\nb\x1b[2J\udc80\u202e https://me:TOKEN@host/x and user@host, é → 中"))
    assert message == "a\\nb\\x1b[2J\\udc80\\u202e https://***@host/x and user@host, é → 中"


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_error(closed: str) -> None:
    root = Path(__file__).resolve().parents[1]
    command = f"{shlex.quote(sys.executable)} -m lora_repro --help {closed}"
    assert subprocess.run(command, shell=True, cwd=root, stdout=subprocess.DEVNULL, check=False).returncode == 0
