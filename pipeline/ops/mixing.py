"""mixup and CutMix: every picture of a batch mixed with another one of it.

Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization"; Yun et al. 2019, "CutMix". One share a batch, drawn from
Beta(α, α), and the picture before (of a shuffled batch: any other); where both are asked for, one of the two is drawn
for each batch, as timm does. Or, mixup alone, by picture, as fastai does: a share for each, of which the picture itself
keeps the larger part, and a random partner. Batches are mixed on the host, whole and before they are divided among
replicas, so that their number changes nothing.
"""

import dataclasses
from typing import Callable, NamedTuple, Optional, Union

import tensorflow as tf

from pipeline.ops import seeds


@dataclasses.dataclass(frozen=True)
class Alphas:
    """--mixup and --cutmix, each the α of Beta(α, α); 0: off."""

    mixup: float = 0.0
    cutmix: float = 0.0
    draw: str = "batch"  # what a share and a partner are drawn for: batch, or (mixup alone) picture

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
    """Mixes a batch with itself, in another order. For the host: XLA has no gamma variables.

    Args:
        images: uint8 [batch, size, size, 3], of static shape.
        labels: int64 [batch] class indices, or float32 [batch, classes] with 1 at every label.
        seed: int32 or int64 [2].
        alphas: of which at least one is not 0.

    Returns:
        uint8 images, and MixedLabels of indices or the mixed float32 matrix.
    """
    if alphas.draw == "picture":
        share_seed, partner_seed = seeds.split(seed, 2)
        shares = draw_larger_shares(share_seed, alphas.mixup, images.shape[0])
        return apply(images, labels, shares[:, tf.newaxis, tf.newaxis], draw_partners(partner_seed, images.shape[0]))
    return apply(images, labels, draw_weights(seed, alphas, images.shape[1]))


def apply(images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor,
          partners: Optional[tf.Tensor] = None) -> tuple[tf.Tensor, Labels]:
    """`mix` by what was drawn.

    Args:
        weights: of a picture's own pixels, float32 [size, size] for all pictures or [batch, 1, 1], one for each; their
            mean over a picture is its label's share.
        partners: positions in the batch, int32 [batch]; None: each picture's is the one before.
    """
    def of_partners(batch: tf.Tensor) -> tf.Tensor:
        return tf.roll(batch, 1, axis=0) if partners is None else tf.gather(batch, partners)

    share = tf.reduce_mean(weights, axis=[-2, -1])
    own = weights[..., tf.newaxis]
    pixels = tf.cast(images, tf.float32)
    mixed = tf.cast(tf.round(own * pixels + (1.0 - own) * of_partners(pixels)), images.dtype)
    if labels.shape.rank == 2:
        return mixed, share[..., tf.newaxis] * labels + (1.0 - share[..., tf.newaxis]) * of_partners(labels)
    return mixed, MixedLabels(labels, of_partners(labels), tf.broadcast_to(share, tf.shape(labels)))


def draw_larger_shares(seed: tf.Tensor, alpha: float, count: int) -> tf.Tensor:
    """float32 [count], each max(λ, 1 − λ) of a λ of its own from Beta(α, α)."""
    shares = _draw_shares(seed, alpha, count)
    return tf.maximum(shares, 1.0 - shares)


def draw_partners(seed: tf.Tensor, count: int) -> tf.Tensor:
    """A random order of 0 to count − 1, int32 [count]: every picture is somebody's partner once, maybe its own."""
    return tf.random.experimental.stateless_shuffle(tf.range(count), seed)


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
    """A float32 scalar from Beta(α, α)."""
    return _draw_shares(seed, alpha, 1)[0]


def _draw_shares(seed: tf.Tensor, alpha: float, count: int) -> tf.Tensor:
    """float32 [count] from Beta(α, α), each X/(X + Y) of two gamma variables."""
    # float64: at a small α most gamma variables underflow float32, and 0/0 is no share.
    drawn = tf.random.stateless_gamma([2, count], seed, alpha, dtype=tf.float64)
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
