"""A gallery's individuals in the graph of an export: what of an answer is theirs, by whether a picture looks more like their
photos or like what the networks were trained on. Nothing is trained.

A class, and an individual, is the mean of its pictures' features (Mensink et al. 2013, "Distance-based image classification:
generalizing to new classes at near-zero cost"; Snell et al. 2017, "Prototypical networks"); a picture is shared out among them
by the cosines. What falls to an individual is its probability; what falls to the networks' classes together stays divided among
those as the networks say.
"""

import dataclasses
from typing import Iterator, Sequence

import numpy as np
import tensorflow as tf

from pipeline.errors import UserError, WorkError
from pipeline.export import graph
from pipeline.export.gallery import Gallery
from pipeline.export.networks import Loaded
from pipeline.ops import tta
from pipeline.prediction import likeness, loading, neighbours
from pipeline.records import dataset as datasets
from pipeline.runs import run as runs

TEMPERATURE = 0.03  # of the cosines; docs/use.md tells on what it was chosen
_AT_ONCE = 16       # photos


@dataclasses.dataclass(frozen=True)
class Centres:
    """What a network compares a picture with.

    Attributes:
      means: float32 [classes + individuals, D], of length 1: of those classes that it was trained on, then of the gallery's
        individuals.
      photos: float32 [photos, D], of length 1, in the gallery's order.
      individuals: how many.
    """

    means: tf.Variable
    photos: np.ndarray
    individuals: int

    def shares(self, features: tf.Tensor) -> tf.Tensor:
        """float32 [n, D] of length 1 → [n, individuals + 1], 1 in all; last what falls to the network's classes."""
        return self._shared(tf.matmul(features, self.means, transpose_b=True))

    def shares_of_photos(self, gallery: Gallery) -> np.ndarray:
        """Those of the gallery's own photos, [photos, individuals + 1], of each as if it were not in it."""
        cosines = self.photos @ self.means.numpy().T
        of_each = np.array([position for position, _ in gallery.flat])
        sums = np.zeros((self.individuals, self.photos.shape[1]), np.float32)
        np.add.at(sums, of_each, self.photos)
        own = self.means.shape[0] - self.individuals + of_each
        cosines[np.arange(len(own)), own] = (self.photos * neighbours.unit(sums[of_each] - self.photos)).sum(axis=1)
        return self._shared(tf.constant(cosines)).numpy()

    def _shared(self, cosines: tf.Tensor) -> tf.Tensor:
        parts = tf.nn.softmax(cosines / TEMPERATURE)
        known, added = parts[:, :-self.individuals], parts[:, -self.individuals:]
        shares = tf.concat([added, tf.reduce_sum(known, axis=1, keepdims=True)], axis=1)
        return (1 - neighbours.FLOOR) * shares + neighbours.FLOOR / (self.individuals + 1)


def centres(members: Sequence[graph.Member], data: datasets.Dataset, gallery: Gallery) -> list[list[Centres]]:
    """Of each member's networks; the features of what they were trained on are computed where none stand in their folders.
    Raises UserError where likeness would depend on the place, which a photo of a gallery has not; WorkError."""
    if any(one.classifier.top.arcface and one.network.takes_place for member in members for one in member.networks):
        raise UserError("--gallery: the embedding of --loss=arcface with --place_input depends on the place, which is not of an "
                        "individual: export a model without one of the two")
    return [[_of_network(one, data, gallery) for one in member.networks] for member in members]


def _of_network(loaded: Loaded, data: datasets.Dataset, gallery: Gallery) -> Centres:
    network = loaded.network
    reading = likeness.Reading(network.size, tta.parse(network.views), _AT_ONCE, tf.distribute.get_strategy())
    part = loading.trained_part(data, network.record["same"], network.fold, "--gallery")
    stage_dir = runs.last_stage_dir(network.model_dir, network.fold, network.record)
    rows, found = likeness.trained_features(loaded.classifier, part, network.fold, network.record, reading, stage_dir)
    labels = part.examples().set_index("row").loc[rows, "labels"]
    labelled = np.array([len(one) > 0 for one in labels])
    individuals, encoded = zip(*gallery.flat)
    photos = np.concatenate(list(_features(loaded, encoded)))
    if not np.isfinite(photos).all():
        raise WorkError(f"--gallery: {network.model_dir}'s features of the photos are no numbers: is --precision too coarse?")
    found = found if labelled.all() else found[labelled]  # which would be a second copy
    of_all = np.concatenate([means(found, np.array([one[0] for one in labels[labelled]])), means(photos, np.array(individuals))])
    return Centres(tf.Variable(of_all, trainable=False), photos, len(gallery.names))


def means(features: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """float32 [n, D] and int [n] → [groups, D] of length 1, of those groups that there are, in order."""
    there, positions = np.unique(groups, return_inverse=True)
    sums = np.zeros((len(there), features.shape[1]), np.float32)
    np.add.at(sums, positions, features)
    return neighbours.unit(sums)


def _features(loaded: Loaded, photos: Sequence[bytes]) -> Iterator[np.ndarray]:
    """float32 [some photos, D] of length 1."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    @tf.autograph.experimental.do_not_convert
    def of_some(encoded: tf.Tensor) -> tf.Tensor:
        images = graph.pictures(encoded, *loaded.network.preparation)
        return loaded.step({"image": images, "place": tf.zeros([tf.shape(encoded)[0], 3])})[1]

    for start in range(0, len(photos), _AT_ONCE):
        yield of_some(tf.constant(photos[start:start + _AT_ONCE])).numpy()


def recognized(members: Sequence[graph.Member], found: Sequence[Sequence[Centres]], gallery: Gallery) -> tuple[int, int]:
    """(Of the photos that have others of the same individual, those that are recognized by the others; how many have some.)
    One is, where more falls to its individual than to any other and than to all that the networks were trained on."""
    shares = sum(one.shares_of_photos(gallery) * (member.weight / len(several))
                 for member, several in zip(members, found) for one in several)
    of_each = np.array([position for position, _ in gallery.flat])
    asked = np.bincount(of_each)[of_each] > 1
    return int((shares.argmax(axis=1) == of_each)[asked].sum()), int(asked.sum())
