"""Whether RECIPES=auto keeps what a linear probe has where pictures are few: python -m benchmarks.auto --data_dir=inat2019:FOLDER …

Of each competition only train is read: all its pictures, or so many of each class (--sizes), drawn by the seed, are a table, and
run.py goes from it to the scores by --recipes=auto, as a user would. The seed is that of the records (so of the folds) and of the
training too. Told is what evaluate.py tells of out-of-fold predictions: the blend, its weights (and with several labels its
threshold) cross-fitted, beside the probe and fine-tuning alone under the same folds, and the probe that fine-tuning began with.
OUT_DIR/results.csv has a row for each run that stands; the same command goes on behind them. Models go when they are scored.
"""

import os
import shutil
import sys
import time
from typing import Any

from absl import flags, logging

from benchmarks import reduced_sets
from pipeline import command, files
from pipeline.flag_types import define_float, define_path, require

FLAGS = flags.FLAGS
reduced_sets.define()
flags.DEFINE_string("model", None, "Instead of the recipes'.")
define_path("weights", "Instead of the recipes'.")
flags.DEFINE_integer("folds", None, "As run.py has it; None: as many as it takes by itself.", 2)
flags.DEFINE_integer("seeds", 3, "Runs of each.", 1)
define_float("max_minutes", 0.0, "Begin nothing more after so many; 0: no limit.")
define_path("out_dir", "Where tables and results.csv go [runs/auto].")

PROBE, TUNED = "probe", "small"  # the recipes that auto takes, by the names of their models
FIRST, WEIGHT = "first stage", "weight of probe"  # FIRST: of fine-tuning, itself a probe by its own views
COLUMNS = ("set", "size", "seed", "metric", "blend", PROBE, TUNED, FIRST, WEIGHT, "minutes", "pictures", "problem")


def run(pictures: str, table: str, seed: int, run_dir: str) -> dict[str, Any]:
    """Goes from a table of pictures to scores: what a row has beside set, size and seed."""
    given = [f"--model={FLAGS.model}"] * bool(FLAGS.model) + [f"--weights={FLAGS.weights}"] * bool(FLAGS.weights)
    started = time.monotonic()
    code = reduced_sets.run(
        "run.py", "table", pictures, run_dir, f"--table={table}", "--val_share=0", "--recipes=auto", "--until=submission",
        f"--record_seed={seed}", f"--train_flags={' '.join([*given, f'--random_seed={seed}'])}",
        *([f"--folds={FLAGS.folds}"] if FLAGS.folds else []))
    if code:
        return {"metric": "", "problem": f"exit code {code}"}
    scores = files.read_json(os.path.join(run_dir, "scores.json"))
    metric = "f2" if "f2" in scores else "top1"
    probe, tuned = (os.path.join(run_dir, "models", name, "out_of_fold") for name in (PROBE, TUNED))
    first = os.path.join(run_dir, "models", TUNED, "probe", "out_of_fold")
    if not {probe, tuned} <= set(scores["lines"]):
        return {"metric": metric, "problem": "auto took other recipes"}
    return {"metric": metric, "blend": scores[metric], PROBE: scores["lines"][probe][metric],
            TUNED: scores["lines"][tuned][metric], FIRST: scores["probe"][first][metric], WEIGHT: scores["weights"][probe],
            "minutes": round((time.monotonic() - started) / 60, 2), "pictures": scores["examples"], "problem": ""}


def carry_out(sets: dict[str, str], out_dir: str, started: float) -> bool:
    """Runs what does not stand; whether all of it stands now."""
    path = os.path.join(out_dir, "results.csv")
    for seed in range(FLAGS.seeds):
        for name in sets:
            for size in FLAGS.sizes:
                table = reduced_sets.results(path, COLUMNS)
                if len(table[(table["set"] == name) & (table["size"] == size) & (table["seed"] == seed)]):
                    continue
                if FLAGS.max_minutes and time.monotonic() - started > FLAGS.max_minutes * 60:
                    return False
                logging.info("%s, %s a class, seed %d", name, size, seed)
                run_dir = os.path.join(out_dir, "run")
                if files.exists(run_dir):  # of one that was interrupted: whose it was is not known
                    shutil.rmtree(run_dir)
                of_set = os.path.join(out_dir, name)
                row = run(os.path.join(of_set, reduced_sets.PICTURES), reduced_sets.table_path(of_set, size, seed), seed, run_dir)
                reduced_sets.note(path, COLUMNS, {**dict.fromkeys(COLUMNS), "set": name, "size": size, "seed": seed, **row})
                shutil.rmtree(run_dir, ignore_errors=True)
    return True


def tell(table) -> None:
    """Prints a row for each set and size: mean scores over the seeds, and of what the blend gains over the probe the mean, its
    95 % interval over the seeds (Student's) and the least."""
    headings = "set", "pictures", "seeds", FIRST, PROBE, "fine-tuning", "blend", "gain", "95 % interval", "least gain", "minutes"
    print(f"| {' | '.join(headings)} |\n" + "|---" * len(headings) + "|")
    scored = table[table["blend"].notna()]
    for (name, size), rows in scored.groupby(["set", "size"], sort=False):
        gain = rows["blend"] - rows[PROBE]
        interval = "{:+.3f} to {:+.3f}".format(*reduced_sets.interval(gain)) if len(gain) > 1 else "–"
        means = rows[[FIRST, PROBE, TUNED, "blend", "pictures", "minutes"]].mean()
        scores = " | ".join(f"{means[one]:.3f}" for one in (FIRST, PROBE, TUNED, "blend"))
        print(f"| {name}, {size} | {means['pictures']:.0f} | {len(rows)} | {scores} | {gain.mean():+.3f} | "
              f"{interval} | {gain.min():+.3f} | {means['minutes']:.1f} |")
    for _, row in table[table["blend"].isna()].iterrows():
        print(f"no score: {row['set']}, {row['size']}, seed {row['seed']}: {row['problem']}")
    sys.stdout.flush()


def main() -> None:
    require("data_dir")
    sets, started = reduced_sets.find(), time.monotonic()
    out_dir = os.path.abspath(FLAGS.out_dir or os.path.join(reduced_sets.ROOT, "runs", "auto"))
    for name, folder in sets.items():
        reduced_sets.prepare(name, folder, os.path.join(out_dir, name), range(FLAGS.seeds))
    whole = carry_out(sets, out_dir, started)
    tell(reduced_sets.results(os.path.join(out_dir, "results.csv"), COLUMNS))
    if not whole:
        print("not all has been run: the same command goes on")


if __name__ == "__main__":
    command.run(main)
