"""A layer group at rate 0: its weights stay, whatever the decay, and its BatchNorm still takes each batch's statistics."""

import numpy as np
import tensorflow as tf

from pipeline.models import classifier as classifiers
from pipeline.runs import checkpoint, run as runs
from pipeline.tasks import registry as tasks
from pipeline.training import layer_rates, train, trainable
from training_runs import run, stage

MODEL, BORDER = "kecam/EfficientNetV2Tiny", "stack_3_block0_sortcut_conv"
FROZEN = stage(optimizer="sgd", nesterov=True, l2=0.01, weight_decay=0.01, decay_all=True, lr=0.04, lower_lrs=(0.0, 0.004),
               groups=f"{BORDER}:head", lr_schedule="triangular:epochs", epochs=2)


def test_weights_stay_and_statistics_move(tiny_data, tmp_path):
    train.run_training(run(tiny_data, tmp_path / "m", FROZEN, channel_dropout=0.25, head_init="kaiming",
                           pixel_mean="115.75:120.83:93.49", pixel_std="50.46:50.08:49.67"))
    before = classifiers.build(MODEL, 32, 3, seed=42, head_init="kaiming")
    after = classifiers.build(MODEL, 32, 3)
    checkpoint.load(tf.train.latest_checkpoint(str(tmp_path / "m" / "stage_1_all" / "last")), after)
    names = [layer.name for layer in before.base.layers]
    border = names.index(BORDER)
    for index, (old, new) in enumerate(zip(before.base.layers, after.base.layers)):
        for one, other in zip(old.trainable_weights, new.trainable_weights):
            assert np.array_equal(one, other) == (index < border), one.name
        for one, other in zip(old.non_trainable_weights, new.non_trainable_weights):
            assert not np.array_equal(one, other), one.name
    assert not np.array_equal(before.head.kernel, after.head.kernel)


def test_no_gradient_is_computed_for_what_does_not_move():
    built = classifiers.build(MODEL, 32, 3)
    model = trainable.compile_stage(runs.Run("", "", MODEL, (FROZEN,)), FROZEN, built, 0.1, tasks.SINGLE_LABEL)
    stepped = [variable.name for variable, _ in layer_rates.stepped(built, FROZEN)]
    assert not [name for name in stepped if name.startswith(("stem", "stack_0", "stack_1", "stack_2"))]
    assert len(model.optimizer.variables) < 2 * len(built.model.trainable_variables)  # a velocity for those that step alone
    features = {"image": tf.zeros([10, 32, 32, 3], tf.uint8), "place": tf.zeros([10, 3])}
    graph = tf.function(lambda: model.train_step((features, tf.zeros([10], tf.int64)))).get_concrete_function().graph
    backward = [node for node in graph.get_operations() if node.type == "Conv2DBackpropFilter"]
    convolutions = [layer for layer in built.base.layers if type(layer).__name__ == "Conv2D"]
    border = [layer.name for layer in built.base.layers].index(BORDER)
    assert len(backward) == sum(built.base.layers.index(layer) >= border for layer in convolutions)
