"""How every command behaves: help at once, `--quiet` and `--verbose`, one line an error, colours on terminals only.

A command calls `begin` before its slow imports (torch, transformers and Hydra take seconds), so nothing here imports more than
the standard library. What the options set is one environment variable, LORA_REPRO_VERBOSITY (`quiet` or `verbose`): no
setting of a run, so no part of its signature, and processes that a command starts inherit it.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from lora_repro import errors

if TYPE_CHECKING:
    from tqdm import tqdm

VARIABLE = "LORA_REPRO_VERBOSITY"
CONF = Path(__file__).resolve().parents[1] / "conf"
OPTIONS = {
    "--quiet": "results and errors only: no progress bars, no notes (or LORA_REPRO_VERBOSITY=quiet)",
    "--verbose": "an error with its traceback, and the libraries' own warnings (or LORA_REPRO_VERBOSITY=verbose)",
}
GROUPS = ("experiment", "profile", "recipe", "method", "task", "backbone", "tracker")
LOGGED = 30.0  # seconds between two states of a progress bar in a log
RED, GREEN, YELLOW = "31", "32", "33"


def begin(name: str, description: str | Callable[[], argparse.ArgumentParser] | None = None) -> None:
    """Act on the options of every command, if the module `name` is the one that was started.

    `description`: of a command that takes the settings of a run, or the function that makes a command's parser, where its
    slow imports come before that would be asked; `--help` is then answered here.
    """
    if name != "__main__":
        return
    for level in ("quiet", "verbose"):
        if f"--{level}" in sys.argv:
            sys.argv.remove(f"--{level}")
            os.environ[VARIABLE] = level
    if quiet():
        os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is imported
    if description is not None and {"-h", "--help"} & set(sys.argv[1:]):
        print(guide(description) if isinstance(description, str) else description().format_help())
        sys.exit(0)


def quiet() -> bool:
    return os.environ.get(VARIABLE) == "quiet"


def verbose() -> bool:
    return os.environ.get(VARIABLE) == "verbose"


def say(text: str) -> None:
    """A note on the way, which `--quiet` leaves out. Results are printed, not said."""
    if not quiet():
        print(text, flush=True)


def unmirrored(arguments: Sequence[str], what: str) -> None:
    """Say that `tracker=` has no effect on a command that starts no run, where it was asked for."""
    if any(item.startswith("tracker=") and item != "tracker=none" for item in arguments):
        say(f"tracker: {what} are not mirrored, runs are")


def bar(total: int, label: str, unit: str, done: int = 0, **options: Any) -> tqdm:
    """A progress bar with the time left, on stderr; where that is no terminal but a log, one state every half minute."""
    from tqdm import tqdm  # here: --help does not wait for it

    every = {"mininterval": 1.0} if sys.stderr.isatty() else {"mininterval": LOGGED, "maxinterval": LOGGED}
    return tqdm(total=total, initial=done, desc=label, unit=unit, dynamic_ncols=True, **every, **options)


def guide(description: str) -> str:
    """The help of a command that takes settings: what it does, the settings that choose components, options, exit codes."""
    lines = [description.strip(), "", "settings (KEY=VALUE, any key of conf/; a list such as seed=0,1 sweeps it):"]
    lines += [f"  {group + '=':<12}{_choices(group)}" for group in GROUPS]
    lines += ["  seed=0  data.n_train=512  train.lr=2e-4  method.rank=4  paths.data=/data/e2e  paths.runs=/big/disk  ...", ""]
    options = {"-h, --help": "this text", **OPTIONS}
    lines += ["options of every command:", *(f"  {option:<12}{text}" for option, text in options.items()), ""]
    return "\n".join([*lines, closing()])


def parser(program: str, description: str | None, epilog: str = "") -> argparse.ArgumentParser:
    """A parser for `python -m <program>` whose help ends as every help does. Add the arguments to it."""
    made = argparse.ArgumentParser(
        prog=f"python -m {program}",
        description=description,
        epilog="\n\n".join(filter(None, (epilog, closing()))),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for option, text in OPTIONS.items():  # `begin` has acted on them; here they are listed
        made.add_argument(option, action="store_true", help=text)
    return made


def options(arguments: Sequence[str] | None, keys: Mapping[str, str]) -> list[str]:
    """The arguments of a command that has a parser, each setting of a run among them (`paths.data=/data/e2e`) as its option.

    keys: a setting's name -> the option that holds its value (`--data`). None: what the command was started with.
    """
    found = []
    for item in sys.argv[1:] if arguments is None else arguments:
        key, sign, value = item.partition("=")
        quoted = len(value) > 1 and value[0] == value[-1] in ("'", '"')  # as Hydra wants a path with spaces
        found.append(f"{keys[key]}={value[1:-1] if quoted else value}" if sign and key in keys else item)
    return found


def closing() -> str:
    """What every help text ends with: the exit codes, from the one place that documents them."""
    return (errors.__doc__ or "").partition("\n\n")[2].strip()


def _choices(group: str) -> str:
    """The yaml files of one group in lines of about 100 characters; what a profile takes (`decoder`, `encoder`) is left out."""
    stems = sorted(path.stem for path in (CONF / group).glob("*.yaml") if path.stem not in ("decoder", "encoder"))
    lines = [""]
    for stem in stems:
        if len(lines[-1]) + len(stem) > 100:
            lines.append("")
        lines[-1] += f"{stem} "
    return ("\n" + " " * 14).join(line.rstrip() for line in lines)


def paint(text: str, colour: str, stream: TextIO | None = None) -> str:
    """`text` in a colour if the stream is a terminal and NO_COLOR is unset or empty (no-color.org); else as it is."""
    stream = sys.stdout if stream is None else stream
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return text
    return f"\033[{colour}m{text}\033[0m"


def failed(error: errors.UserError | OSError) -> int:
    """Print `error: <line>` on stderr, its traceback too if `--verbose` asks for it; returns the exit code (2 of an OSError)."""
    if verbose():
        traceback.print_exception(error, file=sys.stderr)
    print(paint("error:", RED, sys.stderr), error, file=sys.stderr, flush=True)
    return getattr(error, "exit_code", errors.UserError.exit_code)
