"""Every command answers --help at once with examples, is quiet or verbose when asked, and colours terminals only."""

from __future__ import annotations

import importlib
import io
import os
import re
import resource
import subprocess
import sys
import tomllib
from fractions import Fraction
from pathlib import Path

import pytest
from faults import interrupted

from lora_repro import cli, console, errors, results
from lora_repro.config import hydra_errors, paths
from lora_repro.config.compose import build, compose, target
from lora_repro.errors import Busy, NotAvailable, Preempted, UserError

ROOT = Path(__file__).resolve().parents[1]
SLOW = tuple("torch transformers datasets matplotlib sklearn wandb pandas numpy scipy hydra omegaconf".split())
# Runs `python -m <arguments>` and then says which slow packages it has loaded.
PROBE = f"""
import runpy, sys
name = sys.argv.pop(1)
try:
    runpy.run_module(name, run_name="__main__", alter_sys=True)
except SystemExit as left:
    assert not left.code, left.code
print("LOADED", sorted(set(sys.modules) & set({SLOW!r})))
"""


def call(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_a_reader_that_has_gone_leaves_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)  # as `| head` does once it has its lines
    with os.fdopen(writing, "wb") as pipe:
        process = subprocess.run([sys.executable, "-m", "lora_repro"], cwd=ROOT, stdout=pipe, stderr=subprocess.PIPE, check=False)
    assert (process.returncode, process.stderr) == (141, b"")


@pytest.mark.parametrize("words", [["lora_repro.run"], *(["lora_repro", verb] for verb in cli.VERBS)], ids=" ".join)
def test_help_is_quick_and_has_examples_and_exit_codes(words: list[str]) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    process = call("-c", PROBE, *words, "--help")
    seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    assert process.returncode == 0, process.stderr
    text, _, modules = process.stdout.partition("LOADED ")
    assert modules.strip() == "[]"  # nothing heavy: what makes it quick on any machine
    assert seconds < 1  # of processor time: a tenth of it is Python's own start
    verb = "run" if words[-1] == "lora_repro.run" else words[-1]
    assert re.search(rf"^ +([A-Z_]+=\S+ )?(lora-repro {verb}|make)( |$)", text, re.M)
    assert "--quiet" in text and "--verbose" in text
    assert cli.closing() in text and "75" in cli.closing()


@pytest.mark.parametrize("verb", ["", *cli.VERBS])
def test_help_fits_the_terminal_and_leaves_commands_whole(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = cli.help_of(cli.VERBS[verb]) if verb else cli.overview()
    page = cli.fitted(text)
    assert page.split() == text.split()
    entries = [line[:16] for line in text.splitlines() if re.match(r"  \S|$", line)]  # an argument, an exit code; a gap
    assert [line[:16] for line in page.splitlines() if re.match(r"  \S|$", line)] == entries
    assert all(len(line) <= 80 for line in page.splitlines() if not re.match(r" +(python|lora-repro|make|eval) ", line))
    assert cli.fitted(text, 200) == text


@pytest.mark.parametrize("verb", [verb for verb, module in cli.VERBS.items() if "arguments:" in cli.help_of(module)])
def test_help_lists_every_argument_that_the_parser_takes(verb: str) -> None:
    """Read from the source, it must say what the parser itself knows."""
    module = importlib.import_module(cli.VERBS[verb])
    if hasattr(module, "parser"):
        text = cli.help_of(cli.VERBS[verb])
        for action in module.parser()._actions:
            for option in action.option_strings or [action.metavar or action.dest]:
                assert option in text, option


def test_the_front_door_lists_every_command_and_says_what_was_meant() -> None:
    overview, wrong, strange = call("-m", "lora_repro"), call("-m", "lora_repro", "exprot"), call("-m", "lora_repro", "zzz")
    assert overview.returncode == 0 and all(f"\n  {verb} " in overview.stdout for verb in cli.VERBS)
    assert wrong.returncode == 2 and wrong.stderr == "error: no command 'exprot'; did you mean export?\n"
    assert strange.returncode == 2 and "choose from run, " in strange.stderr


def test_a_command_that_fails_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def fails(how: BaseException) -> int:
        @console.command
        def main(arguments: list[str]) -> int:
            raise how

        return main(["x"])

    assert fails(UserError("no such thing")) == 2 and capsys.readouterr().err == "error: no such thing\n"
    assert fails(OSError(28, "No space left")) == 2 and "No space left" in capsys.readouterr().err
    assert fails(Busy("later")) == 75 and fails(KeyboardInterrupt()) == 130
    with pytest.raises(ZeroDivisionError):
        fails(ZeroDivisionError())


LARGE = "run profile=smoke task=entailment backbone=random_bert method=full +backbone.shape.vocab_size=257".split()
SIZE = "backbone.shape.hidden_size"
LIMITED = {  # MiB beyond what the process has, and the command
    "a model": (300, [*LARGE, f"{SIZE}=8192"]),
    "a training": (500, [*LARGE, f"{SIZE}=1024", "backbone.shape.intermediate_size=16384"]),
    "a score": (100, ["score", "e2e", "--predictions", "rows.csv", "--references", "rows.csv"]),
    "a data read": (100, "compare --model random_bert --train rows.csv --test rows.csv --methods lora profile=smoke".split()),
}


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("more", "words"), LIMITED.values(), ids=LIMITED)
def test_where_memory_ends_it_is_one_line(
    more: int, words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A limit of the address space, as `ulimit -v` and SLURM set; in a fork, so that nothing but the command meets it."""
    (tmp_path / "rows.csv").write_text("text,label\n" + "some text of a row,1\n" * 3_000_000)
    for module in (cli.VERBS[words[0]], "lora_repro.run.run", "transformers", "sklearn.metrics", "scipy.stats"):
        importlib.import_module(module)  # out of memory, Python's own import ends in a SystemError or in the process's end

    def job() -> int:
        os.chdir(tmp_path)
        memory = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (memory + (more << 20), resource.RLIM_INFINITY))
        return cli.main(words if words[0] != "run" else [*words, f"paths.runs={tmp_path / 'runs'}"])

    code = interrupted(job, tmp_path, 0)
    stderr = capfd.readouterr().err
    messages = [line for line in stderr.splitlines() if "error: " in line]
    assert code == NotAvailable.exit_code and len(messages) == 1 and "not enough memory" in messages[0], stderr[-2000:]
    assert "Traceback" not in stderr and not list(tmp_path.rglob("record.json"))


def test_a_profile_that_nobody_has_is_not_answered_with_run_something_first(tmp_path: Path) -> None:
    for arguments in (["publish", "profile=labtop"], ["runs", "profile=labtop", f"paths.runs={tmp_path}"]):
        process = call("-m", "lora_repro", *arguments)
        assert (process.returncode, process.stderr) == (2, "error: no profile 'labtop'; did you mean laptop?\n")
    assert hydra_errors.empty_profile_message("smoke", "run something first") == "run something first"


def test_the_documented_exit_codes_are_those_of_the_errors() -> None:
    codes = set(re.findall(r"^  (\d+) ", errors.__doc__ or "", re.M))
    exceptions = [UserError(""), Busy(""), NotAvailable(""), Preempted("", 2), Preempted("", 15)]
    assert {str(error.exit_code) for error in exceptions} | {"0", "1", "141"} == codes


def test_the_help_of_a_run_lists_every_choice_but_aliases() -> None:
    text = cli.help_of(cli.VERBS["run"])
    for name in ("e2e", "adapter_drop", "paper", "roberta_large", "stsb", "wandb"):
        assert name in text.split()
    assert "mini_decoder" not in text and max(map(len, text.splitlines())) < 130


@pytest.mark.parametrize("level", ["quiet", "verbose"])
def test_the_options_of_every_command_are_taken_out_and_the_rest_left(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(console.VARIABLE, "")
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    assert cli.apply_common_options([f"--{level}", "seed=1"]) == ["seed=1"]
    assert os.environ[console.VARIABLE] == level
    assert (console.quiet(), console.verbose()) == (level == "quiet", level == "verbose")
    assert os.environ.pop("TQDM_DISABLE", None) == ("1" if level == "quiet" else None)


def test_quiet_leaves_notes_out_and_verbose_adds_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(console.VARIABLE, "quiet")
    console.say("a note")
    assert capsys.readouterr().out == ""
    monkeypatch.setenv(console.VARIABLE, "verbose")
    console.say("a note")
    assert capsys.readouterr().out == "a note\n"
    try:
        raise Busy("elsewhere")
    except Busy as error:
        assert console.report_error(error) == 75
        assert "Traceback" in (stderr := capsys.readouterr().err) and stderr.endswith("error: elsewhere\n")
        monkeypatch.delenv(console.VARIABLE)
        assert console.report_error(error) == 75
    assert capsys.readouterr().err == "error: elsewhere\n"


def test_a_tracker_that_has_no_effect_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(console.VARIABLE, raising=False)
    console.warn_ignored_tracker(["seed=1", "tracker=none"], "trials")
    assert capsys.readouterr().out == ""
    console.warn_ignored_tracker(["seed=1", "tracker=wandb"], "trials")
    assert capsys.readouterr().out == "tracker= has no effect here: trials are not mirrored, only runs\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "variables", "coloured"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_colours_on_terminals_only(
    stream: io.StringIO, variables: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert console.paint("x", console.RED, stream) == ("\033[31mx\033[0m" if coloured else "x")


def test_the_settings_of_a_run_stand_for_options() -> None:
    keys = {"paths.data": "--data", "task": "--task"}
    arguments = ["name[a=b]", "task=e2e", "paths.data='/some where'", "x=1", "task=", "--data", "y"]
    assert console.options(arguments, keys) == ["name[a=b]", "--task=e2e", "--data=/some where", "x=1", "--task=", "--data", "y"]


def test_an_unknown_option_of_a_parser_is_refused() -> None:
    process = call("-m", "lora_repro", "publish", "--quit")
    assert process.returncode == 2 and "--quit" in process.stderr


def test_a_terminal_without_an_arrow_still_gets_its_table(tmp_path: Path) -> None:
    command = ("render", "experiment=rank", "profile=mini", f"paths.runs={tmp_path}")
    process = call("-m", "lora_repro", *command, PYTHONIOENCODING="ascii")
    assert process.returncode == 0 and "Traceback" not in process.stderr
    assert "Rank of the update" in process.stdout and "r 1 ?" in process.stdout


def test_a_setting_is_no_package_to_trust() -> None:
    with pytest.raises(UserError, match="--trust needs a package, and row/e2e=lora is not one"):
        cli.apply_common_options(["--trust", "row/e2e=lora", "seed=0"])


def test_hydra_shows_a_configuration_without_running_it(tmp_path: Path) -> None:
    arguments = ["experiment=e2e", "row/e2e=lora", "hydra.mode=RUN", f"paths.runs={tmp_path}/runs", "--cfg", "job"]
    process = call("-m", "lora_repro.run", *arguments)
    assert process.returncode == 0 and "rank: 4" in process.stdout, process.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("pl", "plan"),
        ("run method=lo", "method=lora"),
        ("render e2e experiment=e2e row/e2e=adapter_l_l", "row/e2e=adapter_l_large"),
        ("run experiment=e2e row/e2", "row/e2e="),
        ("run train.label", "train.label_smoothing="),
    ],
)
def test_tab_completes_the_installed_command(
    typed: str, offered: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a shell asks at a Tab key, `lora-repro -sc query=bash`, is answered by Hydra; the verb by us."""
    monkeypatch.setattr(sys, "argv", ["lora-repro"])
    monkeypatch.setenv("COMP_LINE", f"lora-repro {typed}")
    assert cli.main(["-sc", "query=bash"]) == 0
    assert offered in capsys.readouterr().out.split()


@pytest.mark.parametrize(("shell", "line"), [("bash", "hydra_bash_completion lora-repro"), ("fish", "complete -c lora-repro -x")])
def test_completion_installs_itself_for_this_command_alone(
    shell: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/lora-repro"])
    assert cli.main(["-sc", f"install={shell}"]) == 0
    assert line in capsys.readouterr().out


def test_a_folder_of_ones_own_is_known_to_every_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_text("_target_: fractions.Fraction\nname: mine\n", encoding="utf-8")
    for name in (paths.OWN, paths.TRUSTED):
        monkeypatch.setenv(name, "")
    with pytest.raises(UserError, match="no method 'mine'"):
        compose(["method=mine"])
    assert cli.apply_common_options(["--config-dir", str(tmp_path), "method=mine"]) == ["method=mine"]
    config = compose(["method=mine"])
    assert config.method.name == "mine" and "mine" in cli.help_of(cli.VERBS["run"]).split()
    with pytest.raises(UserError, match="if it is yours: --trust fractions"):
        build(config.method)
    assert cli.apply_common_options(["--trust=fractions"]) == []
    assert target(config.method) is Fraction
    with pytest.raises(UserError, match=r"not a class of lora_repro or fractions"):
        target({"_target_": "fractions.math.gcd"})
    with pytest.raises(UserError, match="needs a folder, and nowhere is not one"):
        cli.apply_common_options(["--config-dir", "nowhere"])


@pytest.mark.parametrize("arguments", [["runs", "--al"], ["publish", "--emit"], ["export"]])
def test_a_wrong_argument_is_one_line_that_names_the_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.endswith(f"; see lora-repro {arguments[0]} --help\n")
    assert message.count("\n") == 1


def test_the_wheel_carries_what_lies_beside_the_package() -> None:
    """`place` looks for conf/ inside the package first; what the wheel puts there is declared once."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    trials = {f"results/{profile}/trials": f"lora_repro/results/{profile}/trials" for profile in ("mini", "laptop")}
    trials["results/manifest.sha256"] = "lora_repro/results/manifest.sha256"  # by which they are checked when read
    assert wheel["force-include"] == {"conf": "lora_repro/conf", "experiments": "lora_repro/experiments", **trials}
    assert project["project"]["scripts"] == {"lora-repro": "lora_repro.cli:main"}
    assert not paths.INSTALLED and paths.CONF == ROOT / "conf" and paths.ROOT == ROOT


def test_an_installed_package_has_searches_and_no_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its manifest names what a checkout has beside them: that is missing there by design, in a checkout it is damage."""
    monkeypatch.setattr(results, "CONF", tmp_path / "conf")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "manifest.sha256").write_text(f"{'0' * 64}  mini/records/0123456789abcdef.json\n")
    monkeypatch.setattr(results, "INSTALLED", True)
    assert results.published_records("mini") == {}
    monkeypatch.setattr(results, "INSTALLED", False)
    with pytest.raises(UserError, match="missing"):
        results.published_records("mini")


@pytest.mark.parametrize("said", ["mini", "profile=", "seed=mini", "profile=../runs", "profile=mini/records", "profile=.."])
def test_a_command_on_a_profile_takes_a_name_and_no_folder(said: str) -> None:
    """`publish --prune --delete profile=..` would look for what nothing asks for beside results/."""
    assert console.named_profile("profile=mini") == "mini"
    with pytest.raises(UserError, match=f"^'{re.escape(said)}': write profile=mini$"):
        console.named_profile(said)


def test_options_and_settings_are_one_grammar() -> None:
    """`runs --profile NAME` was accepted and `run --profile NAME` was not."""
    arguments = cli.apply_common_options(["--profile", "smoke", "--method=lora", "--train.lr", "1e-3", "--cfg", "job", "-m"])
    assert arguments == ["profile=smoke", "method=lora", "train.lr=1e-3", "--cfg", "job", "-m"]
    with pytest.raises(UserError, match="--profile needs a value"):
        cli.apply_common_options(["--profile"])


def test_all_means_every_row_of_the_experiment_that_is_named() -> None:
    assert cli.apply_common_options(["experiment=e2e", "all"]) == ["experiment=e2e", "row/e2e=glob(*)"]
    assert cli.apply_common_options(["fetch", "all"]) == ["fetch", "all"]
