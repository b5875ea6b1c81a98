"""What GeM, ArcFace, the nearest train pictures and a fitted rule do for individuals: python -m benchmarks.by_likeness --data_dir=FOLDER

Of a Turtle Recall's labelled pictures, out of fold: the recipe as it is, with each of CANDIDATES, and each of these blended with its
nearest train pictures (--neighbours, --blend=oof). All are trained by folds that leave classes out (--hold_out_classes), so that
evaluate.py tells known individuals, strangers that training had and strangers that it had not apart, by the rule `first` and by the
one that is fitted there (cross-fitted over individuals), alone and in a mixture of known ones and new ones. Neighbours are asked about
what a fold holds out and not about the strangers that others do, so that a blend has fewer new ones than its recipe; a row without
those others stands between the two, on the blend's pictures. OUT_DIR/results.csv has a row for each that stands; the same command
goes on behind them. Models go when they are scored.
"""

import os
import shutil
import sys
from typing import Any, Iterator, Sequence

from absl import flags, logging

from benchmarks import reduced_sets
from pipeline import command, files
from pipeline.flag_types import define_float, define_path, require

FLAGS = flags.FLAGS
define_path("data_dir", "Folder in Turtle Recall's layout.")
define_path("weights", "Instead of the recipe's.")
define_path("recipe", "Flagfile [configs/lite0/turtle_recall.flags].")
define_path("out_dir", "Where records and results.csv go [runs/by_likeness].")
flags.DEFINE_integer("seeds", 3, "Of the training, of each.", 1)
flags.DEFINE_list("candidates", [], "Names of CANDIDATES. Default: all of them.")
flags.DEFINE_integer("folds", 2, "Folds.", 2)
flags.DEFINE_integer("neighbours", 10, "As of predict.py.", 1)
define_float("hold_out_classes", 0.2, "As of multi_stage_train.py.", low=0.01, high=0.5)
define_float("stranger_share", 1 / 3, "Of the pictures, in the mixture.", high=1.0)

RECIPE = os.path.join(reduced_sets.ROOT, "configs", "lite0", "turtle_recall.flags")
RECORD_SEED = 33  # whose folds the recipe was chosen by
BASE = "recipe"
CANDIDATES: dict[str, tuple[str, ...]] = {BASE: (), "gem": ("--pool=gem",), "arcface": ("--loss=arcface",)}
NEAR = " + neighbours"
FEWER = ", fewer strangers"  # those of the blend with neighbours
KINDS = ("known", "seen strangers", "unseen strangers", "mixture")
FITTED = tuple(f"{kind}, fitted" for kind in KINDS)
UNSEEN = "pictures of unseen strangers"
SCORES = ("top1", *KINDS, *FITTED)  # top-1 over ids; MAP@5 over the answers
COLUMNS = ("candidate", "seed", *SCORES, "weight of neighbours", "rule", "minutes", "pictures", UNSEEN)


def train(records: str, name: str, seed: int, model_dir: str) -> None:
    """A candidate by folds, and its nearest train pictures."""
    reduced_sets.must_run("multi_stage_train.py", f"--flagfile={FLAGS.recipe or RECIPE}", f"--data_dir={records}", f"--model_dir={model_dir}",
        "--fold=all", f"--random_seed={seed}", f"--hold_out_classes={FLAGS.hold_out_classes}", *CANDIDATES[name],
        *([f"--weights={FLAGS.weights}"] if FLAGS.weights else []))
    reduced_sets.must_run("predict.py", f"--data_dir={records}", f"--model_dir={model_dir}", "--split=train", f"--neighbours={FLAGS.neighbours}",
        f"--out={near(model_dir)}")


def near(model_dir: str) -> str:
    return os.path.join(model_dir, "near")


def score(records: str, places: Sequence[str], out: str) -> dict[str, Any]:
    """What evaluate.py tells: SCORES, rule, weight of neighbours and pictures of a row."""
    reduced_sets.must_run("evaluate.py", f"--data_dir={records}", *(f"--predictions={one}" for one in places), "--blend=oof", f"--out={out}",
        f"--stranger_share={FLAGS.stranger_share}")
    told = files.read_json(out)
    rules = told["open_set"]["rules"]
    fitted = next(means for rule, means in rules.items() if rule.startswith("fit: "))
    return {"top1": told["top1"], **{kind: rules["first"][kind] for kind in KINDS},
            **{column: fitted[kind] for column, kind in zip(FITTED, KINDS)}, "rule": told["open_set"]["fit"]["rule"],
            "weight of neighbours": told["weights"].get(places[-1]) if len(places) > 1 else None, "pictures": told["examples"],
            UNSEEN: told["open_set"]["pictures"]["unseen strangers"]}


def rows(records: str, name: str, seed: int, model_dir: str) -> Iterator[dict[str, Any]]:
    """Of a candidate that is trained: alone, of fewer strangers, and with its neighbours. (Others' strangers go.)"""
    alone = os.path.join(model_dir, "out_of_fold")
    results = (files.read_json(os.path.join(model_dir, f"fold_{fold}", "result.json")) for fold in range(FLAGS.folds))
    minutes = sum(one["minutes"] for one in results)
    for ending, places in (("", [alone]), (FEWER, [alone]), (NEAR, [alone, near(model_dir)])):
        if ending:
            shutil.rmtree(os.path.join(model_dir, "strangers"), ignore_errors=True)
        found = score(records, places, os.path.join(model_dir, "scores.json"))
        yield {"candidate": name + ending, "seed": seed, **found, "minutes": round(minutes, 2)}


def carry_out(records: str, out_dir: str, names: Sequence[str]) -> None:
    """Trains and scores what does not stand."""
    path, model_dir = os.path.join(out_dir, "results.csv"), os.path.join(out_dir, "model")
    for seed in range(FLAGS.seeds):
        for name in names:
            table = reduced_sets.results(path, COLUMNS)
            if len(table[(table["candidate"] == name + NEAR) & (table["seed"] == seed)]):
                continue
            logging.info("%s, seed %d", name, seed)
            if files.exists(model_dir):  # of one that was interrupted: whose it was is not known
                shutil.rmtree(model_dir)
            train(records, name, seed, model_dir)
            for row in list(rows(records, name, seed, model_dir)):
                reduced_sets.note(path, COLUMNS, row)
            shutil.rmtree(model_dir)


def tell(table) -> None:
    """Prints the mean scores over the seeds, and of the seeds that both have what is gained over the recipe, or by neighbours over
    the same pictures without them: mean, and standard deviation over the seeds."""
    of = {name: rows.set_index("seed") for name, rows in table.groupby("candidate", sort=False)}
    print(f"| MAP@5 over the answers | seeds | top-1 over ids | {' | '.join((*KINDS, *FITTED))} |")
    print("|---" * (len(SCORES) + 2) + "|")
    for name, ours in of.items():
        print(f"| {name} | {len(ours)} | {' | '.join(f'{ours[column].mean():.3f}' for column in SCORES)} |")
        over = of.get(name[:-len(NEAR)] + FEWER if name.endswith(NEAR) else BASE)
        if name == BASE or name.endswith(FEWER) or over is None:
            continue
        both = ours.index.intersection(over.index)
        if not len(both):
            continue
        gains = ours.loc[both, list(SCORES)].astype(float) - over.loc[both, list(SCORES)].astype(float)
        spreads = {column: f" ± {gains[column].std():.3f}" if len(both) > 1 else "" for column in SCORES}
        cells = [f"{gains[column].mean():+.3f}{spread}" for column, spread in spreads.items()]
        print(f"| gain | {len(both)} | {' | '.join(cells)} |")
    sys.stdout.flush()


def main() -> None:
    require("data_dir")
    out_dir = os.path.abspath(FLAGS.out_dir or os.path.join(reduced_sets.ROOT, "runs", "by_likeness"))
    names = reduced_sets.known_of("candidates", FLAGS.candidates, CANDIDATES)
    records = os.path.join(out_dir, "records")
    reduced_sets.must_run("create_tfrecords.py", "--competition=turtle_recall", f"--data_dir={FLAGS.data_dir}", f"--out_dir={records}",
        f"--folds={FLAGS.folds}", f"--random_seed={RECORD_SEED}")
    carry_out(records, out_dir, names)
    tell(reduced_sets.results(os.path.join(out_dir, "results.csv"), COLUMNS))


if __name__ == "__main__":
    command.run(main)
