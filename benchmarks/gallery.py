"""How well individuals are recognized that an export got by photos: python -m benchmarks.gallery --data_dir=… --model_dir=…

--model_dir is a run of train=probe on the records' train: its features are taken as they stand. Each draw leaves some classes
out, and a third of all other pictures. What is left trains a probe; of each class that was left out some photos are added as
export.py --gallery adds them. Told is top-1 over what was kept: the known classes' pictures, without and with the gallery, and
the added ones' other pictures. Neither the probe nor a mean has seen what is scored.
"""

import glob
import os

from absl import flags
import numpy as np

from pipeline import command
from pipeline.errors import UserError
from pipeline.flag_types import define_float, define_path, require

FLAGS = flags.FLAGS
define_path("data_dir", "Folder of shards, as create_tfrecords.py makes it.")
define_path("model_dir", "Folder of a run of one stage train=probe on them.")
flags.DEFINE_integer("draws", 20, "How many times others are left out.", 2)
flags.DEFINE_integer("left_out", 8, "Classes that each leaves out.", 1)
flags.DEFINE_multi_integer("photos", [1, 3, 5], "Photos of each of those that are added; repeated.", 1)
define_float("C", 0.01, "scikit-learn's C of the probes, of features of mean 0 and deviation 1.")
LEAST_SCORED = 3  # of a class that is left out

COLUMNS = ("known, before", "known", "added")


def read_features() -> tuple[np.ndarray, np.ndarray]:
    """(features float32 [n, D], classes int [n]) of train."""
    from pipeline.records import dataset

    folder = os.path.join(glob.escape(FLAGS.model_dir), "stage_1_*", "features")
    rows, features = (np.concatenate([np.load(one) for one in sorted(glob.glob(os.path.join(folder, f"{kind}-*.npy")))])
                      for kind in ("rows", "features"))
    labels = dataset.load(FLAGS.data_dir).examples("train").set_index("row").loc[rows, "labels"]
    return features, np.array([one[0] for one in labels])


def probe(features: np.ndarray, classes: np.ndarray, count: int):
    """A function of features: probabilities [n, count]."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=FLAGS.C, max_iter=500)).fit(features, classes)

    def predict(some: np.ndarray) -> np.ndarray:
        found = np.zeros((len(some), count))
        found[:, fitted.classes_] = fitted.predict_proba(some)
        return found

    return predict


def possible_ones(classes: np.ndarray) -> np.ndarray:
    """The classes with pictures enough to be left out. Raises UserError where there are too few of them."""
    found = np.flatnonzero(np.bincount(classes) >= max(FLAGS.photos) + LEAST_SCORED)
    if len(found) < FLAGS.left_out or len(np.unique(classes)) < FLAGS.left_out + 2:
        raise UserError(f"--left_out={FLAGS.left_out}: of {len(np.unique(classes))} classes {len(found)} have "
                        f"{max(FLAGS.photos) + LEAST_SCORED} pictures, and two are to stay")
    return found


def score(features: np.ndarray, classes: np.ndarray, photos: int, seed: int) -> tuple[float, float, float]:
    """Of one draw, see COLUMNS."""
    import tensorflow as tf
    from pipeline.export import by_likeness
    from pipeline.prediction import neighbours

    random, count = np.random.default_rng(seed), classes.max() + 1
    added = random.permutation(possible_ones(classes))[:FLAGS.left_out]
    known = random.permutation(np.flatnonzero(~np.isin(classes, added)))
    trained, kept = np.split(known, [2 * len(known) // 3])
    of_added = [random.permutation(np.flatnonzero(classes == one)) for one in added]
    gallery, asked = (np.concatenate([one[part] for one in of_added]) for part in (slice(photos), slice(photos, None)))

    unit = neighbours.unit(features)
    means = [by_likeness.means(unit[some], classes[some]) for some in (trained, gallery)]
    centres = by_likeness.Centres(tf.Variable(np.concatenate(means)), unit[gallery], len(added))
    predict = probe(features[trained], classes[trained], count)

    def right(some: np.ndarray) -> float:
        shares = centres.shares(tf.constant(unit[some])).numpy()
        found = predict(features[some]) * shares[:, -1:]
        found[:, np.sort(added)] = shares[:, :-1]
        return float((found.argmax(axis=1) == classes[some]).mean())

    return float((predict(features[kept]).argmax(axis=1) == classes[kept]).mean()), right(kept), right(asked)


def main() -> None:
    require("data_dir", "model_dir")
    features, classes = read_features()
    print(f"| photos of each | {' | '.join(COLUMNS)} |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for photos in FLAGS.photos:
        found = np.array([score(features, classes, photos, seed) for seed in range(FLAGS.draws)])
        cells = [f"{mean:.3f} ± {deviation:.3f}" for mean, deviation in zip(found.mean(axis=0), found.std(axis=0, ddof=1))]
        print(f"| {photos} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    command.run(main)
