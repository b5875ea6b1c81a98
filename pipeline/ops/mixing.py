"""mixup and CutMix: every picture of a batch mixed with the one before it (of a shuffled batch: with any other).

Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization"; Yun et al. 2019, "CutMix". One share a batch, drawn from
Beta(α, α); where both are asked for, one of the two is drawn for each batch, as timm does. Batches are mixed on the
host, whole and before they are divided among replicas, so that their number changes nothing.
"""

import dataclasses
from typing import Callable, NamedTuple, Union

import tensorflow as tf

from pipeline.ops import seeds


@dataclasses.dataclass(frozen=True)
class Alphas:
    """--mixup and --cutmix, each the α of Beta(α, α); 0: off."""

    mixup: float = 0.0
    cutmix: float = 0.0

    @property
    def any(self) -> bool:
        return bool(self.mixup or self.cutmix)


class MixedLabels(NamedTuple):
    """Labels of mixed pictures; this form needs no matrix [batch, classes]."""

    label: tf.Tensor    # int64 [batch]
    partner: tf.Tensor  # int64 [batch]
    share: tf.Tensor    # float32 [batch], 0 to 1: of `label`; `partner` has the rest


Labels = Union[tf.Tensor, MixedLabels]


def over_labels(function: Callable[[tf.Tensor], tf.Tensor], labels: Labels) -> tf.Tensor:
    """function(labels), [batch]; of mixed labels the mean of the function over both, weighted by their shares."""
    if not isinstance(labels, MixedLabels):
        return function(labels)
    return labels.share * function(labels.label) + (1.0 - labels.share) * function(labels.partner)


def mix(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, alphas: Alphas) -> tuple[tf.Tensor, Labels]:
    """Mixes a batch with itself, moved on by one. For the host: XLA has no gamma variables.

    Args:
        images: uint8 [batch, size, size, 3], of static size.
        labels: int64 [batch] class indices, or float32 [batch, classes] with 1 at every label.
        seed: int32 or int64 [2].
        alphas: of which at least one is not 0.

    Returns:
        uint8 images, and MixedLabels of indices or the mixed float32 matrix.
    """
    return apply(images, labels, draw_weights(seed, alphas, images.shape[1]))


def apply(images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, Labels]:
    """`mix` by given weights of a picture's own pixels, float32 [size, size]; their mean is its label's share."""
    share = tf.reduce_mean(weights)
    own = weights[tf.newaxis, :, :, tf.newaxis]
    pixels = tf.cast(images, tf.float32)
    mixed = tf.cast(tf.round(own * pixels + (1.0 - own) * _partners(pixels)), images.dtype)
    if labels.shape.rank == 2:
        return mixed, share * labels + (1.0 - share) * _partners(labels)
    return mixed, MixedLabels(labels, _partners(labels), tf.fill(tf.shape(labels), share))


def draw_weights(seed: tf.Tensor, alphas: Alphas, size: int) -> tf.Tensor:
    """float32 [size, size]: the share everywhere (mixup), or 1 and in a box 0 (CutMix)."""
    which_seed, mixup_seed, cutmix_seed, box_seed = seeds.split(seed, 4)
    wanted = []
    if alphas.mixup:
        wanted.append(lambda: tf.fill([size, size], draw_share(mixup_seed, alphas.mixup)))
    if alphas.cutmix:
        wanted.append(lambda: 1.0 - tf.cast(draw_box(box_seed, draw_share(cutmix_seed, alphas.cutmix), size), tf.float32))
    if len(wanted) == 1:
        return wanted[0]()
    return tf.cond(tf.random.stateless_uniform([], which_seed) < 0.5, *wanted)


def draw_share(seed: tf.Tensor, alpha: float) -> tf.Tensor:
    """A float32 scalar from Beta(α, α): X/(X + Y) of two gamma variables."""
    # float64: at a small α most gamma variables underflow float32, and 0/0 is no share.
    drawn = tf.random.stateless_gamma([2], seed, alpha, dtype=tf.float64)
    total = drawn[0] + drawn[1]
    return tf.cast(tf.where(total > 0, drawn[0] / tf.where(total > 0, total, 1), 1), tf.float32)


def draw_box(seed: tf.Tensor, share: tf.Tensor, size: int) -> tf.Tensor:
    """Where CutMix pastes: bool [size, size], a square of area (1 − share)·size², cut off at the border.

    Its centre is uniform over the picture.
    """
    half = tf.cast(size * tf.sqrt(1.0 - share), tf.int32) // 2
    centers = tf.random.stateless_uniform([2], seed, 0, size, tf.int32)
    distances = tf.range(size)[tf.newaxis] - centers[:, tf.newaxis]
    inside = (distances >= -half) & (distances < half)
    return inside[0][:, tf.newaxis] & inside[1][tf.newaxis]


def _partners(batch: tf.Tensor) -> tf.Tensor:
    return tf.roll(batch, 1, axis=0)
