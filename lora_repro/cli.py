"""The entry point, `python -m lora_repro VERB ...`, and what all commands share: immediate help, `--quiet` and `--verbose`,
one-line errors, colours on terminals only.

The help of a verb is its module's docstring followed by the arguments of its parser, both read from the source: torch,
transformers and Hydra take seconds to import, so this module imports the standard library only. `--quiet` and `--verbose` set the
environment variable LORA_REPRO_VERBOSITY: it is no setting of a run, so no part of its signature, and child processes inherit it.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import io
import os
import re
import shutil
import signal
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from importlib import import_module
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from lora_repro import errors
from lora_repro.config import paths

if TYPE_CHECKING:
    from tqdm import tqdm

VERBS = {
    "run": "lora_repro.run",
    "compare": "lora_repro.compare.command",
    "table": "lora_repro.report.show",
    "runs": "lora_repro.report.list_runs",
    "verify": "lora_repro.report.verify",
    "plan": "lora_repro.costs.plan",
    "sweep": "lora_repro.sweep.emit",
    "doctor": "lora_repro.doctor.command",
    "tune": "lora_repro.sweep.tune",
    "publish": "lora_repro.report.publish",
    "prune": "lora_repro.report.prune",
    "claims": "lora_repro.report.claims.command",
    "report": "lora_repro.report.page.command",
    "render": "lora_repro.report.render",
    "fetch": "lora_repro.sources.command",
    "generate": "lora_repro.exchange.generate",
    "score": "lora_repro.exchange.score",
    "export": "lora_repro.exchange.export",
    "subspace": "lora_repro.analysis.subspace",
    "authors": "lora_repro.exchange.authors",
    "latency": "lora_repro.costs.latency",
    "footprint": "lora_repro.costs.footprint",
    "dashboard": "lora_repro.tracking.dashboard",
}
VARIABLE = "LORA_REPRO_VERBOSITY"
TOGETHER = "LORA_REPRO_TOGETHER"  # set for runs that share a terminal
MARK = "LORA_REPRO_STOP"  # path of a file that appears, with the reason, when a sweep of several processes is to stop
CTRL_C = "Ctrl-C"
OPTIONS = {
    "--quiet": "print results and errors only: no progress bars, no notes (or LORA_REPRO_VERBOSITY=quiet)",
    "--verbose": "print an error's traceback and the libraries' own warnings (or LORA_REPRO_VERBOSITY=verbose)",
    "--config-dir": "DIR: also read your own yaml files, such as DIR/method/mine.yaml (or LORA_REPRO_CONFIG_DIR)",
    "--trust": "PACKAGE,...: a _target_ may also name classes of these packages (or LORA_REPRO_TRUST)",
}
KEPT = {"--config-dir": paths.OWN, "-cd": paths.OWN, "--trust": paths.TRUSTED}  # options with a value
GROUPS = ("experiment", "profile", "recipe", "method", "task", "backbone", "tracker")
HELP = {"-h", "--help"}
COMPLETION = {"-sc", "--shell-completion"}
LOGGED = 30.0  # seconds between two states of a progress bar in a log
RED, GREEN, YELLOW = "31", "32", "33"


def main(arguments: Sequence[str] | None = None) -> int:
    """`lora-repro <arguments>`: answer --help, or import the verb's module and run it. Returns the exit code."""
    if arguments is None:  # a process of its own
        install_signal_handlers()
        print_anywhere()
    try:
        code = _main(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()  # here, where a closed pipe (`| head`) can still be handled
        return code
    except errors.UserError as error:
        return report_error(error)
    except KeyboardInterrupt as stop:
        return report_interrupt(stop)


def _main(arguments: Sequence[str]) -> int:
    verb, *rest = apply_common_options(arguments) or ["--help"]
    if verb in HELP:
        print(fitted(overview()))
        return 0
    if verb in COMPLETION:
        return int(import_module("lora_repro.config.completion").main(rest))
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, 1)
        if not near and verb in paths.choices("method"):
            near = [f"run method={verb}"]
        said = f"did you mean {near[0]}?" if near else f"choose from {', '.join(VERBS)}"
        return report_error(errors.UserError(f"no command {verb!r}; {said}"))
    if HELP & set(rest):
        print(fitted(help_of(VERBS[verb])))
        return 0
    sys.argv[1:] = rest  # Hydra reads it
    return int(import_module(VERBS[verb]).main(rest))


def apply_options_early(name: str) -> None:
    """For `python -m lora_repro.run`, which bypasses `main`: if `name` is `__main__`, apply the options of every command and
    answer --help before that module's other imports, which take seconds.
    """
    if name != "__main__":
        return
    install_signal_handlers()
    print_anywhere()
    try:
        sys.argv[1:] = apply_common_options(sys.argv[1:])
    except errors.UserError as error:
        sys.exit(report_error(error))
    if HELP & set(sys.argv[1:]):
        print(fitted(help_of(VERBS["run"])))
        sys.exit(0)


def print_anywhere() -> None:
    """From here on print ? for a character that the output's encoding lacks, such as an arrow in ASCII, and nothing where
    standard input, output or error is closed (`>&-`): a file that is opened must not take its place.
    """
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(handle)
    sys.stdout, sys.stderr = sys.stdout or open(os.devnull, "w"), sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def apply_common_options(arguments: Sequence[str]) -> list[str]:
    """Apply the options of every command and return the other arguments. Raises UserError for an option without its value."""
    left = []
    given = iter(arguments)
    for item in given:
        name, _, value = item.partition("=")
        if name in KEPT:
            value = value or next(given, "")
            folder = KEPT[name] == paths.OWN
            if not value or not (Path(value).is_dir() if folder else value.replace(".", "").replace(",", "").isidentifier()):
                what = "a folder" if folder else "a package"
                raise errors.UserError(f"{name} needs {what}{f', and {value} is not one' if value else ''}")
            os.environ[KEPT[name]] = str(Path(value).absolute()) if folder else value
        elif item in ("--quiet", "--verbose"):
            os.environ[VARIABLE] = item.removeprefix("--")
        elif name.startswith("--") and ((key := name[2:]) in (*GROUPS, "seed") or "." in key):  # --profile mini: as profile=mini
            if not (value := value or next(given, "")):
                raise errors.UserError(f"{name} needs a value: {key}=VALUE")
            left.append(f"{key}={value}")
        else:
            left.append(item)
    left = _all_rows(left)
    if own := paths.own():
        if not Path(own).is_dir():
            raise errors.UserError(f"{paths.OWN} names {own}, which is not a folder")
        os.environ[paths.OWN] = str(Path(own).absolute())
    if quiet():
        os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is imported
    if not verbose():  # read when these are imported: else they log every retry; our own error names the cause
        for package in ("HF_HUB", "DATASETS"):
            os.environ.setdefault(f"{package}_VERBOSITY", "error")
    return left


def _all_rows(arguments: Sequence[str]) -> list[str]:
    """The arguments with `all` spelled out: every row of the named experiment, also those that its profile leaves out."""
    table = next((item.removeprefix("experiment=") for item in arguments if item.startswith("experiment=")), "")
    return [f"row/{table}={paths.EVERY}" if table and item == "all" else item for item in arguments]


def command(main: Callable[..., int]) -> Callable[..., int]:
    """Decorates a module's `main(arguments)`: a mistake prints one line on stderr and returns the error's exit code; Ctrl-C
    returns 130.

    Called without arguments, it takes those of the process.
    """

    @wraps(main)
    def guarded(arguments: Sequence[str] | None = None, *rest: Any, **named: Any) -> int:
        try:
            return main(list(sys.argv[1:] if arguments is None else arguments), *rest, **named)
        except BrokenPipeError:
            raise  # nobody reads the output any more
        except (errors.UserError, OSError) as error:
            return report_error(error)
        except KeyboardInterrupt as stop:
            return report_interrupt(stop)

    return guarded


def install_signal_handlers() -> None:
    """From here on SIGTERM unwinds the stack as Ctrl-C does; either prints one line and exits with its code, even in imports."""

    def terminate(number: int, frame: FrameType | None) -> None:
        raise errors.Terminated

    def leave(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, BrokenPipeError):
            os._exit(141)  # as a shell counts SIGPIPE
        if isinstance(error, KeyboardInterrupt):
            code = report_interrupt(error)
            sys.stdout.flush()
            os._exit(code)  # Python would die of the signal; nothing is open yet
        sys.__excepthook__(kind, error, trace)

    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        sys.excepthook = leave
        signal.signal(signal.SIGTERM, terminate)


def report_interrupt(stop: KeyboardInterrupt) -> int:
    """Say which signal stopped the command; returns its exit code."""
    what = "SIGTERM" if isinstance(stop, errors.Terminated) and not interrupted() else "Ctrl-C"
    said = f"stopped by {what}; run the same command again to resume"
    print(paint("error:", RED, sys.stderr), said, file=sys.stderr, flush=True)
    return int(getattr(stop, "exit_code", 130))


def interrupted() -> bool:
    """Whether this process runs one of several runs that Ctrl-C stops: it gets SIGTERM from the sweep's process."""
    try:
        return Path(os.environ.get(MARK, "")).read_text() == CTRL_C
    except OSError:
        return False


def overview() -> str:
    """Every verb with the first line of its help."""
    lines = ["lora-repro VERB ...  (or python -m lora_repro VERB ...); VERB --help explains one", ""]
    for verb, module in VERBS.items():
        first = (ast.get_docstring(_tree(module)) or "").partition("\n")[0]
        lines.append(f"  {verb:<10}  {first}")
    return "\n".join([*lines, "", closing()])


def help_of(module: str) -> str:
    """The help of a command, from its source: what it does, its arguments or the settings of a run, options, exit codes."""
    tree = _tree(module)
    lines = [ast.get_docstring(tree) or "", ""]
    if arguments := _arguments(tree):
        lines += ["arguments:", *arguments]
    else:
        lines.append("settings (KEY=VALUE, any key of conf/; a list such as seed=0,1 sweeps it):")
        lines += [f"  {group + '=':<12}{_choices(group)}" for group in GROUPS]
        lines.append("  seed=0  data.n_train=512  train.lr=2e-4  method.rank=4  paths.data=/data/e2e  paths.runs=/big/disk  ...")
    shown = {"-h, --help": "this text", **OPTIONS}
    lines += ["", "options of every command:", *(f"  {option:<14}{text}" for option, text in shown.items()), ""]
    return "\n".join([*lines, closing()])


def fitted(text: str, width: int | None = None) -> str:
    """Help wrapped to the terminal's width: a line continues in its own column, commands stay whole, a pipe gets no wrapping."""
    width = width or shutil.get_terminal_size((10**6, 24)).columns
    lines: list[str] = []
    begun = -1  # the column at which a line that was too wide goes on, and the next one with it
    for line in text.splitlines():
        column = len((re.match(r" *(?:\S+(?: \S+)*  +)?", line) or [""])[0])
        on = line.strip() and column == begun == len(line) - len(line.lstrip())
        if on:
            line = f"{lines.pop()} {line.strip()}"
        elif len(line) > width < 2 * column:  # a command and what it does
            lines.append(line[:column].rstrip())
            column, line = 8, " " * 8 + line[column:]
        whole = len(line) <= width or line.lstrip().startswith(("python -m ", "make "))
        lines += [line] if whole else textwrap.wrap(line, width, subsequent_indent=" " * column, break_on_hyphens=False)
        begun = column if on or not whole else -1
    return "\n".join(lines)


def _tree(module: str) -> ast.Module:
    return ast.parse(paths.LIBRARY.parent.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8"))


def _arguments(tree: ast.Module) -> list[str]:
    """A line for each `add_argument` of a module: its name and its help, which are literals."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            given = {str(k.arg): ast.literal_eval(k.value) for k in node.keywords if k.arg in ("metavar", "help")}
            name = str(ast.literal_eval(node.args[0]))
            shown = f"{name} {given.get('metavar', '')}" if name.startswith("-") else given.get("metavar", name)
            lines.append(f"  {shown:<24}{given.get('help', '')}".rstrip())
    return lines


def quiet() -> bool:
    return os.environ.get(VARIABLE) == "quiet"


def verbose() -> bool:
    return os.environ.get(VARIABLE) == "verbose"


def say(text: str) -> None:
    """Print a progress note, which `--quiet` suppresses. Results use `print`."""
    if not quiet():
        print(text, flush=True)


_warned: set[str] = set()


def warn(text: str) -> None:
    """Print a warning on stderr, each text once and even with `--quiet`; the command goes on."""
    if text not in _warned:
        print(paint("warning:", YELLOW, sys.stderr), errors.printable(text), file=sys.stderr, flush=True)
    _warned.add(text)


def warn_ignored_tracker(arguments: Sequence[str], what: str) -> None:
    """If a tracker was asked for, say that `tracker=` has no effect on a command that starts no run."""
    if any(item.startswith("tracker=") and item != "tracker=none" for item in arguments):
        say(f"tracker= has no effect here: {what} are not mirrored, only runs")


def bar(total: int, label: str, unit: str, done: int = 0, **options: Any) -> tqdm:
    """A progress bar with the time left, on stderr; one line every half minute in a log, none where runs share the terminal."""
    from tqdm import tqdm  # here: --help does not wait for it

    if os.environ.get(TOGETHER):  # the sweep's process shows them all on one line
        options = {"disable": True, **options}
    alone = sys.stderr.isatty()
    every = {"mininterval": 1.0} if alone else {"mininterval": LOGGED, "maxinterval": LOGGED}
    return tqdm(total=total, initial=done, desc=label, unit=unit, dynamic_ncols=True, **every, **options)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as those of all commands."""

    def error(self, message: str) -> NoReturn:
        raise errors.UserError(f"{message}; see {self.prog} --help")


def parser(verb: str, description: str | None) -> argparse.ArgumentParser:
    """A parser for `python -m lora_repro <verb>`. `help_of` reads its arguments from the source: names and help are literals."""
    program = f"python -m lora_repro {verb}"
    return _Parser(prog=program, description=description, add_help=False, allow_abbrev=False)


def named_profile(argument: str) -> str:
    """NAME of profile=NAME. Raises UserError for anything else, a path of folders included."""
    key, _, profile = argument.partition("=")
    if key != "profile" or not profile or "/" in profile or profile.startswith("."):
        raise errors.UserError(f"{argument!r}: write profile=mini")
    return profile


def options(arguments: Sequence[str], keys: Mapping[str, str]) -> list[str]:
    """The arguments of a command that has a parser, with settings of a run (`paths.data=/data/e2e`) turned into options.

    keys: a setting's name -> the option that holds its value (`--data`).
    """
    found = []
    for item in arguments:
        key, sign, value = item.partition("=")
        quoted = len(value) > 1 and value[0] == value[-1] in ("'", '"')  # as Hydra wants a path with spaces
        found.append(f"{keys[key]}={value[1:-1] if quoted else value}" if sign and key in keys else item)
    return found


def closing() -> str:
    """The end of every help text: the exit codes, from the docstring of `errors`."""
    return (errors.__doc__ or "").partition("\n\n")[2].strip()


def _choices(group: str) -> str:
    """The yaml files of one group in lines of about 100 characters, without `decoder` and `encoder`, which profiles use."""
    width = min(100, shutil.get_terminal_size((120, 24)).columns - 15)
    stems = [stem for stem in paths.choices(group) if stem not in ("decoder", "encoder")]
    lines = [""]
    for stem in stems:
        if len(lines[-1]) + len(stem) > width:
            lines.append("")
        lines[-1] += f"{stem} "
    return ("\n" + " " * 14).join(line.rstrip() for line in lines)


def paint(text: str, colour: str, stream: TextIO | None = None) -> str:
    """`text` in a colour if the stream is a terminal and NO_COLOR is unset or empty (no-color.org); else as it is."""
    stream = sys.stdout if stream is None else stream
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return text
    return f"\033[{colour}m{text}\033[0m"


def report_error(error: errors.UserError | OSError) -> int:
    """Print `error: <line>` on stderr, with `--verbose` its traceback too; returns the exit code (2 for an OSError)."""
    if verbose():
        traceback.print_exception(error, file=sys.stderr)
    print(paint("error:", RED, sys.stderr), errors.printable(str(error)), file=sys.stderr, flush=True)
    return getattr(error, "exit_code", errors.UserError.exit_code)
