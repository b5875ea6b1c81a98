"""Places and dates as the geo prior takes them: encoded, drawn at random, and moved a little."""

import math
from typing import NamedTuple

import tensorflow as tf

EARTH_RADIUS_M = 6_371_008.8  # mean radius (IUGG)
DAYS_PER_YEAR = 365.25


class Points(NamedTuple):
    """Where and when: float32 [n] each."""

    latitude: tf.Tensor   # degrees
    longitude: tf.Tensor  # degrees
    date: tf.Tensor       # fraction of the year


def encoded_width(date_input: bool) -> int:
    """Number of values that `encode` makes of a point."""
    return 6 if date_input else 4


def encode(points: Points, date_input: bool) -> tf.Tensor:
    """float32 [n, 6], or [n, 4] without the date: sin and cos of π·x for each x in [−1, 1] (Mac Aodha et al. 2019).

    The x are longitude/180, latitude/90 and 2·date − 1, so 180° east is 180° west, and the year's end its beginning.
    """
    wrapped = [points.longitude / 180.0, points.latitude / 90.0]
    if date_input:
        wrapped.append(2.0 * points.date - 1.0)
    angles = math.pi * tf.stack(wrapped, axis=1)
    return tf.reshape(tf.stack([tf.sin(angles), tf.cos(angles)], axis=2), [-1, 2 * len(wrapped)])


def uniform(count: int, seed: tf.Tensor) -> Points:
    """`count` points uniform on the sphere (longitude, and the sine of the latitude) and in the year; seed: int [2]."""
    draws = tf.random.stateless_uniform([3, count], seed)
    return Points(_degrees(tf.asin(2.0 * draws[0] - 1.0)), 360.0 * draws[1] - 180.0, draws[2])


def fill_dates(points: Points, seed: tf.Tensor) -> Points:
    """Unknown dates (NaN) become random ones; seed: int [2]."""
    random = tf.random.stateless_uniform(tf.shape(points.date), seed)
    return points._replace(date=tf.where(tf.math.is_nan(points.date), random, points.date))


def move(points: Points, metres: float, days: float, seed: tf.Tensor) -> Points:
    """Each point uniformly within `metres` of where it was and at most `days` before or after; seed: int [2].

    The new place is uniform in the spherical cap: sin(δ/2) = √u · sin(metres / 2r) for the angle δ, and any bearing.
    It is worked out with vectors, which are exact at the poles and at 180°. Dates go around the year's end.
    """
    draws = tf.random.stateless_uniform([3, points.latitude.shape[0]], seed)
    if metres:
        angle = 2.0 * tf.asin(tf.sqrt(draws[0]) * math.sin(metres / EARTH_RADIUS_M / 2.0))
        points = _travel(points, angle, 2.0 * math.pi * draws[1])
    if days:
        moved = points.date + (2.0 * draws[2] - 1.0) * (days / DAYS_PER_YEAR)
        points = points._replace(date=tf.math.floormod(moved, 1.0))
    return points


def _travel(points: Points, angle: tf.Tensor, bearing: tf.Tensor) -> Points:
    """Along a great circle; angle and bearing (from north, clockwise) in radians."""
    latitude, longitude = _radians(points.latitude), _radians(points.longitude)
    outward = _vector(tf.cos(latitude) * tf.cos(longitude), tf.cos(latitude) * tf.sin(longitude), tf.sin(latitude))
    north = _vector(-tf.sin(latitude) * tf.cos(longitude), -tf.sin(latitude) * tf.sin(longitude), tf.cos(latitude))
    east = _vector(-tf.sin(longitude), tf.cos(longitude), tf.zeros_like(longitude))
    ahead = north * tf.cos(bearing) + east * tf.sin(bearing)
    x, y, z = tf.unstack(outward * tf.cos(angle) + ahead * tf.sin(angle))
    # Not asin and acos: next to a pole they lose kilometres in float32.
    return points._replace(latitude=_degrees(tf.atan2(z, tf.sqrt(x * x + y * y))), longitude=_degrees(tf.atan2(y, x)))


def _vector(x: tf.Tensor, y: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
    return tf.stack([x, y, z])


def _radians(degrees: tf.Tensor) -> tf.Tensor:
    return degrees * (math.pi / 180.0)


def _degrees(radians: tf.Tensor) -> tf.Tensor:
    return radians * (180.0 / math.pi)
