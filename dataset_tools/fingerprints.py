"""What copies of a picture have in common: the same bytes, the same pixels, a near perceptual hash or thumbnail."""

import hashlib
from typing import NamedTuple, Optional, Sequence

import imagehash
import numpy as np
from PIL import Image

from dataset_tools import parallel, source_pictures
from dataset_tools.table import Example
from pipeline.pictures.bad import BadImage
from pipeline.pictures.upright import upright_rgb

# 16 × 16 bits: at 8 × 8 the nearest distinct photographs are as near as a recompressed copy is to its original.
_HASH_SIZE = 16
HASH_BITS = _HASH_SIZE ** 2
THUMBNAIL_SIDE = 8     # pixels
_GRAY_SIDE = 64        # pixels; what imagehash.phash shrinks to as well
_PICTURES_A_TASK = 64


class Fingerprint(NamedTuple):
    content: bytes        # digest of the file's bytes
    pixels: bytes         # digest of the upright RGB pixels and their shape
    perceptual: bytes     # HASH_BITS bits: imagehash.phash
    thumbnail: bytes      # uint8 [THUMBNAIL_SIDE, THUMBNAIL_SIDE, 3]
    contrast: float       # standard deviation of the gray picture at 64 × 64, in levels of 255
    detail: float         # of its difference to itself at 16 × 16, likewise


class _Task(NamedTuple):
    data_dir: str
    examples: tuple[Example, ...]


def take(data_dir: str, examples: Sequence[Example], workers: int) -> list[Optional[Fingerprint]]:
    """The fingerprint of each picture, on `workers` processes with progress; None for one that can't be decoded."""
    tasks = [_Task(data_dir, tuple(examples[start:start + _PICTURES_A_TASK]))
             for start in range(0, len(examples), _PICTURES_A_TASK)]
    parts = parallel.run(_take_some, tasks, workers, len(examples), "pictures compared")
    return [one for part in parts for one in part]


def _take_some(task: _Task) -> list[Optional[Fingerprint]]:
    found: list[Optional[Fingerprint]] = []
    for example in task.examples:
        try:
            found.append(of_bytes(source_pictures.read(task.data_dir, example)))
        except BadImage:
            found.append(None)  # whoever writes the shards names it, with the reason
        parallel.advance()
    return found


def of_bytes(encoded: bytes) -> Fingerprint:
    """The fingerprint of a picture file. Raises BadImage."""
    image = upright_rgb(encoded)
    digest = hashlib.sha256(repr(image.size).encode())
    digest.update(image.tobytes())
    gray = image.convert("L")
    fine = gray.resize((_GRAY_SIDE, _GRAY_SIDE), Image.Resampling.LANCZOS)
    coarse = gray.resize((16, 16), Image.Resampling.BOX).resize(fine.size, Image.Resampling.BICUBIC)
    levels = np.asarray(fine, np.float32)
    return Fingerprint(
        hashlib.sha256(encoded).digest(), digest.digest(),
        np.packbits(imagehash.phash(gray, _HASH_SIZE).hash).tobytes(),
        image.resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX).tobytes(),
        float(levels.std()), float((levels - np.asarray(coarse, np.float32)).std()))
