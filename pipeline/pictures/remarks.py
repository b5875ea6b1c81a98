"""What decoders write straight to stderr, where progress and our own lines stand: heard, and kept from there."""

import contextlib
import os
import re
import sys
import tempfile
from typing import Iterator

# What may be written there meanwhile by somebody else: the logs of TensorFlow and absl, a progress bar. Lines of libjpeg,
# libtiff, dav1d and the others have no such beginning.
_OF_OTHERS = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWEF] |[IWEF]\d{4} |.*\r")


@contextlib.contextmanager
def heard() -> Iterator[list[str]]:
    """The lines that decoders of the block write to stderr, there when it is over; what others write is passed on."""
    lines: list[str] = []
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr
        yield lines
        return
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            written.seek(0)
            for line in written.read().splitlines(keepends=True):
                if _OF_OTHERS.match(line):
                    os.write(2, line)
                else:
                    lines.append(line.decode("ascii", "replace").strip())
