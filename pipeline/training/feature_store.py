"""Features of pictures in pieces on the disk, so that none is computed twice."""

import io
import os
import time
from typing import Any, Callable, Iterator

from absl import logging
import numpy as np
import tensorflow as tf

from pipeline import files, preemption
from pipeline.devices import steps
from pipeline.progress import progress

META_FILE = "meta.json"  # what they were made of
SAVE_SECONDS = 60.0      # between two pieces
_DAMAGED = (OSError, ValueError, EOFError, TypeError)  # what NumPy raises for a file that is no array


def fill(store: "Store", count: int, batches: tf.data.Dataset, step: Callable[[dict[str, tf.Tensor]], tf.Tensor],
         strategy: tf.distribute.Strategy, title: str) -> None:
    """Adds what `step` makes of the pictures up to `count` of them, or until the process is asked to end.

    Args:
      batches: of input.predict_batches, without the pictures that the store has.
      step: a batch → float32 [batch, features], pure.
      title: of the progress.
    """
    # Rows and masks come back with the features, so that they can't get out of line.
    distributed_step = steps.on_replicas(strategy, lambda one: (step(one), one["row"], one["mask"]))
    saved = time.monotonic()
    with progress(count - store.count, title, "pictures") as bar:
        for batch in strategy.experimental_distribute_dataset(batches):
            found, rows, mask = (tf.concat(strategy.experimental_local_results(one), axis=0).numpy()
                                 for one in distributed_step(batch))
            real = mask > 0
            store.append(rows[real], found[real])
            bar.update(int(real.sum()))
            asked = preemption.asked()
            if asked or store.count >= count or time.monotonic() - saved > SAVE_SECONDS:
                store.save()
                saved = time.monotonic()
            if asked or store.count >= count:
                return


class Store:
    """Features in pieces on the disk: rows-N.npy and, written after it, features-N.npy, N the number of those before.

    Attributes:
      folder: where they are.
      count: how many there are, with those that are not saved yet.
    """

    def __init__(self, folder: str, made_of: dict[str, Any]):
        """Takes what stands there, where that was made of the same."""
        self.folder = folder
        self._pieces: list[tuple[np.ndarray, np.ndarray]] = []
        self._unsaved: list[tuple[np.ndarray, np.ndarray]] = []
        self.count = 0
        meta = os.path.join(folder, META_FILE)
        if not files.exists(meta) or files.read_json(meta) != made_of:
            files.make_dirs(folder)
            for path in self._paths("*"):
                files.remove(path)
            files.write_json(meta, made_of)
        for piece in self._standing():
            self._pieces.append(piece)
            self.count += len(piece[0])

    def _paths(self, kind: str) -> list[str]:
        """Sorted; `kind`: rows or features, or * for both."""
        return sorted(files.glob(os.path.join(files.escape(self.folder), f"{kind}-*.npy")))

    def _path(self, kind: str, first: int) -> str:
        return os.path.join(self.folder, f"{kind}-{first:09d}.npy")

    def _standing(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The pieces up to the first that is missing or damaged."""
        first = 0
        while files.exists(self._path("features", first)):
            try:
                rows, features = (_read(self._path(kind, first)) for kind in ("rows", "features"))
            except _DAMAGED as error:
                logging.warning("%s is damaged (%s): computed anew", self._path("features", first), error)
                return
            if not len(rows) or len(rows) != len(features):
                return
            yield rows, features
            first += len(rows)

    def append(self, rows: np.ndarray, features: np.ndarray) -> None:
        self._unsaved.append((rows, features))
        self.count += len(rows)

    def save(self) -> None:
        """Writes what is not saved as a piece."""
        rows, features = (np.concatenate(one) for one in zip(*self._unsaved))
        for kind, values in (("rows", rows), ("features", features)):
            path = self._path(kind, self.count - len(rows))
            with files.replacing(path) as temporary, files.open_file(temporary, "wb") as file:
                np.save(file, values, allow_pickle=False)
        self._pieces.append((rows, features))
        self._unsaved = []

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """(rows, features) of all that are saved; the pieces go as they are taken, so that features stand in memory once."""
        rows = np.concatenate([one for one, _ in self._pieces])
        features = np.empty((len(rows), *self._pieces[0][1].shape[1:]), self._pieces[0][1].dtype)
        end = len(rows)
        while self._pieces:
            _, piece = self._pieces.pop()
            features[end - len(piece):end] = piece
            end -= len(piece)
        self._pieces = [(rows, features)]
        return rows, features


def _read(path: str) -> np.ndarray:
    with files.open_file(path, "rb") as file:
        return np.load(io.BytesIO(file.read()), allow_pickle=False)
