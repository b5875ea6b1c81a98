"""Where to compute: a TPU by name, else every GPU, else the CPU."""

from typing import Sequence

from absl import logging
import tensorflow as tf

from pipeline.errors import UserError


def _connect(tpu: str) -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=tpu)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise UserError(f"--tpu={tpu}: no TPU answers there: {str(error).splitlines()[0][:200]}") from None
    return tf.distribute.TPUStrategy(resolver)


def make(tpu: str, batch_sizes: Sequence[int]) -> tf.distribute.Strategy:
    """Makes the strategy.

    Raises UserError where the TPU can't be reached or a global batch is not divisible by the number of replicas.
    """
    if tpu != "none":
        strategy = _connect(tpu)
    elif len(tf.config.list_physical_devices("GPU")) > 1:
        strategy = tf.distribute.MirroredStrategy()
    else:
        strategy = tf.distribute.get_strategy()  # the default one: the GPU if there is one, else the CPU
    replicas = strategy.num_replicas_in_sync
    for batch_size in batch_sizes:
        if batch_size % replicas:
            raise UserError(f"--batch_size={batch_size} is not divisible by the {replicas} replicas of this machine")
    return strategy


def log(strategy: tf.distribute.Strategy, batch_sizes: Sequence[int]) -> None:
    """Says where the work is done."""
    replicas = strategy.num_replicas_in_sync
    if isinstance(strategy, tf.distribute.TPUStrategy):
        kind = "TPU"
    else:
        kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    sizes = list(dict.fromkeys(batch_sizes))
    logging.info("%d replica(s) on %s, batch %s, of which each replica sees %s", replicas, kind,
                 "/".join(map(str, sizes)), "/".join(str(size // replicas) for size in sizes))
