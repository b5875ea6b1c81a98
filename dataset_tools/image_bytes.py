"""What pipeline.pictures prepares, as seen by the decoder of training: TensorFlow's."""

import contextlib
import re
from typing import NamedTuple, Optional

import tensorflow as tf

from pipeline.pictures import prepare as pictures, remarks
from pipeline.pictures.bad import BadImage
from pipeline.pictures.prepare import Check, Prepared

_JPEG_START = b"\xff\xd8"
# Of pixels that are all there: bytes between the last of them and the end marker, or a marker that says too little.
_HARMLESS = re.compile(r"extraneous bytes before marker 0xd9|Unknown Adobe color|JFIF revision|Invalid SOS|bad ICC")


class Decoded(NamedTuple):
    """What training's decoder makes of a JPEG."""

    size: Optional[tuple[int, int]]  # width, height; None: it can't decode this as a JPEG
    remark: str                      # libjpeg's first words on it; '' where it decodes without one


def prepare(encoded: bytes, max_side: int = 0, short_side: int = 0) -> Prepared:
    """pipeline.pictures' `prepare`: what passes byte for byte is decoded by TensorFlow without a remark of libjpeg's (which
    would stand on the terminal in every epoch). Raises BadImage."""
    prepared = pictures.prepare(encoded, max_side, short_side, check)
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
    size = None
    with remarks.heard() as said, contextlib.suppress(tf.errors.InvalidArgumentError):
        height, width, _ = tf.io.decode_jpeg(encoded, channels=3).shape
        size = width, height
    return Decoded(size, said[0] if said else "")
