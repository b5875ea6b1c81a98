"""What layers draw in training (dropout, drop-connect), as a function of (seed, step, replica) and of which layer it is.

Keras' own generators have a state that no checkpoint holds: masks began anew with each process. Drawn so there is no
state, and a step has the same masks whether or not the process was started again before it.
"""

import contextlib
import threading
from typing import Iterator, Optional

import tensorflow as tf

_tracing = threading.local()  # each replica's step is traced by a thread of its own


@contextlib.contextmanager
def seeded(seed: tf.Tensor) -> Iterator[None]:
    """What the layers of `by_step` models draw in the block depends on `seed` (int64 [2]) alone."""
    before = _seed()
    _tracing.seed = seed
    try:
        yield
    finally:
        _tracing.seed = before


def _seed() -> Optional[tf.Tensor]:
    return getattr(_tracing, "seed", None)


def step_seed(seed: int, step: tf.Tensor, part: tf.Tensor = 0) -> tf.Tensor:
    """int64 [2], another for each step (integer scalar), replica, and part of a batch that is worked off in parts."""
    key = tf.constant([seed, 0], tf.int64)
    for number in (step, tf.distribute.get_replica_context().replica_id_in_sync_group, part):
        key = tf.random.experimental.stateless_fold_in(key, tf.cast(number, tf.int64), alg="philox")
    return key


def layer_seed(number: int) -> Optional[tf.Tensor]:
    """That of the model's layer of this number; None outside of `seeded`."""
    seed = _seed()
    return None if seed is None else tf.random.experimental.stateless_fold_in(seed, number, alg="philox")


class _ByStep(tf.__internal__.tracking.AutoTrackable):  # which a SavedModel asks of it
    """Takes the place of the generator of a Keras layer, which still draws outside of `seeded`."""

    def __init__(self, own, number: int):
        self._own = own
        self._stateless = type(own)(seed=number, rng_type="stateless")
        self._stateless.make_seed_for_stateless_op = lambda: layer_seed(number)

    @property
    def _drawing(self):
        return self._own if _seed() is None else self._stateless

    def _maybe_init(self) -> None:
        self._own._maybe_init()

    def dropout(self, *arguments, **named) -> tf.Tensor:
        return self._drawing.dropout(*arguments, **named)

    def random_uniform(self, *arguments, **named) -> tf.Tensor:
        return self._drawing.random_uniform(*arguments, **named)

    def random_normal(self, *arguments, **named) -> tf.Tensor:
        return self._drawing.random_normal(*arguments, **named)

    def truncated_normal(self, *arguments, **named) -> tf.Tensor:
        return self._drawing.truncated_normal(*arguments, **named)


def by_step(model: tf.keras.Model) -> None:
    """Has every random layer of the model draw as `seeded` says; each draws otherwise than the others."""
    layers = [layer for layer in model.submodules if hasattr(layer, "_random_generator")]
    for number, layer in enumerate(layers):
        # Not as Keras sets attributes: tracked, it would stand in checkpoints, and those of before would lack it.
        object.__setattr__(layer, "_random_generator", _ByStep(layer._random_generator, number))
