"""Functions of the input pipeline that XLA compiles, on the host's processor."""

import functools
import os
import re
import tempfile
from typing import Callable

import tensorflow as tf

# What TensorFlow writes to stderr when it has compiled a process's first program, whatever its log's level is.
_OF_THE_FIRST = re.compile(rb"WARNING: All log messages before absl::InitializeLog\(\)|I0000 .*Compiled cluster using XLA!")


def by_xla(function: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    """As tf.function(jit_compile=True), without the lines that its first compilation would write among ours."""
    traced = tf.function(function, jit_compile=True, autograph=False)

    @tf.autograph.experimental.do_not_convert
    @functools.wraps(function)
    def call(*arguments):
        if os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "0":  # whoever asks for TensorFlow's log gets it
            _first_program()
        return traced(*arguments)

    return call


@functools.lru_cache(maxsize=None)
def _first_program() -> None:
    """Compiles nothing much, once in a process, and keeps what TensorFlow says of that from stderr; nothing else."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr
        return
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            with tf.init_scope(), tf.device("CPU:0"):
                tf.function(lambda x: x + 1, jit_compile=True, autograph=False)(tf.constant(0))
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        written.seek(0)
        for line in written.read().splitlines(keepends=True):
            if not _OF_THE_FIRST.match(line):
                os.write(2, line)
