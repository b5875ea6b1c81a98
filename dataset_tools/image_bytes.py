"""What pipeline.pictures prepares, as seen by the decoder of training: TensorFlow's."""

import contextlib
import re
from typing import NamedTuple, Optional

import numpy as np
import tensorflow as tf

from pipeline.pictures import prepare as pictures, remarks, upright
from pipeline.pictures.bad import BadImage, parsing
from pipeline.pictures.prepare import Check, Prepared

_JPEG_START = b"\xff\xd8"
# Of what stands before the pixels: tables, EXIF and the like.
_HARMLESS = re.compile(r"extraneous bytes before marker 0x(db|dd|e.|fe)|Unknown Adobe color|JFIF revision|bad ICC")


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
    pixels, remark = _decode(encoded)
    if pixels is None:  # Pillow will say what is wrong, or decode what TensorFlow can't
        return Check(False)
    if not remark and not _is_complete(encoded, pixels):
        remark = "incomplete progressive scans"
    return Check(not remark, "" if _HARMLESS.search(remark) else remark)


def decode_jpeg(encoded: bytes) -> Decoded:
    """Decodes a JPEG as training will."""
    pixels, remark = _decode(encoded)
    return Decoded(None if pixels is None else (pixels.shape[1], pixels.shape[0]), remark)


def _decode(encoded: bytes) -> tuple[Optional[np.ndarray], str]:
    """(uint8 [height, width, 3] or None where it can't be decoded as a JPEG, libjpeg's first words or '')."""
    if not encoded.startswith(_JPEG_START):  # decode_jpeg would take a PNG, decode_and_crop_jpeg would not
        return None, ""
    pixels = None
    with remarks.heard() as said, contextlib.suppress(tf.errors.InvalidArgumentError):
        pixels = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE").numpy()
    return pixels, said[0] if said else ""


def _is_complete(encoded: bytes, pixels: np.ndarray) -> bool:
    """Whether Pillow decodes a progressive JPEG to the same pixels: where scans are missing, of which libjpeg says nothing,
    its releases differ in how they smooth what is there."""
    try:
        image = upright.open_header(encoded)
        if "progressive" not in image.info:
            return True
        with remarks.heard(), parsing("can't be decoded"):
            return np.array_equal(np.asarray(image.convert("RGB")), pixels)
    except BadImage:
        return False
