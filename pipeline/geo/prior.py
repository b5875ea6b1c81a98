"""The geo prior: how likely each class is at a place and a date.

After *Presence-Only Geographical Priors for Fine-Grained Image Classification* (Mac Aodha et al. 2019).
"""

import os
from typing import Optional, Sequence

import numpy as np
import tensorflow as tf

from pipeline.errors import UserError
from pipeline.geo import points as geo_points
from pipeline.geo.points import Points
from pipeline.runs import checkpoint, patterns, record as run_record, run as runs

PROGRAM = "train_geo_prior.py"
LAST_DIR = "last"       # of the checkpoint
RESIDUAL_BLOCKS = 4
DROPOUT = 0.5
PREDICTION_BATCH = 1024
DATES_OF_THE_YEAR = 12  # a place without a date: the mean over so many


def _dense(inputs: int, units: int, seed: int, use_bias: bool = True) -> tf.keras.layers.Dense:
    layer = tf.keras.layers.Dense(units, use_bias=use_bias, dtype="float32",
                                  kernel_initializer=tf.keras.initializers.GlorotUniform(seed))
    layer.build([None, inputs])
    return layer


def _norm(units: int) -> tf.keras.layers.BatchNormalization:
    layer = tf.keras.layers.BatchNormalization(dtype="float32")
    layer.build([None, units])
    return layer


class GeoNetwork(tf.Module):
    """Dense-ReLU, four residual blocks x + ReLU(Dense(dropout(ReLU(Dense(x))))), and a Dense without bias; float32.

    batch_norm: on: a batch normalization before each ReLU, as the sixth place's network was meant to have it; first: before
    the first one alone, as its code has it. In training it takes the records and the random points together.
    """

    def __init__(self, num_classes: int, embed_dim: int, date_input: bool, seed: int = 0, batch_norm: str = "off"):
        super().__init__(name="geo_network")
        first, last, *inner = np.random.SeedSequence(seed).generate_state(2 + 2 * RESIDUAL_BLOCKS).tolist()
        self.date_input = date_input
        self.first = _dense(geo_points.encoded_width(date_input), embed_dim, first)
        self.blocks = [[_dense(embed_dim, embed_dim, one) for one in pair] for pair in zip(inner[::2], inner[1::2])]
        self.classes = _dense(embed_dim, num_classes, last, use_bias=False)
        self.first_norm = _norm(embed_dim) if batch_norm in ("on", "first") else None
        self.norms = [[_norm(embed_dim) for _ in pair] for pair in self.blocks] if batch_norm == "on" else None

    def embed(self, points: Points, dropout_seed: Optional[tf.Tensor] = None) -> tf.Tensor:
        """float32 [n, embed_dim]; with dropout where there is a seed (int [2]) for it."""
        def activate(y: tf.Tensor, norm: Optional[tf.keras.layers.BatchNormalization]) -> tf.Tensor:
            return tf.nn.relu(y if norm is None else norm(y, training=dropout_seed is not None))

        x = activate(self.first(geo_points.encode(points, self.date_input)), self.first_norm)
        norms = self.norms or [(None, None)] * len(self.blocks)
        for index, ((before, after), (norm_before, norm_after)) in enumerate(zip(self.blocks, norms)):
            y = activate(before(x), norm_before)
            if dropout_seed is not None:  # stateless, unlike Keras' own, so that a resumed run goes on exactly
                seed = tf.random.experimental.stateless_fold_in(dropout_seed, index)
                y = tf.nn.experimental.stateless_dropout(y, DROPOUT, seed)
            x += activate(after(y), norm_after)
        return x

    def logits(self, points: Points) -> tf.Tensor:
        """float32 [n, classes], for prediction."""
        return self.classes(self.embed(points))


class GeoPrior:
    """A trained prior.

    class_ids: the competition's own class ids, in the order of the columns (as Dataset.class_ids).
    """

    def __init__(self, network: GeoNetwork, class_ids: Sequence[str]):
        self.class_ids = list(class_ids)
        self._network = network
        batch = tf.TensorSpec([PREDICTION_BATCH], tf.float32)
        self._predict = tf.function(self._log_probabilities, input_signature=[batch] * 3)
        self._predict_any_date = tf.function(self._mean_over_the_year, input_signature=[batch] * 2)

    def log_probabilities(self, latitude: np.ndarray, longitude: np.ndarray, date: np.ndarray) -> np.ndarray:
        """Log of the sigmoid scores, normalized to sum to 1 over the classes: float32 [n, classes].

        Where the date is unknown, of the mean of such probabilities over twelve evenly spaced dates of the year (a
        prior trained without dates needs none). Where the place is unknown, every class is equally likely.

        Args: latitude, longitude: degrees [n]; date: fraction of the year [n]; NaN where unknown.
        """
        latitude, longitude, date = (np.asarray(values, np.float32) for values in (latitude, longitude, date))
        result = np.full([len(latitude), len(self.class_ids)], -np.log(len(self.class_ids)), np.float32)
        placed = ~(np.isnan(latitude) | np.isnan(longitude))
        dated = ~np.isnan(date) if self._network.date_input else np.ones_like(placed)
        for rows in _batches(np.flatnonzero(placed & dated)):
            result[rows] = self._in_one_shape(self._predict, rows, latitude, longitude, date)
        for rows in _batches(np.flatnonzero(placed & ~dated)):
            result[rows] = self._in_one_shape(self._predict_any_date, rows, latitude, longitude)
        return result

    def _in_one_shape(self, predict, rows: np.ndarray, *columns: np.ndarray) -> np.ndarray:
        """The predictions for some rows, padded so that there is one compiled shape."""
        padded = np.resize(rows, PREDICTION_BATCH)
        return predict(*(tf.constant(column[padded]) for column in columns)).numpy()[:len(rows)]

    @tf.autograph.experimental.do_not_convert
    def _log_probabilities(self, latitude: tf.Tensor, longitude: tf.Tensor, date: tf.Tensor) -> tf.Tensor:
        log_scores = tf.math.log_sigmoid(self._network.logits(Points(latitude, longitude, date)))
        return log_scores - tf.reduce_logsumexp(log_scores, axis=1, keepdims=True)

    @tf.autograph.experimental.do_not_convert
    def _mean_over_the_year(self, latitude: tf.Tensor, longitude: tf.Tensor) -> tf.Tensor:
        dates = (tf.range(DATES_OF_THE_YEAR, dtype=tf.float32) + 0.5) / DATES_OF_THE_YEAR

        def on(date: tf.Tensor) -> tf.Tensor:
            return self._log_probabilities(latitude, longitude, tf.fill(tf.shape(latitude), date))

        # One after the other: all at once would take their number times the memory.
        total = tf.foldl(lambda total, date: tf.reduce_logsumexp(tf.stack([total, on(date)]), axis=0), dates[1:],
                         on(dates[0]), parallel_iterations=1)
        return total - np.log(DATES_OF_THE_YEAR).astype(np.float32)

    @property
    def variables(self) -> Sequence[tf.Variable]:
        return self._network.variables

    @property
    def date_input(self) -> bool:
        return self._network.date_input

    def in_graph(self, latitude: tf.Tensor, longitude: tf.Tensor, date: tf.Tensor) -> tf.Tensor:
        """`log_probabilities` as part of another graph, of any batch: float32 [n] each → [n, classes].

        Of a place that is unknown it has no meaning (but it is finite): whoever asks leaves those rows out.
        """
        latitude, longitude = (tf.where(tf.math.is_finite(one), one, 0.0) for one in (latitude, longitude))
        dated = tf.math.is_finite(date)
        known = self._log_probabilities(latitude, longitude, tf.where(dated, date, 0.0))
        if not self.date_input:
            return known
        return tf.cond(tf.reduce_all(dated), lambda: known, lambda: tf.where(
            dated[:, tf.newaxis], known, self._mean_over_the_year(latitude, longitude)))


def _batches(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start:start + PREDICTION_BATCH] for start in range(0, len(rows), PREDICTION_BATCH)]


def load(directory: str) -> GeoPrior:
    """The prior that train_geo_prior.py has trained in a directory; photographers are not needed.

    Raises UserError where there is none, it has not finished, or its checkpoint is damaged.
    """
    record = run_record.read(directory, PROGRAM)
    if not runs.is_done(directory):
        raise UserError(f"{directory} has not finished: run {PROGRAM} with the same flags to go on")
    class_ids, same = record["free"]["class_ids"], record["same"]
    network = GeoNetwork(len(class_ids), same["embed_dim"], same["date_input"], batch_norm=same.get("batch_norm", "off"))
    path = patterns.latest(os.path.join(directory, LAST_DIR))
    if path is None:
        raise UserError(f"{directory} holds no checkpoint")
    checkpoint.read_into(path, tf.train.Checkpoint(network=network))
    if not all(np.isfinite(one.numpy()).all() for one in network.variables):
        raise UserError(f"{directory}: the weights of the geo prior are NaN or infinite; train it anew at a lower --lr")
    return GeoPrior(network, class_ids)
