"""Which settings suit small sets, out of fold, one at a time: python -m benchmarks.small_sets --data_dir=inat2019:FOLDER …

Of each competition only train is read. Its pictures, or so many of each class (--sizes), become records in two folds; each
candidate (configs/base.flags with one setting changed, see CANDIDATES) is trained by folds on each of them, and scored out of
fold: top-1, with several labels F2 by cross-fitting. So is the linear probe alone, under the same folds. The two candidates that
gain most over the probe, on average, are trained with further seeds. OUT_DIR/results.csv has a row for each that stands; the same
command goes on behind them, and with --max_minutes it begins no further one when they are over. Models go when they are scored.
"""

import dataclasses
import os
import shutil
import sys
import time
from typing import Any, Iterable, Iterator, Optional, Sequence

from absl import flags, logging

from benchmarks import reduced_sets
from pipeline import command, files
from pipeline.flag_types import define_float, define_path, require

FLAGS = flags.FLAGS
reduced_sets.define()
flags.DEFINE_list("candidates", [], "Names of CANDIDATES; one with a comma in double quotes. Default: all of them.")
flags.DEFINE_string("model", None, "Instead of the recipe's.")
define_path("weights", "Instead of the recipe's.")
flags.DEFINE_integer("size", 0, "Pixels, height = width, of all stages; 0: the recipe's.", 0)
define_float("epochs_share", 1.0, "Every stage's epochs are multiplied by this, for trying out.", low=1e-3)
flags.DEFINE_integer("seeds", 3, "Seeds of the two best; 1: they are not trained again.", 1)
define_float("max_minutes", 0.0, "Begin nothing more after so many; 0: no limit.")
define_path("out_dir", "Where records and results.csv go [runs/small_sets].")

RECIPE = os.path.join(reduced_sets.ROOT, "configs", "base.flags")
FOLDS, RECORD_SEED, BEST = 2, 0, 2
PROBE = "probe"  # the row that the others are measured by
COLUMNS = ("set", "size", "candidate", "seed", "metric", "score", "minutes", "pictures", "problem")


@dataclasses.dataclass(frozen=True)
class Candidate:
    """What differs from the recipe.

    Attributes:
      stages: by the name of a stage, the keys of its line that are others; a key of None goes.
      flags: of multi_stage_train.py.
    """

    stages: dict[str, dict[str, Optional[str]]] = dataclasses.field(default_factory=dict)
    flags: tuple[str, ...] = ()


_TO_PROBE = {"epochs": None, "lr": None, "train": "probe"}
_LAST_100 = {"head": _TO_PROBE, "all": {"train": "last:100", "lr": "5e-4"}}
_REGULARIZED = ("--batch_size=16", "--mixup=0.2", "--dropout=0.25", "--weight_decay=0.05")
_CROP = ("--augment=crop", "--eval_resize=short:{resize}")
CANDIDATES = {
    "base": Candidate(),
    "rate x 3": Candidate({"all": {"lr": "1e-3"}}),
    "rate / 3": Candidate({"all": {"lr": "1e-4"}}),
    "rate / 10": Candidate({"all": {"lr": "3e-5"}}),
    "last 60 layers": Candidate({"all": {"train": "last:60"}}),
    "last 20 layers": Candidate({"all": {"train": "last:20"}}),
    "no weight decay": Candidate(flags=("--weight_decay=0",)),
    "weight decay 0.05": Candidate(flags=("--weight_decay=0.05",)),
    "layer decay 0.75": Candidate({"all": {"layer_decay": "0.75"}}),
    "averaged weights": Candidate({"all": {"ema": "0.99"}}),
    "crop": Candidate(flags=_CROP),
    "large crops": Candidate(flags=("--min_crop=0.4",)),
    "no randaugment": Candidate(flags=("--randaugment=",)),
    "randaugment 2:9": Candidate(flags=("--randaugment=2:9",)),
    "no label smoothing": Candidate(flags=("--label_smoothing=0",)),
    "mixup 0.2": Candidate(flags=("--mixup=0.2",)),
    "dropout 0.3": Candidate(flags=("--dropout=0.3",)),
    "3 x as long": Candidate({"all": {"epochs": "30"}}),
    "batch 16": Candidate(flags=("--batch_size=16",)),
    "probe first": Candidate({"head": _TO_PROBE}),
    "probe first, rate / 3": Candidate({"head": _TO_PROBE, "all": {"lr": "1e-4"}}),
    "probe first, last 60": Candidate({"head": _TO_PROBE, "all": {"train": "last:60"}}),
    "probe first, last 60, batch 16": Candidate({"head": _TO_PROBE, "all": {"train": "last:60"}}, ("--batch_size=16",)),
    "probe first, last 60, batch 16, rate / 3": Candidate(
        {"head": _TO_PROBE, "all": {"train": "last:60", "lr": "1e-4"}}, ("--batch_size=16",)),
    "probe first, last 60, batch 16, rate / 10": Candidate(
        {"head": _TO_PROBE, "all": {"train": "last:60", "lr": "3e-5"}}, ("--batch_size=16",)),
    # Several settings at once, as configs/lite0 has them.
    "small": Candidate(_LAST_100, _REGULARIZED),
    "small, rate / 3": Candidate({**_LAST_100, "all": {"train": "last:100", "lr": "1.7e-4"}}, _REGULARIZED),
    "small, head first": Candidate({"head": {"epochs": "4", "lr": "5e-3"}, "all": _LAST_100["all"]}, _REGULARIZED),
    "small, crop": Candidate(_LAST_100, _REGULARIZED + _CROP),
    "small, crop, 3 x as long": Candidate({**_LAST_100, "all": {**_LAST_100["all"], "epochs": "30"}}, _REGULARIZED + _CROP),
    "small, crop, 150 steps": Candidate(_LAST_100, (*_REGULARIZED, *_CROP, "--min_steps=150")),
    "small, crop, rate / 3": Candidate({**_LAST_100, "all": {**_LAST_100["all"], "lr": "1.7e-4"}}, _REGULARIZED + _CROP),
}


def recipe_stages() -> dict[str, dict[str, str]]:
    """The stage lines of the recipe, key by key."""
    with open(RECIPE, encoding="utf-8") as file:
        lines = [line.strip().partition("=")[2] for line in file if line.startswith("--stage=")]
    stages = [dict(part.split("=", 1) for part in line.split(",")) for line in lines]
    return {stage["name"]: stage for stage in stages}


def arguments(candidate: Optional[Candidate]) -> list[str]:
    """Of multi_stage_train.py, after the recipe; None: the probe alone, in place of the recipe's stages."""
    stages = recipe_stages()
    size = FLAGS.size or int(next(iter(stages.values()))["size"])
    found = [f"--model={FLAGS.model}"] if FLAGS.model else []
    found += [f"--weights={FLAGS.weights}"] if FLAGS.weights else []
    if candidate is None:
        return [*found, f"--stage=name={PROBE},size={size},train=probe",
                *(f"--stage=name={name},epochs=0,size={size},lr=0" for name in stages)]
    for name, stage in stages.items():
        keys = {**stage, "size": str(size), **candidate.stages.get(name, {})}
        if keys["epochs"]:
            keys["epochs"] = f"{float(keys['epochs']) * FLAGS.epochs_share:g}"
        found.append("--stage=" + ",".join(f"{key}={value}" for key, value in keys.items() if value is not None))
    return [*found, *(one.format(resize=size * 8 // 7) for one in candidate.flags)]


def prepare(name: str, folder: str, out_dir: str) -> None:
    """Records, in folds, of the pictures of a competition's train and of so many of each class, where they do not stand."""
    if all(files.exists(os.path.join(out_dir, size, "records", "dataset.json")) for size in FLAGS.sizes):
        return
    reduced_sets.prepare(name, folder, out_dir, [RECORD_SEED])
    for size in FLAGS.sizes:
        if reduced_sets.run("create_tfrecords.py", "--competition=table",
                            f"--data_dir={os.path.join(out_dir, reduced_sets.PICTURES)}",
                            f"--table={reduced_sets.table_path(out_dir, size, RECORD_SEED)}", "--val_share=0", f"--folds={FOLDS}",
                            f"--out_dir={os.path.join(out_dir, size, 'records')}"):
            sys.exit(command.WORK_EXIT_CODE)


def train(records: str, candidate: str, seed: int, model_dir: str) -> dict[str, Any]:
    """Trains by folds and scores out of fold: metric, score, minutes, pictures and problem of a row."""
    code = reduced_sets.run("multi_stage_train.py", f"--flagfile={RECIPE}", f"--data_dir={records}", f"--model_dir={model_dir}",
                            "--fold=all", f"--random_seed={seed}", *arguments(None if candidate == PROBE else CANDIDATES[candidate]))
    out = os.path.join(model_dir, "scores.json")
    code = code or reduced_sets.run("evaluate.py", f"--data_dir={records}", f"--out={out}",
                                    f"--predictions={os.path.join(model_dir, 'out_of_fold')}")
    if code:
        return {"metric": "", "score": None, "minutes": None, "pictures": 0, "problem": f"exit code {code}"}
    scores = files.read_json(out)
    metric = "f2" if "f2" in scores else "top1"
    minutes = sum(files.read_json(os.path.join(model_dir, f"fold_{fold}", "result.json"))["minutes"] for fold in range(FOLDS))
    return {"metric": metric, "score": scores[metric], "minutes": round(minutes, 2), "pictures": scores["examples"], "problem": ""}


def work(sets: dict[str, str], names: Iterable[str], seeds: Sequence[int]) -> Iterator[tuple[str, str, str, int]]:
    """(set, size, candidate, seed) in the order of training."""
    for seed in seeds:
        for name in names:
            for one in sets:
                for size in FLAGS.sizes:
                    yield one, size, name, seed


def carry_out(sets: dict[str, str], out_dir: str, items: Iterable[tuple[str, str, str, int]], started: float) -> bool:
    """Trains what does not stand; whether all of it stands now."""
    path = os.path.join(out_dir, "results.csv")
    for one, size, name, seed in items:
        table = reduced_sets.results(path, COLUMNS)
        if len(table[(table["set"] == one) & (table["size"] == size) & (table["candidate"] == name) & (table["seed"] == seed)]):
            continue
        if FLAGS.max_minutes and time.monotonic() - started > FLAGS.max_minutes * 60:
            return False
        logging.info("%s, %s a class, %s, seed %d", one, size, name, seed)
        model_dir = os.path.join(out_dir, "model")
        if files.exists(model_dir):  # of one that was interrupted: whose it was is not known
            shutil.rmtree(model_dir)
        row = train(os.path.join(out_dir, one, size, "records"), name, seed, model_dir)
        reduced_sets.note(path, COLUMNS, {"set": one, "size": size, "candidate": name, "seed": seed, **row})
        shutil.rmtree(model_dir, ignore_errors=True)
    return True


def gains(table, seeds: Optional[Sequence[int]] = None):
    """A DataFrame, a row a candidate that has a score wherever the probe has: for each set and size the mean score over the
    seeds; mean and least gain over the probe; minutes in all, over seeds their mean. The best first."""
    scored = table[table["score"].notna()]
    scored = scored if seeds is None else scored[scored["seed"].isin(seeds)]
    wide = scored.pivot_table(index="candidate", columns=["set", "size"], values="score", aggfunc="mean", sort=False)
    wide.columns = [f"{one}, {size}" for one, size in wide.columns]
    wide = wide[wide.notna().all(axis=1)]
    if PROBE not in wide.index:
        return wide.iloc[:0]
    differences = wide - wide.loc[PROBE]
    minutes = scored.groupby(["candidate", "seed"])["minutes"].sum().groupby("candidate").mean()
    wide = wide.assign(**{"mean gain": differences.mean(axis=1), "least gain": differences.min(axis=1), "minutes": minutes})
    return wide.sort_values("mean gain", ascending=False, kind="stable")


def tell(table) -> None:
    """Prints the table, and where candidates have several seeds the interval of their mean gain over the sets and sizes."""
    found = gains(table, [0])
    print("| candidate | " + " | ".join(found.columns) + " |")
    print("|---" * (len(found.columns) + 1) + "|")
    for name, row in found.iterrows():
        cells = [f"{value:+.3f}" if "gain" in column else f"{value:.{1 if column == 'minutes' else 3}f}"
                 for column, value in row.items()]
        print(f"| {name} | {' | '.join(cells)} |")
    seeds = table[(table["candidate"] != PROBE) & table["score"].notna()].groupby("candidate")["seed"].nunique()
    for name in seeds[seeds > 1].index:
        low, mean, high = interval_of_seeds(table, name)
        print(f"{name}: {seeds[name]} seeds, mean gain over the probe {mean:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}")
    sys.stdout.flush()


def interval_of_seeds(table, name: str) -> tuple[float, float, float]:
    """(low, mean, high): Student's 95 % interval, over the seeds, of a candidate's mean gain over the probe."""
    probe = table[table["candidate"] == PROBE].set_index(["set", "size"])["score"]
    ours = table[(table["candidate"] == name) & table["score"].notna()].set_index(["set", "size"])
    means = (ours["score"] - probe.reindex(ours.index)).groupby(ours["seed"]).mean()
    low, high = reduced_sets.interval(means)
    return low, means.mean(), high


def main() -> None:
    require("data_dir")
    sets, started = reduced_sets.find(), time.monotonic()
    names = [PROBE, *reduced_sets.known_of("candidates", FLAGS.candidates, CANDIDATES)]
    out_dir = os.path.abspath(FLAGS.out_dir or os.path.join(reduced_sets.ROOT, "runs", "small_sets"))
    path = os.path.join(out_dir, "results.csv")
    for name, folder in sets.items():
        prepare(name, folder, os.path.join(out_dir, name))
    whole = carry_out(sets, out_dir, work(sets, names, [0]), started)
    if whole and FLAGS.seeds > 1:
        best = [name for name in gains(reduced_sets.results(path, COLUMNS), [0]).index if name != PROBE][:BEST]
        whole = carry_out(sets, out_dir, work(sets, best, range(1, FLAGS.seeds)), started)
    tell(reduced_sets.results(path, COLUMNS))
    if not whole:
        print("not all is trained: the same command goes on")


if __name__ == "__main__":
    command.run(main)
