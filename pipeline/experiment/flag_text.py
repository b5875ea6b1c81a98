"""Flags of other commands as text: what a recipe and what is put after it say, without those commands' own parsers.

run.py asks the steps' flags for what it decides by (folds, boxes, devices), and whether they are those of last time.
"""

import collections
import shlex
from typing import Mapping, Optional, Sequence

from absl import flags

from pipeline import flag_files
from pipeline.errors import UserError

REPEATED = ("stage", "predictions", "without_tta")  # all of their values count, in order; of any other flag the last one


def split(text: str, flag: str) -> list[str]:
    """The flags in a text, separated by spaces as in a shell. Raises UserError, which names `flag`."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UserError(f"--{flag}: {error} in {text!r}") from None


def resolve(arguments: Sequence[str]) -> dict[str, list[str]]:
    """The values of each flag in order, those of flagfiles in their place. Raises UserError where one can't be read."""
    words = flag_files.read(flags.FlagValues(), arguments)
    found = collections.defaultdict(list)
    for position, word in enumerate(words):
        if not word.startswith("-") or word == "--":
            continue  # the value of the flag before it
        name, equals, value = word.lstrip("-").partition("=")
        following = words[position + 1] if position + 1 < len(words) else "-"
        found[name].append(value if equals else "" if following.startswith("-") else following)
    return dict(found)


def last(values: Mapping[str, Sequence[str]], name: str) -> Optional[str]:
    """The value that counts; None where the flag is not given."""
    return values[name][-1] if values.get(name) else None


def settled(arguments: Sequence[str]) -> dict[str, object]:
    """What the flags come to, as JSON values: of each the value that counts, or all where it may be repeated."""
    return {name: values if name in REPEATED else values[-1] for name, values in sorted(resolve(arguments).items())}


def differences(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """A phrase for each flag whose value is another."""
    return [_difference(name, old.get(name), new.get(name)) for name in dict.fromkeys([*old, *new])
            if old.get(name) != new.get(name)]


def _difference(name: str, before: object, after: object) -> str:
    if isinstance(before, list) and isinstance(after, list):  # of repeated ones, those that differ
        before, after = ([one for one in these if one not in others] for these, others in ((before, after), (after, before)))
        before, after = ("; ".join(one) or "other places" for one in (before, after))
    told = [f"not given {when}" if value is None else f"{value} {when}"
            for value, when in ((before, "before"), (after, "now"))]
    return f"--{name}: {', '.join(told)}"
