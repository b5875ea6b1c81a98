"""Whether what is told of strangers comes true by fine-tuning: python -m benchmarks.strangers_by_recipe --data_dir=FOLDER

What benchmarks.strangers does with linear probes on features that stand, once (or --draws times) by the commands, as a
competitor would: of a Turtle Recall's labelled pictures, some extra individuals and a part of all others become test pictures,
in a data folder of its own. The recipe is trained by folds that leave classes out (--hold_out_classes); evaluate.py tells what to
expect where a share of the pictures is of strangers, and make_submission.py --open_set=fit answers the test pictures, whose
truth is known here. OUT_DIR/draw_N has all of it; models and predictions that stand are not made again.
"""

import csv
import os
import random
from typing import Any, Iterable, Mapping, Sequence

from absl import flags

from benchmarks import reduced_sets
from pipeline import command, files
from pipeline.errors import UserError
from pipeline.flag_types import define_float, define_path, require

FLAGS = flags.FLAGS
define_path("data_dir", "Folder in Turtle Recall's layout.")
define_path("weights", "Instead of the recipe's.")
define_path("recipe", "Flagfile [configs/lite0/turtle_recall.flags].")
define_path("out_dir", "Where draws go [runs/benchmark_strangers_by_recipe].")
flags.DEFINE_integer("draws", 1, "How many times others are left out.", 1)
flags.DEFINE_integer("left_out", 10, "Individuals that each leaves out.", 2)
flags.DEFINE_integer("folds", 5, "Folds.", 2)
define_float("hold_out_classes", 0.2, "As of multi_stage_train.py.", low=0.01, high=0.5)
define_float("stranger_share", 1 / 3, "Of the pictures, in the mixture.", high=1.0)
define_float("kept", 0.25, "Share of the other pictures that become test pictures.", low=0.01, high=0.9)

RECIPE = os.path.join("configs", "lite0", "turtle_recall.flags")
TRAIN, EXTRA, TEST, NEW = "train.csv", "extra_images.csv", "test.csv", "new_turtle"
COLUMNS = ("image_id", "image_location", "turtle_id")


def read(path: str) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: str, rows: Iterable[Mapping[str, str]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def draw(folder: str, seed: int) -> dict[str, str]:
    """Makes a data folder in which some pictures are test pictures; by the id of these, the right answer."""
    tables = {name: read(os.path.join(FLAGS.data_dir, name)) for name in (TRAIN, EXTRA)}
    known = {row["turtle_id"] for row in tables[TRAIN]}
    drawing = random.Random(seed)
    extra = sorted({row["turtle_id"] for row in tables[EXTRA]} - known)
    if FLAGS.left_out >= len(extra):
        raise UserError(f"--left_out={FLAGS.left_out}: {FLAGS.data_dir} has {len(extra)} extra individuals, of which some must stay")
    new = set(drawing.sample(extra, FLAGS.left_out))
    others = sorted(row["image_id"] for rows in tables.values() for row in rows if row["turtle_id"] not in new)
    kept = set(drawing.sample(others, round(FLAGS.kept * len(others))))
    files.make_dirs(folder)
    pictures = os.path.join(folder, "images")
    if not os.path.lexists(pictures):
        os.symlink(os.path.abspath(os.path.join(FLAGS.data_dir, "images")), pictures)
    truth: dict[str, str] = {}
    for name, rows in tables.items():
        whose = {row["image_id"]: row["turtle_id"] for row in rows}
        trained = [row for row in rows if row["image_id"] not in kept and row["turtle_id"] not in new]
        write(os.path.join(folder, name), trained)
        # Extra individuals that training has are in no mixture, as in benchmarks.strangers.
        truth |= {one: turtle for one, turtle in whose.items() if one in kept and turtle in known}
        truth |= {one: NEW for one, turtle in whose.items() if turtle in new}
    write(os.path.join(folder, TEST), [{"image_id": one} for one in sorted(truth)])
    return truth


def told_and_answered(folder: str) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """(`open_set` of evaluate.py's JSON, the rows of the submission) of a data folder, by the commands."""
    records, model, raw = (os.path.join(folder, name) for name in ("records", "model", "raw"))
    reduced_sets.must_run("create_tfrecords.py", "--competition=turtle_recall", f"--data_dir={raw}", f"--out_dir={records}",
        f"--folds={FLAGS.folds}")
    reduced_sets.must_run("multi_stage_train.py", f"--flagfile={os.path.abspath(FLAGS.recipe or os.path.join(reduced_sets.ROOT, RECIPE))}",
        f"--data_dir={records}", f"--model_dir={model}", *([f"--weights={FLAGS.weights}"] if FLAGS.weights else []),
        "--fold=all", f"--hold_out_classes={FLAGS.hold_out_classes}")
    scores, submission = os.path.join(folder, "scores.json"), os.path.join(folder, "submission.csv")
    reduced_sets.must_run("evaluate.py", f"--data_dir={records}", f"--predictions={os.path.join(model, 'out_of_fold')}", f"--out={scores}",
        f"--stranger_share={FLAGS.stranger_share}")
    reduced_sets.must_run("predict.py", f"--data_dir={records}", f"--model_dir={model}", "--split=test")
    reduced_sets.must_run("make_submission.py", f"--data_dir={records}", f"--predictions={os.path.join(model, 'predictions', 'test')}",
        "--open_set=fit", f"--stranger_share={FLAGS.stranger_share}", f"--out={submission}")
    return files.read_json(scores)["open_set"], read(submission)


def precision(row: Mapping[str, str], right: str) -> float:
    """1 / the rank of the right answer among five, else 0."""
    answers = [row[f"prediction{rank}"] for rank in range(1, 6)]
    return 1 / (1 + answers.index(right)) if right in answers else 0.0


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def main() -> None:
    require("data_dir")
    out_dir = os.path.abspath(FLAGS.out_dir or os.path.join(reduced_sets.ROOT, "runs", "benchmark_strangers_by_recipe"))
    for seed in range(FLAGS.draws):
        folder = os.path.join(out_dir, f"draw_{seed}")
        truth = draw(os.path.join(folder, "raw"), seed)
        command.begin_work()
        if not seed:
            print("| draw | rule | told | true | true, known (pictures) | true, new (pictures) |\n|---|---|---|---|---|---|")
        told, answers = told_and_answered(folder)
        found = {row["image_id"]: precision(row, truth[row["image_id"]]) for row in answers}
        new = [found[one] for one, right in truth.items() if right == NEW]
        known = [found[one] for one, right in truth.items() if right != NEW]
        true = FLAGS.stranger_share * mean(new) + (1 - FLAGS.stranger_share) * mean(known)
        print(f"| {seed} | {told['fit']['rule']} | {told['fit']['expected']:.3f} | {true:.3f} | "
              f"{mean(known):.3f} ({len(known)}) | {mean(new):.3f} ({len(new)}) |", flush=True)


if __name__ == "__main__":
    command.run(main)
