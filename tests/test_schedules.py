"""The learning rate, step by step, against its formula in plain Python."""

import math

import numpy as np
import pytest
import tensorflow as tf

from pipeline import runs, schedules
from pipeline.errors import UserError


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
    assert runs.epochs_to_steps(epochs, per_epoch) == steps


def test_known_schedules_are_parsed():
    assert schedules.parse("cosine") == schedules.Schedule("cosine")
    assert schedules.parse("plateau:0.5:4") == schedules.Schedule("plateau", 0.5, 4)


@pytest.mark.parametrize("text, told", [
    ("cosinus", "unknown lr_schedule 'cosinus'; known: .*constant.*cosine.*plateau:FACTOR:PATIENCE"),
    ("constant:1", "unknown lr_schedule 'constant:1'; known"), ("", "unknown lr_schedule"),
    ("plateau", "plateau:0.5:4"), ("plateau:0.5", "plateau:0.5:4"), ("plateau:half:4", "plateau:0.5:4"),
    ("plateau:1:4", "between 0 and 1"), ("plateau:0.5:0", "1 or more epochs"), ("plateau:0.5:4:1", "plateau:0.5:4"),
    ("plateau:nan:4", "between 0 and 1"),
])
def test_mistakes_in_a_schedule_are_told(text, told):
    with pytest.raises(UserError, match=told):
        schedules.parse(text)


def test_plateau_gives_the_optimizer_a_number():
    assert schedules.make_rate("plateau:0.5:4", 0.25, 0, 10) == 0.25
    assert float(schedules.make_rate("constant", 0.25, 0, 10)(3)) == 0.25
