"""The bytes of any picture file → the picture as it is meant to be seen: upright, RGB, 8 bits, over white.

What Pillow's first complete decode gives is the picture. There is never a second one of the same object: after an error
Pillow hands out what it has, black from the damage on, without a word.
"""

import io

from PIL import Image

from pipeline.pictures import deep, remarks
from pipeline.pictures.bad import MAX_PIXELS, BadImage, parsing, too_many_pixels

MAX_JPEG_SIDE = 65_500  # pixels, as libjpeg has it
_ORIENTATION = 274  # EXIF tag
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# ISO media files of these brands hold pictures that Pillow has no decoder for.
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")


def upright_rgb(encoded: bytes, max_side: int = 0, short_side: int = 0) -> Image.Image:
    """The picture (of an animation the first frame) in mode RGB, of the size that `sized` gives it.

    Raises:
      BadImage: with the reason, where it can't be decoded whole, or holds pixels whose range no format tells.
    """
    image = open_header(encoded)
    upper_bytes = deep.reads_upper_bytes(image)
    with remarks.heard(), parsing("can't be decoded"):  # what a decoder remarks and goes on after is Pillow's to judge
        image.load()
        rgb = _to_rgb(deep.colours(encoded, image) if upper_bytes else image)
    # After the pixels: by then a TIFF is upright and says so, and asking a PNG would have decoded it.
    turn = orientation(image)
    size = sized(rgb.size, max_side, short_side)
    rgb = rgb if rgb.size == size else rgb.resize(size, Image.Resampling.LANCZOS)
    # Not ImageOps.exif_transpose: it rewrites the EXIF data, and fails where that is broken.
    return rgb.transpose(_TRANSPOSE[turn]) if turn != 1 else rgb


def sized(size: tuple[int, int], max_side: int, short_side: int) -> tuple[int, int]:
    """Width and height, in pixels, that a picture of `size` gets.

    Its longer side is `max_side` at most, or its shorter one `short_side`, which is enlarged too; 0: as it is. Raises
    BadImage where that makes it longer than a JPEG can be.
    """
    if short_side:
        wanted, of = short_side, min(size)
    elif max_side and max(size) > max_side:
        wanted, of = max_side, max(size)
    else:
        return size
    width, height = (max(1, round(side * wanted / of)) for side in size)
    if short_side and max(width, height) > MAX_JPEG_SIDE:
        raise BadImage(f"{size[0]} × {size[1]} pixels are too long for a shorter side of {short_side}")
    return width, height


def open_header(encoded: bytes) -> Image.Image:
    """The picture as Pillow opens it, no pixel decoded. Raises BadImage."""
    if not encoded:
        raise BadImage("empty file")
    try:
        with remarks.heard(), parsing("broken header"):
            image = Image.open(io.BytesIO(encoded))
    except BadImage:
        if encoded[4:8] == b"ftyp" and encoded[8:12] in _HEIF_BRANDS:
            raise BadImage("HEIC, which can't be read here: convert it to JPEG") from None
        raise
    if image.width * image.height > MAX_PIXELS:
        raise too_many_pixels()
    return image


def orientation(image: Image.Image) -> int:
    """EXIF (or XMP) orientation, 1 to 8; 1 where there is none or its data is broken, which no good picture dies of."""
    try:
        with parsing("broken EXIF"):
            found = image.getexif().get(_ORIENTATION, 1)
    except BadImage:
        return 1
    return found if isinstance(found, int) and found in _TRANSPOSE else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "I" or image.mode.startswith("I;16"):
        return deep.gray(image).convert("RGB")
    if image.mode == "F":
        raise BadImage("floating-point pixels, whose range no format tells")
    if image.mode == "La":  # Pillow knows no other way out of it
        image = image.convert("LA")
    if image.mode == "P" and image.palette is None:  # of an ICNS; a copy has one
        image = image.copy()
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")
