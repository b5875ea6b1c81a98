"""From a class activation map to the box of what it shows.

Defaults and rule were chosen by the boxes of pictures padded onto canvases of 1.6 to 3 times their sides, and by looking at
boxes of pictures as they are: a threshold of 0.3 finds most of the object; 0.5 fits the canvases as well, but cuts off what
the model looks at less. The part with the maximum, or all parts, gave the same mean IoU as the largest part.
"""

import dataclasses
import math

import numpy as np
from scipy import ndimage

SMOOTHING = 0.03  # standard deviation of the Gaussian, a share of the picture's side
WHOLE = (0.0, 0.0, 1.0, 1.0)
_NEIGHBOURS = np.ones((3, 3))  # diagonal ones too


@dataclasses.dataclass(frozen=True)
class Rule:
    """What makes a box of a map; all are shares."""

    cam_threshold: float  # of the map's maximum: what lies above belongs to the object
    min_box: float        # of the picture's area: a smaller box grows to it
    box_padding: float    # of the box's width and height, added on each side


def box_of(grid: np.ndarray, rule: Rule) -> tuple[float, float, float, float]:
    """left, top, right, bottom in fractions of a picture whose map is `grid`, float [n, n].

    The map is smoothed; the box is that of the largest connected part of what reaches `cam_threshold` of its maximum
    (Zhou et al. 2016), padded, then grown. A map without anything above 0 gives the whole picture.
    """
    smooth = ndimage.gaussian_filter(grid.astype(np.float64), SMOOTHING * len(grid), mode="nearest")
    if not smooth.max() > 0:  # or it is not a number
        return WHOLE
    parts, _ = ndimage.label(smooth >= rule.cam_threshold * smooth.max(), _NEIGHBOURS)
    largest = np.bincount(parts[parts > 0]).argmax()
    rows, columns = ndimage.find_objects(parts)[largest - 1]
    sides = [_padded(one.start / len(grid), one.stop / len(grid), rule.box_padding) for one in (columns, rows)]
    (left, right), (top, bottom) = _at_least(sides, rule.min_box)
    return left, top, right, bottom


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
