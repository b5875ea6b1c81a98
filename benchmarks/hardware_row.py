"""A row of benchmarks.hardware, in a process of its own, whose memory is the row's: training's flags hold, as in train_step.

Writes JSON: the rates of train_step, the most memory that was held, the loss of the first step, and whether it was skipped;
with --first_step the change that this step made of the weights as .npy, beside it.
"""

import os
import resource
import sys
import tempfile
from typing import Any, Optional

from absl import flags
import numpy as np

from benchmarks import train_step
from pipeline import command
from pipeline.flag_types import define_on_off, define_path, require

FLAGS = flags.FLAGS
define_path("first_step", "Where the first step's change of the weights goes, a float32 vector (.npy).")
define_on_off("cpu_alone", False, "Compute on the CPU, whatever else there is.")

RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes, of getrusage


def set_devices(cpu_alone: bool) -> None:
    """The first GPU at most: of several, each has its own part of a batch and its own statistics."""
    import tensorflow as tf

    tf.config.set_visible_devices([] if cpu_alone else tf.config.list_physical_devices("GPU")[:1], "GPU")


def make_witness() -> Any:
    """A Keras callback that knows the first step's `loss` and `change`, float32 [weights that are trained]."""
    import tensorflow as tf

    class Witness(tf.keras.callbacks.Callback):
        loss: Optional[float] = None
        change: Optional[np.ndarray] = None

        def _weights(self):
            return np.concatenate([one.numpy().ravel() for one in self.model.trainable_variables])

        def on_train_begin(self, logs=None):
            if self.change is None:
                self._before = self._weights()

        def on_train_batch_end(self, number, logs=None):
            if self.change is None:
                self.loss, self.change = float(logs["loss"]), self._weights() - self._before

    return Witness()


def most_memory() -> tuple[str, Optional[int]]:
    """(whose, bytes that it held at most): an accelerator's own, else this process's; None where it does not tell."""
    import tensorflow as tf

    for kind in ("TPU", "GPU"):
        if tf.config.list_logical_devices(kind):
            try:
                return kind, tf.config.experimental.get_memory_info(f"{kind}:0")["peak"]
            except (ValueError, KeyError, tf.errors.OpError):
                return kind, None
    return "process", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT


def main() -> None:
    require("data_dir", "out", "first_step")
    from pipeline import files

    set_devices(FLAGS.cpu_alone)
    witness = make_witness()
    with tempfile.TemporaryDirectory() as model_dir:
        told = train_step.summary(*train_step.measure(os.path.join(model_dir, "model"), [witness]))
    np.save(FLAGS.first_step, witness.change)
    whose, peak = most_memory()
    files.write_json(FLAGS.out, {**told, "loss": witness.loss, "skipped": not witness.change.any(), "memory_of": whose,
                                 "peak_bytes": peak})


if __name__ == "__main__":
    command.run(main)
