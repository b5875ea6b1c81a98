"""Masks as text in a table: a grid of CELLS × CELLS over a picture, each cell in or out, base64 of 128 bytes."""

import base64
from typing import Sequence

import numpy as np

CELLS = 32  # along a side: finer than the feature map of 1,000 px, whose cells are 32 px


def to_text(mask: np.ndarray) -> str:
    """bool [CELLS, CELLS] → text of ASCII letters."""
    return base64.b64encode(np.packbits(mask).tobytes()).decode()


def from_texts(texts: Sequence[str]) -> np.ndarray:
    """bool [n, CELLS, CELLS]."""
    packed = np.frombuffer(b"".join(map(base64.b64decode, texts)), np.uint8)
    return np.unpackbits(packed).reshape(-1, CELLS, CELLS).astype(bool)


def counts(texts: Sequence[str]) -> np.ndarray:
    """How many cells are in, by rows and by columns, as ops.mask_square takes them: uint8 [n, 2, CELLS]."""
    packed = np.frombuffer(b"".join(map(base64.b64decode, texts)), np.uint8).reshape(-1, CELLS, CELLS // 8)
    rows, columns = np.empty((2, len(packed), CELLS), np.uint8)
    for start in range(0, len(packed), 1 << 16):  # millions of whole masks would be gigabytes
        part = slice(start, start + (1 << 16))
        mask = np.unpackbits(packed[part], axis=2)
        rows[part], columns[part] = mask.sum(axis=2), mask.sum(axis=1)
    return np.stack([rows, columns], axis=1)
