"""absl flag kinds that several commands share."""

import math
import os
from typing import Optional, Union

from absl import flags

from pipeline.errors import UserError


class OnOffParser(flags.BooleanParser):
    """A boolean that also reads on and off, the words that a stage line uses."""

    def parse(self, argument):
        if isinstance(argument, str) and argument.lower() in ("on", "off"):
            return argument.lower() == "on"
        return super().parse(argument)


def define_on_off(name: str, default: bool, help_text: str) -> None:
    flags.DEFINE_flag(flags.Flag(OnOffParser(), flags.ArgumentSerializer(), name, default, help_text, boolean=True))


class FiniteFloatParser(flags.FloatParser):
    """A number within bounds; NaN, which is beyond no bound, and infinity are none."""

    def parse(self, argument):
        value = super().parse(argument)
        if not math.isfinite(value):
            raise ValueError(f"{argument} is no finite number")
        return value


def define_float(name: str, default: Optional[float], help_text: str, low: float = 0.0, high: Optional[float] = None) -> None:
    flags.DEFINE_flag(flags.Flag(FiniteFloatParser(low, high), flags.ArgumentSerializer(), name, default, help_text))


class PathParser(flags.ArgumentParser):
    """A local or remote path; ~ is the home folder, which no shell expands after --flag=."""

    def parse(self, argument):
        return os.path.expanduser(argument)


def define_path(name: str, help_text: str) -> None:
    flags.DEFINE_flag(flags.Flag(PathParser(), flags.ArgumentSerializer(), name, None, help_text))


def define_paths(name: str, help_text: str) -> None:
    """A flag that is repeated."""
    flags.DEFINE_multi(PathParser(), flags.ArgumentSerializer(), name, [], help_text)


ALL_FOLDS = "all"


def parse_folds(text: str) -> Union[str, tuple[int, ...]]:
    """--fold: ALL_FOLDS, or the distinct numbers in 0 or 0:2; raises UserError."""
    if text == ALL_FOLDS:
        return ALL_FOLDS
    numbers = text.split(":")
    if not all(number.isascii() and number.isdigit() for number in numbers):
        raise UserError(f"--fold={text} is neither {ALL_FOLDS} nor numbers as in 0 or 0:2")
    return tuple(dict.fromkeys(int(number) for number in numbers))


def require(*names: str) -> None:
    """Raises UserError naming the first of the flags that was not given.

    (absl's own mark_flag_as_required fails before a flagfile's translation has had its turn.)
    """
    for name in names:
        if flags.FLAGS[name].value in (None, "", []):
            raise UserError(f"--{name} is missing")
