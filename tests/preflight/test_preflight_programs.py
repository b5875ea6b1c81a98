"""Steps as XLA programs: the same for the same computation; and what no TPU can run, with the line it comes from."""

import numpy as np
import pytest
import tensorflow as tf

from pipeline.preflight.lowering import Fault, lower

MATRIX = tf.TensorSpec([4, 3])


def square(matrix):
    return tf.matmul(matrix, matrix, transpose_b=True)


def test_a_program_is_the_same_wherever_it_comes_from():
    def the_same_again(other_name):
        return tf.linalg.matmul(other_name, other_name, transpose_b=True)

    assert lower(square, [MATRIX]) == lower(the_same_again, [MATRIX])
    assert lower(square, [MATRIX]) != lower(square, [tf.TensorSpec([4, 5])])


def test_nests_of_specs():
    program = lower(lambda features, labels: features["image"] * labels, [{"image": MATRIX}, tf.TensorSpec([4, 1])])
    assert program == lower(lambda image, labels: image * labels, [MATRIX, tf.TensorSpec([4, 1])])


def on_the_host(matrix):
    return tf.py_function(lambda values: values * 2, [matrix], tf.float32)  # the planted call


def line_of(text):
    with open(__file__, encoding="utf-8") as file:
        return next(number for number, line in enumerate(file, 1) if text in line)


@pytest.mark.parametrize("step", [on_the_host, lambda matrix: tf.function(on_the_host)(matrix) + 1])
def test_a_host_call_is_named_with_its_line(step):
    with pytest.raises(Fault) as caught:
        lower(step, [MATRIX])
    assert caught.value.operation == "EagerPyFunc"
    assert caught.value.origin.endswith(
        f"tests/preflight/test_preflight_programs.py:{line_of('# the planted call')} in on_the_host")


def positives(matrix):
    places = tf.where(matrix > 0)  # as many as there are
    return tf.reduce_sum(places)


@pytest.mark.parametrize("step", [positives, lambda matrix: tf.function(positives)(matrix) + 1])
def test_a_shape_known_only_as_it_runs_is_named_with_its_line(step):
    with pytest.raises(Fault) as caught:
        lower(step, [MATRIX])
    assert caught.value.operation == "Where"
    assert "[<=12, 2]" in caught.value.problem
    assert caught.value.origin.endswith(f"test_preflight_programs.py:{line_of('# as many as there are')} in positives")


def test_where_with_both_sides_is_a_program():
    lower(lambda matrix: tf.where(matrix > 0, matrix, 0.0), [MATRIX])


def test_numpy_and_the_program_agree():
    """The bytes that go to the compiler are a program that computes what the step does: its constants are there."""
    program = lower(lambda matrix: matrix + np.float32(1234.5), [MATRIX])
    assert np.float32(1234.5).tobytes() in program.serialized
