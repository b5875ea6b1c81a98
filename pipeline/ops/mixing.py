"""mixup and CutMix: every picture of a batch mixed with another one of it.

Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization"; Yun et al. 2019, "CutMix". One share a batch, drawn from
Beta(α, α), and the picture before (of a shuffled batch: any other); where both are asked for, one of the two is drawn
for each batch, as timm does. Or, mixup alone, by picture, as fastai does: a share for each, of which the picture itself
keeps the larger part, and a random partner. Batches are mixed on the host, whole and before they are divided among
replicas, so that their number changes nothing.
"""

import dataclasses
import functools
from typing import Callable, NamedTuple, Optional, Union

import tensorflow as tf

from pipeline.ops import compiled, seeds


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


class Mix(NamedTuple):
    """How pictures of a batch and their partners become one."""

    share: tf.Tensor  # float32 [] or [batch], 0 to 1: of a picture's own pixels outside of the box; its partner has the rest
    box: tf.Tensor    # int32 [4], first row, row after, first column, column after: all the partner's


NO_BOX = (0, 0, 0, 0)
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
        partners = draw_partners(partner_seed, images.shape[0])
        return _by_draw(images, labels, Mix(shares, tf.constant(NO_BOX)), alphas, partners)
    return _by_draw(images, labels, draw(seed, alphas, images.shape[1]), alphas)


def apply(images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor,
          partners: Optional[tf.Tensor] = None) -> tuple[tf.Tensor, Labels]:
    """`mix` by weights of pixels, for a step that mixes on its device: what `mix` does, of which it is the definition.

    Args:
        weights: of a picture's own pixels, float32 [size, size] for all pictures or [batch, 1, 1], one for each; their
            mean over a picture is its label's share.
        partners: positions in the batch, int32 [batch]; None: each picture's is the one before.
    """
    own = weights[..., tf.newaxis]
    pixels = tf.cast(images, tf.float32)
    mixed = tf.cast(tf.round(own * pixels + (1.0 - own) * _of_partners(pixels, partners)), images.dtype)
    return mixed, _mixed_labels(labels, tf.reduce_mean(weights, axis=[-2, -1]), partners)


def _of_partners(batch: tf.Tensor, partners: Optional[tf.Tensor]) -> tf.Tensor:
    return tf.roll(batch, 1, axis=0) if partners is None else tf.gather(batch, partners)


def _mixed_labels(labels: tf.Tensor, share: tf.Tensor, partners: Optional[tf.Tensor]) -> Labels:
    """`share` is [] or [batch], of the pictures' own."""
    others = _of_partners(labels, partners)
    if labels.shape.rank == 2:
        return share[..., tf.newaxis] * labels + (1.0 - share[..., tf.newaxis]) * others
    return MixedLabels(labels, others, tf.broadcast_to(share, tf.shape(labels)))


def _by_draw(images: tf.Tensor, labels: tf.Tensor, drawn: Mix, alphas: Alphas,
             partners: Optional[tf.Tensor] = None) -> tuple[tf.Tensor, Labels]:
    mixed = _pixels(bool(alphas.mixup), bool(alphas.cutmix))(images, _of_partners(images, partners), *drawn)
    first_row, row_after, first_column, column_after = tf.unstack(drawn.box)
    pasted = tf.cast((row_after - first_row) * (column_after - first_column), tf.float32) / images.shape[1]**2
    return mixed, _mixed_labels(labels, drawn.share * (1.0 - pasted), partners)


@functools.lru_cache(maxsize=None)
def _pixels(blends: bool, pastes: bool) -> Callable[..., tf.Tensor]:
    """(images, their partners, *Mix) → images, uint8 [batch, size, size, 3], compiled; what no draw does is left out."""
    @compiled.by_xla
    def run(images: tf.Tensor, partners: tf.Tensor, share: tf.Tensor, box: tf.Tensor) -> tf.Tensor:
        batch, height, width, _ = images.shape
        # Rows of bytes, as XLA makes quick loops of their length, and slow ones of three channels.
        own, other = (tf.reshape(one, [batch, height, 3 * width]) for one in (images, partners))
        mixed = own
        if blends:
            shares = tf.reshape(share, [-1, 1, 1])
            blended = shares * tf.cast(own, tf.float32) + (1.0 - shares) * tf.cast(other, tf.float32)
            mixed = tf.cast(tf.round(blended), tf.uint8)
        if pastes:
            first_row, row_after, first_column, column_after = tf.unstack(box)
            rows, bytes_ = tf.range(height)[:, tf.newaxis], tf.range(3 * width)
            inside = ((rows >= first_row) & (rows < row_after)
                      & (bytes_ >= 3 * first_column) & (bytes_ < 3 * column_after))
            mixed = tf.where(inside, other, mixed)
        return tf.reshape(mixed, images.shape)

    return run


def draw_larger_shares(seed: tf.Tensor, alpha: float, count: int) -> tf.Tensor:
    """float32 [count], each max(λ, 1 − λ) of a λ of its own from Beta(α, α)."""
    shares = _draw_shares(seed, alpha, count)
    return tf.maximum(shares, 1.0 - shares)


def draw_partners(seed: tf.Tensor, count: int) -> tf.Tensor:
    """A random order of 0 to count − 1, int32 [count]: every picture is somebody's partner once, maybe its own."""
    return tf.random.experimental.stateless_shuffle(tf.range(count), seed)


def draw_weights(seed: tf.Tensor, alphas: Alphas, size: int) -> tf.Tensor:
    """What `draw` gives, as weights: float32 [size, size], the share everywhere (mixup), or 1 and in a box 0 (CutMix)."""
    share, box = draw(seed, alphas, size)
    places, (first_row, row_after, first_column, column_after) = tf.range(size), tf.unstack(box)
    rows, columns = (places >= first_row) & (places < row_after), (places >= first_column) & (places < column_after)
    return tf.where(rows[:, tf.newaxis] & columns, 0.0, share)


def draw(seed: tf.Tensor, alphas: Alphas, size: int) -> Mix:
    """One for the batch: a share and no box (mixup), or all of what is outside a box (CutMix)."""
    which_seed, mixup_seed, cutmix_seed, box_seed = seeds.split(seed, 4)
    wanted = []
    if alphas.mixup:
        wanted.append(lambda: Mix(draw_share(mixup_seed, alphas.mixup), tf.constant(NO_BOX)))
    if alphas.cutmix:
        wanted.append(lambda: Mix(tf.constant(1.0), draw_box(box_seed, draw_share(cutmix_seed, alphas.cutmix), size)))
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
    """Where CutMix pastes: a square of area (1 − share)·size², cut off at the border; int32 [4] as in Mix.

    Its centre is uniform over the picture.
    """
    half = tf.cast(size * tf.sqrt(1.0 - share), tf.int32) // 2
    centers = tf.random.stateless_uniform([2], seed, 0, size, tf.int32)
    return tf.reshape(tf.stack([tf.maximum(centers - half, 0), tf.minimum(centers + half, size)], axis=1), [4])
