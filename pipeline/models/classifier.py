"""The classifier: scaling → base → pooling (→ embedding) → our head, and which of its layers train."""

import difflib
from dataclasses import dataclass
from typing import Optional

import tensorflow as tf

from pipeline.errors import UserError
from pipeline.models import arcface, draws, pooling, weights as weights_from, zoo
from pipeline.models.scaling import Scaling
from pipeline.models.top import ArcFace, Top
from pipeline.models.trained_layers import PROBE, parse_train

PLACE_UNITS = 4  # iNat 2021, sixth place: two Dense(4)
HEAD_INITS = {
    "glorot": tf.keras.initializers.GlorotUniform,
    # He et al. 2015, as PyTorch's kaiming_normal_: standard deviation √(2 / features).
    "kaiming": lambda seed: tf.keras.initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal", seed),
}


@dataclass
class Classifier:
    """model: {"image": [B, size, size, 3], "place": [B, 3] where asked for} → [B, num_classes] float32 logits.

    base ("base", a nested model without a top), head ("head", a Dense, or arcface.CosineHead) and place ("place_branch", a
    nested model, or None) are its parts: tf.train.Checkpoint(base=…, head=…) of one size restores at another. top: what
    stands on the base.
    """

    model: tf.keras.Model
    base: tf.keras.Model
    head: tf.keras.layers.Layer
    place: Optional[tf.keras.Model] = None
    top: Top = Top()

    @property
    def likeness(self) -> tf.Tensor:
        """What tells how much alike pictures are, [B, D] float32: the embedding, or where there is none what was pooled."""
        return self.model.get_layer(arcface.EMBEDDING if self.top.arcface else pooling.NAME).output


@tf.keras.utils.register_keras_serializable(package="fieldmark")
class KnownPlace(tf.keras.layers.Layer):
    """[B, 3] (latitude / 90, longitude / 180, valid 0 or 1) → [B, 2] float32; no place is (0, 0).

    (Some are dropped in training: records.training_picture.training_place.)
    """

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, place: tf.Tensor) -> tf.Tensor:
        # where, not a product: a record without a place may hold NaN.
        return tf.where(place[:, 2:3] > 0, place[:, :2], 0.0)


def build(
    name: str,
    size: int,
    num_classes: int,
    weights: str = "none",
    base_training: bool = True,
    place_input: bool = False,
    dropout: float = 0.0,
    seed: int = 0,
    scaling: Optional[str] = None,
    channel_dropout: float = 0.0,
    head_init: str = "glorot",
    top: Top = Top(),
) -> Classifier:
    """A classifier of pictures of size × size px.

    The model takes a dict: "image" [B, size, size, 3] uint8 or float, 0–255, and with `place_input` "place" [B, 3]
    float32 (latitude / 90, longitude / 180, valid); it returns float32 logits [B, num_classes].

    weights: "none", the library's own name, or a path to an .h5 file (`weights.resolve`).
    base_training: False calls the whole base in inference mode, so that BatchNorm's statistics stay and its dropout is
        off even where its layers train (see `needs_base_training`).
    dropout: share of the pooled features (and of what the place adds) that each training step drops before the head, or
        before the embedding.
    seed: all initial values depend on it alone: tf.keras.utils.set_random_seed(seed) is called here, since the
        libraries' initializers have no seeds of their own. That resets the global generators of Python, NumPy and
        TensorFlow.
    scaling: a mode of scaling.MODES (or one's own, scaling.of_pixels) instead of the one that belongs to the weights.
    channel_dropout: share of the last feature map's channels that each training step drops whole, for each picture its own.
    head_init: of the head's kernel, a key of HEAD_INITS.
    top: pooling and head.
    """
    spec = zoo.find(name)
    source = weights_from.resolve(name, spec, weights)
    scaling_layer = Scaling(scaling or source.scaling, name="scaling")
    if source.path is not None:
        weights_from.check_h5(source.path)
    tf.keras.utils.set_random_seed(seed)
    if source.library is None:
        base = zoo.build_base(name, size)
    else:
        with weights_from.download(name, source.library):
            base = zoo.build_base(name, size, source.library)

    # float32, also for pictures of bytes: a functional model casts what it gets to the dtype of its input.
    image = tf.keras.Input((size, size, 3), dtype="float32", name="image")
    pixels = scaling_layer(image)
    features = base(pixels) if base_training else base(pixels, training=False)
    features = pooling.pool(features, top.pool, channel_dropout, seed)
    inputs, place_branch = {"image": image}, None
    if place_input:
        inputs["place"] = tf.keras.Input((3,), dtype="float32", name="place")
        place_branch = _place_branch()
        joined = tf.keras.layers.Concatenate(dtype="float32", name="features_and_place")
        features = joined([features, place_branch(inputs["place"])])
    head = _head(num_classes, head_init, seed, top.arcface)
    # There at a rate of 0 too, so that a checkpoint fits whatever the rate was.
    features = tf.keras.layers.Dropout(dropout, seed=seed, dtype="float32", name="dropout")(features)
    if top.arcface:
        features = arcface.embed(features, top.arcface, seed)
    model = tf.keras.Model(inputs, head(features), name="classifier")
    draws.by_step(model)
    if source.path is not None:
        zoo.load_file(name, source.path, base, None if top.arcface else head)
    return Classifier(model, base, head, place_branch, top)


def _head(num_classes: int, head_init: str, seed: int, arcface_settings: Optional[ArcFace]) -> tf.keras.layers.Layer:
    initializer = HEAD_INITS[head_init](seed)
    if arcface_settings:
        return arcface.CosineHead(num_classes, arcface_settings.scale, arcface_settings.subcentres, initializer,
                                  dtype="float32", name="head")
    return tf.keras.layers.Dense(num_classes, dtype="float32", name="head", kernel_initializer=initializer)


def _place_branch() -> tf.keras.Model:
    """[B, 3] place → [B, 4] float32: two Dense-BatchNorm-ReLU (iNat 2021, sixth place)."""
    place = tf.keras.Input((3,), dtype="float32")
    nn = KnownPlace(name="known_place")(place)
    for n in (1, 2):
        nn = tf.keras.layers.Dense(PLACE_UNITS, dtype="float32", name=f"place_dense{n}")(nn)
        nn = tf.keras.layers.BatchNormalization(dtype="float32", name=f"place_bn{n}")(nn)
        nn = tf.keras.layers.ReLU(dtype="float32", name=f"place_relu{n}")(nn)
    return tf.keras.Model(place, nn, name="place_branch")


def synchronize_batch_norm(classifier: Classifier) -> None:
    """Makes every BatchNorm take its training statistics over all replicas of the strategy in scope; with one, nothing.

    The libraries build their layers themselves, so this sets what Keras' `BatchNormalization(synchronized=True)` sets.
    The moving variance then moves towards the batch's own, where the fused layer's goes to n / (n − 1) times that. Call
    it before the step is traced.
    """
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return
    for layer in classifier.model.submodules:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.synchronized, layer.fused = True, False  # the fused operation knows one replica


def needs_base_training(train: str) -> bool:
    """The `base_training` to build with for a stage's `train`.

    probe, head and last:N keep BatchNorm's statistics (the whole base runs in inference mode, as in the iNat 2021 solution);
    all and from:LAYER update them, in the layers that train.
    """
    return parse_train(train)[0] in ("all", "from")


def set_trainable(classifier: Classifier, train: str, freeze_place: bool = False) -> bool:
    """Marks what trains: "head" and "probe" (nothing of the base), "all", "last:N" layers of the base, "from:LAYER" of the base on.

    The head always trains, and so does a place branch unless freeze_place keeps its weights and its BatchNorm's
    statistics as they are. Call it before the step is traced. Returns needs_base_training(train), which the classifier
    must have been built with.
    """
    if classifier.place is not None:
        classifier.place.trainable = not freeze_place
    layers = classifier.base.layers
    first = first_trained(layers, train)
    classifier.base.trainable = first < len(layers)  # sets every layer of it, so this comes first
    for layer in layers[:first]:
        layer.trainable = False
    return needs_base_training(train)


def first_trained(layers: list[tf.keras.layers.Layer], train: str) -> int:
    """The position of the first layer of a base that `train` trains; raises UserError where there is no such layer."""
    kind, argument = parse_train(train)
    if kind == "last":
        if int(argument) > len(layers):
            raise UserError(f"train={train!r}: the base has {len(layers)} layers only")
        return len(layers) - int(argument)
    if kind == "from":
        return position(layers, argument, f"train={train!r}")
    return len(layers) if kind in (PROBE, "head") else 0


def position(layers: list[tf.keras.layers.Layer], name: str, setting: str) -> int:
    """The position of the layer `name`; raises UserError that begins with the setting and lists names near it."""
    names = [layer.name for layer in layers]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=8, cutoff=0.4)
        hint = f"near it: {', '.join(near)}" if near else f"it has {names[1]} to {names[-1]}"
        raise UserError(f"{setting}: the base has no layer {name!r}; {hint}")
    return names.index(name)
