"""The learning rate, step by step, against its formula in plain Python."""

import math
import types

import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import UserError
from pipeline.runs import run as runs
from pipeline.training import schedules
from training_runs import stage


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


@pytest.mark.parametrize("warmup", [0, 1, 7])
def test_a_cosine_whose_length_counts_the_warm_up(warmup):
    schedule = schedules.make_rate("cosine:whole", 0.3, warmup, 40, 10.0, 0.1)
    compiled = tf.function(schedule, jit_compile=True)
    expected = [sixth_places_rate(0.3, warmup, 40, step) for step in range(40)]
    np.testing.assert_allclose([float(schedule(step)) for step in range(40)], expected, atol=1e-7)
    np.testing.assert_allclose([float(compiled(tf.constant(step, tf.int64))) for step in range(40)], expected, atol=1e-6)


def sixth_places_rate(peak, warmup, total, step):
    """Of iNat 2021's sixth place: it counts a step before it asks for its rate, and the warm-up's with the cosine's."""
    counted = step + 1
    rising = counted * peak / np.maximum(warmup, 1)
    falling = 0.5 * peak * (1 + np.cos(np.pi * (counted - warmup) / total))
    return np.where(counted < warmup, rising, falling)


@pytest.mark.parametrize("pictures, stages, last", [
    (2_686_843, [(20, 0.1), (2, 0.008)], 0.054),            # the final submission: its head's stage has no epochs
    (500_000, [(4, 0.1), (10, 0.1), (2, 0.008)], 0.054),    # the small one, of three stages
])
def test_every_step_of_the_sixth_places_stages(pictures, stages, last, monkeypatch):
    monkeypatch.setattr(runs, "training_part", lambda run, data: types.SimpleNamespace(size=pictures))
    monkeypatch.setattr(runs, "held_out_part", lambda run, data: None)
    for epochs, rate in stages:
        one = stage(epochs=epochs, lr=rate, batch_size=32, scale_lr=True, warmup_epochs=0.3, lr_schedule="cosine:whole")
        plan = runs.plan_stage(runs.Run("data", "model", "network", (one,)), one, data=None)
        per_epoch = pictures // 32
        assert (plan.total_steps, plan.warmup_steps) == (epochs * per_epoch, int(0.3 * per_epoch))
        steps = np.arange(plan.total_steps)
        made = schedules.make_rate(one.lr_schedule, one.peak_lr, plan.warmup_steps, plan.total_steps,
                                   plan.steps_per_epoch, 0.1)
        expected = sixth_places_rate(rate * 32 / 256, int(0.3 * per_epoch), epochs * per_epoch, steps)
        np.testing.assert_allclose(made(tf.constant(steps)), expected, rtol=1e-5, atol=1e-6 * rate)
    assert expected[-1] / expected.max() == pytest.approx(last, abs=0.001)


@pytest.mark.parametrize("warmup", [0, 3])
def test_steps_multiply_the_rate(warmup):
    rate = schedules.make_rate("step:1:2.5", 0.3, warmup, 40, 10.0, 0.1)
    expected = [0.3 * (step + 1) / warmup if step < warmup else 0.3 if step < 10 else 0.03 if step < 25 else 0.003
                for step in range(40)]
    compiled = tf.function(rate, jit_compile=True)
    np.testing.assert_allclose([float(rate(step)) for step in range(40)], expected, rtol=1e-6)
    np.testing.assert_allclose([float(compiled(tf.constant(step, tf.int64))) for step in range(40)], expected, rtol=1e-5)


@pytest.mark.parametrize("total, ratio", [(40, 4), (10, 3), (7, 1.5), (1, 4)])
def test_a_triangle_is_two_straight_lines(total, ratio):
    rate = schedules.make_rate(f"triangular:{ratio}", 0.2, 0, total, 5.0, 0.1)
    corners = [0, total / ratio, total], [0.002, 0.2, 0.002]
    expected = np.interp(np.arange(total), *corners)
    compiled = tf.function(rate, jit_compile=True)
    np.testing.assert_allclose([float(rate(step)) for step in range(total)], expected, rtol=1e-5)
    np.testing.assert_allclose([float(compiled(tf.constant(step, tf.int64))) for step in range(total)], expected, rtol=1e-5)
    assert float(rate(total + 5)) == pytest.approx(0.002)


def test_a_triangle_is_howard_and_ruders():
    """Their formula, with the lowest rate a hundredth of the peak: cut_frac = 1/4, ratio = 100."""
    total, peak, cut_fraction, ratio = 80, 0.2, 0.25, 100
    cut = int(total * cut_fraction)
    rate = schedules.make_rate("triangular:4", peak, 0, total, 5.0, 0.1)
    for step in range(total):
        p = step / cut if step < cut else 1 - (step - cut) / (cut * (1 / cut_fraction - 1))
        assert float(rate(step)) == pytest.approx(peak * (1 + p * (ratio - 1)) / ratio, rel=1e-5)


def test_the_rate_stays_zero_after_the_end():
    assert float(schedules.WarmupSchedule("cosine", 1.0, 0, 10)(25)) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("epochs, per_epoch, steps", [(20, 83963, 1679260), (0.3, 83963, 25189), (0.5, 3, 2), (0, 5, 0)])
def test_epochs_to_steps(epochs, per_epoch, steps):
    assert runs.epochs_to_steps(epochs, per_epoch) == steps


def test_known_schedules_are_parsed():
    assert schedules.parse("cosine") == schedules.Schedule("cosine")
    assert schedules.parse("cosine:whole") == schedules.Schedule("cosine:whole")
    assert schedules.parse("cosine:whole").takes_warmup
    assert schedules.parse("step:10:20") == schedules.Schedule("step", epochs=(10.0, 20.0))
    assert schedules.parse("triangular:4") == schedules.Schedule("triangular", ratio=4.0)
    assert schedules.parse("plateau:0.5:4") == schedules.Schedule("plateau", factor=0.5, patience=4)


@pytest.mark.parametrize("text, told", [
    ("cosinus", "unknown lr_schedule 'cosinus'; known: .*constant.*cosine.*plateau:FACTOR:PATIENCE"),
    ("cosine:half", "unknown lr_schedule 'cosine:half'; known: .*cosine:whole"),
    ("constant:1", "unknown lr_schedule 'constant:1'; known"), ("", "unknown lr_schedule"),
    ("plateau", "plateau:0.5:4"), ("plateau:0.5", "plateau:0.5:4"), ("plateau:half:4", "plateau:0.5:4"),
    ("plateau:1:4", "between 0 and 1"), ("plateau:0.5:0", "1 or more validations"), ("plateau:0.5:4:1", "plateau:0.5:4"),
    ("plateau:nan:4", "between 0 and 1"),
    ("step", "step:10:20"), ("step:0", "rising"), ("step:20:10", "rising"), ("step:5:5", "rising"), ("step:nan", "rising"),
    ("step:x", "step:10:20"), ("triangular", "triangular:4"), ("triangular:1", "above 1"), ("triangular:nan", "above 1"),
    ("triangular:3:4", "triangular:4"), ("triangular:inf", "above 1"),
])
def test_mistakes_in_a_schedule_are_told(text, told):
    with pytest.raises(UserError, match=told):
        schedules.parse(text)


def test_plateau_gives_the_optimizer_a_number():
    assert schedules.make_rate("plateau:0.5:4", 0.25, 0, 10, 5.0, 0.1) == 0.25
    assert float(schedules.make_rate("constant", 0.25, 0, 10, 5.0, 0.1)(3)) == 0.25
