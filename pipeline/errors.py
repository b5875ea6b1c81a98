"""The one exception whose text is meant for the user."""

from typing import Iterable


class UserError(Exception):
    """A mistake in flags or files, told in one line that names it and says what to do.

    `pipeline.command.run` prints it on stderr and exits with 2, without a traceback.
    """


def unknown(what: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name of any kind (competition, model, op, stage key) that is not `known`."""
    return UserError(f"unknown {what} {name!r}; known: {', '.join(sorted(known))}")
