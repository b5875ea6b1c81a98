"""Pixels of 16 and 32 bits → 8 bits, so that none comes out black for want of a scale.

A file says how many bits a pixel has, not how many of them the camera filled: 10, 12 and 14 of 16 are common, and 8-bit
pictures saved as 16. The scale is therefore the least of the usual depths that holds a picture's largest value.
"""

import io
from typing import Optional

import numpy as np
from PIL import Image

from pipeline.pictures.bad import BadImage

_DEPTHS = (8, 10, 12, 14, 16, 24, 32)  # bits
_SAMPLE_FORMAT, _UNSIGNED = 339, 1     # TIFF tag, and its value where there is none
# Pillow makes 8 bits of 16-bit colours by reading their upper bytes alone. Read in the other order it takes the lower ones.
_OTHER_ORDER = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L", "RGBX;16B": "RGBX;16L",
                "RGB;16L": "RGB;16B", "RGBA;16L": "RGBA;16B", "RGBX;16L": "RGBX;16B",
                "RGB;16N": "RGB;16B", "RGBA;16N": "RGBA;16B", "RGBX;16N": "RGBX;16B"}  # N: the machine's, little end first
_WITHOUT_OTHER = ("LA;16B", "RGBa;16L", "RGBa;16B", "RGBa;16N")
_DARK = 1 << 6  # an upper byte below it: 14 bits or fewer


def gray(image: Image.Image) -> Image.Image:
    """Mode I or I;16… → L. Raises BadImage where a pixel is below 0."""
    levels = np.asarray(image)
    if image.format == "TIFF" and levels.dtype == np.int32 and (
            image.tag_v2.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0] == _UNSIGNED):
        levels = levels.view(np.uint32)  # Pillow has signed ones alone
    if levels.size and levels.min() < 0:
        raise BadImage("pixels below 0, whose range no format tells")
    return Image.fromarray((levels >> _shift(levels)).astype(np.uint8))


def reads_upper_bytes(image: Image.Image) -> bool:
    """Whether a picture that is opened, not loaded, is one of 16-bit colours."""
    return _rawmode(image) in (*_OTHER_ORDER, *_WITHOUT_OTHER)


def colours(encoded: bytes, image: Image.Image) -> Image.Image:
    """A loaded picture of 16-bit colours with all the bits that they have; `encoded` is its file. Raises BadImage."""
    bands = 1 if image.mode in ("LA", "La") else 3
    upper = np.asarray(image)
    if upper[..., :bands].max(initial=0) >= _DARK:
        return image
    lower = _lower_bytes(encoded)
    if lower is None:
        if upper[..., :bands].max(initial=0) >= 1 << 2:  # 10 bits: dark, and a picture yet
            return image
        raise BadImage("16 bits a channel with hardly any of them used, of which only the upper ones can be read: black")
    levels = upper[..., :bands].astype(np.uint16) << 8 | np.asarray(lower)[..., :bands]
    scaled = upper.copy()
    scaled[..., :bands] = levels >> _shift(levels)
    return Image.fromarray(scaled, image.mode)


def _shift(levels: np.ndarray) -> int:
    """How many of the lower bits go."""
    largest = int(levels.max(initial=0))
    return next(depth for depth in _DEPTHS if largest < 1 << depth) - 8


def _rawmode(image: Image.Image) -> Optional[str]:
    """How the pixels of a picture that is opened, not loaded, lie in its file."""
    tiles = getattr(image, "tile", None)
    args = tiles[0].args if tiles else None
    return args[0] if isinstance(args, tuple) and args else args


def _lower_bytes(encoded: bytes) -> Optional[Image.Image]:
    """The picture as decoded from the lower byte of each 16; None where Pillow has no way to."""
    image = Image.open(io.BytesIO(encoded))
    rawmode = _OTHER_ORDER.get(_rawmode(image))
    if rawmode is None:
        return None
    image.tile = [tile._replace(args=(rawmode, *tile.args[1:]) if isinstance(tile.args, tuple) else rawmode)
                  for tile in image.tile]
    image.load()
    return image
