"""The learning rate, step by step, against its formula in plain Python."""

import math

import numpy as np
import pytest
import tensorflow as tf

from pipeline import schedules


def formula(kind, peak, warmup, total, step):
    if step < warmup:
        return peak * (step + 1) / warmup
    if kind == "constant":
        return peak
    return peak * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2


@pytest.mark.parametrize("kind", ["cosine", "constant"])
@pytest.mark.parametrize("warmup", [0, 1, 7])
def test_rate_of_every_step(kind, warmup):
    schedule = schedules.WarmupSchedule(kind, 0.3, warmup, 40)
    compiled = tf.function(schedule, jit_compile=True)
    expected = [formula(kind, 0.3, warmup, 40, step) for step in range(40)]
    np.testing.assert_allclose([float(schedule(step)) for step in range(40)], expected, atol=1e-7)
    np.testing.assert_allclose([float(compiled(tf.constant(step, tf.int64))) for step in range(40)], expected, atol=1e-6)


def test_the_rate_stays_zero_after_the_end():
    assert float(schedules.WarmupSchedule("cosine", 1.0, 0, 10)(25)) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("epochs, per_epoch, steps", [(20, 83963, 1679260), (0.3, 83963, 25189), (0.5, 3, 2), (0, 5, 0)])
def test_epochs_to_steps(epochs, per_epoch, steps):
    assert schedules.epochs_to_steps(epochs, per_epoch) == steps
