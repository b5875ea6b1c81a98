"""How much of the bare compiled step's rate the geo prior's training reaches: python -m benchmarks.geo_prior

Training is what train_geo_prior.py runs: the epoch's records drawn, random points, the steps, progress, history and a
checkpoint an epoch. The bare step is the same step on a constant batch with constant random points. Both do an epoch's
steps in turn, several times, so that what else the machine does meets both; the ratio is the median over those pairs.
"""

import contextlib
import io
import statistics
import tempfile
import time

from absl import flags

from pipeline import command
from pipeline.flag_types import define_on_off, define_path

FLAGS = flags.FLAGS
define_path("data_dir", "Folder in iNat 2021's layout whose records the first row takes [random ones of 86 classes].")
flags.DEFINE_integer("repeats", 5, "Epochs of each kind and row, in turn.", 1)
define_on_off("jit", False, "Compile both with XLA.")

RECORDS = {86: 9197, 10_000: 20_480}  # random ones, by the number of classes
LEAST_RATIO = 0.8


def random_records(classes: int):
    import numpy as np
    from pipeline.geo.records import Records

    random = np.random.default_rng(0)
    count = RECORDS[classes]
    places = (random.uniform(low, high, count).astype(np.float32) for low, high in ((-90, 90), (-180, 180), (0, 1)))
    unknown = np.full(count, -1, np.int32)
    return Records(*places, random.integers(0, classes, count, np.int32), unknown, photographers=0, without_place=0)


def read_records(data_dir: str):
    """(records of train, number of classes)."""
    from dataset_tools.competitions import find
    from pipeline.geo import records as geo_records

    table = find("inat2021").read(data_dir)
    return geo_records.of(table.examples[table.examples["split"] == "train"]), len(table.classes)


def bare_epoch(run, records, classes: int, steps: int):
    """A function that makes `steps` compiled steps on one constant batch."""
    import numpy as np
    import tensorflow as tf
    from pipeline.geo import points as geo_points, step as geo_step

    trainer = geo_step.Trainer(run, records, classes, steps)
    batch = np.resize(np.arange(len(records)), run.batch_size)
    points = geo_points.Points(*(tf.constant(column[batch]) for column in (records.latitude, records.longitude,
                                                                           np.nan_to_num(records.date))))
    random = geo_points.uniform(run.batch_size, tf.constant([1, 2]))
    labels, photographer = tf.constant(records.label[batch]), tf.constant(records.photographer[batch])
    seed = tf.constant([3, 4], tf.int64)
    step = tf.function(trainer.update, jit_compile=run.jit or None)

    def epoch() -> None:
        for _ in range(steps):
            loss = step(points, random, labels, photographer, seed)
        loss.numpy()

    return epoch


def seconds(function) -> float:
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        function()
    return time.perf_counter() - started


def measure(records, classes: int, model_dir: str) -> tuple[float, float, float]:
    """(training's records/s, the bare step's, the ratio), each a median."""
    from pipeline.geo import records as geo_records, runs as geo_runs, training as geo_training

    run = geo_runs.GeoRun(model_dir, epochs=FLAGS.repeats + 1, jit=FLAGS.jit)
    steps = geo_records.steps_per_epoch(records.label, run.batch_size, run.max_per_class)
    training = geo_training.Training(run, records, classes)
    bare = bare_epoch(run, records, classes, steps)
    seconds(training.train_epoch), seconds(bare)  # these compile
    pairs = [(seconds(training.train_epoch), seconds(bare)) for _ in range(FLAGS.repeats)]
    count = steps * run.batch_size
    return (count / statistics.median(one for one, _ in pairs), count / statistics.median(one for _, one in pairs),
            statistics.median(bare_seconds / train_seconds for train_seconds, bare_seconds in pairs))


def main() -> None:
    first = read_records(FLAGS.data_dir) if FLAGS.data_dir else (random_records(86), 86)
    print("| classes | records | training, records/s | bare step, records/s | ratio |")
    print("|---|---|---|---|---|")
    for records, classes in (first, (random_records(10_000), 10_000)):
        with tempfile.TemporaryDirectory() as model_dir:
            training, bare, ratio = measure(records, classes, model_dir)
        print(f"| {classes} | {len(records)} | {training:.0f} | {bare:.0f} | {ratio:.2f} |", flush=True)
    print(f"(median of {FLAGS.repeats} pairs of epochs; at least {LEAST_RATIO} is wanted)")


if __name__ == "__main__":
    command.run(main)
