"""Where a served model looks: the class activation map of one of its networks, as a signature of the export."""

from typing import Callable, Optional, Sequence

import tensorflow as tf

from pipeline.errors import UserError
from pipeline.export.graph import BYTES, Member, pictures
from pipeline.export.networks import Loaded
from pipeline.models import activation_map

SIGNATURE, CLASSES, MAP = "look", "classes", "map"


def of(members: Sequence[Member]) -> Optional[Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]]:
    """(JPEGs, string [batch]; class indices, int32 [batch]) → {'map': float32 [batch, GRID, GRID] over the whole picture};
    of a gallery's individuals, which no head knows, all is 0.

    Of the first network of the heaviest member that has a feature map behind a plain head; None where none has.
    """
    for member in sorted(members, key=lambda one: -one.weight):
        for loaded in member.networks:
            if loaded.classifier.top.arcface:  # a head of cosines
                continue
            try:
                model = activation_map.MapModel(loaded.classifier, loaded.network.record["same"]["model"])
            except UserError:  # it has no feature map
                continue
            return _function(model, member, loaded)
    return None


def _function(model: activation_map.MapModel, member: Member, loaded: Loaded) -> Callable:
    size, antialias = loaded.network.size, loaded.network.stage.get("antialias", True)
    columns = None if member.columns is None else tf.constant(member.columns, tf.int32)
    count = loaded.model.output.shape[-1]

    @tf.autograph.experimental.do_not_convert
    def look(image_bytes: tf.Tensor, classes: tf.Tensor) -> dict[str, tf.Tensor]:
        # The whole picture, whatever the recipe cuts: the map is laid over all of it.
        images = pictures(image_bytes, size, "squash", antialias, "none")[:, 0]
        known = classes < count
        own = tf.where(known, classes, 0)
        own = own if columns is None else tf.gather(columns, own)
        _, features = model({"image": images, "place": tf.zeros([tf.shape(images)[0], 3])})
        grids = tf.image.resize(model.evidence(features, own)[..., tf.newaxis], [activation_map.GRID] * 2, "bilinear")
        return {MAP: tf.where(known[:, tf.newaxis, tf.newaxis], grids[..., 0], 0.0)}

    return tf.function(look, input_signature=[tf.TensorSpec([None], tf.string, BYTES),
                                              tf.TensorSpec([None], tf.int32, CLASSES)])
