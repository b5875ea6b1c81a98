"""A step on every replica, in one call from Python."""

from typing import Any, Callable

import tensorflow as tf


def on_replicas(strategy: tf.distribute.Strategy, step: Callable[..., Any]) -> Callable[..., Any]:
    """strategy.run(step, arguments) as a tf.function of the arguments, traced as it is written.

    No step of ours has Python's if or for of a tensor, so AutoGraph has nothing to do, and would read the source of each
    function and layer that is called for it: 0.1 s each, at every start.
    """
    return tf.function(tf.autograph.experimental.do_not_convert(lambda *arguments: strategy.run(step, args=arguments)))
