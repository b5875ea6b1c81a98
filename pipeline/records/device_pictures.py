"""What is done to training pictures on the device, where --augment_on=device asks for it, and what the host draws for that.

The host decodes, crops and mirrors; of what follows it only draws what is left to chance, some numbers a picture, which
travel with the batch. So a picture's changes are the same function of its seed on the host and on any device (whose own
random numbers are others, and of a Beta distribution XLA has none), and the step draws nothing.
"""

from typing import Any

import tensorflow as tf

from pipeline.ops import device_randaugment, grid_mask, light, mixing, randaugment, randaugment_fast, random_erasing, seeds
from pipeline.records.training_picture import TrainPictures, later_seeds

DRAWN = "drawn"  # the feature that has it
LIGHT, RANDAUGMENT, ERASING, GRID_MASK, MIX = "light", "randaugment", "random_erasing", "grid_mask", "mix"
MOST_MAGNITUDE = 10.0  # of RandAugment: beyond it moved pictures would not fit onto the canvas of device_warp
Features = dict[str, Any]


def draw(seed: tf.Tensor, pictures: TrainPictures) -> Features:
    """What chance does to the picture of a seed (as of training_picture), by name; nothing for augment=eval."""
    if pictures.augment == "eval":
        return {}
    own, drawn = later_seeds(seed), {}
    if pictures.jitter or pictures.pca_noise:
        drawn[LIGHT] = light.draw(own.light, pictures.jitter, pictures.pca_noise)
    if pictures.randaugment:
        asked = randaugment.parse(pictures.randaugment)
        drawn[RANDAUGMENT] = randaugment_fast.draw(own.randaugment, asked.layers, pictures.size, pictures.size, asked.same)
    if pictures.random_erasing:
        drawn[ERASING] = random_erasing.draw(own.erasing, pictures.size, pictures.random_erasing)
    if pictures.grid_mask:
        drawn[GRID_MASK] = grid_mask.draw(own.grid_mask, pictures.grid_mask)
    return drawn


def with_mix(features: Features, seed: tf.Tensor, alphas: mixing.Alphas) -> Features:
    """The features of a batch, with what mixing.mix would do to it by this seed."""
    batch, size = features["image"].shape[:2]
    return {**features, DRAWN: {**features.get(DRAWN, {}), MIX: _draw_mix(seed, batch, size, alphas)}}


def _draw_mix(seed: tf.Tensor, batch: int, size: int, alphas: mixing.Alphas) -> Features:
    """What chance mixes in a batch, for each picture.

    Returns:
        'rows' and 'columns', float32 [batch, size]: of a pixel its partner has the share rows · columns; with a draw for
        each picture also 'order', int32 [batch], the positions of partners in the batch.
    """
    if alphas.draw == "picture":
        share_seed, partner_seed = seeds.split(seed, 2)
        own = tf.repeat(mixing.draw_larger_shares(share_seed, alphas.mixup, batch)[:, tf.newaxis], size, axis=1)
        return {"rows": 1.0 - own, "columns": tf.ones([batch, size]), "order": mixing.draw_partners(partner_seed, batch)}
    partners = 1.0 - mixing.draw_weights(seed, alphas, size)  # one share everywhere, or a box of 1
    ends = {"rows": tf.reduce_max(partners, axis=1), "columns": tf.cast(tf.reduce_max(partners, axis=0) > 0, tf.float32)}
    return {name: tf.repeat(one[tf.newaxis], batch, axis=0) for name, one in ends.items()}


def drawn_specs(pictures: TrainPictures, alphas: mixing.Alphas, batch: int) -> Features:
    """The tf.TensorSpecs of DRAWN, or nothing where nothing is drawn."""
    seed = tf.constant([0, 0], tf.int64)
    drawn = tf.data.Dataset.from_tensors(seed).map(lambda one: (one, draw(one, pictures))).repeat().batch(batch, True)
    if not alphas.any:
        return drawn.element_spec[1]
    mixed = drawn.map(lambda _, drawn: {**drawn, MIX: _draw_mix(seed, batch, pictures.size, alphas)})
    return mixed.element_spec


def finish(features: Features, labels: mixing.Labels, pictures: TrainPictures) -> tuple[Features, mixing.Labels]:
    """What the host does with --augment_on=host; inside the step, of one replica's part of a batch.

    Args:
        features: 'image', uint8 [batch, size, size, 3], and DRAWN, where anything was drawn.
        labels: as of mixing.mix.

    Returns:
        Features without DRAWN, and labels, mixed where it says so: within the replica's part.
    """
    drawn = features.get(DRAWN, {})
    image = _finished(features["image"], drawn, pictures) if set(drawn) - {MIX} else features["image"]
    if MIX in drawn:
        image, labels = _mixed(image, labels, drawn[MIX])
    return {**{name: one for name, one in features.items() if name != DRAWN}, "image": image}, labels


def _finished(image: tf.Tensor, drawn: Features, pictures: TrainPictures) -> tf.Tensor:
    pixels = tf.transpose(image, [0, 3, 1, 2])  # or a TPU would pad three channels to 128
    if LIGHT in drawn:
        pixels = light.change_drawn(pixels, drawn[LIGHT])
    if RANDAUGMENT in drawn:
        asked = randaugment.parse(pictures.randaugment)
        pixels = device_randaugment.randaugment(pixels, drawn[RANDAUGMENT], asked.magnitude, asked.tf_contrast)
    if ERASING in drawn:
        pixels = random_erasing.erase_drawn(pixels, drawn[ERASING])
    if GRID_MASK in drawn:
        pixels = grid_mask.blank_drawn(pixels, drawn[GRID_MASK])
    return tf.transpose(pixels, [0, 2, 3, 1])


def _mixed(image: tf.Tensor, labels: tf.Tensor, drawn: Features) -> tuple[tf.Tensor, mixing.Labels]:
    own = 1.0 - drawn["rows"][:, :, tf.newaxis] * drawn["columns"][:, tf.newaxis]
    if "order" not in drawn:
        return mixing.apply(image, labels, own)
    # A random order of the batch gives one of any part of it: by how many of the part come before each.
    order = drawn["order"]
    partners = tf.reduce_sum(tf.cast(order < order[:, tf.newaxis], tf.int32), axis=1)
    return mixing.apply(image, labels, own, partners)
