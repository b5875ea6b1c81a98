"""Losses of the geo prior: presences against points drawn at random, and the photographers' branch.

All take logits, work in float32 and give one value a record. With s = sigmoid(logit), −log s is written as
−log(s + EPSILON), as in the published code: no single record can then cost more than 11.5.
"""

from typing import Optional

import tensorflow as tf

EPSILON = 1e-5
AN_FULL_WEIGHT = 2048.0


def positive_weight(geo_loss: str, num_classes: int, told: Optional[float]) -> float:
    """λ, the weight of a record's own class: what was told, else the number of classes (presence) or 2048 (an_full).

    That weight is all that the two losses differ by: SINR's full assume-negative loss (Cole et al. 2023, eq. 4) is the
    location loss of Mac Aodha et al. 2019 with a constant λ.
    """
    if told is not None:
        return told
    return float(num_classes) if geo_loss == "presence" else AN_FULL_WEIGHT


def present(logits: tf.Tensor) -> tf.Tensor:
    """−log(s + ε)."""
    return -tf.math.log(tf.sigmoid(tf.cast(logits, tf.float32)) + EPSILON)


def absent(logits: tf.Tensor) -> tf.Tensor:
    """−log(1 − s + ε), as 1 − sigmoid(x) = sigmoid(−x)."""
    return present(-logits)


def location(labels: tf.Tensor, logits: tf.Tensor, weight: float) -> tf.Tensor:
    """Float32 [n]: the mean over classes of λ·(−log s) for the label and −log(1 − s) for every other class.

    Args: labels: int [n]; logits: [n, classes]; weight: λ.
    """
    own = tf.gather(logits, labels, batch_dims=1)
    others = tf.reduce_sum(absent(logits), axis=1) - absent(own)
    return (weight * present(own) + others) / logits.shape[1]


def random_location(logits: tf.Tensor) -> tf.Tensor:
    """Float32 [n]: the mean over classes of −log(1 − s) at points drawn at random; logits: [n, classes]."""
    return tf.reduce_mean(absent(logits), axis=1)


def photographer(logits: tf.Tensor, random_logits: tf.Tensor, weight: float, known: tf.Tensor) -> tf.Tensor:
    """Float32 [n]: −log s of each record's photographer at its place, −log(1 − s) of the same at a random point.

    Both times `weight`, which is λ / classes: 1 in the paper, where λ is the number of classes. With another λ the
    losses keep their balance; else the photographers drown the classes when λ is small.

    Args: logits, random_logits: [n], photographer · embedding; known: float [n], 0 where the photographer is unknown.
    """
    return weight * known * (present(logits) + absent(random_logits))


def photographer_of_solution(logits: tf.Tensor, photographers: int, weight: float, known: tf.Tensor) -> tf.Tensor:
    """Float32 [n]: `photographer` as in the code of iNat 2021's sixth place (alcunha/geo_prior_tf, FCNet.train_step).

    There −log(1 − s) is of the record's own place, where the paper has a random point, and both are means over all
    photographers, of which one alone counts: so they weigh little.

    Args: logits, known: as `photographer` has them; photographers: how many there are.
    """
    return photographer(logits, logits, weight / photographers, known)


def affinity(labels: tf.Tensor, logits: tf.Tensor, weight: float, known: tf.Tensor) -> tf.Tensor:
    """Float32 [n]: `location` of what photographers take pictures of; logits: [n, classes], photographer · class."""
    return known * location(labels, logits, weight)
