"""JPEG bytes, latitude, longitude and date → probabilities and answers, as one graph that TensorFlow alone serves.

The same functions as predict.py's are in it (tta.host_views, make_step), and the formulas of answers.fusion, tasks and
answers.priors, in the same space: logarithms.
"""

import dataclasses
from typing import Callable, Optional, Sequence

import numpy as np
import tensorflow as tf

from pipeline.answers.predictions import LOWEST
from pipeline.export.networks import Loaded
from pipeline.export.ranked import Ranked
from pipeline.metrics import log_space
from pipeline.ops import seeds, tta

BYTES, LATITUDE, LONGITUDE, DATE = "image_bytes", "latitude", "longitude", "date"
WITHOUT_PLACE = "pictures"  # the signature of image_bytes alone


@dataclasses.dataclass(frozen=True)
class Member:
    """A prediction that is blended.

    Attributes:
      networks: whose probabilities are averaged.
      columns: which of its classes each of the export's is: int [classes]; None: they are the same.
      log_prior: float32 [classes] of the export's, subtracted before the blend; None: nothing is.
      temperature: its own, under all else; None: none.
    """

    networks: Sequence[Loaded]
    weight: float
    columns: Optional[np.ndarray] = None
    log_prior: Optional[np.ndarray] = None
    temperature: Optional[float] = None


@dataclasses.dataclass(frozen=True)
class OnTop:
    """What is put on top of the blend.

    Attributes:
      log_prior: float32 [classes], subtracted; None: nothing is.
      place_logs: float32 latitude, longitude, date [n] each → log-probabilities [n, classes]; None: no geo prior.
      exponent: its power.
      date: whether it takes one.
      place_variables: what it is made of.
      temperature: of the blend, under all else; None: none.
      exclusive: whether its classes exclude each other.
      shares: by member and network, features [n, D] of length 1 → what of an answer falls to each individual of a gallery,
        and last to the networks' classes, [n, individuals + 1]; None: there is no gallery.
      share_variables: what they are made of.
    """

    log_prior: Optional[np.ndarray] = None
    place_logs: Optional[Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]] = None
    exponent: float = 1.0
    date: bool = False
    place_variables: Sequence[tf.Variable] = ()
    temperature: Optional[float] = None
    exclusive: bool = True
    shares: Optional[Sequence[Sequence[Callable[[tf.Tensor], tf.Tensor]]]] = None
    share_variables: Sequence[tf.Variable] = ()


def normalize(logs: tf.Tensor) -> tf.Tensor:
    """Rows [n, classes] shifted so that their probabilities sum to 1."""
    return tf.nn.log_softmax(logs)


def pictures(encoded: tf.Tensor, size: int, eval_resize: str, antialias: bool, views: str) -> tf.Tensor:
    """JPEGs, string [batch] → uint8 [batch, crops, size, size, 3], as predict.py prepares them.

    Where crops are random they are the same for the same bytes (predict.py draws by the row, which a file has not).
    """
    made = tta.parse(views)

    def one(jpeg: tf.Tensor) -> tf.Tensor:
        seed = seeds.example_seed(0, 0, tf.strings.to_hash_bucket_fast(jpeg, 2 ** 31))
        return tta.host_views(jpeg, size, made, eval_resize, antialias=antialias, seed=seed)

    return tf.map_fn(one, encoded, fn_output_signature=tf.TensorSpec([made.crops, size, size, 3], tf.uint8))


def network_place(latitude: tf.Tensor, longitude: tf.Tensor) -> tf.Tensor:
    """float32 [batch] each → [batch, 3], as records give places to a network: latitude / 90, longitude / 180, 1; 0 where
    unknown."""
    known = tf.math.is_finite(latitude) & tf.math.is_finite(longitude)
    place = tf.stack([latitude / 90.0, longitude / 180.0, tf.ones_like(latitude)], axis=1)
    return tf.where(known[:, tf.newaxis], place, 0.0)


class Served(tf.Module):
    """The members with what is on top, and the ranked answers.

    Networks are kept by their variables alone, so that no Keras object is saved and none is needed to load it.
    """

    def __init__(self, members: Sequence[Member], on_top: OnTop, ranked: Ranked):
        super().__init__(name="fieldmark")
        self.weights = [one for member in members for loaded in member.networks for one in loaded.model.variables]
        self.place_weights = list(on_top.place_variables)
        self.share_weights = list(on_top.share_variables)
        blend = _without_tracking(members, on_top, ranked)
        texts, numbers = tf.TensorSpec([None], tf.string, BYTES), [tf.TensorSpec([None], tf.float32, name)
                                                                  for name in (LATITUDE, LONGITUDE, DATE)]
        answer = tf.function(blend, input_signature=[texts, *numbers])
        self.serve = answer

        @tf.autograph.experimental.do_not_convert
        def without_place(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
            nowhere = tf.fill(tf.shape(image_bytes), np.float32("nan"))
            return answer(image_bytes, nowhere, nowhere, nowhere)

        self.serve_pictures = tf.function(without_place, input_signature=[texts])

    @property
    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        return {"serving_default": self.serve.get_concrete_function(),
                WITHOUT_PLACE: self.serve_pictures.get_concrete_function()}


def _without_tracking(members: Sequence[Member], on_top: OnTop, ranked: Ranked) -> Callable[..., dict[str, tf.Tensor]]:
    """The served function; a module that held its parts would save them too."""

    @tf.autograph.experimental.do_not_convert  # none of it has Python's if or for of a tensor
    def answer(image_bytes: tf.Tensor, latitude: tf.Tensor, longitude: tf.Tensor, date: tf.Tensor) -> dict[str, tf.Tensor]:
        by_picture = _by_picture(members, image_bytes, latitude, longitude, on_top)
        logs, unplaced = _with_place(by_picture["placed"], on_top, latitude, longitude, date), by_picture["unplaced"]
        if on_top.shares is not None:
            logs, unplaced = (_with_gallery(one, by_picture["shares"]) for one in (logs, unplaced))
        return {**ranked(logs), "probabilities": tf.exp(logs), "probabilities_without_place": tf.exp(unplaced)}

    return answer


def _by_picture(members: Sequence[Member], image_bytes: tf.Tensor, latitude: tf.Tensor, longitude: tf.Tensor,
                on_top: OnTop) -> dict[str, tf.Tensor]:
    """Log-probabilities [batch, classes] before the geo prior, by networks that are told the place, and by the same as if it
    were unknown; with a gallery the shares of its individuals."""
    place = network_place(latitude, longitude)
    made: dict[tuple, tf.Tensor] = {}
    for member in members:
        for loaded in member.networks:
            key = loaded.network.preparation
            made[key] = made[key] if key in made else pictures(image_bytes, *key)

    def seen(places: tf.Tensor) -> list[list[tuple[tf.Tensor, tf.Tensor]]]:
        return [[one.step({"image": made[one.network.preparation], "place": places}) for one in member.networks]
                for member in members]

    def blended(found: list[list[tuple[tf.Tensor, tf.Tensor]]]) -> tf.Tensor:
        blend = _blend(members, [[logs for logs, _ in several] for several in found], on_top.exclusive)
        logs = tempered(blend, on_top.temperature, on_top.exclusive)
        return logs if on_top.log_prior is None else normalize(logs - on_top.log_prior)

    found = seen(place)
    placed = unplaced = blended(found)
    if any(loaded.network.takes_place for member in members for loaded in member.networks):
        unplaced = tf.cond(tf.reduce_any(place[:, 2] > 0), lambda: blended(seen(tf.zeros_like(place))), lambda: placed)
    shares = {} if on_top.shares is None else {"shares": _shares(members, found, on_top.shares)}
    return {"placed": placed, "unplaced": unplaced, **shares}


def _blend(members: Sequence[Member], found: Sequence[Sequence[tf.Tensor]], exclusive: bool) -> tf.Tensor:
    """As fusion.Blend: log Σ weight · p. Args: found: by member and network, log-probabilities [batch, classes]."""
    parts = []
    for member, several in zip(members, found):
        logs = _mean(several)
        logs = logs if member.columns is None else tf.gather(logs, member.columns, axis=1)
        logs = tempered(logs, member.temperature, exclusive)
        if member.log_prior is not None:
            logs = normalize(logs - member.log_prior)
        parts.append(logs + np.log(np.float32(member.weight)))
    return parts[0] if len(parts) == 1 else tf.reduce_logsumexp(tf.stack(parts), axis=0)


def tempered(logs: tf.Tensor, temperature: Optional[float], exclusive: bool) -> tf.Tensor:
    """As Task.temper of the task's kind; None: as they are."""
    if temperature is None:
        return logs
    temperature = np.float32(temperature)
    if exclusive:
        return normalize(logs / temperature)
    rest = tf.math.log(-tf.math.expm1(tf.minimum(logs, np.float32(log_space.BELOW_CERTAIN))))
    return tf.math.log_sigmoid((logs - rest) / temperature)


def _mean(logs: Sequence[tf.Tensor]) -> tf.Tensor:
    """Logs of the mean probabilities."""
    return logs[0] if len(logs) == 1 else tf.reduce_logsumexp(tf.stack(logs), axis=0) - np.log(np.float32(len(logs)))


def _shares(members: Sequence[Member], found: list[list[tuple[tf.Tensor, tf.Tensor]]],
            shares: Sequence[Sequence[Callable[[tf.Tensor], tf.Tensor]]]) -> tf.Tensor:
    """The mean over the networks by their weights, [batch, individuals + 1]."""
    return tf.add_n([shared(features) * np.float32(member.weight / len(several))
                     for member, several, of_each in zip(members, found, shares)
                     for (_, features), shared in zip(several, of_each)])


def _with_gallery(logs: tf.Tensor, shares: tf.Tensor) -> tf.Tensor:
    """Log-probabilities [batch, classes] and shares → log-probabilities [batch, classes + individuals]."""
    parts = tf.math.log(shares)
    return tf.concat([logs + parts[:, -1:], parts[:, :-1]], axis=1)


def _with_place(logs: tf.Tensor, on_top: OnTop, latitude: tf.Tensor, longitude: tf.Tensor, date: tf.Tensor) -> tf.Tensor:
    """As priors.GeoFused: left as they are where no place is known."""
    if on_top.place_logs is None:
        return logs
    known = tf.math.is_finite(latitude) & tf.math.is_finite(longitude)
    place_logs = tf.maximum(on_top.place_logs(latitude, longitude, date), LOWEST)  # −inf · 0 is NaN
    return tf.where(known[:, tf.newaxis], normalize(logs + np.float32(on_top.exponent) * place_logs), logs)
