"""The geo prior's definition in NumPy and float64, from the weights in a checkpoint."""

import numpy as np
import tensorflow as tf


def encoding(latitude, longitude, date=None):
    """sin and cos of π·x: [n, 4], with a date [n, 6]."""
    columns = [np.asarray(longitude, float) / 180, np.asarray(latitude, float) / 90]
    if date is not None:
        columns.append(2 * np.asarray(date, float) - 1)
    return np.stack([f(np.pi * x) for x in columns for f in (np.sin, np.cos)], axis=1)


def checkpointed(model_dir):
    """A function from a name to its array in a model directory, by TensorFlow's own reader."""
    reader = tf.train.load_checkpoint(str(model_dir / "last"))
    return lambda name: reader.get_tensor(f"network/{name}/.ATTRIBUTES/VARIABLE_VALUE").astype(np.float64)


def log_probabilities(model_dir, inputs):
    """Of the encoded inputs, by the network in a model directory: [n, classes]."""
    weight = checkpointed(model_dir)

    def dense(name, x):
        return x @ weight(f"{name}/kernel") + weight(f"{name}/bias")

    x = np.maximum(dense("first", inputs), 0)
    for block in range(4):
        x = x + np.maximum(dense(f"blocks/{block}/1", np.maximum(dense(f"blocks/{block}/0", x), 0)), 0)
    scores = 1 / (1 + np.exp(-x @ weight("classes/kernel")))
    return np.log(scores / scores.sum(axis=1, keepdims=True))
