"""A training picture out of its bytes: crop, augmentations, what is erased."""

import dataclasses
from typing import Any, Optional

import tensorflow as tf

from pipeline.ops import decode, imet, randaugment, randaugment_fast, random_erasing, rot45, seeds, simple


FAST = "fast"
RANDAUGMENTS = {FAST: randaugment_fast.randaugment, "reference": randaugment.randaugment}


@dataclasses.dataclass(frozen=True)
class TrainPictures:
    """How a training picture is made of its bytes."""

    size: int               # pixels, height = width
    augment: str            # inception, crop, simple, rot45, imet or eval
    randaugment: str        # N:M[:OPTIONS], or empty for none; not used with eval
    eval_resize: str        # squash or short:N, for crop (short:N alone), rot45 and eval
    random_erasing: float = 0.0  # probability; not used with eval
    min_crop: float = decode.LEAST_AREA  # of inception and simple: a crop's least share of the picture
    crop_law: str = "area"       # of these: one of decode.CROP_LAWS
    antialias: bool = True       # of every resize
    resize_engine: str = FAST    # of antialiased crops of inception, simple and imet: fast or reference
    randaugment_engine: str = FAST  # of RANDAUGMENTS
    place_drop: float = 0.0      # probability that the picture's place is not told


def pictures_of(stage: Any) -> TrainPictures:
    """How a stage (runs.stages.Stage; the field's names are the same) makes its pictures."""
    return TrainPictures(**{field.name: getattr(stage, field.name) for field in dataclasses.fields(TrainPictures)})


def training_picture(encoded: tf.Tensor, seed: tf.Tensor, pictures: TrainPictures,
                     box: Optional[tf.Tensor] = None) -> tf.Tensor:
    """JPEG bytes → augmented uint8 [size, size, 3]; `seed` is a stateless seed, int [2]; `box` as in decode.window."""
    if pictures.augment == "eval":
        return decode.whole(encoded, pictures.size, pictures.eval_resize, box, pictures.antialias)
    fast = pictures.resize_engine == FAST
    crop_seed, flip_seed, simple_seed, randaugment_seed, erasing_seed = seeds.split(seed, 5)
    if pictures.augment == "imet":
        image = imet.imet(encoded, pictures.size, crop_seed, box, pictures.antialias, fast)
    elif pictures.augment == "rot45":
        whole = decode.whole(encoded, pictures.size, pictures.eval_resize, box, pictures.antialias)
        image = rot45.rot45(whole, flip_seed)
    elif pictures.augment == "crop":
        short = decode.parse_eval_resize(pictures.eval_resize, pictures.size)
        decoded = decode.decode(encoded, box)
        image = decode.random_short_side_crop(decoded, pictures.size, short, crop_seed, pictures.antialias)
        image = decode.flip(image, flip_seed)
    else:
        image = decode.random_crop(encoded, pictures.size, crop_seed, box, pictures.min_crop, pictures.crop_law,
                                   pictures.antialias, fast)
        image = decode.flip(image, flip_seed)
    if pictures.augment == "simple":
        image = simple.simple(image, simple_seed)
    if pictures.randaugment:
        augment = RANDAUGMENTS[pictures.randaugment_engine]
        image = augment(image, randaugment_seed, *randaugment.parse(pictures.randaugment))
    if pictures.random_erasing:
        image = random_erasing.erase(image, erasing_seed, pictures.random_erasing)
    return image


def training_place(place: tf.Tensor, seed: tf.Tensor, pictures: TrainPictures) -> tf.Tensor:
    """A record's place, float32 [3], or zeros (no place) with the probability place_drop; `seed` as training_picture's."""
    if not pictures.place_drop:
        return place
    # Folded, so that what happens to the picture does not depend on whether its place is told.
    own_seed = tf.random.experimental.stateless_fold_in(seed, 1, alg="philox")
    return tf.where(tf.random.stateless_uniform([], own_seed) < pictures.place_drop, tf.zeros([3]), place)
