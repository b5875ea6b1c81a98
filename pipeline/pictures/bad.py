"""Why a picture can't be used."""

import contextlib
import logging
import warnings
from typing import Iterator

from PIL import Image, UnidentifiedImageError

# Pillow's default limit warns; a picture of twice as many pixels is taken for a decompression bomb. TensorFlow's decoder
# stops at the same number.
MAX_PIXELS = 2 * 89_478_485


# Pillow logs what it is about to raise; the reason tells it.
logging.getLogger("PIL").setLevel(logging.CRITICAL)


class BadImage(Exception):
    """A picture that can't be used; the text is the reason."""


def too_many_pixels() -> BadImage:
    return BadImage(f"more than {MAX_PIXELS:,} pixels, which is too much to decode: make it smaller "
                    "(--max_side shrinks only what can be decoded)")


@contextlib.contextmanager
def parsing(what: str) -> Iterator[None]:
    """Turns whatever the block raises into BadImage, and lets no warning out: odd metadata is no news of a good picture.

    Pillow's parsers of broken files know no bounds to what they raise (RuntimeError, AttributeError, NotImplementedError,
    struct.error, zlib.error and MemoryError at once were seen), so all of it is caught.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except BadImage:
        raise
    except UnidentifiedImageError as error:
        raise BadImage("not a picture") from error
    except Image.DecompressionBombError as error:
        raise too_many_pixels() from error
    except Exception as error:
        raise BadImage(f"{what}: {' '.join(str(error).split()) or type(error).__name__}") from error
