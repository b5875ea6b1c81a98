"""Boxes of maps whose blobs are known."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from pipeline.prediction.map_to_box import Rule, box_of

N = 100
PLAIN = Rule(cam_threshold=0.5, min_box=0.0, box_padding=0.0)


def blobs(*rectangles):
    """A map that is 1, or the given height, in rectangles of left, top, right, bottom cells, and 0 elsewhere."""
    grid = np.zeros((N, N))
    for left, top, right, bottom, *height in rectangles:
        grid[top:bottom, left:right] = height[0] if height else 1
    return grid


def test_a_blob_gives_its_box():
    # Smoothing leaves the half height of a straight edge where it was.
    assert box_of(blobs((20, 30, 60, 90)), PLAIN) == pytest.approx((0.2, 0.3, 0.6, 0.9), abs=0.011)


def test_the_scale_of_the_map_changes_nothing():
    grid = blobs((20, 30, 60, 90))
    assert box_of(1000 * grid, PLAIN) == box_of(grid, PLAIN) == box_of(grid.astype(np.float32), PLAIN)


def test_the_largest_part_counts_not_the_highest():
    grid = blobs((5, 5, 20, 20, 1.2), (40, 40, 95, 80))
    assert box_of(grid, PLAIN) == pytest.approx((0.4, 0.4, 0.95, 0.8), abs=0.02)


def test_a_lower_threshold_takes_in_what_is_less_sure():
    grid = blobs((20, 20, 80, 80, 0.4), (40, 40, 60, 60))
    tight, wide = (box_of(grid, Rule(threshold, 0, 0)) for threshold in (0.7, 0.2))
    assert tight == pytest.approx((0.4, 0.4, 0.6, 0.6), abs=0.03)
    assert wide == pytest.approx((0.2, 0.2, 0.8, 0.8), abs=0.03)


def test_evidence_against_the_class_is_none_for_it():
    grid = blobs((20, 30, 60, 90)) - blobs((70, 0, 100, 100, 50))
    assert box_of(grid, PLAIN) == pytest.approx((0.2, 0.3, 0.6, 0.9), abs=0.02)


@pytest.mark.parametrize("grid", [np.zeros((N, N)), np.full((N, N), -3.0), np.full((N, N), np.nan)])
def test_a_map_that_shows_nothing_gives_the_whole_picture(grid):
    assert box_of(grid, Rule(0.3, 0.1, 0.05)) == (0, 0, 1, 1)
    assert box_of(np.ones((N, N)), PLAIN) == (0, 0, 1, 1)


def test_padding_is_a_share_of_each_side_and_ends_with_the_picture():
    left, top, right, bottom = box_of(blobs((20, 70, 60, 95)), Rule(0.5, 0, 0.2))
    assert (left, right) == pytest.approx((0.2 - 0.08, 0.6 + 0.08), abs=0.015)
    assert (top, bottom) == pytest.approx((0.7 - 0.05, 1.0), abs=0.015)


@pytest.mark.parametrize("rectangle, least, expected", [
    ((40, 40, 60, 60), 0.16, (0.3, 0.3, 0.7, 0.7)),   # about the same middle
    ((0, 40, 20, 60), 0.16, (0.0, 0.3, 0.4, 0.7)),    # moved back into the picture
    ((0, 40, 100, 60), 0.5, (0.0, 0.25, 1.0, 0.75)),  # only one side can grow
    ((10, 10, 90, 90), 0.3, (0.1, 0.1, 0.9, 0.9)),    # large enough
    ((40, 40, 60, 60), 1.0, (0.0, 0.0, 1.0, 1.0)),
])
def test_a_small_box_grows_to_its_least_area(rectangle, least, expected):
    box = box_of(blobs(rectangle), Rule(0.5, least, 0))
    assert box == pytest.approx(expected, abs=0.02)
    assert (box[2] - box[0]) * (box[3] - box[1]) >= least - 1e-9


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(st.integers(0, 2**31), st.floats(0, 1), st.floats(0, 1), st.floats(0, 3))
def test_any_map_gives_a_box_in_the_picture(seed, threshold, least, padding):
    grid = np.random.default_rng(seed).normal(size=(16, 16))
    left, top, right, bottom = box_of(grid, Rule(threshold, least, padding))
    assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1
    assert (right - left) * (bottom - top) >= least - 1e-9
