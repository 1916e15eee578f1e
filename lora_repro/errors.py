"""Errors that a user can mend: programs catch `UserError` at the top, print `error: <line>` and exit with `exit_code`."""


class UserError(Exception):
    """A mistake the user can mend; `str(e)` is one short line that names the mistake and the way out."""

    exit_code = 2


class Busy(UserError):
    """Something another process holds (a run folder, a lock): try again later."""

    exit_code = 75


class NotAvailable(UserError):
    """Something this machine lacks: Java, the hub, an optional package."""

    exit_code = 3


class Preempted(UserError):
    """A signal stopped the run after its checkpoint was written: exit 75 (try again) on SIGTERM, 130 on Ctrl-C."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 130 if number == 2 else 75
