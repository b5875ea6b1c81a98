"""Gradient accumulation: a batch's gradients by micro-batches one after another, in the memory that one of them takes."""

from typing import Any, Callable

import tensorflow as tf

Gradients = list[tf.Tensor]
# (features, labels, number) of a micro-batch → the variables' gradients, float32 losses [n] and logits [n, classes].
Compute = Callable[[Any, Any, tf.Tensor], tuple[Gradients, tf.Tensor, tf.Tensor]]


def in_micro_batches(compute: Compute, features: Any, labels: Any, count: int, variables: list[tf.Variable],
                     classes: int) -> tuple[Gradients, tf.Tensor, tf.Tensor]:
    """What `compute` returns for `count` equal parts of a batch: the sum of their gradients, all losses and all logits.

    A loop and no copies of the step, so that neither the program grows nor two parts are ever in memory together. What
    `compute` changes by itself (BatchNorm's moving statistics) changes once for each part.

    Args:
      features, labels: nests of tensors [batch, …] with a static batch, a multiple of `count`.
      variables: those that `compute` differentiates by.
    """
    parts = tf.nest.map_structure(lambda whole: tf.reshape(whole, [count, -1, *whole.shape[1:]]), (features, labels))
    size = tf.nest.flatten(parts)[0].shape[1]
    shapes = ([size], [size, classes])
    arrays = [tf.TensorArray(tf.float32, count, element_shape=shape) for shape in shapes]
    zeros = [tf.zeros(variable.shape, variable.dtype) for variable in variables]

    def add_one(index, sums, arrays):
        gradients, *results = compute(*tf.nest.map_structure(lambda part: part[index], parts), index)
        # An embedding's gradient is sparse; what a loop carries is not.
        sums = [total + tf.convert_to_tensor(gradient) for total, gradient in zip(sums, gradients)]
        return index + 1, sums, [array.write(index, result) for array, result in zip(arrays, results)]

    _, sums, (losses, logits) = tf.while_loop(lambda index, *_: index < count, add_one, (0, zeros, arrays),
                                              parallel_iterations=1, maximum_iterations=count)
    return sums, losses.concat(), logits.concat()
