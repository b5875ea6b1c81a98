"""What to compute on: a TPU by name, several hosts, virtual CPUs; else every GPU, else the CPU."""

import concurrent.futures
import functools
from typing import Any, Sequence

from absl import logging
import tensorflow as tf

from pipeline.devices import cluster, hosts
from pipeline.errors import UserError

_TPU_PATIENCE = 300  # seconds; a TPU's start takes less than one minute of them
_STATUS_PATIENCE = 10  # seconds


def make(tpu: str, batch_sizes: Sequence[int], virtual_replicas: int = 0) -> tf.distribute.Strategy:
    """Makes the strategy. The same devices give the same one again, whatever the batches.

    It must be called before TensorFlow computes anything (RuntimeError): a command makes its devices first.

    Raises UserError where the TPU or the other hosts can't be reached or a global batch is not divisible by the number of
    replicas.
    """
    _require_keras_2()
    strategy = _make(tpu, virtual_replicas)
    for batch_size in batch_sizes:
        check_divisible(strategy, batch_size)
    return strategy


def _require_keras_2() -> None:
    """Raises UserError where tf.keras is Keras 3, which neither our layers nor the packages of networks are written for."""
    if tf.keras.Model.__module__.split(".")[:3] not in (["keras", "src", "engine"], ["tf_keras", "src", "engine"]):
        raise UserError(f"tf.keras of TensorFlow {tf.__version__} is Keras 3: install tf-keras of the same version "
                        "(requirements-modern.txt), and leave TF_USE_LEGACY_KERAS to us")


def make_on_one_host(command: str, tpu: str, batch_size: int, virtual_replicas: int) -> tf.distribute.Strategy:
    """`make` for a command that writes one stream in one order; raises UserError where there are several hosts too."""
    cluster.refuse(command)  # before it waits for them
    strategy = make(tpu, [batch_size], virtual_replicas)
    hosts.require_one(strategy, command)
    return strategy


def check_divisible(strategy: tf.distribute.Strategy, batch_size: int, accumulate: int = 1) -> None:
    """Raises UserError where a global batch can't be divided among the replicas, and each share into micro-batches."""
    replicas = strategy.num_replicas_in_sync
    if batch_size % (replicas * accumulate):
        times = f" times --accumulate={accumulate}" if accumulate > 1 else ""
        raise UserError(f"--batch_size={batch_size} is not divisible by the {replicas} replica(s){times}; make it a "
                        f"multiple of {replicas * accumulate}")


@functools.lru_cache(maxsize=None)  # a TPU that is connected a second time forgets what it holds
def _make(tpu: str, virtual_replicas: int) -> tf.distribute.Strategy:
    config = cluster.find()
    if sum((tpu != "none", virtual_replicas > 0, config is not None)) > 1:
        raise UserError("--tpu, --virtual_replicas and TF_CONFIG in the environment exclude each other: give one of them")
    if tpu != "none":
        return _tpu(tpu)
    if virtual_replicas:
        return _virtual(virtual_replicas)
    if config:
        return _several_hosts(config)
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()  # the default one: the GPU if there is one, else the CPU


def _tpu(tpu: str) -> tf.distribute.Strategy:
    # In a thread, because what answers at an address but is no TPU is waited for without end.
    executor = concurrent.futures.ThreadPoolExecutor(1)
    try:
        return tf.distribute.TPUStrategy(executor.submit(_connect, tpu).result(_TPU_PATIENCE))
    except concurrent.futures.TimeoutError:
        reason = f"no answer within {_TPU_PATIENCE} s"
    except (ImportError, ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())[:200]
        if "ConfigureDistributedTPU" in str(error) and "Registered kernels" in str(error):
            raise UserError(f"--tpu={tpu}: this TensorFlow has no TPU support; use the TPU VM's own, with PYTHON=python3 "
                            "before the script") from None
    raise UserError(f"--tpu={tpu}: no TPU answers there: {reason}") from None


def _connect(tpu: str) -> tf.distribute.cluster_resolver.TPUClusterResolver:
    resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=tpu)
    address = resolver.master().removeprefix("grpc://")
    if ":" in address:  # local has none
        _ask_status(address)
    tf.config.experimental_connect_to_cluster(resolver)
    tf.tpu.experimental.initialize_tpu_system(resolver)
    return resolver


def _ask_status(address: str) -> None:
    """TensorFlow's own first question to a TPU's host, which asks it without end, or dies of an answer in another tongue.

    Raises OSError where there is no such host.
    """
    import grpc  # which TensorFlow brings; here, as no other strategy needs it

    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary("/tensorflow.WorkerService/GetStatus")(b"", timeout=_STATUS_PATIENCE)
        except grpc.RpcError as error:
            raise OSError(f"{error.code().name}, {error.details()}") from None


def _virtual(replicas: int) -> tf.distribute.Strategy:
    tf.config.set_visible_devices([], "GPU")
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * replicas)
    return tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(replicas)])


def _several_hosts(config: dict[str, Any]) -> tf.distribute.Strategy:
    addresses = cluster.addresses(config)
    logging.info("this is %s %d of %d hosts, waiting for the others", config["task"]["type"], config["task"]["index"],
                 len(addresses))
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (ValueError, tf.errors.OpError) as error:  # a RuntimeError tells that something was computed before
        raise UserError(f"TF_CONFIG: the hosts {', '.join(addresses)} don't come together: "
                        f"{' '.join(str(error).split())[:200]}") from None


def log(strategy: tf.distribute.Strategy, batch_sizes: Sequence[int]) -> None:
    """Says where the work is done."""
    logging.info("%s", describe(strategy, batch_sizes))


def describe(strategy: tf.distribute.Strategy, batch_sizes: Sequence[int]) -> str:
    """Where the work is done, and in which batches."""
    replicas = strategy.num_replicas_in_sync
    sizes = list(dict.fromkeys(batch_sizes))
    return (f"{_name(strategy)}: {replicas} replica(s) on {_devices(strategy)}, {hosts.count(strategy)} host(s); batch "
            f"{'/'.join(map(str, sizes))}, of which each replica sees {'/'.join(str(size // replicas) for size in sizes)}")


def _name(strategy: tf.distribute.Strategy) -> str:
    for name in ("TPUStrategy", "MultiWorkerMirroredStrategy", "MirroredStrategy"):  # the classes' own names are others
        if isinstance(strategy, getattr(tf.distribute, name)):
            return name
    return "one device"


def _devices(strategy: tf.distribute.Strategy) -> str:
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return "TPU"
    return "GPU" if tf.config.get_visible_devices("GPU") else "CPU"
