"""How every command starts and ends: flags parsed before TensorFlow is imported, one line for what went wrong.

Exit codes: 2 for a mistake found before work began, 3 for what goes wrong later (a loss that is no number, memory, disk, a
damaged shard), 75 where it was preempted or --max_minutes were over, 130 where it was interrupted. A bug of ours ends with
its traceback and Python's 1.
"""

import errno
import io
import logging as standard_logging
import os
import re
import signal
import sys
from typing import Callable, Optional, Sequence

from absl import app, flags, logging

from pipeline import flag_files, flag_help
from pipeline.errors import Preempted, UserError, WorkError

USAGE_EXIT_CODE = 2
WORK_EXIT_CODE = 3
PREEMPTED_EXIT_CODE = 75  # EX_TEMPFAIL: the same command goes on
INTERRUPTED_EXIT_CODE = 130  # what a shell gives for SIGINT

_INTERRUPTED = "interrupted; nothing half written counts as finished, and the same command may be given again"
_EXHAUSTED = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EFBIG)

_LONGEST_LINE = 4000

_work_has_begun = False


def begin_work() -> None:
    """Says that flags and files were found good and the first training, shard or prediction begins.

    Whatever ends this process from now on is no mistake in how the command was given.
    """
    global _work_has_begun
    _work_has_begun = True


def outcome(error: BaseException) -> Optional[tuple[int, str]]:
    """(exit code, the line that tells of it) of what ended a command; None for a bug, which needs its traceback."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED_EXIT_CODE, _INTERRUPTED
    if isinstance(error, Preempted):
        return PREEMPTED_EXIT_CODE, str(error)
    exhausted = _is_exhausted(error)
    if not (exhausted or isinstance(error, (UserError, OSError)) or _is_of_the_machine(error)):
        return None
    late = exhausted or _work_has_begun or isinstance(error, WorkError)
    return WORK_EXIT_CODE if late else USAGE_EXIT_CODE, _line_of(error)


def _is_exhausted(error: Optional[BaseException]) -> bool:
    """Whether memory or disk ran out, be it told by an error of ours."""
    if error is None:
        return False
    return (isinstance(error, (MemoryError, *_tensorflow_errors("ResourceExhaustedError")))
            or isinstance(error, OSError) and error.errno in _EXHAUSTED or _is_exhausted(error.__cause__))


def _is_of_the_machine(error: BaseException) -> bool:
    """Whether TensorFlow found no permission or file, or storage gone or damaged, rather than a bug of ours."""
    return (isinstance(error, _tensorflow_errors("PermissionDeniedError", "NotFoundError", "OutOfRangeError",
                                                 "UnavailableError", "DataLossError"))
            # A bucket that can't be reached; of TensorFlow's own parts the same class would be a bug.
            or isinstance(error, _tensorflow_errors("FailedPreconditionError", "AbortedError")) and "HTTP" in str(error))


def _tensorflow_errors(*names: str) -> tuple[type, ...]:
    """Its exceptions of these names; none before it was imported, which would cost seconds."""
    tensorflow = sys.modules.get("tensorflow")
    return tuple(getattr(tensorflow.errors, name) for name in names) if hasattr(tensorflow, "errors") else ()


def _line_of(error: BaseException) -> str:
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"out of memory {error}"
    if isinstance(error, OSError):  # a folder that can't be written, a full disk: it names the file by itself
        return str(error)
    lines = [line.strip() for line in str(error).split("\n") if line.strip()] or [type(error).__name__]
    # From a compiled step, what happened comes after where, just before the node's name.
    node = next((number for number, line in enumerate(lines) if line.startswith("[[")), 0)
    # {{function_node …}} and [Op:…] are TensorFlow's names for its own parts.
    return re.sub(r"\{\{.*?\}\} ?| ?\[Op:\w+\]", "", lines[max(node - 1, 0)])[:400]


def _end(code: int, message: str) -> None:
    command = os.path.basename(sys.argv[0])
    line = " ".join(str(message).split())
    line = line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}…"  # who gave a flag of a million characters, say
    print(f"{command}: {line}", file=sys.stderr)
    # os._exit would lose buffered output and sys.exit would run TensorFlow's chatty teardown after our line.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _fail(message: str) -> None:
    _end(USAGE_EXIT_CODE, message)


def _parse_flags(argv: Sequence[str]) -> list[str]:
    try:
        # The mains import little, so flags of absl itself and of the command are all that is known here.
        rest = flags.FLAGS([*argv[:1], *flag_files.read(flags.FLAGS, argv[1:])])
    except flags.Error as error:
        _fail(f"{error} (--help lists the flags)")
    except UserError as error:
        _fail(str(error))
    if len(rest) > 1 and not flags.FLAGS.is_gnu_getopt():
        _fail(f"unexpected argument {rest[1]!r}; flags are written --name=value (--help lists them)")
    return rest


def _speak_any_text() -> None:
    """Sees to it that names of any script can be read, written and told, whatever the locale and the terminal are.

    Python, the file system and TensorFlow must agree on how a name is written: where the locale says otherwise than UTF-8
    (a cron job's, say), this process begins anew in Python's UTF-8 mode. What a terminal or a log can't show is escaped.
    """
    if sys.getfilesystemencoding() != "utf-8" and not sys.flags.utf8_mode:
        shown = os.environ.get("PYTHONIOENCODING") or sys.stdout.encoding
        os.execve(sys.executable, sys.orig_argv, {**os.environ, "PYTHONUTF8": "1", "PYTHONIOENCODING": shown})
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a test may have put something else in its place
            stream.reconfigure(errors="backslashreplace")


def run(main: Callable[..., None], takes_arguments: bool = False) -> None:
    """Parses the flags and calls `main`; what can be told in one line on stderr ends with the exit code of `outcome`.

    Args: takes_arguments: `main` gets what is no flag, each as an argument of its own; else there may be none.
    """
    _speak_any_text()
    flags.FLAGS.set_gnu_getopt(takes_arguments)  # flags may stand behind arguments

    def guarded(argv: list[str]) -> None:
        logging.use_absl_handler()
        logging.set_verbosity(logging.INFO)
        for library in ("matplotlib", "tensorflow"):  # they tell of every font and connection
            standard_logging.getLogger(library).setLevel(standard_logging.WARNING)
        try:
            main(*argv[1:])
        except (Exception, KeyboardInterrupt, Preempted) as error:
            if isinstance(error, KeyboardInterrupt):
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one would cut the line short
            found = outcome(error)
            if found is None:
                raise
            _end(*found)

    flag_help.define()
    app.run(guarded, flags_parser=_parse_flags)
