"""A rate for each layer: which factor a layer gets, and what the steps then are, against NumPy."""

import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from conftest import ROOT
from pipeline.errors import UserError
from pipeline.models import classifier as classifiers, zoo
from pipeline.training import layer_rates, losses, optimizers, schedules, train
from pipeline.training.step import TrainableClassifier
from training_runs import run, stage

CLASSES, BATCH = 3, 4


def named(*names):
    return [types.SimpleNamespace(name=name) for name in names]


# Blocks

@pytest.mark.parametrize("model, expected", [
    ("kecam/BeitTiny", {"stem_conv": 3, "cls_token": 3, "block0_attn_ln": 2, "block1_mlp_output": 1, "out_ln": 0}),
    ("kecam/EfficientNetV2Tiny", {"stem_conv": 7, "stack_0_block0_fu_conv": 6, "stack_4_block0_se_1_conv": 2,
                                  "stack_5_block0_output": 1, "post_conv": 0}),
    ("keras/efficientnet-tiny", {"stem_conv": 8, "block1a_dwconv": 7, "block7a_project_bn": 1, "top_bn": 0}),
])
def test_blocks_are_counted_from_the_head(model, expected):
    layers = zoo.build_base(model, 32).layers
    counted = dict(zip([layer.name for layer in layers], layer_rates.blocks_from_head(layers, "all")))
    assert {name: counted[name] for name in expected} == expected


def test_layers_between_blocks_and_branches_beside_them():
    names = ("input", "conv1/conv", "conv2_block1_0_conv", "conv2_block1_1_conv", "conv2_block2_concat", "pool2_conv",
             "conv3_block1_1_conv", "conv3_block12_1_conv", "bn")
    assert layer_rates.blocks_from_head(named(*names), "all") == [5, 5, 4, 4, 3, 3, 2, 1, 0]


def test_a_network_whose_names_tell_no_blocks():
    with pytest.raises(UserError, match=r"stage all: --layer_decay goes by blocks.*conv2d.*--groups"):
        layer_rates.blocks_from_head(named("input", "conv2d", "batch_normalization"), "all")


# Factors

LAYERS = named("input", "stem", "block1_conv", "block2_conv", "top")


@pytest.mark.parametrize("changes, expected", [
    ({}, [1, 1, 1, 1, 1]),
    ({"groups": "block1_conv:top"}, [1, 1, 1, 1, 1]),  # one rate is everybody's
    ({"groups": "block1_conv:top", "lower_lrs": (1e-4, 1e-3)}, [0.01, 0.01, 0.1, 0.1, 1]),
    ({"groups": "block2_conv", "lower_lrs": (1e-3,)}, [0.1, 0.1, 0.1, 1, 1]),
    ({"groups": "block1_conv:head", "lower_lrs": (1e-4, 1e-3)}, [0.01, 0.01, 0.1, 0.1, 0.1]),
    ({"layer_decay": 0.5}, [0.125, 0.125, 0.25, 0.5, 1]),
    ({"groups": "block2_conv", "lower_lrs": (1e-3,), "layer_decay": 0.5}, [0.0125, 0.0125, 0.025, 0.5, 1]),
])
def test_factors_of_layers(changes, expected):
    np.testing.assert_allclose(layer_rates.base_factors(LAYERS, stage(lr=1e-2, **changes)), expected, rtol=1e-12)


@pytest.mark.parametrize("changes, told", [
    ({"lower_lrs": (0.1,)}, "lr has 2 rates, but --groups= makes 1"),
    ({"groups": "top", "lower_lrs": (0.1, 0.2)}, "lr has 3 rates, but --groups=top makes 2"),
    ({"groups": "tip"}, "groups=tip: the base has no layer 'tip'; near it: .*top"),
    ({"groups": "top:stem"}, "order of the network"), ({"groups": "top:top"}, "order"), ({"groups": "input"}, "its first"),
])
def test_mistakes(changes, told):
    with pytest.raises(UserError, match=told):
        layer_rates.base_factors(LAYERS, stage(**changes))


def test_mistakes_are_told_before_anything_is_trained(tiny_data, tmp_path):
    with pytest.raises(UserError, match="no layer 'nowhere'"):
        train.run_training(run(tiny_data, tmp_path / "m", stage(groups="nowhere")))
    assert not (tmp_path / "m").exists()


def test_factors_of_a_classifiers_variables():
    built = classifiers.build("kecam/EfficientNetV2Tiny", 32, CLASSES, place_input=True)
    groups = stage(lr=1e-2, groups="stack_3_block0_sortcut_conv:head", lower_lrs=(1e-4, 1e-3))
    names = [variable.name for variable in built.model.trainable_variables]
    factor_of = dict(zip(names, layer_rates.factors(built, groups)))
    assert len(factor_of) == len(names)
    for name, factor in factor_of.items():
        low = name.startswith(("stem", "stack_0", "stack_1", "stack_2"))
        base = name.startswith(("stem", "stack", "post"))
        assert factor == pytest.approx(0.01 if low else 0.1 if base else 1.0), name


# Steps, against NumPy

RATE, DECAY, CLIP = 0.05, 0.3, 0.4
FACTORS = (0.01, 0.01, 0.3, 0.3, 1.0, 1.0)  # kernels and biases of three layers


def small_classifier():
    image = tf.keras.Input((4,), name="image")
    nn = image
    for number, units in enumerate((5, 6, CLASSES)):
        nn = tf.keras.layers.Dense(units, "tanh" if units > CLASSES else None,
                                   kernel_initializer=tf.keras.initializers.GlorotUniform(number))(nn)
    return tf.keras.Model({"image": image}, nn)


def batches(count):
    rng = np.random.default_rng(0)
    return [({"image": rng.normal(size=(BATCH, 4)).astype(np.float32)}, rng.integers(0, CLASSES, BATCH))
            for _ in range(count)]


def sgd(state, gradient, weight, rate, decay, step):
    state["m"] = 0.9 * state.get("m", 0) - rate * gradient
    return weight * (1 - rate * decay) + state["m"]


def adam_direction(state, gradient, step, epsilon):
    state["m"] = 0.9 * state.get("m", 0) + 0.1 * gradient
    state["v"] = 0.999 * state.get("v", 0) + 0.001 * gradient**2
    # epsilon beside the root of the uncorrected v, as in Keras and Kingma & Ba's efficient form
    return state["m"] / (1 - 0.9**step) / (np.sqrt(state["v"] / (1 - 0.999**step)) + epsilon)


def adamw(state, gradient, weight, rate, decay, step):
    return weight * (1 - rate * decay) - rate * adam_direction(state, gradient, step, 1e-7 / np.sqrt(1 - 0.999**step))


def lamb(state, gradient, weight, rate, decay, step):
    direction = adam_direction(state, gradient, step, 1e-6)
    if weight.ndim < 2:  # spared the decay, and the trust ratio
        return weight - rate * direction
    direction = direction + decay * weight
    return weight - rate * np.linalg.norm(weight) / np.linalg.norm(direction) * direction


def reference(rule, steps):
    """The weights after `steps`, the gradients by TensorFlow, everything else by NumPy in float64."""
    model = small_classifier()
    loss, states = losses.softmax_cross_entropy(0.0), [{} for _ in FACTORS]
    for step, (features, labels) in enumerate(batches(steps), 1):
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(loss(tf.constant(labels), model(features)))
        gradients = [gradient.numpy().astype(np.float64) for gradient in tape.gradient(value, model.weights)]
        norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients))
        assert norm > CLIP or step > 1  # or nothing would be clipped
        for variable, state, gradient, factor in zip(model.weights, states, gradients, FACTORS):
            weight = variable.numpy().astype(np.float64)
            rate = factor * RATE * (1 if step < 3 else 0.1)
            decay = DECAY if weight.ndim > 1 else 0.0
            variable.assign(rule(state, gradient * min(1, CLIP / norm), weight, rate, decay, step))
    return [weight.numpy() for weight in model.weights]


def trained(name, steps, loss_scale=False, **how):
    classifier = small_classifier()
    model = TrainableClassifier(classifier, losses.softmax_cross_entropy(0.0), BATCH)
    rate = schedules.make_rate("step:2", RATE, 0, steps, 1, 0.1)
    optimizer = optimizers.build(name, rate, momentum=0.9, weight_decay=DECAY, clip_norm=CLIP,
                                 variables=classifier.trainable_variables, factors=FACTORS)
    if loss_scale:
        optimizer = tf.keras.mixed_precision.LossScaleOptimizer(optimizer)
    model.compile(optimizer=optimizer, weighted_metrics=[], **how)
    data = batches(steps)
    dataset = tf.data.Dataset.from_tensor_slices(tuple(
        tf.nest.map_structure(lambda *parts: np.stack(parts), *part) for part in zip(*data)))
    model.fit(dataset, verbose=0)
    return [weight.numpy() for weight in classifier.weights]


@pytest.mark.parametrize("name, rule", [("sgd", sgd), ("adamw", adamw), ("lamb", lamb)])
@pytest.mark.parametrize("how", [{}, {"steps_per_execution": 2}, {"steps_per_execution": 2, "jit_compile": True},
                                 {"loss_scale": True}], ids=["plain", "two", "jit", "scaled"])
def test_each_group_steps_at_its_own_rate(name, rule, how):
    ours, expected, before = trained(name, 4, **how), reference(rule, 4), small_classifier().get_weights()
    for one, other, start, factor in zip(ours, expected, before, FACTORS):
        # What was stepped, not the weights: of a rate a hundredth as large they would hardly tell.
        np.testing.assert_allclose(one - start, other - start, rtol=2e-3, atol=3e-7 * max(1, np.abs(start).max()))


def test_sgds_steps_stand_in_the_rates_exact_ratio():
    variables = [tf.Variable([[0.0, 0.0]]) for _ in range(3)]
    optimizer = optimizers.build("sgd", 0.5, momentum=0.0, weight_decay=0.0, clip_norm=0.0, variables=variables,
                                 factors=[0.125, 0.25, 1.0])
    for _ in range(2):
        optimizer.apply_gradients([(tf.constant([[1.0, -3.0]]), variable) for variable in variables])
    low, middle, high = (variable.numpy() for variable in variables)
    np.testing.assert_array_equal(high, [[-1.0, 3.0]])
    np.testing.assert_array_equal(low, high / 8)
    np.testing.assert_array_equal(middle, high / 4)


# A process of its own, since logical devices are made before anything else.
REPLICAS = """
import sys
import numpy as np
import tensorflow as tf
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0],
                                           [tf.config.LogicalDeviceConfiguration()] * 2)
sys.path[:0] = ["tests", "tests/training"]
import test_layer_rates as here
from pipeline.training import losses, optimizers
from pipeline.training.step import TrainableClassifier
from pipeline.training.weight_average import WeightAverage

def train(strategy, name):
    with strategy.scope():
        classifier, averaged = here.small_classifier(), here.small_classifier()
        average = WeightAverage(averaged, classifier, 0.9)
        average.start()
        model = TrainableClassifier(classifier, losses.softmax_cross_entropy(0.0), here.BATCH, average=average)
        model.compile(optimizers.build(name, 0.05, momentum=0.9, weight_decay=0.3, clip_norm=0.4, factors=here.FACTORS,
                                       variables=classifier.trainable_variables),
                      steps_per_execution=2, weighted_metrics=[])
    slices = tuple(tf.nest.map_structure(lambda *parts: np.concatenate(parts), *part) for part in zip(*here.batches(4)))
    model.fit(tf.data.Dataset.from_tensor_slices(slices).batch(here.BATCH, drop_remainder=True), verbose=0)
    return classifier.get_weights() + averaged.get_weights()

for name in ("sgd", "adamw", "lamb"):
    two = train(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), name)
    for one, other in zip(train(tf.distribute.get_strategy(), name), two):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
print("the same")
"""


@pytest.mark.slow
def test_two_replicas_step_as_one():
    done = subprocess.run([sys.executable, "-c", REPLICAS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip().endswith("the same"), done.stderr[-3000:]
