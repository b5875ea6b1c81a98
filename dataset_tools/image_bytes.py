"""Any picture in, an upright RGB JPEG out that TensorFlow's decoder takes."""

import contextlib
import io
import os
import struct
import warnings
from typing import Iterator, NamedTuple, Optional

import numpy as np
import tensorflow as tf
from PIL import Image, UnidentifiedImageError

QUALITY = 95
# Full chroma resolution: what is encoded a second time should lose no colour that fine-grained classes may differ in.
SUBSAMPLING = 0
_ORIENTATION = 274  # EXIF tag
_JPEG_START = b"\xff\xd8"
# Pillow's default limit warns; a picture of twice as many pixels is taken for a decompression bomb.
MAX_PIXELS = 2 * 89_478_485
MAX_JPEG_SIDE = 65_500  # pixels
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's parsers were seen to raise on broken files, besides OSError.
_PARSE_ERRORS = (SyntaxError, ValueError, TypeError, KeyError, IndexError, OverflowError, ZeroDivisionError,
                 EOFError, struct.error)


class BadImage(Exception):
    """A picture that can't be used; the text is the reason."""


class Prepared(NamedTuple):
    encoded: bytes  # an upright RGB JPEG
    width: int      # pixels
    height: int     # pixels


def prepare(encoded: bytes, max_side: int = 0, short_side: int = 0) -> Prepared:
    """Makes a picture fit for a record.

    An RGB JPEG that is upright, of the size that it is to have and decodable by TensorFlow passes byte for byte; anything
    else (CMYK, grayscale, palette, transparent over white, 16 bits, other formats, EXIF-rotated) is encoded anew.

    Args:
      encoded: the file's bytes.
      max_side: the longer side in pixels at most; 0 for as it is.
      short_side: the shorter side in pixels, which is enlarged too; 0 for as it is. Not with max_side.

    Raises:
      BadImage: with the reason, if it can't be decoded whole, or becomes too long.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd metadata of a good picture; the limit on pixels is checked below
        image = _open(encoded)
        orientation = _orientation(image)
        size = _size(image.size, max_side, short_side)
        if image.format in ("JPEG", "MPO") and image.mode == "RGB" and orientation == 1 and image.size == size:
            decoded = tf_jpeg_size(encoded)
            if decoded:
                return Prepared(encoded, *decoded)
        return _encode(_upright_rgb(image, orientation, size))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """libjpeg writes its remarks on odd files straight to stderr, where progress and our own lines stand."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def upright_rgb(encoded: bytes) -> Image.Image:
    """The picture as it is meant to be seen, at its full size. Raises BadImage."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = _open(encoded)
        return _upright_rgb(image, _orientation(image), image.size)


def tf_jpeg_size(encoded: bytes) -> Optional[tuple[int, int]]:
    """(width, height) as decoded by training's decoder; None where it can't decode this as a JPEG."""
    if not encoded.startswith(_JPEG_START):  # decode_jpeg would take a PNG, decode_and_crop_jpeg would not
        return None
    try:
        with _quiet():
            height, width, _ = tf.io.decode_jpeg(encoded, channels=3).shape
    except tf.errors.InvalidArgumentError:
        return None
    return width, height


def _open(encoded: bytes) -> Image.Image:
    if not encoded:
        raise BadImage("empty file")
    try:
        image = Image.open(io.BytesIO(encoded))
    except UnidentifiedImageError as error:
        raise BadImage("not a picture") from error
    except Image.DecompressionBombError as error:
        raise BadImage(f"more than {MAX_PIXELS} pixels") from error
    except (OSError, *_PARSE_ERRORS) as error:
        raise BadImage(f"broken header: {error}") from error
    if image.width * image.height > MAX_PIXELS:
        raise BadImage(f"more than {MAX_PIXELS} pixels")
    return image


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where there is none or the EXIF data is broken, which no good picture dies of."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except (OSError, *_PARSE_ERRORS):
        return 1
    return orientation if orientation in _UPRIGHT else 1


def _size(size: tuple[int, int], max_side: int, short_side: int) -> tuple[int, int]:
    """Width and height that a picture of `size` gets; raises BadImage where no JPEG is so long."""
    if short_side:
        wanted, of = short_side, min(size)
    elif max_side and max(size) > max_side:
        wanted, of = max_side, max(size)
    else:
        return size
    width, height = (max(1, round(side * wanted / of)) for side in size)
    if max(width, height) > MAX_JPEG_SIDE:
        raise BadImage(f"{size[0]} × {size[1]} pixels are too long for a shorter side of {short_side}")
    return width, height


def _upright_rgb(image: Image.Image, orientation: int, size: tuple[int, int]) -> Image.Image:
    try:
        image.load()
        rgb = _to_rgb(image)
    except (OSError, *_PARSE_ERRORS) as error:
        raise BadImage(f"can't be decoded: {error}") from error
    rgb = rgb if rgb.size == size else rgb.resize(size, Image.Resampling.LANCZOS)
    # Not ImageOps.exif_transpose: it rewrites the EXIF data, and fails where that is broken.
    return rgb.transpose(_UPRIGHT[orientation]) if orientation != 1 else rgb


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow clips 16-bit grays at 255; their upper byte is the picture.
        gray = np.clip(np.asarray(image).astype(np.int64), 0, 65535) >> 8
        return Image.fromarray(gray.astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise BadImage("floating-point pixels, whose range no format tells")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _encode(image: Image.Image) -> Prepared:
    buffer = io.BytesIO()
    try:
        # Through plain pixels: Pillow would carry ICC and other metadata of the source along.
        Image.frombytes("RGB", image.size, image.tobytes()).save(
            buffer, "JPEG", quality=QUALITY, subsampling=SUBSAMPLING)
    except OSError as error:  # a JPEG has at most MAX_JPEG_SIDE pixels a side
        raise BadImage(f"can't be encoded as JPEG: {error}") from error
    encoded = buffer.getvalue()
    if not tf_jpeg_size(encoded):
        raise BadImage("TensorFlow can't decode it")
    return Prepared(encoded, *image.size)
