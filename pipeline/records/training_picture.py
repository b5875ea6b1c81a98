"""A training picture out of its bytes: crop, augmentations, what is erased."""

import dataclasses
from typing import Any, Optional

import tensorflow as tf

from pipeline.ops import decode, imet, randaugment, random_erasing, rot45, seeds, simple


@dataclasses.dataclass(frozen=True)
class TrainPictures:
    """How a training picture is made of its bytes."""

    size: int               # pixels, height = width
    augment: str            # inception, crop, simple, rot45, rot45:nearest, imet or eval
    randaugment: str        # N:M, or empty for none; not used with eval
    eval_resize: str        # squash or short:N, for crop (short:N alone), rot45 and eval
    random_erasing: float = 0.0  # probability; not used with eval


def pictures_of(stage: Any) -> TrainPictures:
    """How a stage (runs.stages.Stage; the field's names are the same) makes its pictures."""
    return TrainPictures(**{field.name: getattr(stage, field.name) for field in dataclasses.fields(TrainPictures)})


def training_picture(encoded: tf.Tensor, seed: tf.Tensor, pictures: TrainPictures,
                     box: Optional[tf.Tensor] = None) -> tf.Tensor:
    """JPEG bytes → augmented uint8 [size, size, 3]; `seed` is a stateless seed, int [2]; `box` as in decode.window."""
    if pictures.augment == "eval":
        return decode.whole(encoded, pictures.size, pictures.eval_resize, box)
    crop_seed, flip_seed, simple_seed, randaugment_seed, erasing_seed = seeds.split(seed, 5)
    if pictures.augment == "imet":
        image = imet.imet(encoded, pictures.size, crop_seed, box)
    elif pictures.augment in rot45.AUGMENTATIONS:
        image = rot45.rot45(decode.whole(encoded, pictures.size, pictures.eval_resize, box), flip_seed,
                            nearest=pictures.augment == "rot45:nearest")
    elif pictures.augment == "crop":
        short = decode.parse_eval_resize(pictures.eval_resize, pictures.size)
        image = decode.random_short_side_crop(decode.decode(encoded, box), pictures.size, short, crop_seed)
        image = decode.flip(image, flip_seed)
    else:
        image = decode.flip(decode.random_crop(encoded, pictures.size, crop_seed, box), flip_seed)
    if pictures.augment == "simple":
        image = simple.simple(image, simple_seed)
    if pictures.randaugment:
        layers, magnitude = randaugment.parse(pictures.randaugment)
        image = randaugment.randaugment(image, randaugment_seed, layers, magnitude)
    if pictures.random_erasing:
        image = random_erasing.erase(image, erasing_seed, pictures.random_erasing)
    return image
