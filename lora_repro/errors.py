"""Errors that a user can mend: programs catch `UserError` at the top, print `error: <line>` and exit with its `exit_code`.

exit codes of every command:
  0     done
  1     something failed that we did not foresee (a traceback says where); of doctor: something needed is missing;
        of verify: a cell differs
  2     a mistake in what was asked for; the line after `error:` says how to mend it. Of a sweep: its first failed run's code;
        of verify: no cell differs, but one was not run
  3     this machine lacks something: Java, the model hub, a package, a backbone
  75    come back later: another process has this run, or SIGTERM stopped it; training writes its checkpoint first
  130   Ctrl-C; the same command goes on from the checkpoint
  141   whoever read the output has gone, as in `| head`
"""


class UserError(Exception):
    """A mistake that the user can fix; `str(e)` is one short line that names the mistake and the fix."""

    exit_code = 2


class Busy(UserError):
    """Something another process holds (a run folder, a lock): try again later."""

    exit_code = 75


class NotAvailable(UserError):
    """Something this machine lacks: Java, the hub, an optional package."""

    exit_code = 3


class Terminated(KeyboardInterrupt):
    """SIGTERM outside training: it unwinds the stack as Ctrl-C does."""

    exit_code = 75


class Preempted(UserError):
    """A signal stopped the run after its checkpoint was written: exit 75 (try again) on SIGTERM, 130 on Ctrl-C."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 130 if number == 2 else 75
