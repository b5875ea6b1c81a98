"""How every command starts and ends: flags parsed before TensorFlow is imported, one line for a mistake."""

import logging as standard_logging
import os
import sys
from typing import Callable, Sequence

from absl import app, flags, logging

from pipeline.errors import UserError

USAGE_EXIT_CODE = 2


def _fail(message: str) -> None:
    command = os.path.basename(sys.argv[0])
    print(f"{command}: {' '.join(str(message).split())}", file=sys.stderr)
    # os._exit would lose buffered output and sys.exit would run TensorFlow's chatty teardown after our line.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(USAGE_EXIT_CODE)


def _parse_flags(argv: Sequence[str]) -> list[str]:
    try:
        # The mains import little, so flags of absl itself and of the command are all that is known here.
        rest = flags.FLAGS(list(argv))
    except flags.Error as error:
        _fail(f"{error} (--help lists the flags)")
    except (OSError, UnicodeDecodeError) as error:
        _fail(f"--flagfile: {error}")
    if len(rest) > 1:
        _fail(f"unexpected argument {rest[1]!r}; flags are written --name=value (--help lists them)")
    return rest


def _is_of_the_machine(error: Exception) -> bool:
    """Whether TensorFlow ran out of memory or disk, or found no permission or file, rather than a bug of ours."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        return False
    errors = tensorflow.errors
    return isinstance(error, (errors.ResourceExhaustedError, errors.PermissionDeniedError, errors.NotFoundError,
                              errors.OutOfRangeError, errors.UnavailableError))


def _show_flags_in_help() -> None:
    """--help lists the flags of the main's own module; ours stand in modules of the pipeline.

    (Those that are only there for a published solution's flagfiles are left to --helpfull.)
    """
    for name, defined in list(flags.FLAGS.flags_by_module_dict().items()):
        if name in ("pipeline.training_flags", "pipeline.prior_flags", "pipeline.flag_types", "pipeline.strategy_flags"):
            for flag in defined:
                flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)  # absl's name for the main module


def run(main: Callable[[], None]) -> None:
    """Parses the flags and calls `main`; a `UserError` ends with its one line on stderr and exit code 2."""

    def guarded(_: list[str]) -> None:
        logging.use_absl_handler()
        logging.set_verbosity(logging.INFO)
        for library in ("matplotlib", "tensorflow"):  # they tell of every font and connection
            standard_logging.getLogger(library).setLevel(standard_logging.WARNING)
        try:
            main()
        except UserError as error:
            _fail(error)
        except OSError as error:  # a folder that can't be written, a full disk: it names the file by itself
            _fail(error)
        except Exception as error:
            if not _is_of_the_machine(error):
                raise
            _fail(str(error).split("\n")[0][:400])
        except KeyboardInterrupt:
            print("interrupted; nothing half written counts as finished, and the same command may be given again", file=sys.stderr)
            sys.exit(130)

    _show_flags_in_help()
    app.run(guarded, flags_parser=_parse_flags)
