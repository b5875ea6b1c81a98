"""The exceptions whose text is meant for the user."""

from typing import Iterable


class UserError(Exception):
    """What a person can mend, told in one line that names the flag or file and says what to do.

    `pipeline.command.run` prints it on stderr, without a traceback, and exits with 2, or with 3 where work had begun.
    """


class WorkError(UserError):
    """What goes wrong though flags and files were found good: a loss that is no number, a damaged record, a process that
    died. Exit code 3, whenever it is found."""


class Preempted(BaseException):
    """The machine is taken away, or --max_minutes are over: what there is is saved, and the same command goes on.

    No Exception, as KeyboardInterrupt is none: whoever tells why something failed has nothing to tell. Exit code 75.
    """


def unknown(what: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name of any kind (competition, model, op, stage key) that is not `known`."""
    return UserError(f"unknown {what} {name!r}; known: {', '.join(sorted(known))}")
