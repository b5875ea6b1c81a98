"""What a terminal shows beyond text: bold, where there is a terminal that has it and nobody has asked for none."""

import os
import sys
from typing import Optional, TextIO


def has_styles(stream: TextIO) -> bool:
    """Whether it is a terminal with styles; never where NO_COLOR is set (no-color.org) or TERM is dumb."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def bold(text: str, stream: Optional[TextIO] = None) -> str:
    """As it is to be written to a stream; None: stdout."""
    return f"\033[1m{text}\033[0m" if has_styles(stream or sys.stdout) else text
