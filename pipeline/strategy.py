"""Where to compute: a TPU by name, else every GPU, else the CPU."""

from absl import logging
import tensorflow as tf

from pipeline.errors import UserError


def _connect(tpu: str) -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=tpu)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise UserError(f"--tpu={tpu}: no TPU answers there: {error}") from None
    return tf.distribute.TPUStrategy(resolver)


def make(tpu: str, batch_sizes: list[int]) -> tf.distribute.Strategy:
    """Makes the strategy and logs what it is.

    Raises UserError where the TPU can't be reached or a global batch is not divisible by the number of replicas.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if tpu != "none":
        strategy = _connect(tpu)
    elif len(gpus) > 1:
        strategy = tf.distribute.MirroredStrategy()
    else:
        strategy = tf.distribute.get_strategy()  # the default one: the GPU if there is one, else the CPU
    replicas = strategy.num_replicas_in_sync
    kind = "TPU" if tpu != "none" else "GPU" if gpus else "CPU"
    for batch_size in batch_sizes:
        if batch_size % replicas:
            raise UserError(f"--batch_size={batch_size} is not divisible by the {replicas} {kind} replicas")
    logging.info("%s: %d replica(s) of %s, batch %s, of which each replica sees %s", type(strategy).__name__, replicas,
                 kind, "/".join(map(str, batch_sizes)), "/".join(str(size // replicas) for size in batch_sizes))
    return strategy
