"""How fast two models' predictions are fused, beside NumPy that does no more than it must: python -m benchmarks.fusion

Writes predictions of two models (random, float16) to a temporary folder, and reads, averages and writes them in chunks,
each pass in a process of its own: once by a bare NumPy loop, then by pipeline.answers.fusion, without and with priors on
top. The table tells seconds, examples a second, the rate relative to the bare loop, and the most memory that was resident.
Needs 6 bytes of disk for each example and class, 6 GB by default; all of it is removed.
"""

import multiprocessing
import os
import shutil
import tempfile
import time
from typing import Callable

from absl import flags
import numpy as np

from pipeline import command
from pipeline.answers import fusion, predictions, priors
from pipeline.errors import UserError

FLAGS = flags.FLAGS
MODELS = ("one", "other")
OUT = "out"
CELLS = 360  # of the stand-in for a geo prior: one a degree of longitude


class TablePrior:
    """Stands in for a geo prior: looks its scores up, so that fusion is measured and not a network."""

    def __init__(self, class_ids: list[str]):
        self.class_ids = class_ids
        self._table = _log_probabilities(np.random.default_rng(0), CELLS, len(class_ids))

    def log_probabilities(self, latitude, longitude, date) -> np.ndarray:
        del latitude, date
        return self._table[np.floor(longitude).astype(int) % CELLS]


def _log_probabilities(rng: np.random.Generator, count: int, classes: int) -> np.ndarray:
    logits = 3 * rng.standard_normal((count, classes), dtype=np.float32)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def write_models(folder: str, examples: int, classes: int) -> None:
    """Random predictions of each of MODELS; rows repeat after 1,000."""
    ids, class_ids = [str(index) for index in range(examples)], [str(index) for index in range(classes)]
    for seed, name in enumerate(MODELS):
        rows = _log_probabilities(np.random.default_rng(seed), 1000, classes)
        predictions.write(os.path.join(folder, name), (
            ([ids[i] for i in chunk], rows[chunk % len(rows)]) for chunk in predictions.chunks(examples, classes)),
            {"examples": examples, "class_ids": class_ids, "split": "test"})


def bare(folder: str, average: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
    """Reads both matrices chunk by chunk, averages and writes: no ids, no checks."""
    shape = predictions.Predictions(os.path.join(folder, MODELS[0])).shape
    os.makedirs(os.path.join(folder, OUT), exist_ok=True)
    paths = [os.path.join(folder, name, predictions.MATRIX_FILE) for name in (*MODELS, OUT)]
    with open(paths[0], "rb") as one, open(paths[1], "rb") as other, open(paths[2], "wb") as out:
        for file in (one, other):
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
        np.lib.format.write_array_header_1_0(out, {"descr": "<f2", "fortran_order": False, "shape": shape})
        for chunk in predictions.chunks(*shape):
            values = len(chunk) * shape[1]
            parts = [np.fromfile(file, np.float16, values).astype(np.float32) for file in (one, other)]
            average(*parts).astype(np.float16).tofile(out)


def bare_probabilities(folder: str) -> None:
    bare(folder, lambda one, other: np.log((np.exp(one) + np.exp(other)) / 2))


def bare_logarithms(folder: str) -> None:
    bare(folder, lambda one, other: (one + other) / 2)


def fuse(folder: str, correct: bool = False, geo: bool = False) -> None:
    """What make_submission.py and evaluate.py read, written to a folder of predictions."""
    predicted = fusion.Blend(fusion.find([os.path.join(folder, name) for name in MODELS]))
    meta, rng = predicted.meta, np.random.default_rng(2)
    if correct:
        counts = rng.integers(1, 1000, len(predicted.class_ids))
        predicted = priors.PriorCorrected(predicted, np.log(counts / counts.sum()).astype(np.float32))
    if geo:
        prior = priors.PlacePrior(TablePrior(predicted.class_ids), predicted.class_ids, "the table", "the models")
        places = rng.uniform((-90, -180, 0), (90, 180, 1), (len(predicted.ids), 3))
        predicted = priors.GeoFused(predicted, prior, places, 1.0)
    predictions.write(os.path.join(folder, OUT), predicted.chunks(), meta)


PASSES = {
    "bare NumPy: log((exp(a) + exp(b)) / 2)": (bare_probabilities, ()),
    "bare NumPy: (a + b) / 2": (bare_logarithms, ()),
    "fusion": (fuse, ()),
    "fusion + prior correction": (fuse, (True, False)),
    "fusion + geo prior": (fuse, (False, True)),
    "fusion + both": (fuse, (True, True)),
}


def _peak_resident_mib() -> float:
    """Of this process since it started, mapped pages included. (getrusage would count its parent's too.)"""
    with open("/proc/self/status", encoding="ascii") as file:
        (line,) = (line for line in file if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def _measured(function: Callable, arguments: tuple) -> tuple[float, float]:
    """(seconds, peak resident MiB); runs in a process of its own."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start, _peak_resident_mib()


def run(examples: int, classes: int, repeats: int, folder: str) -> dict[str, tuple[float, float]]:
    """For each pass (seconds of the fastest of `repeats`, largest peak resident MiB)."""
    write_models(folder, examples, classes)
    context = multiprocessing.get_context("spawn")  # fork would start with this process's memory
    found: dict[str, tuple[float, float]] = {}
    for _ in range(repeats):  # in turns, so that other load on the machine meets all of them
        for name, (function, arguments) in PASSES.items():
            with context.Pool(1) as pool:
                seconds, resident = pool.apply(_measured, (function, (folder, *arguments)))
            best, most = found.get(name, (seconds, resident))
            found[name] = (min(best, seconds), max(most, resident))
            shutil.rmtree(os.path.join(folder, OUT))
    return found


def _print_table(found: dict[str, tuple[float, float]], examples: int) -> None:
    reference = next(iter(found.values()))[0]
    print(f"{'pass':<42}{'seconds':>9}{'examples/s':>12}{'ratio':>8}{'resident MiB':>14}")
    for name, (seconds, resident) in found.items():
        print(f"{name:<42}{seconds:>9.1f}{examples / seconds:>12.0f}{reference / seconds:>8.2f}{resident:>14.0f}")


def main() -> None:
    parent = FLAGS.folder or tempfile.gettempdir()
    need, free = 6 * FLAGS.examples * FLAGS.classes, shutil.disk_usage(parent).free
    if free < 1.1 * need:
        raise UserError(f"--folder: {parent} has {free / 1e9:.1f} GB free, this needs {need / 1e9:.1f}; name another folder, "
                        "or fewer --examples")
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        found = run(FLAGS.examples, FLAGS.classes, FLAGS.repeats, folder)
    print(f"two models, {FLAGS.examples} examples of {FLAGS.classes} classes, {os.cpu_count()} cores, NumPy {np.__version__}; "
          f"the best of {FLAGS.repeats}")
    _print_table(found, FLAGS.examples)


if __name__ == "__main__":
    flags.DEFINE_integer("examples", 100_000, "Rows of each model's predictions.", 1)
    flags.DEFINE_integer("classes", 10_000, "Columns.", 1)
    flags.DEFINE_integer("repeats", 2, "Runs of each pass; the fastest counts.", 1)
    flags.DEFINE_string("folder", None, "Where the temporary folder is made. Default: the system's.")
    command.run(main)
