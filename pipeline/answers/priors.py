"""What is known of the classes before the picture is seen: how frequent they are in train, and where and when.

    p(class | picture) · p(class in train)^−power · p(class | place, date)^exponent, renormalized

The first factor on top is the prior correction of iNat 2019's seventh-place solution, for sets that are more uniform than
train; the second the geo prior of iNat 2021's sixth-place one (after Mac Aodha et al. 2019). Each is a layer over a
prediction and is itself one: ids, class_ids, meta, directory and chunks().
"""

import dataclasses
import os
from typing import Iterator, Optional, Sequence, Union

import numpy as np

from pipeline import files
from pipeline.answers import fusion, predictions
from pipeline.errors import UserError
from pipeline.metrics import log_space
from pipeline.records import class_prior, dataset as datasets
from pipeline.runs import record as run_record

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

    Raises UserError where the geo prior lacks a class.
    """

    def __init__(self, request: Request, data: datasets.Dataset):
        self._power = request.prior_correction
        self._data = data
        self.geo = None
        if request.geo_prior:
            self.geo = PlacePrior(_load(request.geo_prior), data.class_ids, request.geo_prior, data.directory)
        self.exponent = request.geo_exponent

    @property
    def corrects(self) -> bool:
        return self._power > 0

    def correct(self, blended: fusion.Blend):
        """A blend with the prior correction on top where it was asked for.

        Members that were trained with different priors are corrected each by its own, before they are blended. Raises
        UserError where the prior of one isn't known.
        """
        before, after = self.log_priors(blended.members)
        if after is not None:
            return PriorCorrected(blended, after)
        return fusion.Blend(blended.members, blended.mixture, before, blended.temper) if before else blended

    def log_priors(self, members: Sequence[predictions.Predictions],
                   ) -> tuple[Optional[list[np.ndarray]], Optional[np.ndarray]]:
        """What is subtracted from log-probabilities, which are then renormalized: (of each member before they are blended,
        of their blend). At most one of the two is there: float32 [classes], each. Raises UserError."""
        if not self.corrects:
            return None, None
        found = [self._power * training_prior(one, self._data) for one in members]
        alike = all(np.array_equal(one, found[0]) for one in found)
        return (None, found[0]) if alike else (found, None)

    def fuse(self, predicted, places: np.ndarray, exponents: Union[float, np.ndarray]):
        """`predicted` with the geo prior on top where it was asked for; see GeoFused."""
        return GeoFused(predicted, self.geo, places, exponents) if self.geo else predicted


def training_prior(one: predictions.Predictions, data: datasets.Dataset) -> np.ndarray:
    """Logarithms of what a model expects of the classes before it sees a picture: float32 [classes of `data`].

    They follow from the counts of the pictures that it was trained on, and from how --class_balance and --logit_adjust
    changed them (class_prior.prior_power). Predictions from before meta.json told that are taken to be of a model that
    was trained on train. Raises UserError where train was not counted either.
    """
    told = one.meta.get("seen")
    if not told:
        return np.float32(_power_by_run(one)) * log_class_prior(data)
    position = {name: index for index, name in enumerate(one.class_ids)}
    counts = np.array(told["class_counts"], np.float64)[[position[name] for name in data.class_ids]]
    return np.float32(told["prior_power"]) * class_prior.log_shares(counts)


def _power_by_run(one: predictions.Predictions) -> float:
    """class_prior.prior_power of a model by its run.json; 1 where that is gone."""
    model_dir = one.meta.get("model_dir") or ""
    if not files.exists(os.path.join(model_dir, run_record.RUN_FILE)):
        return 1.0
    record = run_record.read(model_dir)
    if not record["same"].get("stage_order"):
        return 1.0
    last = run_record.last_stage(record)
    return class_prior.prior_power(last.get("class_balance", "none"), last.get("logit_adjust", 0.0))


def log_class_prior(data: datasets.Dataset) -> np.ndarray:
    """Logarithms of the classes' shares of train: float32 [classes]. Raises UserError where no class has a picture."""
    counts = np.array([one.train_count for one in data.manifest.classes], np.float64)
    if not counts.any():
        raise UserError(f"--prior_correction: {data.directory} counts no train pictures; give the records of the whole "
                        "competition")
    return class_prior.log_shares(counts)


def has_place(places: np.ndarray) -> np.ndarray:
    """Bool [n], of float [n, 3]: a date alone is no place, and a place needs no date."""
    return np.isfinite(places[:, :2]).all(axis=1)


def warnings_of(split: str) -> list[str]:
    """A sentence where the geo prior knows the places of a split from its training."""
    if not any(one.startswith("train") for one in split.split("+")):
        return []
    return [f"the geo prior was trained on the places of {split}, so that it gains more there than it will elsewhere; predict "
            "val to learn its worth"]


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
        self._directory = directory
        position = {one: index for index, one in enumerate(self._prior.class_ids)}
        missing = [one for one in class_ids if one not in position]
        if missing:
            raise UserError(f"--geo_prior: {directory} lacks the class {missing[0]} of {owner}; train it on the same "
                            "competition")
        columns = np.array([position[one] for one in class_ids])
        self._columns = None if np.array_equal(columns, np.arange(len(position))) else columns

    @property
    def prior(self):
        """As it was given."""
        return self._prior

    @property
    def columns(self) -> Optional[np.ndarray]:
        """Which of the prior's classes each of the predictions' is: int [classes]; None: they are the same."""
        return self._columns

    def log_probabilities(self, places: np.ndarray) -> np.ndarray:
        """Float [n, 3] as `beside` has them, all with a place → float32 [n, classes] of the predictions, finite."""
        return self._align(self._look_up(places))

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
        logs = self._prior.log_probabilities(*places.T)
        if np.isnan(logs).any():
            raise UserError(f"--geo_prior: {self._directory} answers NaN for a place; train it anew at a lower rate")
        return logs

    def _align(self, place_logs: np.ndarray) -> np.ndarray:
        if self._columns is not None:
            place_logs = place_logs[:, self._columns]
        return np.maximum(place_logs, predictions.LOWEST)  # −inf · 0 is NaN


def _load(directory: str):
    from pipeline.geo import prior as geo_prior  # late: it imports TensorFlow

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
