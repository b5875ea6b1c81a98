"""Squares around points of a mask beside boxes, out of fold, on a small network: python -m benchmarks.masks --data_dir=…

iNat 2019's seventh place trains its fine model on squares around points of a mask and averages sixteen of them in prediction
(--augment=mask, --tta=mask16); the other way is crops of the box of the same map (--augment=inception, --tta=flip). A coarse
model by folds makes masks and boxes, of each picture by the fold that did not see it; then each seed has a fine model by folds
of each way, which share all but these flags. The recipes are configs/lite0/inat2019_coarse.flags and inat2019_fine.flags, made
cheaper: the coarse model is its head alone, the fine ones are smaller and shorter. Only train is read, and what is scored is
out of fold. The same command goes on where it was interrupted; OUT_DIR/results.csv has what stands.
"""

import os
import subprocess
import sys
from typing import Sequence

from absl import flags

from pipeline import command, files
from pipeline.flag_types import define_path, require

FLAGS = flags.FLAGS
define_path("data_dir", "Folder in iNat 2019's layout.")
define_path("weights", "An .h5 file of ImageNet weights of kecam/EfficientNetV1Lite0.")
define_path("out_dir", "Where records, models and results.csv go [runs/benchmark_masks].")
flags.DEFINE_integer("folds", 3, "Folds of train, each held out once.", 2)
flags.DEFINE_integer("seeds", 3, "Seeds of the fine models.", 1)
flags.DEFINE_integer("size", 128, "Pixels, height = width.", 32)
flags.DEFINE_integer("coarse_epochs", 3, "Epochs of the coarse model, of its head alone.", 1)
flags.DEFINE_integer("head_epochs", 2, "Epochs of the fine models' heads.", 1)
flags.DEFINE_integer("last_epochs", 3, "Epochs of the fine models' last layers.", 1)
flags.DEFINE_integer("last_layers", 20, "So many layers of the base.", 1)

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COARSE, FINE = (os.path.join(ROOT, "configs", "lite0", f"inat2019_{name}.flags") for name in ("coarse", "fine"))
BOXES = "coarse"
WAYS = {"boxes": ("--augment=inception", "--tta=flip"), "masks": ("--augment=mask", "--tta=mask16")}


def run(script: str, *arguments: str) -> None:
    """One of the commands; ends this one with its exit code where it fails."""
    code = subprocess.run([sys.executable, os.path.join(ROOT, script), *arguments], cwd=ROOT, check=False).returncode
    if code:
        sys.exit(code)


def train(recipe: str, records: str, model_dir: str, seed: int, head_epochs: int, last_epochs: int, *arguments: str) -> None:
    """By folds; validated once a stage, so that the last epoch is what counts."""
    stages = (f"name=head,epochs={head_epochs},size={FLAGS.size},lr=0.003,validate_every={head_epochs},train=head",
              f"name=last,epochs={last_epochs},size={FLAGS.size},lr=0.0003,validate_every={last_epochs or 1},"
              f"train=last:{FLAGS.last_layers}")
    run("multi_stage_train.py", f"--flagfile={recipe}", f"--data_dir={records}", f"--model_dir={model_dir}", "--fold=all",
        f"--weights={FLAGS.weights}", f"--random_seed={seed}", *(f"--stage={one}" for one in stages), *arguments)


def localize(records: str, model_dir: str) -> None:
    """Trains the coarse model and makes the masks and boxes of train."""
    train(COARSE, records, model_dir, 0, FLAGS.coarse_epochs, 0, "--oof_tta=none")
    run("localize.py", f"--data_dir={records}", f"--model_dir={model_dir}", f"--name={BOXES}", "--masks", "--split=train")


def out_of_fold(records: str, folder: str, seed: int) -> dict[str, str]:
    """Trains the fine models of a seed; the folders of their out-of-fold predictions by their way."""
    for way, arguments in WAYS.items():
        train(FINE, records, os.path.join(folder, way), seed, FLAGS.head_epochs, FLAGS.last_epochs, f"--boxes={BOXES}",
              *arguments)
    return {way: os.path.join(folder, way, "out_of_fold") for way in WAYS}


def score(records: str, seed: int, folders: dict[str, str]):
    """A DataFrame, a line for each picture: seed, fold, id, and for each way whether it is right and the label's log-probability."""
    import numpy as np
    import pandas as pd
    from pipeline.answers.predictions import Predictions
    from pipeline.records import dataset

    examples = dataset.load(records).examples("train").set_index("id")
    columns = {}
    for way, folder in folders.items():
        found = Predictions(folder)
        logs = found.rows(np.arange(len(found.ids))).astype(np.float64)
        labels = np.array([one[0] for one in examples.loc[found.ids, "labels"]])
        columns[f"{way}_right"] = pd.Series(logs.argmax(axis=1) == labels, found.ids)
        columns[f"{way}_log"] = pd.Series(logs[np.arange(len(labels)), labels], found.ids)
    table = pd.DataFrame(columns)
    table.insert(0, "id", table.index)
    table.insert(0, "fold", examples.loc[table.index, "fold"])
    table.insert(0, "seed", seed)
    return table


def interval_of_pairs(differences: Sequence[float]) -> tuple[float, float]:
    """Student's 95 % interval of the mean of paired differences."""
    import numpy as np
    from scipy import stats

    half = stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)
    return np.mean(differences) - half, np.mean(differences) + half


def interval_of_pictures(table) -> tuple[float, float]:
    """The bootstrap's 95 % interval of the difference in top-1, over the pictures, each with all its seeds."""
    from pipeline.metrics import intervals

    hits = [table.pivot(index="id", columns="seed", values=f"{way}_right").to_numpy().T for way in WAYS]
    resampled = [intervals.resampled_means(one.astype(bool)).mean(axis=1) for one in hits]
    return intervals.interval(resampled[1] - resampled[0])


def tell(table) -> None:
    """Prints a line for each seed and fold, and what is to be seen in all of them."""
    print(f"{FLAGS.size} px, epochs: coarse {FLAGS.coarse_epochs}, fine {FLAGS.head_epochs} of the head and {FLAGS.last_epochs} "
          f"of the last {FLAGS.last_layers} layers")
    print("| seed | fold | pictures | top-1, boxes | top-1, masks | difference | log loss, boxes | log loss, masks | difference |")
    print("|---|---|---|---|---|---|---|---|---|")
    pairs = table.groupby(["seed", "fold"]).agg(pictures=("id", "size"), **{
        column: (column, "mean") for way in WAYS for column in (f"{way}_right", f"{way}_log")})
    top1, loss = pairs["masks_right"] - pairs["boxes_right"], pairs["boxes_log"] - pairs["masks_log"]
    for (seed, fold), one in pairs.iterrows():
        print(f"| {seed} | {fold} | {one['pictures']:.0f} | {one['boxes_right']:.3f} | {one['masks_right']:.3f} | "
              f"{top1[seed, fold]:+.3f} | {-one['boxes_log']:.3f} | {-one['masks_log']:.3f} | {loss[seed, fold]:+.3f} |")
    for name, differences in (("top-1", top1), ("log loss", loss)):
        low, high = interval_of_pairs(differences)
        print(f"{name}, masks less boxes: {differences.mean():+.4f}, 95 % interval over the {len(pairs)} pairs {low:+.4f} to "
              f"{high:+.4f}")
    low, high = interval_of_pictures(table)
    print(f"top-1, 95 % interval over the pictures: {low:+.4f} to {high:+.4f}", flush=True)


def main() -> None:
    require("data_dir", "weights")
    import pandas as pd

    out_dir = FLAGS.out_dir or os.path.join(ROOT, "runs", "benchmark_masks")
    records = os.path.join(out_dir, "records")
    files.make_dirs(out_dir)
    run("create_tfrecords.py", "--competition=inat2019", f"--data_dir={FLAGS.data_dir}", f"--out_dir={records}",
        f"--folds={FLAGS.folds}")
    localize(records, os.path.join(out_dir, BOXES))
    tables = []
    for seed in range(FLAGS.seeds):
        tables.append(score(records, seed, out_of_fold(records, os.path.join(out_dir, f"seed_{seed}"), seed)))
        files.write_whole(os.path.join(out_dir, "results.csv"), pd.concat(tables).to_csv(index=False).encode())
        tell(pd.concat(tables))


if __name__ == "__main__":
    command.run(main)
