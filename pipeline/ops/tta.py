"""Test-time augmentation: the views of one picture whose predictions are averaged."""

import dataclasses

import tensorflow as tf

from pipeline import errors
from pipeline.ops import decode


@dataclasses.dataclass(frozen=True)
class Views:
    """What the host cuts out of a picture, and whether the device adds the mirror images."""

    name: str
    crops: int    # views made on the host
    mirror: bool  # made on the device: half the bytes to send

    @property
    def total(self) -> int:
        return self.crops * (2 if self.mirror else 1)


TTA = {
    "none": Views("none", crops=1, mirror=False),
    "flip": Views("flip", crops=1, mirror=True),
    "six": Views("six", crops=3, mirror=True),  # iNat 2021, sixth place
}


def parse(name: str) -> Views:
    """The views of `--tta`; raises UserError for an unknown name."""
    if name not in TTA:
        raise errors.unknown("tta", name, TTA)
    return TTA[name]


def host_views(encoded: tf.Tensor, size: int, views: Views, resize: str) -> tf.Tensor:
    """The views made on the host; the JPEG is decoded once.

    The first is the whole picture as evaluation sees it. `six` adds the two squares of side min(H, W) at the ends of
    the long side: left and right of a landscape, top and bottom of a portrait.

    Args:
        encoded: string scalar, a JPEG.
        size: side of the views in pixels.
        views: from `parse`.
        resize: `--eval_resize`, see `decode.parse_eval_resize`.

    Returns:
        uint8 [views.crops, size, size, 3], RGB.
    """
    image = decode.decode(encoded)
    made = [decode.resize_whole(image, size, resize)]
    if views.crops == 3:
        made += [decode.resize(square, size) for square in end_squares(image)]
    return tf.stack(made)


def end_squares(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The left-or-top and the right-or-bottom square, of side min(H, W), of an image [H, W, C]."""
    shape = tf.shape(image)
    side = tf.minimum(shape[0], shape[1])
    return image[:side, :side], image[shape[0] - side:, shape[1] - side:]


def mirror(batch_of_views: tf.Tensor) -> tf.Tensor:
    """Appends to the views of each picture their left-right mirror images: [B, V, H, W, C] to [B, 2V, H, W, C]."""
    return tf.concat([batch_of_views, tf.reverse(batch_of_views, axis=[3])], axis=1)
