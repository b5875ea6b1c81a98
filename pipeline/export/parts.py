"""What an export is made of: from the flags of make_submission.py to the parts of the graph."""

import dataclasses
from typing import Optional, Sequence

import numpy as np
import tensorflow as tf

from pipeline.answers import (calibration as calibrations, fusion, open_set_choice, predictions, priors as prior_layers,
                              thresholds, unlabelled)
from pipeline.answers.mixture import Mixture
from pipeline.answers.temperature import Temper
from pipeline.errors import UserError
from pipeline.export import graph, networks as of_networks
from pipeline.export.ranked import Ranked
from pipeline.records import dataset as datasets


@dataclasses.dataclass(frozen=True)
class Request:
    """What export.py was asked for, beside the data."""

    predictions: Sequence[str]
    out: str
    blend: str = "equal"
    calibration: Optional[str] = None  # calibration.json
    priors: prior_layers.Request = prior_layers.Request()
    threshold: Optional[float] = None
    min_samples: int = 0
    open_set: str = "first"        # a rule, or fit
    stranger_share: float = 0.33   # of pictures, that fit is for
    scores: Optional[str] = None   # scores.json of evaluate.py, for the card
    license: str = ""              # what the card says of it
    tflite: bool = False
    gallery: Optional[str] = None  # folder of individuals that are added by likeness


@dataclasses.dataclass(frozen=True)
class Parts:
    """The members that weigh something, and what is put on top of their blend; no network is loaded yet.

    Attributes:
      mixture: of these members.
      networks: of each member, those whose mean it is.
      before: float32 [classes] for each member, in the order of the data's classes, that its log-probabilities are corrected
        by; None: none is.
    """

    members: list[predictions.Predictions]
    mixture: Mixture
    networks: list[list[of_networks.Network]]
    before: Optional[list[np.ndarray]]
    on_top: graph.OnTop
    ranked: Ranked

    @property
    def flat(self) -> list[tuple[predictions.Predictions, of_networks.Network, float]]:
        """Every network with its share of the blend."""
        return [(one, network, float(weight) / len(networks)) for one, weight, networks in
                zip(self.members, self.mixture.weights, self.networks) for network in networks]

    @property
    def temperatures(self) -> dict[str, float]:
        """Of the members' own, by their folders; empty where they have none."""
        if self.mixture.temperatures is None:
            return {}
        return {one.directory: self.mixture.temperature_of(index) for index, one in enumerate(self.members)}


def choose(request: Request, data: datasets.Dataset) -> Parts:
    """Raises UserError for what of the request can't be exported."""
    members, mixture, temper = _weighed(request, data)
    networks = [of_networks.of(one) for one in members]
    for one, found in zip(members, networks):
        _tell(one, found)
    ranked = _ranked(fusion.Blend(members, mixture, temper=temper), request, data)
    of_blend = graph.OnTop(temperature=temper and temper.temperatures, exclusive=data.task.exclusive)
    if not data.task.exclusive:
        prior_layers.refuse(request.priors, data)
        return Parts(members, mixture, networks, None, of_blend, ranked)
    priors = prior_layers.Priors(request.priors, data)
    before, after = priors.log_priors(members)
    on_top = dataclasses.replace(of_blend, log_prior=after)
    return Parts(members, mixture, networks, before, _with_places(on_top, members, mixture, priors, temper, data), ranked)


def load(parts: Parts, data: datasets.Dataset) -> list[graph.Member]:
    """The members with their networks loaded."""
    loaded = of_networks.load_all(parts.networks, data)
    before = parts.before or [None] * len(loaded)
    return [graph.Member(networks, float(parts.mixture.weights[index]), _columns(one, data), prior,
                         parts.temperatures.get(one.directory))
            for index, (one, networks, prior) in enumerate(zip(parts.members, loaded, before))]


def _weighed(request: Request, data: datasets.Dataset,
             ) -> tuple[list[predictions.Predictions], Mixture, Optional[Temper]]:
    """The members that weigh something, how they are mixed, and the temperature on their blend."""
    found = fusion.find(request.predictions)
    mixture = unlabelled.mixture(found, request.blend, data)
    fusion.Blend(found, mixture)  # for its mistakes: other ids, classes or splits
    if set(found[0].class_ids) != set(data.class_ids):
        raise UserError(f"--predictions: their classes are not those of {data.directory}")
    temper = calibrations.temper(request.calibration, found, mixture, data)
    taken = np.flatnonzero(mixture.weights > 0)
    return [found[one] for one in taken], mixture.among(taken), temper


def _tell(one: predictions.Predictions, networks: Sequence[of_networks.Network]) -> None:
    if one.meta.get("out_of_fold") and len(networks) > 1:
        print(f"note: {one.directory} is out of fold, each picture by one of {len(networks)} models; the export holds the "
              "mean of them all")
    if any(network.stage["eval_resize"].startswith("crop:") for network in networks):
        print(f"note: {one.directory} was made by random crops; the export draws others, the same for the same picture")


def _columns(one: predictions.Predictions, data: datasets.Dataset) -> Optional[np.ndarray]:
    position = {name: index for index, name in enumerate(one.class_ids)}
    found = np.array([position[name] for name in data.class_ids])
    return None if np.array_equal(found, np.arange(len(found))) else found


def _with_places(on_top: graph.OnTop, members: Sequence[predictions.Predictions], mixture: Mixture,
                 priors: prior_layers.Priors, temper: Optional[Temper], data: datasets.Dataset) -> graph.OnTop:
    if not priors.geo:
        return on_top
    exponent = priors.exponent
    if exponent == prior_layers.FIT:
        exponent = unlabelled.fitted_exponent(members, mixture, priors, data, temper)
    prior, columns = priors.geo.prior, priors.geo.columns

    def place_logs(latitude: tf.Tensor, longitude: tf.Tensor, date: tf.Tensor) -> tf.Tensor:
        logs = prior.in_graph(latitude, longitude, date)
        return logs if columns is None else tf.gather(logs, columns, axis=1)

    return dataclasses.replace(on_top, place_logs=place_logs, exponent=exponent, date=prior.date_input,
                               place_variables=prior.variables)


def _ranked(blended: fusion.Blend, request: Request, data: datasets.Dataset) -> Ranked:
    """The rule of the answers. Raises UserError where a threshold is wanted and none is known."""
    classes, unknown = data.manifest.classes, data.manifest.unknown_answer
    ids, names = ((*(getattr(one, what) for one in classes), unknown) for what in ("source_id", "name"))
    known = np.array([one.known for one in classes], bool)
    if data.task.exclusive:
        if request.threshold is not None or request.min_samples:
            flag = "--min_samples" if request.min_samples else "--threshold"
            raise UserError(f"{flag} is for several labels a picture; {data.directory} has one")
        rule = open_set_choice.choose(request.open_set, request.stranger_share, blended.members, blended.mixture, request.priors,
                                      data, request.calibration)
        return Ranked(ids, names, known, rule)
    allowed, threshold = thresholds.answerable(data, request.min_samples), request.threshold
    if threshold is None:
        threshold = thresholds.for_submission(blended, data, allowed)
    return Ranked(ids, names, known, request.open_set, threshold, allowed)
