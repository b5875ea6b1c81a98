"""Test-time augmentation: the views of one picture whose predictions are averaged."""

import dataclasses
import itertools
from typing import Callable, NamedTuple, Optional

import tensorflow as tf

from pipeline import errors
from pipeline.ops import decode, mask_square, rot45, seeds


@dataclasses.dataclass(frozen=True)
class Views:
    """Which views there are, and who makes them: what the device can make need not be sent to it."""

    name: str
    crops: int    # views made on the host, the first of them the picture as evaluation sees it (but see of_mask)
    total: int    # after the device's part
    on_host: Callable[["Picture"], list[tf.Tensor]]  # → the other crops
    on_device: Callable[[tf.Tensor], tf.Tensor]      # [B, crops, S, S, C] → [B, total, S, S, C]
    of_mask: bool = False  # all crops are squares of mask_square, and none is the picture as evaluation sees it

    def of_batch(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """What a network is given of a batch of input.predict_batches: 'image' [B · total, S, S, C], a picture's views
        together, each with the picture's 'place' [B · total, 3]."""
        images = self.on_device(batch["image"])
        return {"image": tf.reshape(images, [-1, *images.shape[2:]]), "place": tf.repeat(batch["place"], self.total, axis=0)}


class Picture(NamedTuple):
    """What the host makes further crops of."""

    decoded: tf.Tensor  # uint8 [H, W, 3]
    first: tf.Tensor    # uint8 [size, size, 3], the first view
    size: int
    eval_resize: str
    antialias: bool = True
    seed: Optional[tf.Tensor] = None  # of crop:PIXELS alone


def end_squares(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The left-or-top and the right-or-bottom square, of side min(H, W), of an image [H, W, C]."""
    shape = tf.shape(image)
    side = tf.minimum(shape[0], shape[1])
    return image[:side, :side], image[shape[0] - side:, shape[1] - side:]


def mirrored(batch_of_views: tf.Tensor) -> tf.Tensor:
    """The left-right mirror images alone: [B, V, H, W, C] to the same."""
    return tf.reverse(batch_of_views, axis=[3])


def mirror(batch_of_views: tf.Tensor) -> tf.Tensor:
    """Appends to the views of each picture their left-right mirror images: [B, V, H, W, C] to [B, 2V, H, W, C]."""
    return tf.concat([batch_of_views, mirrored(batch_of_views)], axis=1)


def _no_more(picture: Picture) -> list[tf.Tensor]:
    return []


def _resized_end_squares(picture: Picture) -> list[tf.Tensor]:
    return [decode.resize(square, picture.size, picture.antialias) for square in end_squares(picture.decoded)]


def _diagonal(picture: Picture) -> list[tf.Tensor]:
    return [rot45.diagonal(picture.first)]


def _corners(picture: Picture) -> list[tf.Tensor]:
    wanted = decode.parse_eval_resize(picture.eval_resize, picture.size)
    return [decode.short_side_crop(picture.decoded, picture.size, wanted.short,
                                   lambda spare, corner=corner: spare * corner, picture.antialias, wanted.kernel)
            for corner in itertools.product((0.0, 1.0), repeat=2)]


def _another_crop(picture: Picture) -> list[tf.Tensor]:
    another = seeds.split(picture.seed, 2)[1]
    return [decode.resize_whole(picture.decoded, picture.size, picture.eval_resize, picture.antialias, another)]


TTA = {
    "none": Views("none", 1, 1, _no_more, tf.identity),
    "flip": Views("flip", 1, 2, _no_more, mirror),
    # iNat 2021, sixth place: the whole and the squares at the two ends of its long side (left and right of a
    # landscape, top and bottom of a portrait), and the mirror images of the three.
    "six": Views("six", 3, 6, _resized_end_squares, mirror),
    # Krizhevsky et al. 2012: centre and corners of the picture with its short side resized, and their mirror images.
    "ten": Views("ten", 5, 10, _corners, mirror),
    # iMet 2019: the mirror images of two random crops, which are one where the picture is no larger than they.
    "crops": Views("crops", 2, 2, _another_crop, mirrored),
    # Turtle Recall, fifth place: what its augmentation draws from.
    "rot45": Views("rot45", 2, len(rot45.VIEWS), _diagonal, rot45.expand),
    # iNat 2019, seventh place: squares around points of the picture's mask, half of them mirrored.
    "mask16": Views("mask16", mask_square.VIEWS, mask_square.VIEWS, _no_more, mask_square.mirror_last, of_mask=True),
}


def parse(name: str) -> Views:
    """The views of `--tta`; raises UserError for an unknown name."""
    if name not in TTA:
        raise errors.unknown("tta", name, TTA)
    return TTA[name]


def check(name: str, eval_resize: str, size: int) -> None:
    """Raises UserError for an unknown --tta, or one that these pictures do not allow."""
    wanted = decode.parse_eval_resize(eval_resize, size)
    if parse(name).on_host is _another_crop and not wanted.crop:
        raise errors.UserError(f"--tta={name} takes random crops: it needs eval_resize=crop:N, not {eval_resize}")
    if parse(name).on_host is _corners and (wanted.short is None or wanted.short <= size):
        raise errors.UserError(f"--tta={name} takes squares of {size} px out of the corners of a larger picture: it needs "
                               f"eval_resize=short:N with N above {size}, not {eval_resize}")


def host_views(encoded: tf.Tensor, size: int, views: Views, resize: str, box: Optional[tf.Tensor] = None,
               antialias: bool = True, seed: Optional[tf.Tensor] = None, mask: Optional[tf.Tensor] = None) -> tf.Tensor:
    """The views made on the host; the JPEG is decoded once.

    Args:
        encoded: string scalar, a JPEG.
        size: side of the views in pixels.
        views: from `parse`.
        resize: `--eval_resize`, see `decode.parse_eval_resize`.
        box: see `decode.window`; what it holds is treated as if it were the picture.
        antialias: see `decode.resize`.
        seed: int32 or int64 [2]; of `crop:PIXELS` and views of a mask.
        mask: for views of a mask, as mask_square.sixteen takes it; they heed no box.

    Returns:
        uint8 [views.crops, size, size, 3], RGB.
    """
    if views.of_mask:
        return mask_square.sixteen(encoded, mask, size, seed, antialias)
    image = decode.decode(encoded, box)
    first = decode.resize_whole(image, size, resize, antialias, seed)
    return tf.stack([first, *views.on_host(Picture(image, first, size, resize, antialias, seed))])
