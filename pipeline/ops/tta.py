"""Test-time augmentation: the views of one picture whose predictions are averaged."""

import dataclasses
import itertools
from typing import Callable, Optional

import tensorflow as tf

from pipeline import errors
from pipeline.ops import decode, mask_square, rot45


@dataclasses.dataclass(frozen=True)
class Views:
    """Which views there are, and who makes them: what the device can make need not be sent to it."""

    name: str
    crops: int    # views made on the host, the first of them the picture as evaluation sees it (but see of_mask)
    total: int    # after the device's part
    on_host: Callable[[tf.Tensor, tf.Tensor, int, str], list[tf.Tensor]]  # decoded, first view, size, eval_resize →
    #                                                                       the other crops
    on_device: Callable[[tf.Tensor], tf.Tensor]                      # [B, crops, S, S, C] → [B, total, S, S, C]
    of_mask: bool = False  # all crops are squares of mask_square, and none is the picture as evaluation sees it


def end_squares(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The left-or-top and the right-or-bottom square, of side min(H, W), of an image [H, W, C]."""
    shape = tf.shape(image)
    side = tf.minimum(shape[0], shape[1])
    return image[:side, :side], image[shape[0] - side:, shape[1] - side:]


def mirror(batch_of_views: tf.Tensor) -> tf.Tensor:
    """Appends to the views of each picture their left-right mirror images: [B, V, H, W, C] to [B, 2V, H, W, C]."""
    return tf.concat([batch_of_views, tf.reverse(batch_of_views, axis=[3])], axis=1)


def _no_more(decoded: tf.Tensor, first: tf.Tensor, size: int, eval_resize: str) -> list[tf.Tensor]:
    return []


def _resized_end_squares(decoded: tf.Tensor, first: tf.Tensor, size: int, eval_resize: str) -> list[tf.Tensor]:
    return [decode.resize(square, size) for square in end_squares(decoded)]


def _diagonal(decoded: tf.Tensor, first: tf.Tensor, size: int, eval_resize: str) -> list[tf.Tensor]:
    return [rot45.diagonal(first)]


def _corners(decoded: tf.Tensor, first: tf.Tensor, size: int, eval_resize: str) -> list[tf.Tensor]:
    short = decode.parse_eval_resize(eval_resize, size)
    return [decode.short_side_crop(decoded, size, short, lambda spare, corner=corner: spare * corner)
            for corner in itertools.product((0.0, 1.0), repeat=2)]


TTA = {
    "none": Views("none", 1, 1, _no_more, tf.identity),
    "flip": Views("flip", 1, 2, _no_more, mirror),
    # iNat 2021, sixth place: the whole and the squares at the two ends of its long side (left and right of a
    # landscape, top and bottom of a portrait), and the mirror images of the three.
    "six": Views("six", 3, 6, _resized_end_squares, mirror),
    # Krizhevsky et al. 2012: centre and corners of the picture with its short side resized, and their mirror images.
    "ten": Views("ten", 5, 10, _corners, mirror),
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
    short = decode.parse_eval_resize(eval_resize, size)
    if parse(name).on_host is _corners and (short is None or short <= size):
        raise errors.UserError(f"--tta={name} takes squares of {size} px out of the corners of a larger picture: it needs "
                               f"eval_resize=short:N with N above {size}, not {eval_resize}")


def host_views(encoded: tf.Tensor, size: int, views: Views, resize: str, box: Optional[tf.Tensor] = None,
               mask: Optional[tf.Tensor] = None, seed: Optional[tf.Tensor] = None) -> tf.Tensor:
    """The views made on the host; the JPEG is decoded once.

    Args:
        encoded: string scalar, a JPEG.
        size: side of the views in pixels.
        views: from `parse`.
        resize: `--eval_resize`, see `decode.parse_eval_resize`.
        box: see `decode.window`; what it holds is treated as if it were the picture.
        mask, seed: for views of a mask, as mask_square.sixteen takes them; they heed no box.

    Returns:
        uint8 [views.crops, size, size, 3], RGB.
    """
    if views.of_mask:
        return mask_square.sixteen(encoded, mask, size, seed)
    image = decode.decode(encoded, box)
    first = decode.resize_whole(image, size, resize)
    return tf.stack([first, *views.on_host(image, first, size, resize)])
