"""A training picture out of its bytes: crop, augmentations, what is erased."""

import dataclasses
from typing import Any, NamedTuple, Optional

import tensorflow as tf

from pipeline.ops import (decode, grid_mask, imet, light, mask_square, randaugment, randaugment_fast, random_erasing, rot45,
                          rotation, seeds, simple)

FAST = "fast"
RANDAUGMENTS = {FAST: randaugment_fast.randaugment, "reference": randaugment.randaugment}
_ROTATION, _GRID_MASK, _PLACE = 0, 1, 2  # of _further
HOST, DEVICE = "host", "device"  # of augment_on
MASK = "mask"  # the augmentation that takes squares around points of a mask


@dataclasses.dataclass(frozen=True)
class TrainPictures:
    """How a training picture is made of its bytes."""

    size: int               # pixels, height = width
    augment: str            # inception, crop, simple, rot45, rot45:nearest, imet, mask or eval
    randaugment: str        # N:M[:OPTIONS], or empty for none; not used with eval
    eval_resize: str        # for crop (short:N alone), rot45, eval, and imet (its crop is of crop:N)
    jitter: float = 0.0     # of brightness, contrast and saturation; not used with eval
    pca_noise: float = 0.0  # standard deviation; not used with eval
    random_erasing: float = 0.0  # probability; not used with eval
    rotate: float = 0.0     # degrees, at most, before the crop; for rotation.AUGMENTATIONS
    grid_mask: float = 0.0  # probability of each cell; not used with eval
    min_crop: float = decode.LEAST_AREA  # of inception and simple: a crop's least share of the picture
    crop_law: str = "area"       # of these: one of decode.CROP_LAWS
    antialias: bool = True       # of every resize
    resize_engine: str = FAST    # of antialiased crops of inception, simple and mask: fast or reference
    randaugment_engine: str = FAST  # of RANDAUGMENTS
    place_drop: float = 0.0      # probability that the picture's place is not told
    augment_on: str = HOST       # or DEVICE: what comes after the augmentation's own is left to records.device_pictures


class LaterSeeds(NamedTuple):
    """Of what may be done on the device."""

    light: tf.Tensor
    randaugment: tf.Tensor
    erasing: tf.Tensor
    grid_mask: tf.Tensor


def pictures_of(stage: Any) -> TrainPictures:
    """How a stage (runs.stages.Stage; the field's names are the same) makes its pictures."""
    return TrainPictures(**{field.name: getattr(stage, field.name) for field in dataclasses.fields(TrainPictures)})


def training_picture(encoded: tf.Tensor, seed: tf.Tensor, pictures: TrainPictures,
                     box: Optional[tf.Tensor] = None, mask: Optional[tf.Tensor] = None) -> tf.Tensor:
    """JPEG bytes → augmented uint8 [size, size, 3]; with augment_on=device what the device goes on from.

    Args:
        seed: a stateless seed, int [2].
        box: as in decode.window.
        mask: as the counts of mask_square.random_square, for augment=mask, which then heeds no box.
    """
    if pictures.augment == "eval":
        return decode.whole(encoded, pictures.size, pictures.eval_resize, box, pictures.antialias, seed)
    crop_seed, flip_seed, simple_seed, randaugment_seed, erasing_seed, light_seed = seeds.split(seed, 6)
    wanted = decode.parse_eval_resize(pictures.eval_resize, pictures.size)
    if pictures.augment == "imet":
        image = imet.imet(encoded, pictures.size, crop_seed, box, pictures.antialias, wanted.crop)
    elif pictures.augment in rot45.AUGMENTATIONS:
        whole = decode.whole(encoded, pictures.size, pictures.eval_resize, box, pictures.antialias, crop_seed)
        image = rot45.rot45(whole, flip_seed, nearest=pictures.augment == "rot45:nearest")
    else:
        image = decode.flip(_crop(encoded, crop_seed, pictures, box, mask), flip_seed)
    if pictures.augment == "simple":
        image = simple.simple(image, simple_seed)
    if pictures.augment_on == DEVICE:
        return image
    if pictures.jitter or pictures.pca_noise:
        image = light.change(image, light_seed, pictures.jitter, pictures.pca_noise)
    if pictures.randaugment:
        augment = RANDAUGMENTS[pictures.randaugment_engine]
        image = augment(image, randaugment_seed, *randaugment.parse(pictures.randaugment))
    if pictures.random_erasing:
        image = random_erasing.erase(image, erasing_seed, pictures.random_erasing)
    if pictures.grid_mask:
        image = grid_mask.blank(image, _further(seed, _GRID_MASK), pictures.grid_mask)
    return image


def training_place(place: tf.Tensor, seed: tf.Tensor, pictures: TrainPictures) -> tf.Tensor:
    """A record's place, float32 [3], or zeros (no place) with the probability place_drop; `seed` as training_picture's."""
    if not pictures.place_drop:
        return place
    dropped = tf.random.stateless_uniform([], _further(seed, _PLACE)) < pictures.place_drop
    return tf.where(dropped, tf.zeros([3]), place)


def later_seeds(seed: tf.Tensor) -> LaterSeeds:
    """As training_picture takes them of its seed."""
    *_, randaugment_seed, erasing_seed, light_seed = seeds.split(seed, 6)
    return LaterSeeds(light_seed, randaugment_seed, erasing_seed, _further(seed, _GRID_MASK))


def _further(seed: tf.Tensor, number: int) -> tf.Tensor:
    """A seed beside those that the picture's is split into: another number of these would change them all."""
    return tf.random.experimental.stateless_fold_in(tf.cast(seed, tf.int64), number, alg="philox")


def _crop(encoded: tf.Tensor, seed: tf.Tensor, pictures: TrainPictures, box: Optional[tf.Tensor],
          mask: Optional[tf.Tensor]) -> tf.Tensor:
    """The part that the augmentation cuts out, of the picture or of that turned; uint8 [size, size, 3]."""
    fast = pictures.resize_engine == FAST
    if pictures.rotate:
        return _turned_crop(encoded, seed, pictures, box)
    if pictures.augment == MASK:
        return decode.crop(encoded, mask_square.random_square(encoded, mask, seed), pictures.size, pictures.antialias, fast)
    if pictures.augment == "crop":
        short = decode.parse_eval_resize(pictures.eval_resize, pictures.size).short
        return decode.random_short_side_crop(decode.decode(encoded, box), pictures.size, short, seed, pictures.antialias)
    return decode.random_crop(encoded, pictures.size, seed, box, pictures.min_crop, pictures.crop_law, pictures.antialias,
                              fast)


def _turned_crop(encoded: tf.Tensor, seed: tf.Tensor, pictures: TrainPictures, box: Optional[tf.Tensor]) -> tf.Tensor:
    """As _crop, at the same place."""
    degrees_seed = _further(seed, _ROTATION)
    inside = decode.window(encoded, box)
    if pictures.augment == "crop":
        short = decode.parse_eval_resize(pictures.eval_resize, pictures.size).short
        part = decode.random_short_side_window(inside[2:], pictures.size, short, seed)
    else:
        part = tf.cast(decode.sampler(pictures.crop_law)(inside[2], inside[3], seed, pictures.min_crop), tf.float64)
    degrees = rotation.draw(degrees_seed, pictures.rotate)
    return rotation.crop(encoded, inside, part, pictures.size, degrees, pictures.antialias)
