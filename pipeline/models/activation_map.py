"""Class activation maps: where in a picture a classifier sees the class that it answers.

Zhou et al. 2016, "Learning Deep Features for Discriminative Localization": behind global average pooling a class's logit is
the mean over all places of (features · the class's weights), plus its bias; the shares of the places are the map. (Behind
GeM a place has a share of what is pooled too: pooling.GeM.shares.)

Unlike theirs, the weights are taken less the mean of all classes': what is added to every logit changes no probability, but
where it is negative it hides the object. (On pictures padded onto plain canvases twice as wide and high the boxes' mean IoU
rose from 0.4 to 0.7.)
"""

from typing import Callable, Sequence

import tensorflow as tf

from pipeline.models import pooling, zoo
from pipeline.models.classifier import Classifier
from pipeline.tasks.task import SIGMOID, SOFTMAX

PROBABILITIES = {SOFTMAX: tf.nn.softmax, SIGMOID: tf.sigmoid}  # by a task's activation
GRID = 128  # places along a side of a finished map: boxes are exact to less than a hundredth of the picture


class MapModel:
    """A classifier that also returns the feature map that its head judges the mean of."""

    def __init__(self, classifier: Classifier, name: str):
        """name: the classifier's in the zoo, whose head is a Dense. Raises UserError for a network without a feature map."""
        model = classifier.model
        self._scaling = model.get_layer("scaling")
        self._base = zoo.with_feature_map(name, classifier.base)
        others = {key: tensor for key, tensor in model.input.items() if key != "image"}
        self._pool = model.get_layer(pooling.NAME)
        self._rest = tf.keras.Model({"features": self._pool.input, **others}, model.output)
        self._head = classifier.head

    def __call__(self, features: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """{'image': [B, S, S, 3], 'place': [B, 3]} → float32 logits [B, classes], feature map [B, h, w, C]."""
        pooled, feature_map = self._base(self._scaling(features["image"]), training=False)
        inputs = {**features, "features": pooled}
        return self._rest({key: inputs[key] for key in self._rest.input}, training=False), feature_map

    def evidence(self, feature_map: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        """What each place says for a picture's class rather than for the others: [B, h, w, C], int [B] → float32 [B, h, w]."""
        # Behind the picture's features the head may have weights for the place where it was taken.
        kernel = self._head.kernel[:feature_map.shape[-1]]
        weights = tf.gather(kernel - tf.reduce_mean(kernel, axis=1, keepdims=True), classes, axis=1)
        # A network that pools itself takes the mean.
        shares = self._pool.shares(feature_map) if isinstance(self._pool, pooling.ChannelDropoutPooling) else feature_map
        return tf.einsum("bhwc,cb->bhw", tf.cast(shares, tf.float32), weights)


def make_step(models: Sequence[MapModel],
              activation: str = SOFTMAX) -> Callable[[dict], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
    """The step of localization: a batch of input.predict_batches with one view → maps, classes, scores.

    The class is the one of the highest mean probability over the models and over the picture and its mirror image, int32
    [batch]; the score is that probability, float32 [batch]; the map is the mean of theirs for that class, float32
    [batch, GRID, GRID]. Pure, so that XLA can compile it. `activation` is the task's.
    """

    def step(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        image = batch["image"][:, 0]
        both = {"image": tf.concat([image, _mirror(image)], axis=0), "place": tf.tile(batch["place"], [2, 1])}
        answers = [model(both) for model in models]
        probabilities = tf.reduce_mean([_mean_of_both(PROBABILITIES[activation](logits)) for logits, _ in answers], axis=0)
        classes = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
        maps = tf.reduce_mean([_straight_mean(model.evidence(feature_map, tf.tile(classes, [2])))
                               for model, (_, feature_map) in zip(models, answers)], axis=0)
        grids = tf.image.resize(maps[..., tf.newaxis], [GRID, GRID], "bilinear")[..., 0]
        return grids, classes, tf.reduce_max(probabilities, axis=-1)

    return step


def _mirror(images: tf.Tensor) -> tf.Tensor:
    """[B, H, W, …], left to right."""
    return tf.reverse(images, axis=[2])


def _mean_of_both(values: tf.Tensor) -> tf.Tensor:
    """[2B, …] → [B, …]."""
    return tf.reduce_mean(tf.stack(tf.split(values, 2)), axis=0)


def _straight_mean(maps: tf.Tensor) -> tf.Tensor:
    """Maps [2B, h, w] of pictures and of their mirror images → [B, h, w]."""
    straight, mirrored = tf.split(maps, 2)
    return (straight + _mirror(mirrored)) / 2
