"""Two training steps and a validation on any number of replicas, each case's results in an .npz file.

python tests/two_steps.py REPLICAS FOLDER CASE… (a process of its own, since logical devices are made before anything
else); 0 replicas: TensorFlow's default strategy.
"""

import json
import pathlib
import sys

import numpy as np
import tensorflow as tf

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from pipeline.devices import strategy as strategies
from pipeline.runs import run as runs
from pipeline.tasks import registry as tasks
from pipeline.training import schedules, trainable
from pipeline.training.weight_average import WeightAverage
import training_runs

BATCH, SIZE, CLASSES, VALIDATED = 16, 32, 3, 11


def without_dropout(classifier) -> None:
    """Turns off what is random in a network (stochastic depth is a Dropout of whole examples in every library)."""
    for layer in classifier.model.submodules:
        if isinstance(layer, tf.keras.layers.Dropout):
            layer.rate = 0.0


def norms(classifier) -> list[tf.keras.layers.BatchNormalization]:
    return [layer for layer in classifier.model.submodules if isinstance(layer, tf.keras.layers.BatchNormalization)]


def pictures(seed: int, count: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
    return {"image": images, "place": np.zeros((count, 3), np.float32)}, rng.integers(0, CLASSES, count)


def _batched(*tensors) -> tf.data.Dataset:
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return tf.data.Dataset.from_tensor_slices(tensors).batch(BATCH, drop_remainder=True).with_options(options)


def training_batches(multi_label: bool, steps: int = 2) -> tf.data.Dataset:
    features, labels = pictures(0, steps * BATCH)
    return _batched(features, np.eye(CLASSES, dtype=np.float32)[labels] if multi_label else labels)


def validation_batches(multi_label: bool) -> tf.data.Dataset:
    """VALIDATED pictures that count, and padding of others."""
    features, labels = pictures(1, BATCH)
    labels = np.eye(CLASSES, dtype=np.float32)[labels] if multi_label else labels
    return _batched(features, labels, (np.arange(BATCH) < VALIDATED).astype(np.float32))


def build(model: str, loss: str = "softmax", precision: str = "float32", sync_batch_norm: bool = False, jit: bool = False,
          steps_per_execution: int = 1, fused: bool = True, seed: int = 42, **changes):
    """(TrainableClassifier, Classifier, WeightAverage or None) of one stage without dropout, in the scope of a strategy.

    `fused` False has BatchNorm work as the synchronized one does.
    """
    stage = training_runs.stage(batch_size=BATCH, size=SIZE, loss=loss, **changes)
    run = runs.Run("", "", model, (stage,), precision=precision, sync_batch_norm=sync_batch_norm, jit=jit,
                   steps_per_execution=steps_per_execution, random_seed=seed)
    tf.keras.mixed_precision.set_global_policy(precision)
    built, valued = (trainable.build_classifier(run, stage, CLASSES, "none", "torch") for _ in range(2))
    without_dropout(built)
    if not fused:
        for layer in norms(built):
            layer.fused = False
    average = WeightAverage(valued.model, built.model, stage.ema) if stage.ema else None
    if average:
        average.start()
    rate = schedules.make_rate("constant", stage.lr, 0, 2, 2, 0.1)
    return trainable.compile_stage(run, stage, built, rate, tasks.of_loss(loss), average=average), built, average


def results(strategy: tf.distribute.Strategy, model: str, **changes) -> dict[str, np.ndarray]:
    """Weights and scores after two steps, by name."""
    tf.keras.backend.clear_session()
    multi_label = changes.get("loss", "softmax") != "softmax"
    with strategy.scope():
        trained, built, average = build(model, **changes)
    history = trained.fit(training_batches(multi_label), verbose=0).history
    scores = trained.evaluate(validation_batches(multi_label), verbose=0, return_dict=True)
    told = {**{name: values[-1] for name, values in history.items()}, **{f"val_{name}": one for name, one in scores.items()}}
    named = {f"weight_{index}_{weight.name}": weight.numpy() for index, weight in enumerate(built.model.weights)}
    if average:
        named |= {f"average_{index}_{weight.name}": weight.numpy() for index, weight in enumerate(average.model.weights)}
    return {**told, **named}


def main(replicas: str, folder: str, *cases: str) -> None:
    strategy = strategies.make("none", [BATCH], int(replicas))
    for case in map(json.loads, cases):
        np.savez(f"{folder}/{case.pop('name')}_{replicas}.npz", **results(strategy, **case))


if __name__ == "__main__":
    main(*sys.argv[1:])
