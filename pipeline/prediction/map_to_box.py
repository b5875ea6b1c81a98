"""From a class activation map to what it shows: a part of the map, its box, its mask.

Defaults and rule were chosen by the boxes of pictures padded onto canvases of 1.6 to 3 times their sides, and by looking at
boxes of pictures as they are: a threshold of 0.3 finds most of the object; 0.5 fits the canvases as well, but cuts off what
the model looks at less. The part with the maximum, or all parts, gave the same mean IoU as the largest part.
"""

import dataclasses
import math

import numpy as np
from scipy import ndimage

from pipeline.records import masks

SMOOTHING = 0.03  # standard deviation of the Gaussian, a share of the picture's side
WHOLE = (0.0, 0.0, 1.0, 1.0)
_NEIGHBOURS = np.ones((3, 3))  # diagonal ones too


@dataclasses.dataclass(frozen=True)
class Rule:
    """What makes a box of a map; all are shares."""

    cam_threshold: float  # of the map's maximum: what lies above belongs to the object
    min_box: float        # of the picture's area: a smaller box grows to it
    box_padding: float    # of the box's width and height, added on each side


def object_of(grid: np.ndarray, rule: Rule) -> np.ndarray:
    """What of a picture whose map is `grid`, float [n, n], is the object: bool [n, n].

    The map is smoothed; the object is the largest connected part of what reaches `cam_threshold` of its maximum (Zhou et al.
    2016). A map without anything above 0 shows none.
    """
    smooth = ndimage.gaussian_filter(grid.astype(np.float64), SMOOTHING * len(grid), mode="nearest")
    if not smooth.max() > 0:  # or it is not a number
        return np.zeros(grid.shape, bool)
    parts, _ = ndimage.label(smooth >= rule.cam_threshold * smooth.max(), _NEIGHBOURS)
    return parts == np.bincount(parts[parts > 0]).argmax()


def box_of(grid: np.ndarray, rule: Rule) -> tuple[float, float, float, float]:
    """left, top, right, bottom in fractions of a picture: `box_around` of `object_of`."""
    return box_around(object_of(grid, rule), rule)


def box_around(found: np.ndarray, rule: Rule) -> tuple[float, float, float, float]:
    """left, top, right, bottom in fractions of a picture: the box of what is found in it, padded, then grown.

    Args: found: bool [n, n]; nothing found gives the whole picture.
    """
    if not found.any():
        return WHOLE
    (rows, columns), = ndimage.find_objects(found.astype(int))
    sides = [_padded(one.start / len(found), one.stop / len(found), rule.box_padding) for one in (columns, rows)]
    (left, right), (top, bottom) = _at_least(sides, rule.min_box)
    return left, top, right, bottom


def mask_of(found: np.ndarray) -> np.ndarray:
    """bool [masks.CELLS, masks.CELLS], the cells at least half of which belong to what is found, bool [n, n].

    n is a multiple of CELLS. Neither padded nor grown.
    """
    side = len(found) // masks.CELLS
    return found.reshape(masks.CELLS, side, masks.CELLS, side).mean(axis=(1, 3)) >= 0.5


def _padded(start: float, end: float, padding: float) -> tuple[float, float]:
    margin = (end - start) * padding
    return max(start - margin, 0.0), min(end + margin, 1.0)


def _at_least(sides: list[tuple[float, float]], area: float) -> list[tuple[float, float]]:
    """Both sides longer by the same factor, as far as the picture goes, so that their product is `area` or more."""
    lengths = [end - start for start, end in sides]
    if math.prod(lengths) >= area:
        return sides
    factor = math.sqrt(area / math.prod(lengths))
    longer = [min(length * factor, 1.0) for length in lengths]
    if max(longer) == 1.0:  # one side can't give more; the other makes up for it
        longer = [max(one, area) for one in longer]
    return [_centred(side, length) for side, length in zip(sides, longer)]


def _centred(side: tuple[float, float], length: float) -> tuple[float, float]:
    """A side of that length about the same middle, moved as far as it takes to stay in the picture."""
    start = min(max(sum(side) / 2 - length / 2, 0.0), 1.0 - length)
    return start, start + length
