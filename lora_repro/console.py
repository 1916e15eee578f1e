"""What every command prints and how it ends: notes, warnings, errors of one line, progress bars, colours on terminals only.

`--quiet` and `--verbose` set the environment variable LORA_REPRO_VERBOSITY: it is no setting of a run, so no part of its
signature, and child processes inherit it. Only the standard library is imported here.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from lora_repro import errors

if TYPE_CHECKING:
    from tqdm import tqdm

VARIABLE = "LORA_REPRO_VERBOSITY"
TOGETHER = "LORA_REPRO_TOGETHER"  # set for runs that share a terminal
MARK = "LORA_REPRO_STOP"  # path of a file that appears, with the reason, when a sweep of several processes is to stop
CTRL_C = "Ctrl-C"
LOGGED = 30.0  # seconds between two states of a progress bar in a log
RED, GREEN, YELLOW = "31", "32", "33"


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
        except KeyboardInterrupt as stop:
            return report_interrupt(stop)
        except Exception as error:
            if failure := errors.known(error) or (error if isinstance(error, OSError) else None):
                return report_error(failure)
            raise

    return guarded


def report_interrupt(stop: KeyboardInterrupt) -> int:
    """Say which signal stopped the command; returns its exit code."""
    cause = "SIGTERM" if isinstance(stop, errors.Terminated) and not interrupted() else CTRL_C
    message = f"stopped by {cause}; run the same command again to resume"
    print(paint("error:", RED, sys.stderr), message, file=sys.stderr, flush=True)
    return int(getattr(stop, "exit_code", errors.INTERRUPTED))


def interrupted() -> bool:
    """Whether this process runs one of several runs that Ctrl-C stops: it gets SIGTERM from the sweep's process."""
    try:
        return Path(os.environ.get(MARK, "")).read_text() == CTRL_C
    except OSError:
        return False


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


def warn_ignored_tracker(arguments: Sequence[str], subject: str) -> None:
    """If a tracker was asked for, say that `tracker=` has no effect on a command that starts no run."""
    if any(item.startswith("tracker=") and item != "tracker=none" for item in arguments):
        say(f"tracker= has no effect here: {subject} are not mirrored, only runs")


def bar(total: int, label: str, unit: str, initial: int = 0, **options: Any) -> tqdm:
    """A progress bar with the time left, on stderr; one line every half minute in a log, none where runs share the terminal."""
    from tqdm import tqdm  # here: --help does not wait for it

    if os.environ.get(TOGETHER):  # the sweep's process shows them all on one line
        options = {"disable": True, **options}
    tty = sys.stderr.isatty()
    every = {"mininterval": 1.0} if tty else {"mininterval": LOGGED, "maxinterval": LOGGED}
    return tqdm(total=total, initial=initial, desc=label, unit=unit, dynamic_ncols=True, **every, **options)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as those of all commands."""

    def error(self, message: str) -> NoReturn:
        raise errors.UserError(f"{message}; see {self.prog} --help")


def parser(verb: str, description: str | None) -> argparse.ArgumentParser:
    """A parser for `lora-repro <verb>`. `help_of` reads its arguments from the source: names and help are literals."""
    program = f"lora-repro {verb}"
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
    words = []
    for item in arguments:
        key, sign, value = item.partition("=")
        quoted = len(value) > 1 and value[0] == value[-1] in ("'", '"')  # as Hydra wants a path with spaces
        words.append(f"{keys[key]}={value[1:-1] if quoted else value}" if sign and key in keys else item)
    return words


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
