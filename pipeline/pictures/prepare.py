"""The bytes of any picture file → the upright RGB JPEG that a record holds, and whoever serves a model makes alike."""

import io
import struct
import zlib
from typing import Callable, NamedTuple

from PIL import Image

from pipeline.pictures import upright
from pipeline.pictures.bad import BadImage

QUALITY = 95
# Full chroma resolution: what is encoded a second time should lose no colour that fine-grained classes may differ in.
SUBSAMPLING = 0


class Prepared(NamedTuple):
    encoded: bytes  # an upright RGB JPEG
    width: int      # pixels
    height: int     # pixels
    remark: str = ""  # of a picture that was taken though its data is damaged: what tells so


class Check(NamedTuple):
    """What a decoder says of a JPEG: whether it may be kept byte for byte, and what of its data is damaged."""

    keeps: bool
    damage: str = ""


def prepare(encoded: bytes, max_side: int = 0, short_side: int = 0,
            check: Callable[[bytes], Check] = lambda _: Check(True)) -> Prepared:
    """Makes a picture fit for a record.

    An RGB JPEG that is upright, of the size that it is to have and kept by `check` passes byte for byte; anything else (CMYK,
    grayscale, palette, transparent over white, 16 bits, other formats, EXIF-rotated) is encoded anew.

    Args:
      encoded: the file's bytes.
      max_side: the longer side in pixels at most; 0 for as it is.
      short_side: the shorter side in pixels, which is enlarged too; 0 for as it is. Not with max_side.
      check: asked of a JPEG that might pass byte for byte; the decoder of training, where records are written.

    Raises:
      BadImage: with the reason, if it can't be decoded whole, or becomes too long.
    """
    image = upright.open_header(encoded)
    damage = ""
    if is_rgb_jpeg(image):
        keeps, damage = check(encoded)
        fits = upright.sized(image.size, max_side, short_side) == image.size
        if keeps and fits and upright.orientation(image) == 1:
            return Prepared(encoded, *image.size)
    rgb = upright.upright_rgb(encoded, max_side, short_side)
    if image.format == "PNG" and not _png_checksums_hold(encoded):
        damage = "wrong checksum"
    return Prepared(encode(rgb), *rgb.size, damage)


def _png_checksums_hold(encoded: bytes) -> bool:
    """Whether a PNG's pixels are those that were written; Pillow skips these checksums."""
    place = 8  # behind the signature
    while place + 12 <= len(encoded):
        length, kind = struct.unpack(">I4s", encoded[place:place + 8])
        end = place + 8 + length
        if kind == b"IEND":
            break
        if kind == b"IDAT" and encoded[end:end + 4] != struct.pack(">I", zlib.crc32(encoded[place + 4:end])):
            return False
        place = end + 4
    return True


def is_rgb_jpeg(image: Image.Image) -> bool:
    return image.format in ("JPEG", "MPO") and image.mode == "RGB"


def encode(image: Image.Image) -> bytes:
    """A JPEG of an RGB picture's plain pixels, without ICC and other metadata of its source. Raises BadImage."""
    if max(image.size) > upright.MAX_JPEG_SIDE:
        raise BadImage(f"{image.width} × {image.height} pixels, and a JPEG has at most {upright.MAX_JPEG_SIDE} a side: "
                       f"--max_side={upright.MAX_JPEG_SIDE} (or less) shrinks it")
    buffer = io.BytesIO()
    Image.frombytes("RGB", image.size, image.tobytes()).save(buffer, "JPEG", quality=QUALITY, subsampling=SUBSAMPLING)
    return buffer.getvalue()
