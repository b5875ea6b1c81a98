"""One step of each optimizer against its formula in NumPy."""

import numpy as np
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
