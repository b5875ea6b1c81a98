"""What is known of the classes before the picture is seen: how frequent they are in train, and where and when.

    p(class | picture) · p(class in train)^−power · p(class | place, date)^exponent, renormalized

The first factor on top is the prior correction of iNat 2019's seventh-place solution, for sets that are more uniform than
train; the second the geo prior of iNat 2021's sixth-place one (after Mac Aodha et al. 2019). Each is a layer over a
prediction and is itself one: ids, class_ids, meta, directory and chunks().
"""

import dataclasses
from typing import Iterator, Optional, Sequence, Union

from absl import logging
import numpy as np

from pipeline import dataset as datasets, log_space, predictions
from pipeline.errors import UserError

FIT = "fit"
LOOKUP_ROWS = 1024  # examples whose places are given to the geo prior at a time: a network is slow for a few


@dataclasses.dataclass(frozen=True)
class Request:
    """What the flags of prior_flags ask for."""

    geo_prior: Optional[str] = None          # folder of train_geo_prior.py
    geo_exponent: Union[float, str] = 1.0    # or FIT
    prior_correction: float = 0.0            # power; 0: off


def refuse(request: Request, data: datasets.Dataset) -> None:
    """Raises UserError where priors are asked for in a competition of several labels a picture.

    What they are multiplied into is the probability of classes of which one alone is right.
    """
    if request.geo_prior or request.prior_correction:
        flag = "--geo_prior" if request.geo_prior else "--prior_correction"
        raise UserError(f"{flag} is for one label a picture; {data.directory} has several")


class Priors:
    """The priors that were asked for, ready to be put on top of predictions of a dataset's classes.

    Raises UserError where the geo prior lacks a class, or no picture of train was counted.
    """

    def __init__(self, request: Request, data: datasets.Dataset):
        self.corrects = request.prior_correction > 0
        self.geo = None
        if request.geo_prior:
            self.geo = PlacePrior(_load(request.geo_prior), data.class_ids, request.geo_prior, data.directory)
        self.exponent = request.geo_exponent
        self._log_prior = request.prior_correction * log_class_prior(data) if self.corrects else None

    def correct(self, predicted):
        """`predicted` with the prior correction on top where it was asked for."""
        return PriorCorrected(predicted, self._log_prior) if self.corrects else predicted

    def fuse(self, predicted, places: np.ndarray, exponents: Union[float, np.ndarray]):
        """`predicted` with the geo prior on top where it was asked for; see GeoFused."""
        return GeoFused(predicted, self.geo, places, exponents) if self.geo else predicted


def log_class_prior(data: datasets.Dataset) -> np.ndarray:
    """Logarithms of the classes' shares of train: float32 [classes].

    A class without a picture counts as the smallest that has some: what was never seen says nothing about its frequency,
    and must not be raised above everything that was. Raises UserError where no class has a picture.
    """
    counts = np.array([one.train_count for one in data.manifest.classes], np.float64)
    if not counts.any():
        raise UserError(f"--prior_correction: {data.directory} counts no train pictures; give the records of the whole "
                        "competition")
    counts = np.maximum(counts, counts[counts > 0].min())
    return np.log(counts / counts.sum()).astype(np.float32)


def has_place(places: np.ndarray) -> np.ndarray:
    """Bool [n], of float [n, 3]: a date alone is no place, and a place needs no date."""
    return np.isfinite(places[:, :2]).all(axis=1)


def warn_if_trained_on(split: str) -> None:
    """Says so where the geo prior knows the places of a split from its training."""
    if any(one.startswith("train") for one in split.split("+")):
        logging.warning("the geo prior was trained on the places of %s, so that it gains more there than it will elsewhere; "
                        "predict val to learn its worth", split)


class _Layer:
    """What a layer takes over from the prediction below it."""

    def __init__(self, predicted):
        self.ids, self.class_ids = predicted.ids, predicted.class_ids
        self.meta, self.directory = predicted.meta, predicted.directory
        self._predicted = predicted


class PriorCorrected(_Layer):
    """Probabilities divided by exp(log_prior), float32 [classes], and renormalized."""

    def __init__(self, predicted, log_prior: np.ndarray):
        super().__init__(predicted)
        self._log_prior = log_prior

    def chunks(self) -> Iterator[tuple[list[str], np.ndarray]]:
        """(ids, float32 log-probabilities [chunk, classes]) over all examples."""
        for ids, logs in self._predicted.chunks():
            yield ids, log_space.normalize(logs - self._log_prior)


class GeoFused(_Layer):
    """Probabilities times the geo prior's to the power of the exponent, renormalized; as they are where no place is known.

    Args:
      places: float [examples, 3], as example_table.ExampleTable.places gives them.
      exponents: one, or float [examples].
    """

    def __init__(self, predicted, prior: "PlacePrior", places: np.ndarray, exponents: Union[float, np.ndarray]):
        super().__init__(predicted)
        self._prior, self._places = prior, places
        self._exponents = np.broadcast_to(np.asarray(exponents, np.float32), len(self.ids))

    def chunks(self) -> Iterator[tuple[list[str], np.ndarray]]:
        """(ids, float32 log-probabilities [chunk, classes]) over all examples."""
        for chunk in self._prior.beside(self._predicted.chunks(), self._places):
            exponents = self._exponents[chunk.positions, np.newaxis]
            chunk.logs[chunk.placed] = log_space.normalize(chunk.logs[chunk.placed] + exponents * chunk.place_logs)
            yield chunk.ids, chunk.logs


@dataclasses.dataclass(frozen=True)
class PlacedChunk:
    """A chunk of predictions, and what the geo prior says of those with a place."""

    ids: list[str]
    logs: np.ndarray        # float32 [chunk, classes]: of the predictions
    placed: np.ndarray      # bool [chunk]: which have a place
    positions: np.ndarray   # int [placed]: where these stand among all examples
    place_logs: np.ndarray  # float32 [placed, classes]: finite


class PlacePrior:
    """A geo prior whose classes are aligned by id; raises UserError where it lacks one of `class_ids`.

    Args:
      prior: has class_ids and log_probabilities(latitude, longitude, date), as geo_prior.load gives it.
      class_ids: those of the predictions, in their order; the prior may have others beside.
      directory, owner: where the prior and the class_ids are from, for the error.
    """

    def __init__(self, prior, class_ids: Sequence[str], directory: str, owner: str):
        self._prior = prior
        position = {one: index for index, one in enumerate(self._prior.class_ids)}
        missing = [one for one in class_ids if one not in position]
        if missing:
            raise UserError(f"--geo_prior: {directory} lacks the class {missing[0]} of {owner}; train it on the same "
                            "competition")
        columns = np.array([position[one] for one in class_ids])
        self._columns = None if np.array_equal(columns, np.arange(len(position))) else columns

    def beside(self, chunks, places: np.ndarray) -> Iterator[PlacedChunk]:
        """Walks over a prediction's chunks; places: float [examples, 3] in the order of its ids."""
        start = 0
        for group in _groups(chunks):
            stop = start + sum(len(ids) for ids, _ in group)
            placed = has_place(places[start:stop])
            place_logs = self._look_up(places[start:stop][placed])
            for ids, logs in group:
                own = placed[:len(ids)]
                count = int(own.sum())
                yield PlacedChunk(ids, logs, own, start + np.flatnonzero(own), self._align(place_logs[:count]))
                start, placed, place_logs = start + len(ids), placed[len(ids):], place_logs[count:]

    def _look_up(self, places: np.ndarray) -> np.ndarray:
        """Float32 [places, classes of the prior]."""
        if not len(places):
            return np.empty((0, len(self._prior.class_ids)), np.float32)
        return self._prior.log_probabilities(*places.T)

    def _align(self, place_logs: np.ndarray) -> np.ndarray:
        if self._columns is not None:
            place_logs = place_logs[:, self._columns]
        return np.maximum(place_logs, predictions.LOWEST)  # −inf · 0 is NaN


def _load(directory: str):
    from pipeline import geo_prior  # late: it imports TensorFlow

    return geo_prior.load(directory)


def _groups(chunks) -> Iterator[list]:
    """Chunks in lists of at most LOOKUP_ROWS examples together, or of one chunk that has more."""
    group, rows = [], 0
    for ids, logs in chunks:
        if group and rows + len(ids) > LOOKUP_ROWS:
            yield group
            group, rows = [], 0
        group.append((ids, logs))
        rows += len(ids)
    if group:
        yield group
