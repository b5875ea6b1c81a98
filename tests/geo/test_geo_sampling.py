"""Random points and noise on the sphere against spherical geometry in float64, and the records of an epoch."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import tensorflow as tf

from pipeline.geo import points as geo_points, records as geo_records
from pipeline.geo.points import Points
from pipeline.geo.records import draw_epoch

COUNT = 20_000
MEAN_RADIUS_M = 6_371_008.8


def is_uniform(values, low, high):
    """Kolmogorov and Smirnov's test."""
    return scipy.stats.kstest((np.asarray(values, np.float64) - low) / (high - low), "uniform").pvalue > 1e-3


def metres_between(one, other):
    """Great-circle distances by the haversine formula in float64."""
    (lat1, lon1), (lat2, lon2) = (np.radians(np.asarray(place[:2], np.float64)) for place in (one, other))
    haversine = np.sin((lat2 - lat1) / 2)**2 + np.cos(lat1) * np.cos(lat2) * np.sin((lon2 - lon1) / 2)**2
    return 2 * MEAN_RADIUS_M * np.arcsin(np.sqrt(haversine))


@pytest.mark.parametrize("compiled", [False, True])
def test_random_points_are_uniform_on_the_sphere_and_in_the_year(compiled):
    function = tf.function(geo_points.uniform) if compiled else geo_points.uniform
    points = function(COUNT, tf.constant([1, 2]))
    z = np.sin(np.radians(points.latitude.numpy().astype(np.float64)))
    assert is_uniform(z, -1, 1)  # equal areas between equal steps of the height (Archimedes)
    assert is_uniform(points.longitude, -180, 180) and is_uniform(points.date, 0, 1)
    # All three independently of each other: the eight boxes of their halves are equally full.
    box = (z > 0) * 4 + (points.longitude.numpy() > 0) * 2 + (points.date.numpy() > 0.5)
    assert scipy.stats.chisquare(np.bincount(box, minlength=8)).pvalue > 1e-3
    again, other = geo_points.uniform(COUNT, tf.constant([1, 2])), geo_points.uniform(COUNT, tf.constant([1, 3]))
    np.testing.assert_array_equal(points.latitude, again.latitude)
    assert not np.array_equal(points.latitude, other.latitude)


@pytest.mark.parametrize("latitude, longitude", [(0, 0), (0, 180), (51.3, -179.999), (89.999, 20), (90, 77), (-90, 0)])
def test_places_move_uniformly_within_the_radius(latitude, longitude):
    start = Points(*(tf.fill([COUNT], float(value)) for value in (latitude, longitude, 0.5)))
    moved = tf.function(geo_points.move)(start, 5000.0, 0.0, tf.constant([5, 6]))
    distance = metres_between(start, moved)
    assert distance.max() < 5002  # 1 m is what float32 tells apart in degrees
    assert is_uniform(distance**2, 0, 5000.0**2)
    assert abs(moved.longitude).numpy().max() <= 180 and abs(moved.latitude).numpy().max() <= 90
    np.testing.assert_array_equal(moved.date, start.date)
    # Every direction alike, seen from the start: east and north in the tangential plane.
    (lat0, lon0), (lat, lon) = (np.radians(np.asarray(place[:2], np.float64)) for place in (start, moved))
    east = np.cos(lat) * np.sin(lon - lon0)
    north = np.cos(lat0) * np.sin(lat) - np.sin(lat0) * np.cos(lat) * np.cos(lon - lon0)
    assert is_uniform(np.arctan2(east, north), -np.pi, np.pi)


def test_dates_move_around_the_years_end():
    start = Points(tf.zeros([COUNT]), tf.zeros([COUNT]), tf.fill([COUNT], 0.99))
    moved = geo_points.move(start, 0.0, 10.0, tf.constant([5, 6]))
    np.testing.assert_array_equal(moved.longitude, start.longitude)
    dates = moved.date.numpy()
    assert dates.min() >= 0 and dates.max() < 1 and dates.min() < 0.01 and dates.max() > 0.99
    assert is_uniform((dates - 0.99 + 0.5) % 1 - 0.5, -10 / 365.25, 10 / 365.25)


def test_without_noise_nothing_moves():
    start = Points(tf.constant([12.3]), tf.constant([-180.0]), tf.constant([0.0]))
    for before, after in zip(start, geo_points.move(start, 0.0, 0.0, tf.constant([5, 6]))):
        np.testing.assert_array_equal(before, after)


def test_unknown_dates_become_random_ones():
    dates = tf.concat([tf.fill([COUNT], float("nan")), tf.fill([3], 0.25)], 0)
    filled = geo_points.fill_dates(Points(dates, dates, dates), tf.constant([5, 6])).date.numpy()
    assert is_uniform(filled[:COUNT], 0, 1) and (filled[COUNT:] == 0.25).all()


LABELS = np.repeat(np.arange(4), [3, 50, 0, 120]).astype(np.int32)


def test_an_epoch_has_at_most_so_many_records_of_a_class_and_none_twice():
    batches = draw_epoch(LABELS, 7, max_per_class=20, seed=1, epoch=0)
    assert batches.shape == (43 // 7, 7) and batches.dtype == np.int32
    assert geo_records.steps_per_epoch(LABELS, 7, 20) == 6
    all_of_it = draw_epoch(LABELS, 43, max_per_class=20, seed=1, epoch=0)[0]
    assert len(set(all_of_it)) == 43
    np.testing.assert_array_equal(np.bincount(LABELS[all_of_it]), [3, 20, 0, 20])
    without_cap = draw_epoch(LABELS, 173, max_per_class=0, seed=1, epoch=0)[0]
    assert sorted(without_cap) == list(range(173))


def test_records_are_drawn_anew_each_epoch_as_a_function_of_seed_and_epoch():
    drawn = [draw_epoch(LABELS, 43, 20, seed=1, epoch=epoch)[0] for epoch in range(200)]
    np.testing.assert_array_equal(drawn[3], draw_epoch(LABELS, 43, 20, seed=1, epoch=3)[0])
    assert not np.array_equal(drawn[3], draw_epoch(LABELS, 43, 20, seed=2, epoch=3)[0])
    times = np.bincount(np.concatenate(drawn), minlength=173)
    expected = 200 * np.array([1, 20 / 50, 1, 20 / 120])[LABELS]
    assert (abs(times - expected) <= 5 * np.sqrt(expected)).all()  # each record of a class as often as any other
    assert times[:3].tolist() == [200, 200, 200]


def test_fewer_records_than_a_batch_are_repeated():
    batches = draw_epoch(LABELS[:3], 8, max_per_class=0, seed=1, epoch=0)
    assert batches.shape == (1, 8) and set(batches[0]) == {0, 1, 2}
    assert geo_records.steps_per_epoch(LABELS[:3], 8, 0) == 1


def test_ten_thousand_classes_are_drawn_in_one_go():
    labels = np.random.default_rng(0).integers(0, 10_000, 300_000)
    drawn = draw_epoch(labels, 1024, max_per_class=10, seed=1, epoch=0)
    assert np.bincount(labels[drawn.ravel()]).max() <= 10 and len(set(drawn.ravel())) == drawn.size


def test_records_of_a_table():
    nan = float("nan")
    examples = pd.DataFrame(
        [((2,), 10.0, 20.0, 0.5, "ann"), ((0,), nan, nan, 0.5, "bob"), ((1,), 5.0, -180.0, nan, ""),
         ((), 1.0, 1.0, 0.1, "ann"), ((0,), -90.0, 0.0, 1.0, "cid"), ((0,), 0.0, 0.0, 0.0, "ann")],
        columns=["labels", "latitude", "longitude", "date", "user"])
    records = geo_records.of(examples)
    assert len(records) == 4 and records.without_place == 1
    np.testing.assert_array_equal(records.label, [2, 1, 0, 0])
    np.testing.assert_array_equal(records.latitude, np.array([10, 5, -90, 0], np.float32))
    np.testing.assert_array_equal(records.longitude, np.array([20, -180, 0, 0], np.float32))
    np.testing.assert_array_equal(records.date, np.array([0.5, nan, 1, 0], np.float32))
    np.testing.assert_array_equal(records.photographer, [0, -1, 1, 0])
    assert records.photographers == 2
