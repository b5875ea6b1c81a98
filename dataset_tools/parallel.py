"""Runs tasks on worker processes that tell how far they are."""

import contextlib
import gc
import multiprocessing
import os
import signal
import threading
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver, resource_tracker
from typing import Any, Callable, Iterator, Sequence

from pipeline.errors import WorkError
from pipeline.progress import progress

_POLL_SECONDS = 0.5
# Imported once, in the server from which workers are forked; ours first, which has TensorFlow imported quietly.
_PRELOAD = ["pipeline", "tensorflow", "numpy", "PIL.Image"]
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class _Stopped(Exception):
    """Ends a task whose result nobody waits for any more."""


def _no_progress(_: int) -> None:
    pass


_advance: Callable[[int], None] = _no_progress


def advance(n: int = 1) -> None:
    """Called by a running task: n more units are done."""
    _advance(n)


def _start_worker(counter: Any, stopped: Any) -> None:
    global _advance
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.set_visible_devices([], "GPU")

    def add(n: int) -> None:
        if stopped.value:
            raise _Stopped
        with counter.get_lock():
            counter.value += n

    _advance = add


def run(function: Callable[[Any], Any], tasks: Sequence[Any], workers: int, total: int, description: str,
        unit: str = "pictures") -> list[Any]:
    """`[function(task) for task in tasks]`, on `workers` processes; one worker is this process.

    Args:
      function: of a module's top level; calls `advance` as it goes.
      tasks: in the order in which they are started.
      workers: at most so many processes (ram:// needs 1).
      total: units over all tasks, for progress in `unit`.

    Raises:
      WorkError: where a worker died; whatever `function` raises.
    """
    with progress(total, description, unit) as bar:
        if min(workers, len(tasks)) <= 1:
            return _run_here(function, tasks, bar)
        return _run_processes(function, tasks, min(workers, len(tasks)), bar)


def _run_here(function: Callable, tasks: Sequence[Any], bar: Any) -> list[Any]:
    global _advance
    _advance = bar.update
    try:
        return [function(task) for task in tasks]
    finally:
        _advance = _no_progress


def _start_server() -> None:
    """Starts the server of workers so that it and they never see Ctrl-C, which reaches every process of a terminal:
    this process stops them."""
    resource_tracker.ensure_running()  # first, for it changes the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _importable():
            forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _importable() -> Iterator[None]:
    """Processes that are started meanwhile find our modules: the server is not told this one's sys.path (it takes it up to
    Python 3.13, and passes over it)."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([_ROOT, *([before] if before else [])])
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


@contextlib.contextmanager
def _interrupt_deferred() -> Iterator[None]:
    """Ctrl-C counts when the block is over."""
    if threading.current_thread() is not threading.main_thread():  # which alone is interrupted
        yield
        return
    noted: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: noted.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if noted:
        raise KeyboardInterrupt


def _run_processes(function: Callable, tasks: Sequence[Any], workers: int, bar: Any) -> list[Any]:
    # Forking this process would be wrong once TensorFlow has threads, and spawning pays for its import every time.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    counter = pool = None
    try:
        # What is made by half would be told as a leak; a worker that is started by half would be unknown to the pool.
        with _interrupt_deferred():
            _start_server()
            counter, stopped = context.Value("q", 0), context.RawValue("b", 0)
            pool = futures.ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(counter, stopped))
            submitted = [pool.submit(function, task) for task in tasks]
        pending, shown = set(submitted), 0
        while pending:
            done, pending = futures.wait(pending, _POLL_SECONDS, futures.FIRST_EXCEPTION)
            for future in done:
                future.result()  # stop at the first failure
            now = counter.value
            bar.update(now - shown)
            shown = now
        return [future.result() for future in submitted]
    except BrokenProcessPool as error:
        raise WorkError("a worker process died (out of memory?); try fewer --workers") from error
    finally:
        if pool is not None:
            stopped.value = 1  # else the shards that were begun would be finished before an error is told
            pool.shutdown(wait=True, cancel_futures=True)
        # An error's traceback would keep them beyond the end of the process, which would be told as a leak.
        del pool, counter
        gc.collect()
