"""--help of every command: its flags under headings, the usual ones first.

A command says `heading(…)` where the flags of a subject begin, and `usual(…)` for those that most of its callers give.
(--helpfull stays absl's own and has everything, its own flags too.)
"""

import os
import re
import shutil
import sys
import textwrap
from typing import Callable, Iterator, Optional

from absl import app, flags

import pipeline
from pipeline import flag_types

NARROWEST, WIDEST = 40, 120  # columns; longer lines are hard to read

_USUAL = "The usual flags"
_WITHOUT_HEADING = "Flags"
_CLOSING = ("Flags are written --name=value; --flagfile=FILE reads them from a file, a line each, and flags after it win. "
            "--helpfull lists the logging's own flags too, --version tells the version.")

# The names that an enum takes, which our line has already, and how to repeat a flag.
_ADDED_BY_ABSL = re.compile(r"^<[^>]*>: |;\s+repeat this option to specify a list of values$")

_headings: list[tuple[str, frozenset[str]]] = []  # with the flags that were there before
_usual: list[str] = []
_elsewhere = ""


def heading(text: str) -> None:
    """Says that the flags which are defined from now on, up to the next heading, stand under this one."""
    _headings.append((text, frozenset(flags.FLAGS)))


def usual(*names: str) -> None:
    """Says which flags come first, in this order, whatever their heading. The last call counts."""
    _usual[:] = names


def elsewhere(text: str) -> None:
    """Says in a sentence where the flags that were defined up to now are listed, which --help then leaves out."""
    global _elsewhere
    _elsewhere = text
    _headings[:] = [("", frozenset())]


class _Telling(flags.BooleanFlag):
    """A flag that prints something to stdout and ends the command with 0."""

    def __init__(self, name: str, help_text: str, tell: Callable[[], str], short_name: Optional[str] = None):
        super().__init__(name, False, help_text, short_name=short_name, allow_override=True)
        self._tell = tell

    def parse(self, argument):
        if self._parse(argument):
            try:
                print(self._tell())
                sys.stdout.flush()
            except BrokenPipeError:  # whoever reads has seen enough, as `| head` does
                os._exit(0)  # what is left in the buffer can't be written any more
            sys.exit(0)


def define() -> None:
    """Puts our --help in the place of absl's, and --version beside it."""
    app.define_help_flags()
    for name, short_name in (("help", "?"), ("helpshort", "h")):
        flags.DEFINE_flag(_Telling(name, "Lists the command's flags.", _help_here, short_name))
    flags.DEFINE_flag(_Telling("version", "Tells the version.", lambda: f"Fieldmark {pipeline.__version__}"))


def _help_here() -> str:
    columns = shutil.get_terminal_size((WIDEST, 24)).columns
    return text_of(sys.modules["__main__"].__doc__ or "", max(NARROWEST, min(columns, WIDEST)))


def text_of(docstring: str, width: int) -> str:
    """What --help prints of the flags that are defined, for a command of this docstring."""
    about, usage = _split(docstring)
    parts = [_wrapped(about, width, "")]
    if usage:
        parts.append(_wrapped(f"usage: {usage}", width, "    ", first=""))
    for title, names in _groups():
        lines = [line for name in names for line in _lines_of(flags.FLAGS[name], width)]
        parts.append("\n".join([_wrapped(f"{title}:", width, ""), *lines]))
    parts += [_wrapped(text, width, "") for text in (_elsewhere, _CLOSING) if text]
    return "\n\n".join(parts)


def _split(docstring: str) -> tuple[str, str]:
    """What a command does, and how it is called, of `Does this: python command.py …`; '' where it isn't told so."""
    paragraphs = docstring.strip().split("\n\n")
    found = re.match(r"(.*?)[.:] +(python (?:-m )?[\w.]+(?: \[.*\])?(?: --\S+)*(?: [A-Z_]+…)?)", " ".join(docstring.split()))
    return (f"{found[1]}.", found[2]) if found else (" ".join(paragraphs[0].split()), "")


def _groups() -> Iterator[tuple[str, list[str]]]:
    """(title, its flags): the usual ones, then by heading, in the order in which they were defined."""
    ours = [name for name in flags.FLAGS if _is_ours(name)]
    first = [name for name in _usual if name in ours]
    marks = _headings or [(_WITHOUT_HEADING, frozenset())]
    ends = [*(before for _, before in marks[1:]), frozenset(flags.FLAGS)]
    groups = [(_USUAL, first)]
    for (title, before), end in zip(marks, ends):
        groups.append((title, [name for name in ours if name in end - before and name not in first]))
    return ((title, names) for title, names in groups if title and names)


def _is_ours(name: str) -> bool:
    """Whether it is neither a library's nor one that only tells something, nor another flag's short name."""
    flag = flags.FLAGS[name]
    module = flags.FLAGS.find_module_defining_flag(name) or ""
    return name == flag.name and not isinstance(flag, _Telling) and not module.startswith("absl.")


def _lines_of(flag: flags.Flag, width: int) -> Iterator[str]:
    """--name=VALUE [default], then what it does."""
    value = _value_of(flag)
    default = _default_of(flag)
    no = "[no]" if flag.boolean else ""
    yield _wrapped(f"--{no}{flag.name}{value and '='}{value}{default and '  '}{default}", width, "      ", first="  ")
    yield _wrapped(_ADDED_BY_ABSL.sub("", flag.help), width, "      ")


def _value_of(flag: flags.Flag) -> str:
    """What stands behind --name=."""
    parser = flag.parser
    if flag.boolean:
        return ""
    if isinstance(parser, flags.EnumParser):
        return "|".join(parser.enum_values)
    kinds = ((flag_types.PathParser, "PATH"), (flags.ListParser, "A,B,…"), (flags.IntegerParser, "N"),
             (flags.FloatParser, "X"))
    kind = next((text for parsers, text in kinds if isinstance(parser, parsers)), "TEXT")
    return f"{kind} …" if isinstance(flag, flags.MultiFlag) else kind


def _default_of(flag: flags.Flag) -> str:
    """In brackets; nothing where there is none, or where the help tells it."""
    if flag.boolean:
        return "[on]" if flag.default else "[off]"
    return "" if flag.default in (None, "", []) else f"[{flag.default_as_str.strip(chr(39))}]"


def _wrapped(text: str, width: int, indent: str, first: Optional[str] = None) -> str:
    return textwrap.fill(text, width, initial_indent=indent if first is None else first, subsequent_indent=indent,
                         break_long_words=False, break_on_hyphens=False)
