"""One step of each optimizer against its formula in NumPy."""

import sys

import numpy as np
import pytest
import tensorflow as tf

from pipeline.training import optimizers

KERNEL = np.array([[1.0, -2.0], [0.5, 3.0]], np.float32)
BIAS = np.array([0.25, -1.0], np.float32)
GRADIENTS = (np.array([[3.0, 0.0], [0.0, 4.0]], np.float32), np.array([12.0, 0.0], np.float32))  # global norm 13
RATE = 0.1


def step(name, steps=1, **changes):
    """The weights after `steps` with the same gradients."""
    variables = [tf.Variable(KERNEL, name="dense/kernel"), tf.Variable(BIAS, name="dense/bias")]
    settings = {"momentum": 0.0, "weight_decay": 0.0, "clip_norm": 0.0, **changes}
    rate = tf.keras.optimizers.schedules.PiecewiseConstantDecay([1000], [RATE, RATE])
    optimizer = optimizers.build(name, rate, variables=variables, **settings)
    for _ in range(steps):
        optimizer.apply_gradients(zip(map(tf.constant, GRADIENTS), variables))
    return [variable.numpy() for variable in variables]


def test_sgd_with_momentum():
    kernel, bias = step("sgd", steps=2, momentum=0.9)
    # Velocity after two steps with gradient g: −r·g, then −r·(1.9)·g.
    np.testing.assert_allclose(kernel, KERNEL - RATE * 2.9 * GRADIENTS[0], rtol=1e-5)
    np.testing.assert_allclose(bias, BIAS - RATE * 2.9 * GRADIENTS[1], rtol=1e-5)


def test_the_global_norm_is_clipped_over_all_variables():
    kernel, bias = step("sgd", clip_norm=1.3)
    np.testing.assert_allclose(kernel, KERNEL - RATE * 0.1 * GRADIENTS[0], rtol=1e-5)
    np.testing.assert_allclose(bias, BIAS - RATE * 0.1 * GRADIENTS[1], rtol=1e-5)


def test_adamw_decays_the_kernel_and_spares_the_bias():
    kernel, bias = step("adamw", weight_decay=0.5)
    # Adam's first step is r·sign(g) up to epsilon; decay takes r·0.5 of the weight off before.
    np.testing.assert_allclose(kernel, KERNEL * (1 - RATE * 0.5) - RATE * np.sign(GRADIENTS[0]), atol=1e-4)
    np.testing.assert_allclose(bias, BIAS - RATE * np.sign(GRADIENTS[1]), atol=1e-4)


def test_adamw_without_decay_is_adam():
    for ours, adam in zip(step("adamw", steps=3), step("adam", steps=3)):
        np.testing.assert_array_equal(ours, adam)


def test_lamb_scales_the_step_by_the_trust_ratio_and_spares_the_bias():
    kernel, bias = step("lamb", weight_decay=0.5)
    update = np.sign(GRADIENTS[0]) + 0.5 * KERNEL  # the first step of Adam, and the decay
    trust = np.linalg.norm(KERNEL) / np.linalg.norm(update)
    np.testing.assert_allclose(kernel, KERNEL - RATE * trust * update, atol=1e-4)
    # What is spared the decay is spared the ratio too (You et al.'s own code does so): Adam's plain step.
    np.testing.assert_allclose(bias, BIAS - RATE * np.sign(GRADIENTS[1]), atol=1e-4)


def lamb_of(monkeypatch, with_addons):
    """Weights after 30 steps of changing gradients: clipped, decayed, of own rates, one variable zero at first."""
    if not with_addons:
        monkeypatch.setitem(sys.modules, "tensorflow_addons", None)
    rng = np.random.default_rng(5)
    shapes = ((7, 5), (5,), (5, 3), (3, 3))
    variables = [tf.Variable((number != 3) * rng.normal(size=shape), name=f"v{number}", dtype=tf.float32)
                 for number, shape in enumerate(shapes)]
    optimizer = optimizers.build("lamb", 0.01, momentum=0.0, weight_decay=0.05, clip_norm=1.0, variables=variables,
                                 factors=(1.0, 0.5, 2.0, 1.0), l2=0.001)
    for _ in range(30):
        optimizer.apply_gradients([(tf.constant(rng.normal(size=shape), tf.float32), variable)
                                   for shape, variable in zip(shapes, variables)])
    return variables


def test_lamb_without_tensorflow_addons_steps_as_with_it(monkeypatch):
    pytest.importorskip("tensorflow_addons")
    theirs, ours = lamb_of(monkeypatch, True), lamb_of(monkeypatch, False)
    for one, other in zip(theirs, ours):
        np.testing.assert_allclose(one, other, atol=5e-6)
        assert np.abs(one).max() > 0.01


def test_lamb_by_its_formula_without_tensorflow_addons(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_addons", None)
    test_lamb_scales_the_step_by_the_trust_ratio_and_spares_the_bias()


# PyTorch's SGD with Nesterov's momentum and weight_decay, written out.

RATES = (0.1, 0.1, 0.02, 0.3, 0.05)


def pytorch(weights, gradients_of_steps, l2, spared=()):
    weights, buffers = [one.astype(np.float64) for one in weights], [0.0] * len(weights)
    for rate, gradients in zip(RATES, gradients_of_steps):
        for one, gradient in enumerate(gradients):
            gradient = gradient + (0 if one in spared else l2) * weights[one]
            buffers[one] = 0.9 * buffers[one] + gradient
            weights[one] = weights[one] - rate * (gradient + 0.9 * buffers[one])
    return weights


def nesterov(gradients_of_steps, **changes):
    variables = [tf.Variable(KERNEL, name="dense/kernel"), tf.Variable(BIAS, name="dense/bias")]
    rate = tf.keras.optimizers.schedules.PiecewiseConstantDecay(list(range(len(RATES) - 1)), list(RATES))
    settings = {"momentum": 0.9, "weight_decay": 0.0, "clip_norm": 0.0, "nesterov": True, "variables": variables, **changes}
    optimizer = optimizers.build("sgd", rate, **settings)
    step = tf.function(lambda *gradients: optimizer.apply_gradients(zip(gradients, variables)), jit_compile=True)
    for gradients in gradients_of_steps:
        step(*map(tf.constant, gradients))
    return [variable.numpy() for variable in variables]


def random_gradients():
    rng = np.random.default_rng(0)
    return [[rng.normal(size=one.shape).astype(np.float32) for one in (KERNEL, BIAS)] for _ in RATES]


@pytest.mark.parametrize("decay_all, spared", [(True, ()), (False, (1,))])
def test_nesterov_and_l2_are_pytorchs_while_the_rate_changes(decay_all, spared):
    ours = nesterov(random_gradients(), l2=0.4, decay_all=decay_all)
    for one, other in zip(ours, pytorch((KERNEL, BIAS), random_gradients(), 0.4, spared)):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_l2_is_added_after_the_gradients_are_clipped():
    scale = 0.1 / max(0.1, np.sqrt(sum((one**2).sum() for one in random_gradients()[0])))
    clipped = [[one * scale for one in random_gradients()[0]]]
    for one, other in zip(nesterov(random_gradients()[:1], l2=0.4, decay_all=True, clip_norm=0.1),
                          pytorch((KERNEL, BIAS), clipped, 0.4)):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_what_has_a_rate_of_0_does_not_move():
    kernel, bias = nesterov(random_gradients(), l2=0.4, weight_decay=0.3, decay_all=True, factors=[0.0, 1.0])
    np.testing.assert_array_equal(kernel, KERNEL)
    assert (bias != BIAS).all()


def test_the_decoupled_decay_takes_biases_where_all_is_asked_for():
    kernel, bias = step("adamw", weight_decay=0.5, decay_all=True)
    np.testing.assert_allclose(kernel, KERNEL * (1 - RATE * 0.5) - RATE * np.sign(GRADIENTS[0]), atol=1e-4)
    np.testing.assert_allclose(bias, BIAS * (1 - RATE * 0.5) - RATE * np.sign(GRADIENTS[1]), atol=1e-4)


def test_adams_l2_is_a_part_of_its_gradient():
    """With a gradient of 0 Adam's first step is the sign of the weight."""
    variable = tf.Variable(KERNEL)
    optimizer = optimizers.build("adam", RATE, momentum=0.0, weight_decay=0.0, clip_norm=0.0, variables=[variable], l2=0.1)
    optimizer.apply_gradients([(tf.zeros_like(variable), variable)])
    np.testing.assert_allclose(variable, KERNEL - RATE * np.sign(KERNEL), atol=1e-4)


@pytest.mark.parametrize("decay_all", [False, True])
def test_lamb_takes_l2_and_decays_all(decay_all):
    kernel, bias = step("lamb", weight_decay=0.5, l2=100.0, decay_all=decay_all)
    for got, weight, gradient, spared in ((kernel, KERNEL, GRADIENTS[0], False), (bias, BIAS, GRADIENTS[1], not decay_all)):
        update = np.sign(gradient if spared else gradient + 100.0 * weight)
        update = update if spared else update + 0.5 * weight
        trust = 1 if spared else np.linalg.norm(weight) / np.linalg.norm(update)
        np.testing.assert_allclose(got, weight - RATE * trust * update, atol=1e-4)
