"""What the input pipeline compiles by itself is compiled without a word."""

import os
import subprocess
import sys

from conftest import ROOT

CODE = """
import os, sys
from pipeline.ops import compiled
import tensorflow as tf
double = compiled.by_xla(lambda x: 2 * x)
numbers = tf.data.Dataset.range(3).map(double, num_parallel_calls=2)
print([int(one) for one in numbers])
os.write(2, b"written after it\\n")
"""


def stderr_of(**environment):
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120,
                          env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment})
    assert done.stdout == "[0, 2, 4]\n"
    return done.stderr


def test_the_first_compilation_writes_nothing():
    assert stderr_of() == "written after it\n"


def test_whoever_asks_for_tensorflows_log_gets_it():
    assert "Compiled cluster using XLA!" in stderr_of(TF_CPP_MIN_LOG_LEVEL="0")
