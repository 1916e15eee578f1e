"""The entry point of every command, `lora-repro VERB ...`: immediate help, the options of all commands, signals.

The help of a verb is its module's docstring followed by the arguments of its parser, both read from the source: torch,
transformers and Hydra take seconds to import, so this module imports the standard library only.
"""

from __future__ import annotations

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
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import FrameType, TracebackType

from lora_repro import console, errors
from lora_repro.config import paths

COMMANDS = sorted(path.stem for path in (paths.LIBRARY / "commands").glob("[!_]*.py"))
VERBS = {verb: f"lora_repro.commands.{verb}" for verb in sorted(COMMANDS, key=lambda verb: verb != "run")}  # `run` first
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


def main(arguments: Sequence[str] | None = None) -> int:
    """`lora-repro <arguments>`: answer --help, or import the verb's module and run it. Returns the exit code."""
    if arguments is None:  # a process of its own
        install_signal_handlers()
        print_anywhere()
    try:
        code = _main(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()  # here, where a closed pipe (`| head`) can still be handled
        return code
    except KeyboardInterrupt as stop:
        return console.report_interrupt(stop)
    except Exception as error:
        if failure := errors.known(error):
            return console.report_error(failure)
        raise


def _main(arguments: Sequence[str]) -> int:
    verb, *rest = apply_common_options(arguments) or ["--help"]
    if verb in HELP:
        print(fitted(overview()))
        return 0
    if verb in COMPLETION:
        return int(import_module("lora_repro.config.completion").main(rest, list(VERBS)))
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, 1)
        if not near and verb in paths.choices("method"):
            near = [f"run method={verb}"]
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(VERBS)}"
        return console.report_error(errors.UserError(f"no command {verb!r}; {hint}"))
    if HELP & set(rest):
        print(fitted(help_of(VERBS[verb])))
        return 0
    sys.argv[1:] = rest  # Hydra reads it
    return int(import_module(VERBS[verb]).main(rest))


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
    words = iter(arguments)
    for item in words:
        name, _, value = item.partition("=")
        if name in KEPT:
            value = value or next(words, "")
            folder = KEPT[name] == paths.OWN
            if not value or not (Path(value).is_dir() if folder else value.replace(".", "").replace(",", "").isidentifier()):
                expected = "a folder" if folder else "a package"
                raise errors.UserError(f"{name} needs {expected}{f', and {value} is not one' if value else ''}")
            os.environ[KEPT[name]] = str(Path(value).absolute()) if folder else value
        elif item in ("--quiet", "--verbose"):
            os.environ[console.VARIABLE] = item.removeprefix("--")
        elif name.startswith("--") and ((key := name[2:]) in (*GROUPS, "seed") or "." in key):  # --profile mini: as profile=mini
            if not (value := value or next(words, "")):
                raise errors.UserError(f"{name} needs a value: {key}=VALUE")
            left.append(f"{key}={value}")
        else:
            left.append(item)
    left = _all_rows(left)
    if own := paths.own():
        if not Path(own).is_dir():
            raise errors.UserError(f"{paths.OWN} names {own}, which is not a folder")
        os.environ[paths.OWN] = str(Path(own).absolute())
    if console.quiet():
        os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is imported
    if not console.verbose():  # read when these are imported: else they log every retry; our own error names the cause
        for package in ("HF_HUB", "DATASETS"):
            os.environ.setdefault(f"{package}_VERBOSITY", "error")
    return left


def _all_rows(arguments: Sequence[str]) -> list[str]:
    """The arguments with `all` spelled out: every row of the named experiment, also those that its profile leaves out."""
    table = next((item.removeprefix("experiment=") for item in arguments if item.startswith("experiment=")), "")
    before = ["", *arguments]  # `--cfg all` is Hydra's
    return [f"row/{table}={paths.EVERY}" if table and item == "all" and not last.startswith("-") else item
            for last, item in zip(before, arguments, strict=False)]  # fmt: skip


def install_signal_handlers() -> None:
    """From here on SIGTERM unwinds the stack as Ctrl-C does; either prints one line and exits with its code, even in imports."""

    def terminate(number: int, frame: FrameType | None) -> None:
        raise errors.Terminated

    def leave(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, BrokenPipeError):
            os._exit(141)  # as a shell counts SIGPIPE
        if isinstance(error, KeyboardInterrupt):
            code = console.report_interrupt(error)
            sys.stdout.flush()
            os._exit(code)  # Python would die of the signal; nothing is open yet
        sys.__excepthook__(kind, error, trace)

    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        sys.excepthook = leave
        signal.signal(signal.SIGTERM, terminate)


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
    options = {"-h, --help": "this text", **OPTIONS}
    lines += ["", "options of every command:", *(f"  {option:<14}{text}" for option, text in options.items()), ""]
    return "\n".join([*lines, closing()])


def fitted(text: str, width: int | None = None) -> str:
    """Help wrapped to the terminal's width: a line continues in its own column, commands stay whole, a pipe gets no wrapping."""
    width = width or shutil.get_terminal_size((10**6, 24)).columns
    lines: list[str] = []
    indent = -1  # the column at which a line that was too wide goes on, and the next one with it
    for line in text.splitlines():
        column = len((re.match(r" *(?:\S+(?: \S+)*  +)?", line) or [""])[0])
        on = line.strip() and column == indent == len(line) - len(line.lstrip())
        if on:
            line = f"{lines.pop()} {line.strip()}"
        elif len(line) > width < 2 * column:  # a command and what it does
            lines.append(line[:column].rstrip())
            column, line = 8, " " * 8 + line[column:]
        fits = len(line) <= width or line.startswith("    lora-repro ") or line.lstrip().startswith(("python -m ", "make "))
        lines += [line] if fits else textwrap.wrap(line, width, subsequent_indent=" " * column, break_on_hyphens=False)
        indent = column if on or not fits else -1
    return "\n".join(lines)


def _tree(module: str) -> ast.Module:
    return ast.parse(paths.LIBRARY.parent.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8"))


def _arguments(tree: ast.Module) -> list[str]:
    """A line for each `add_argument` of a module: its name and its help, which are literals."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            keywords = {str(k.arg): ast.literal_eval(k.value) for k in node.keywords if k.arg in ("metavar", "help")}
            name = str(ast.literal_eval(node.args[0]))
            usage = f"{name} {keywords.get('metavar', '')}" if name.startswith("-") else keywords.get("metavar", name)
            lines.append(f"  {usage:<24}{keywords.get('help', '')}".rstrip())
    return lines


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
