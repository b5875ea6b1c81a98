"""Flagfiles as editors write them: absl reads them, and takes a byte order mark for a part of the first flag."""

from typing import Sequence

from absl import flags

from pipeline.errors import UserError

_MARK = "\ufeff"


def read(values: flags.FlagValues, arguments: Sequence[str]) -> list[str]:
    """The arguments with the flags of flagfiles in their place. Raises UserError where one can't be read."""
    try:
        words = values.read_flags_from_files(list(arguments), force_gnu=False)
        while any(word.startswith(_MARK) for word in words):  # behind it may stand another --flagfile
            words = [word.removeprefix(_MARK) for word in words]
            words = values.read_flags_from_files([word for word in words if not _is_comment(word)], force_gnu=False)
    except UnicodeDecodeError as error:
        raise UserError(f"--flagfile: one is no text in UTF-8 ({error}); save it as UTF-8") from None
    except (flags.Error, OSError) as error:
        raise UserError(f"--flagfile: {error}") from None
    return words


def _is_comment(word: str) -> bool:
    return not word or word.startswith(("#", "//"))
