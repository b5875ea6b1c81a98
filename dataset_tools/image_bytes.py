"""What pipeline.pictures prepares, as seen by the decoder of training: TensorFlow's."""

import contextlib
import os
import re
import sys
from typing import Iterator, NamedTuple, Optional

import tensorflow as tf

from pipeline.pictures import prepare as pictures
from pipeline.pictures.bad import BadImage
from pipeline.pictures.prepare import Check, Prepared

_JPEG_START = b"\xff\xd8"
# What may stand on stderr while TensorFlow decodes and is none of libjpeg's bare lines: its log, absl's, a progress bar.
_OF_OTHERS = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWEF] |[IWEF]\d{4} |.*\r")
# Of pixels that are all there: bytes between the last of them and the end marker, or a marker that says too little.
_HARMLESS = re.compile(r"extraneous bytes before marker 0xd9|Unknown Adobe color|JFIF revision|Invalid SOS|bad ICC")


class Decoded(NamedTuple):
    """What training's decoder makes of a JPEG."""

    size: Optional[tuple[int, int]]  # width, height; None: it can't decode this as a JPEG
    remark: str                      # libjpeg's first words on it; '' where it decodes without one


def prepare(encoded: bytes, max_side: int = 0) -> Prepared:
    """pipeline.pictures' `prepare`: what passes byte for byte is decoded by TensorFlow without a remark of libjpeg's (which
    would stand on the terminal in every epoch). Raises BadImage."""
    prepared = pictures.prepare(encoded, max_side, check)
    if prepared.encoded is not encoded and not decode_jpeg(prepared.encoded).size:
        raise BadImage("TensorFlow can't decode it")
    return prepared


def check(encoded: bytes) -> Check:
    """What TensorFlow's decoder says of a JPEG."""
    size, remark = decode_jpeg(encoded)
    if size is None:  # Pillow will say what is wrong, or decode what TensorFlow can't
        return Check(False)
    return Check(not remark, "" if _HARMLESS.search(remark) else remark)


def decode_jpeg(encoded: bytes) -> Decoded:
    """Decodes a JPEG as training will."""
    if not encoded.startswith(_JPEG_START):  # decode_jpeg would take a PNG, decode_and_crop_jpeg would not
        return Decoded(None, "")
    said: list[str] = []
    try:
        with _listening(said):
            height, width, _ = tf.io.decode_jpeg(encoded, channels=3).shape
    except tf.errors.InvalidArgumentError:
        return Decoded(None, said[0] if said else "")
    return Decoded((width, height), said[0] if said else "")


@contextlib.contextmanager
def _listening(said: list[str]) -> Iterator[None]:
    """Puts what libjpeg writes straight to stderr, where progress and our own lines stand, into `said`, line by line.

    Whatever else is written there meanwhile is passed on.
    """
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    heard = os.memfd_create("stderr")
    try:
        os.dup2(heard, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        with open(heard, "rb") as file:
            file.seek(0)
            for line in file.read().splitlines(keepends=True):
                if _OF_OTHERS.match(line):
                    os.write(2, line)
                else:
                    said.append(line.decode("ascii", "replace").strip())
