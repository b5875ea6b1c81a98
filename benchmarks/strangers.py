"""Whether what is told out of fold of strangers comes true: python -m benchmarks.strangers --data_dir=… --weights=…

Each draw leaves some individuals outside the known set out of everything, and a part of all other pictures for scoring.
What is left is trained by folds that leave classes out whole (--hold_out_classes) as linear probes, and the rule of the
open set is fitted on their predictions: that tells what to expect where a share of the pictures is of strangers. True is
what the mean of the folds scores by that rule on the known classes' pictures that were kept and on all pictures of the
individuals that were left out, in the same mixture. The features of all pictures are computed once, by
multi_stage_train.py; a draw takes seconds.
"""

import dataclasses
import glob
import os
import subprocess
import sys
from typing import Any

from absl import flags

from pipeline import command, files
from pipeline.flag_types import define_float, define_path, require

FLAGS = flags.FLAGS
define_path("data_dir", "Folder in Turtle Recall's layout.")
define_path("weights", "An .h5 file of ImageNet weights of kecam/EfficientNetV1Lite0.")
define_path("out_dir", "Where records and features go [runs/benchmark_strangers].")
flags.DEFINE_integer("draws", 10, "How many times others are left out.", 1)
flags.DEFINE_integer("left_out", 10, "Individuals that each leaves out.", 2)
flags.DEFINE_integer("folds", 5, "Folds.", 2)
flags.DEFINE_integer("size", 224, "Pixels, height = width.", 32)
define_float("hold_out_classes", 0.2, "As of multi_stage_train.py.", high=0.5)
define_float("stranger_share", 1 / 3, "Of the pictures, in the mixture.", high=1.0)
flags.DEFINE_integer("parts", 4, "Into so many parts the other pictures are divided; each in turn is kept for scoring.", 2)
define_float("C", 0.1, "scikit-learn's C of the probes; train=probe found this by cross-validation in most such folds.")

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COLUMNS = ("told", "true", "told, first", "true, first", "plain, first", "true, known", "true, new")


def run(script: str, *arguments: str) -> None:
    """One of the commands; ends this one with its exit code where it fails."""
    code = subprocess.run([sys.executable, os.path.join(ROOT, script), *arguments], cwd=ROOT, check=False).returncode
    if code:
        sys.exit(code)


def prepare(folder: str) -> tuple[Any, Any, Any]:
    """(dataset, features float32 [n, features], a DataFrame of their pictures)."""
    import numpy as np
    from pipeline.records import dataset

    records, model_dir = os.path.join(folder, "records"), os.path.join(folder, f"features_{FLAGS.size}")
    if not files.exists(os.path.join(model_dir, "stage_1_probe", "DONE")):
        run("create_tfrecords.py", "--competition=turtle_recall", f"--data_dir={FLAGS.data_dir}", f"--out_dir={records}",
            f"--folds={FLAGS.folds}")
        run("multi_stage_train.py", f"--data_dir={records}", f"--model_dir={model_dir}", "--model=kecam/EfficientNetV1Lite0",
            f"--weights={FLAGS.weights}", f"--stage=name=probe,size={FLAGS.size},train=probe", "--batch_size=32")
    rows, features = (np.concatenate([np.load(one) for one in sorted(glob.glob(os.path.join(
        glob.escape(model_dir), "stage_1_probe", "features", f"{kind}-*.npy")))]) for kind in ("rows", "features"))
    data = dataset.load(records)
    examples = data.examples("train").set_index("row").loc[rows].reset_index()
    return data, features, examples


class Draw:
    """One time that individuals are left out, with one of the parts kept for scoring.

    Attributes:
      classes: those that are left; labels are positions among them, −1: left out.
      pool: bool [pictures], what is trained on and told from; scored: bool, of the classes that are left.
    """

    def __init__(self, data: Any, features: Any, examples: Any, seed: int, part: int):
        import numpy as np

        random = np.random.default_rng(seed)
        extra = [one.index for one in data.manifest.classes if not one.known]
        left_out = random.choice(extra, FLAGS.left_out, replace=False)
        self.classes = [one for one in data.manifest.classes if one.index not in left_out]
        position = {one.index: place for place, one in enumerate(self.classes)}
        self.labels = np.array([position.get(one[0], -1) for one in examples["labels"]])
        self.features, self.examples = features, examples
        self.scored = (random.permutation(len(examples)) % FLAGS.parts == part) & (self.labels >= 0)
        self.pool = (self.labels >= 0) & ~self.scored
        counts = np.bincount(self.labels[self.pool], minlength=len(self.classes)).tolist()
        self.classes = [dataclasses.replace(one, index=place, train_count=counts[place])
                        for place, one in enumerate(self.classes)]
        self.manifest = dataclasses.replace(data.manifest, classes=tuple(self.classes))
        self.known = np.array([one.known for one in self.classes])

    def measure(self) -> dict[str, float]:
        """COLUMNS."""
        import numpy as np
        from pipeline.answers import open_set_fit
        from pipeline.answers.open_set_rules import Rule
        from pipeline.runs import strangers

        folds, left_out = self.examples["fold"].to_numpy(), strangers.by_fold(self.manifest, FLAGS.hold_out_classes)
        first = strangers.first_folds(left_out)
        parts, total = [], 0.0
        for fold, classes in left_out.items():
            logs = self._logs(self.pool & (folds != fold) & ~np.isin(self.labels, classes))
            own = np.array([first.get(label) == fold and label not in left_out[of] for label, of in zip(self.labels, folds)])
            asked = self.pool & ((folds == fold) | own)
            parts.append(open_set_fit.of_fold(logs[asked], self.labels[asked], self.known, classes))
            total = total + np.exp(logs) / FLAGS.folds
        pictures = open_set_fit.joined(parts)
        fitted = open_set_fit.fit(pictures, FLAGS.stranger_share)
        true = self._scored(np.log(total))
        means = true.means(true.precisions(fitted.rule))
        plain = pictures.precisions(Rule("first"))[pictures.kinds != open_set_fit.KINDS.index(open_set_fit.UNSEEN)]

        def mixed(of: open_set_fit.Pictures) -> float:
            return open_set_fit.mix(of.means(of.precisions(Rule("first"))), FLAGS.stranger_share)

        return {"rule": str(fitted.rule), "pictures": "/".join(map(str, true.counts().values())),
                "from": "/".join(map(str, pictures.counts().values())),
                **dict(zip(COLUMNS, (fitted.expected, open_set_fit.mix(means, FLAGS.stranger_share), mixed(pictures),
                                     mixed(true), plain.mean(), means[open_set_fit.KNOWN], means[open_set_fit.UNSEEN])))}

    def _scored(self, logs: Any) -> Any:
        """open_set_fit.Pictures of the known classes' pictures that were kept and of the individuals that were left out."""
        import numpy as np
        from pipeline.answers import open_set, open_set_fit

        new = self.labels < 0
        asked = new | (self.scored & self.known[self.labels])
        kinds = np.where(new, open_set_fit.KINDS.index(open_set_fit.UNSEEN), open_set_fit.KINDS.index(open_set_fit.KNOWN))
        return open_set_fit.Pictures(
            open_set.Best.of(logs[asked], self.known, open_set_fit.ANSWERS),
            np.where(new, open_set.UNKNOWN, self.labels)[asked], kinds[asked], self.labels[asked])

    def _logs(self, trained: Any) -> Any:
        """Log-probabilities [pictures, classes] of a probe of some of the pictures, rounded as predictions are."""
        import numpy as np
        import scipy.sparse
        import scipy.special
        import threadpoolctl
        from pipeline.tasks.task import SOFTMAX
        from pipeline.training import logistic

        rows = np.flatnonzero(trained)
        targets = scipy.sparse.csr_matrix((np.ones(len(rows)), (range(len(rows)), self.labels[rows])),
                                          (len(rows), len(self.classes)))
        mean, deviation = self.features[rows].mean(axis=0), self.features[rows].std(axis=0)
        standard = ((self.features - mean) / np.where(deviation > 1e-6, deviation, np.inf)).astype(np.float64)
        with threadpoolctl.threadpool_limits(1, "blas"):
            # The optimum lies in what the pictures span, of which there are fewer than features: the same fit, and cheaper.
            spanned = standard @ np.linalg.qr(standard[rows].T)[0]
            logits = logistic.fit(spanned[rows], targets, SOFTMAX, FLAGS.C, 1e-3).logits(spanned)
        return scipy.special.log_softmax(logits, axis=1).astype(np.float16).astype(np.float64)


def tell(table: Any) -> None:
    """Prints a line for each draw, the mean of its parts, and what is to be seen in all of them."""
    print("| draw | rules | " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * (2 + len(COLUMNS)))
    draws = table.groupby("draw")[list(COLUMNS)].mean()
    for draw, one in draws.iterrows():
        rules = ", ".join(table["rule"][table["draw"] == draw])
        print(f"| {draw} | {rules} | " + " | ".join(f"{value:.3f}" for value in one) + " |")
    print("| mean | | " + " | ".join(f"{value:.3f}" for value in draws.mean()) + " |")
    print(f"pictures (known/seen/unseen strangers): told from {table['from'][0]}, true of {table['pictures'][0]} and the like")
    for name, told, true in (("fitted", "told", "true"), ("first", "told, first", "true, first"),
                             ("first, plainly", "plain, first", "true, first")):
        for of, values in (("draws", draws), ("draws and parts", table)):
            apart = values[told] - values[true]
            print(f"{name}, of {len(apart)} {of}: told less true {apart.mean():+.4f} on average, {apart.abs().mean():.4f} "
                  f"apart on average, {apart.abs().max():.4f} at most")


def main() -> None:
    require("data_dir", "weights")
    import pandas as pd

    folder = FLAGS.out_dir or os.path.join(ROOT, "runs", "benchmark_strangers")
    files.make_dirs(folder)
    prepared = prepare(folder)
    command.begin_work()
    rows = []
    for seed in range(FLAGS.draws):
        for part in range(FLAGS.parts):
            rows.append({"draw": seed, "part": part, **Draw(*prepared, seed, part).measure()})
            print(rows[-1], file=sys.stderr)
    tell(pd.DataFrame(rows))


if __name__ == "__main__":
    command.run(main)
