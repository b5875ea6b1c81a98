"""An export without a network, for tests of what is served: three classes, which the mean red, green and blue of a picture
are for. What place and date say is a formula too."""

import types

import numpy as np
import tensorflow as tf

from pipeline.export import description as descriptions, graph
from pipeline.export.description import Description
from pipeline.export.networks import Loaded, Network
from pipeline.export.ranked import Ranked
from pipeline.records.schema import ClassInfo

CLASSES = (
    ClassInfo(0, "r", "Red one", 5, taxonomy={"family": "Warm", "genus": "Fire", "species": "Red one"}),
    ClassInfo(1, "g", "Green one", 4, taxonomy={"family": "Cold", "genus": "Leaf", "species": "Green one"}),
    ClassInfo(2, "b", "Blue – çé", 3, taxonomy={"family": "Cold", "genus": "Sea", "species": "Blue – çé"}))
SIZE = 8
SHARPNESS = 20.0  # levels that make a class e times as probable


def logits(pixels):
    """Of float [..., height, width, 3]: [..., 3]."""
    return pixels.mean(axis=(-3, -2)) / SHARPNESS


def network(views="none", place_input=False, multiplier=1.0, several=False):
    """A Loaded whose step is `logits` times a multiplier, with the direction of the mean colour as features; one that takes
    places adds 2 to the second in the north."""
    stage = {"eval_resize": "squash", "antialias": True}
    record = {"same": {"place_input": place_input, "stages": {"all": stage}, "stage_order": ["all"]}}
    scale = tf.Variable(float(multiplier))

    def step(batch):
        colour = tf.reduce_mean(tf.cast(batch["image"], tf.float32), axis=[1, 2, 3])
        means = colour / SHARPNESS * scale
        if place_input:
            means += tf.constant([0.0, 2.0, 0.0]) * tf.cast(batch["place"][:, :1] > 0, tf.float32)
        return tf.math.log_sigmoid(means - 5.0) if several else tf.nn.log_softmax(means), tf.math.l2_normalize(colour, -1)

    classifier = types.SimpleNamespace(model=types.SimpleNamespace(variables=[scale]))
    return Loaded(Network("run", None, ("run/best",), views, SIZE, record), classifier, step)


def place_logs(latitude, longitude, date):
    """In the north the first class, in the south the third; in the second half of the year neither."""
    north = tf.where(tf.math.is_finite(latitude), latitude, 0.0)[:, tf.newaxis] / 30.0
    logs = tf.concat([north, tf.zeros_like(north), -north], axis=1)
    return tf.nn.log_softmax(tf.where(date[:, tf.newaxis] > 0.5, 0.0, logs))


def ranked(known=(True, True, True), rule="first", **several):
    texts = [(*(getattr(one, name) for one in CLASSES), "") for name in ("source_id", "name")]
    texts = [(*one[:-1], "" if all(known) else "stranger") for one in texts]
    return Ranked(*texts, np.array(known), rule, **several)


def write(folder, members=None, on_top=graph.OnTop(place_logs=place_logs, date=True), of_ranked=None, **changes):
    """Writes it as export.py would; returns its description."""
    of_ranked = of_ranked or ranked()
    classes = tuple(ClassInfo(one.index, one.source_id, one.name, one.train_count, bool(known), one.taxonomy)
                    for one, known in zip(CLASSES, of_ranked.known))
    told = Description(**{**dict(
        competition="colours", kind="single_label", exclusive=of_ranked.threshold is None, classes=classes,
        unknown_answer=of_ranked.ids[-1], open_set=of_ranked.rule, threshold=of_ranked.threshold, answers=of_ranked.answers,
        place=True, date=True, max_side=0, short_side=0, license="", members=[], on_top={}, seen=[], scores={}, versions={}),
        **changes})
    served = graph.Served(members or [graph.Member([network()], 1.0)], on_top, of_ranked)
    tf.saved_model.save(served, str(folder), signatures=served.signatures)
    descriptions.write(str(folder), told)
    return told
