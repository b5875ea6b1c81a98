"""What the processes of several hosts do together in one run: each feeds its replicas, one writes, all wait."""

import contextlib
import tempfile
from typing import Callable, Iterator, Optional, Sequence, Union

import tensorflow as tf

from pipeline.errors import UserError
from pipeline.records.input import Host


def count(strategy: tf.distribute.Strategy) -> int:
    """How many machines feed the replicas, each by an input pipeline of its own."""
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return strategy.extended.num_hosts
    return sum(map(len, _cluster(strategy).values())) or 1


def _cluster(strategy: tf.distribute.Strategy) -> dict[str, list[str]]:
    resolver = strategy.cluster_resolver
    return resolver.cluster_spec().as_dict() if resolver else {}


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes: of several hosts each runs one, but one drives all hosts of a TPU."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return True
    chief = "chief" if "chief" in _cluster(strategy) else "worker"
    return (strategy.cluster_resolver.task_type, strategy.cluster_resolver.task_id) == (chief, 0)


def require_one(strategy: tf.distribute.Strategy, command: str) -> None:
    """Raises UserError where there are several: for what writes one stream in one order."""
    if count(strategy) > 1:
        raise UserError(f"{command} works on one host: unset TF_CONFIG, or take a TPU of one host (v2-8, v3-8)")


def distribute(strategy: tf.distribute.Strategy, make_batches: Callable[[Host], tf.data.Dataset],
               batch_size: int) -> Union[tf.data.Dataset, tf.distribute.DistributedDataset]:
    """The global batches of `make_batches`, as Keras' fit takes them: of several hosts each makes its part by itself."""
    if count(strategy) == 1:
        return make_batches(Host())

    def own_batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        batches = make_batches(Host(context.input_pipeline_id, context.num_input_pipelines))
        return batches.rebatch(context.get_per_replica_batch_size(batch_size), drop_remainder=True)

    return strategy.distribute_datasets_from_function(own_batches)


@contextlib.contextmanager
def folder_to_write(strategy: tf.distribute.Strategy, folder: str) -> Iterator[str]:
    """`folder` for the process that writes; for the others, which must take part in a checkpoint, one that goes again."""
    if is_chief(strategy):
        yield folder
        return
    with tempfile.TemporaryDirectory() as aside:
        yield aside


def wait_for_all(strategy: tf.distribute.Strategy) -> None:
    """Returns when the processes of all hosts have come here; raises UserError where one of them has ended."""
    _sum_of_all(strategy, 0.0)


def by_chief(strategy: tf.distribute.Strategy, work: Callable[[], None]) -> None:
    """Has the process that writes do `work`, and all others wait until it is done.

    Raises what `work` raises there, and UserError on the others, which would else wait for what never comes.
    """
    failed: Optional[Exception] = None
    if is_chief(strategy):
        try:
            work()
        except Exception as error:  # raised again when the others know
            failed = error
    try:
        failures = _sum_of_all(strategy, float(failed is not None))
    except UserError:  # the others knew first, and have ended: what happened here is still what is to be told
        if failed is None:
            raise
    else:
        if failures:
            _part(strategy)
    if failed:
        raise failed
    if failures:
        raise UserError("the first host has ended with an error, which it tells")


class Meeting:
    """Where the processes of all hosts come together again and again, between steps."""

    def __init__(self, strategy: tf.distribute.Strategy, count: int):
        """`count`: of the numbers that each brings."""
        self.is_of_several = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        self._strategy = strategy
        self._meet = tf.function(lambda values: strategy.run(_sum_over_replicas, args=(values,)),
                                 input_signature=[tf.TensorSpec([count])])

    def __call__(self, values: Sequence[float]) -> list[float]:
        """The sums of what each brings, times the replicas that it has; raises UserError where another host has ended."""
        try:
            found = self._meet(tf.constant(values, tf.float32))
        except tf.errors.OpError as error:
            raise _ended(error) from None
        return self._strategy.experimental_local_results(found)[0].numpy().tolist()


def _sum_over_replicas(values: tf.Tensor) -> tf.Tensor:
    # An argument is on no device yet, and what is reduced must be on the replica's own.
    return tf.distribute.get_replica_context().all_reduce("sum", tf.identity(values))


def _ended(error: tf.errors.OpError) -> UserError:
    return UserError(f"another host has ended, and tells why if it could: {' '.join(str(error).split())[:200]}")


def _part(strategy: tf.distribute.Strategy) -> None:
    """Returns when every host has what the last meeting came to: one that ends before takes the answer from the others."""
    with contextlib.suppress(UserError):  # a host that has ended by now had it
        _sum_of_all(strategy, 0.0)


def _sum_of_all(strategy: tf.distribute.Strategy, value: float) -> float:
    """The sum of what the processes of all hosts bring here; with one process, its own."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return value
    meet = tf.function(lambda: tf.distribute.get_replica_context().all_reduce("sum", tf.constant(value)))
    try:
        found = strategy.run(meet)
    except tf.errors.OpError as error:
        raise _ended(error) from None
    return float(strategy.experimental_local_results(found)[0])
