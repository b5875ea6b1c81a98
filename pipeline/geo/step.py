"""The geo prior's training step: a pure function of the positions of a batch and of a seed."""

from typing import Optional

import tensorflow as tf

from pipeline.geo import losses as geo_losses, points as geo_points
from pipeline.geo.points import Points
from pipeline.geo.prior import GeoNetwork
from pipeline.geo.records import Records
from pipeline.geo.runs import GeoRun
from pipeline.training import optimizers

_DATES, _MOVES, _RANDOM_POINTS, _DROPOUT = range(4)  # what a step draws, each from a seed of its own


class Trainer(tf.Module):
    """The network, its optimizer, and the records as constants beside them."""

    def __init__(self, run: GeoRun, records: Records, num_classes: int, steps_per_epoch: int):
        super().__init__(name="geo_trainer")
        self.network = GeoNetwork(num_classes, run.embed_dim, run.date_input, run.random_seed, run.batch_norm)
        self.photographers: Optional[tf.Variable] = None
        if run.photographers:
            initial = tf.keras.initializers.GlorotUniform(run.random_seed)([records.photographers, run.embed_dim])
            self.photographers = tf.Variable(initial, name="photographers")
        self.variables_to_train = self.trainable_variables
        # × lr_decay after each epoch.
        rate = tf.keras.optimizers.schedules.ExponentialDecay(run.lr, steps_per_epoch, run.lr_decay, staircase=True)
        self.optimizer = optimizers.build("adam", rate, momentum=0.0, weight_decay=0.0, clip_norm=0.0,
                                          variables=self.variables_to_train)
        self._run = run
        self._weight = geo_losses.positive_weight(run.geo_loss, num_classes, run.positive_weight)
        self._points = Points(*map(tf.constant, (records.latitude, records.longitude, records.date)))
        self._labels = tf.constant(records.label)
        self._photographer = tf.constant(records.photographer)
        # Several steps a call, so that Python's part vanishes.
        self.run_steps = tf.function(self._run_steps, jit_compile=run.jit or None)

    def state(self) -> dict[str, tf.Module]:
        """What a checkpoint holds, by name; `network` alone is enough for predictions."""
        state = {"network": self.network, "optimizer": self.optimizer}
        return state if self.photographers is None else {**state, "photographers": self.photographers}

    def _run_steps(self, batches: tf.Tensor, count: tf.Tensor, first_step: tf.Tensor) -> tf.Tensor:
        """Trains on the first `count` batches and returns the sum of their losses.

        Args: batches: int32 [steps, batch_size], positions of records; count: int32; first_step: int64, the number of
        the first of them among all steps of the run.
        """
        total = tf.constant(0.0)
        for index in tf.range(count):
            seed = tf.stack([tf.constant(self._run.random_seed, tf.int64), first_step + tf.cast(index, tf.int64)])
            total += self.step(batches[index], seed)
        return total

    @tf.autograph.experimental.do_not_convert  # unlike the loop around it, it has no Python of a tensor
    def step(self, batch: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """One step on the records at the positions `batch` (int32 [batch_size]); returns its loss."""
        seeds = [tf.random.experimental.stateless_fold_in(seed, what) for what in range(4)]
        points = Points(*(tf.gather(column, batch) for column in self._points))
        points = geo_points.fill_dates(points, seeds[_DATES])
        points = geo_points.move(points, self._run.location_noise_m, self._run.date_noise_days, seeds[_MOVES])
        random = geo_points.uniform(self._run.batch_size, seeds[_RANDOM_POINTS])
        return self.update(points, random, tf.gather(self._labels, batch), tf.gather(self._photographer, batch),
                           seeds[_DROPOUT])

    def update(self, points: Points, random: Points, labels: tf.Tensor, photographer: tf.Tensor,
               dropout_seed: tf.Tensor) -> tf.Tensor:
        """Moves the weights one step down the loss of a batch and as many random points; returns the loss."""
        with tf.GradientTape() as tape:
            both = Points(*(tf.concat(pair, axis=0) for pair in zip(points, random)))
            embedded, random_embedded = tf.split(self.network.embed(both, dropout_seed), 2)
            losses = geo_losses.location(labels, self.network.classes(embedded), self._weight)
            losses += geo_losses.random_location(self.network.classes(random_embedded))
            if self.photographers is not None:
                losses += self._photographer_losses(embedded, random_embedded, labels, photographer)
            loss = tf.reduce_mean(losses)
        self.optimizer.minimize(loss, self.variables_to_train, tape=tape)
        return loss

    def _photographer_losses(self, embedded: tf.Tensor, random_embedded: tf.Tensor, labels: tf.Tensor,
                             photographer: tf.Tensor) -> tf.Tensor:
        """float32 [n]: that the photographer was there, is not just anywhere, and takes pictures of such classes."""
        known = tf.cast(photographer >= 0, tf.float32)
        who = tf.gather(self.photographers, tf.maximum(photographer, 0))
        class_logits = self.network.classes(who)
        weight, here = self._weight / class_logits.shape[1], tf.reduce_sum(who * embedded, axis=1)
        if self._run.photographer_loss == "solution":
            there = geo_losses.photographer_of_solution(here, self.photographers.shape[0], weight, known)
        else:
            there = geo_losses.photographer(here, tf.reduce_sum(who * random_embedded, axis=1), weight, known)
        return there + geo_losses.affinity(labels, class_logits, self._weight, known)
