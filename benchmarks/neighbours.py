"""How fast the nearest train pictures are found, beside BLAS that only multiplies: python -m benchmarks.neighbours

Random features of so many train pictures stand in memory, float32; those of as many others as are asked about come in
pieces, as predict.py --neighbours has them. The table tells the seconds of the whole search (products, the nearest of them,
votes), its rate, how many times as long it takes as the products alone (extrapolated from one piece, on as many threads), and the most
memory that was resident. The nearest of the first pictures are compared with those of NumPy's whole matrix.
"""

import os
import time

from absl import flags
import numpy as np
import scipy.sparse

from pipeline import command
from pipeline.errors import WorkError
from pipeline.prediction import neighbours

FLAGS = flags.FLAGS
PIECE = 2 * neighbours.QUERIES  # predict.py's
CHECKED = 16
CLASSES = 1000


def features(seed: int, count: int, dimensions: int) -> np.ndarray:
    """float32 [count, dimensions], each of length 1, made in pieces: no second copy stands."""
    rng, made = np.random.default_rng(seed), np.empty((count, dimensions), np.float32)
    for start in range(0, count, PIECE):
        piece = made[start:start + PIECE]
        rng.standard_normal(out=piece, dtype=np.float32)
        piece[:] = neighbours.unit(piece)
    return made


def search(pictures: np.ndarray, labels: scipy.sparse.csr_matrix, asked: int, count: int) -> tuple[float, float]:
    """Seconds of the search, by the clock and of cores, without those that making random features takes."""
    seconds = worked = 0.0
    for start in range(0, asked, PIECE):
        queries = features(start + 1, min(PIECE, asked - start), pictures.shape[1])
        began, begun = time.perf_counter(), time.process_time()
        cosines, positions = neighbours.nearest(queries, pictures, count)
        neighbours.vote(cosines, positions, labels, np.ones(cosines.shape, bool), True)
        seconds, worked = seconds + time.perf_counter() - began, worked + time.process_time() - begun
    return seconds, worked


def check(pictures: np.ndarray, count: int) -> None:
    """Raises WorkError where the nearest are not those of the whole matrix, but for what rounding can't tell apart."""
    queries = features(1, CHECKED, pictures.shape[1])
    whole = queries @ pictures.T
    products, positions = neighbours.nearest(queries, pictures, count)
    best = -np.sort(-whole, axis=1)[:, :count]
    at_positions = np.take_along_axis(whole, positions, axis=1)
    if not (np.allclose(products, best, atol=1e-6) and np.allclose(at_positions, best, atol=1e-6)):
        raise WorkError("the nearest are not those of the whole matrix")


def multiply(pictures: np.ndarray, asked: int) -> float:
    """Seconds that BLAS takes for the products alone."""
    queries = features(1, min(PIECE, asked), pictures.shape[1])
    out = np.empty((len(queries), neighbours.PICTURES), np.float32)
    began = time.perf_counter()
    for start in range(0, len(pictures) - neighbours.PICTURES + 1, neighbours.PICTURES):
        np.matmul(queries, pictures[start:start + neighbours.PICTURES].T, out=out)
    whole = len(pictures) // neighbours.PICTURES * neighbours.PICTURES
    return (time.perf_counter() - began) * asked / len(queries) * (len(pictures) / whole if whole else 0.0)


def _peak_resident_mib() -> float:
    with open("/proc/self/status", encoding="ascii") as file:
        (line,) = (line for line in file if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def main() -> None:
    pictures = features(0, FLAGS.pictures, FLAGS.dimensions)
    labels = scipy.sparse.csr_matrix(np.eye(CLASSES, dtype=np.float32))[np.arange(len(pictures)) % CLASSES]
    check(pictures[:100_000], FLAGS.neighbours)
    seconds, worked = search(pictures, labels, FLAGS.asked, FLAGS.neighbours)
    resident, alone = _peak_resident_mib(), multiply(pictures, FLAGS.asked)
    print(f"{FLAGS.neighbours} nearest of {len(pictures)} x {FLAGS.dimensions} for {FLAGS.asked} pictures, {os.cpu_count()} "
          f"cores, NumPy {np.__version__}")
    print(f"{'seconds':>10}{'core seconds':>14}{'pictures/s':>12}{'x products':>12}{'resident MiB':>14}")
    ratio = f"{seconds / alone:.2f}" if alone else "-"
    print(f"{seconds:>10.1f}{worked:>14.1f}{FLAGS.asked / seconds:>12.0f}{ratio:>12}{resident:>14.0f}")


if __name__ == "__main__":
    flags.DEFINE_integer("pictures", 200_000, "Train pictures.", 1)
    flags.DEFINE_integer("dimensions", 1280, "Features of each.", 1)
    flags.DEFINE_integer("asked", 20_000, "Pictures that are asked about.", 1)
    flags.DEFINE_integer("neighbours", 20, "Of them that vote.", 1)
    command.run(main)
