"""Errors that a user can fix: programs catch `UserError` at the top, print `error: <line>` and exit with its `exit_code`.

exit codes of every command:
  0     done
  1     an unexpected failure (a traceback shows where); doctor: something needed is missing; verify: a cell differs,
        or with --all a published file is not what it was
  2     a mistake in the command; the line after `error:` says how to fix it. A sweep exits with its first failed run's code;
        verify: no cell differs, but not every cell is reproduced
  3     this machine lacks something: Java, the model hub, a package, a backbone, memory
  75    try again later: another process holds this run, or SIGTERM stopped it (training writes a checkpoint first)
  130   Ctrl-C; run the same command again to resume from the checkpoint
  141   the reader of the output has gone, as in `| head`
"""

import re

STOPPED, INTERRUPTED = 75, 130  # exit codes of the list above
# What Python, libc, PyTorch and the dynamic linker say where memory ends.
MEMORY = re.compile(r"allocate memory|out of memory|bad_alloc|failed to map segment|MemoryError", re.IGNORECASE)
LOGIN = re.compile(r"(?<=://)[^/?#\s]+(?=@)")  # user and password, or a token, in a URL


def printable(text: str) -> str:
    """`text` on one line of visible characters, without what logs in at a URL: names come from files and servers of others."""
    text = LOGIN.sub("***", text)
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


class UserError(Exception):
    """A mistake that the user can fix; `str(e)` is one short `printable` line that names the mistake and the fix."""

    exit_code = 2

    def __str__(self) -> str:
        return printable(super().__str__())


class Busy(UserError):
    """Something another process holds (a run folder, a lock): try again later."""

    exit_code = 75


class NotAvailable(UserError):
    """Something this machine lacks: Java, the hub, an optional package."""

    exit_code = 3


def known(error: BaseException) -> UserError | None:
    """`error` as what a command tells in one line: a UserError, or memory that ended, whatever that became on its way here.

    None for an error that nobody foresaw.
    """
    why = ""
    cause: BaseException | None = error
    while cause is not None:  # the first cause says most
        lines = [*str(cause).split("\n"), type(cause).__name__]
        why = next((line for line in lines if MEMORY.search(line)), "") or why
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    if not why:
        return error if isinstance(error, UserError) else None
    failure = NotAvailable(f"there is not enough memory ({why.strip():.200}): free some, or need less (train.micro_batch_size=1)")
    failure.__cause__ = error  # for --verbose
    return failure


class Terminated(KeyboardInterrupt):
    """SIGTERM outside training: it unwinds the stack as Ctrl-C does."""

    exit_code = 75


class Preempted(UserError):
    """A signal stopped the run after its checkpoint was written: exit 75 (try again) on SIGTERM, 130 on Ctrl-C."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = INTERRUPTED if number == 2 else STOPPED
