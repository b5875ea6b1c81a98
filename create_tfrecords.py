"""Raw competition files in, TFRecord shards out.

  python create_tfrecords.py --competition=inat2021 --data_dir=~/inat2021 --out_dir=runs/inat2021/records
"""

import os

from absl import flags

from dataset_tools import table_flags
from pipeline import command, flag_help
from pipeline.errors import UserError

MAX_DUPLICATE_DISTANCE = 48  # bits of 256

FLAGS = flags.FLAGS
flags.DEFINE_string("competition", None, "inat2017, inat2018, inat2019, inat2021, turtle_recall, imet2019, folder (a "
                    "class per sub-folder), table (a CSV of one's own) or demo; with --adopt_records the name that is noted down [by the records' kind].")
flags.DEFINE_string("data_dir", None, "Folder of the competition's files; local or gs://. The demo is drawn there.")
flags.DEFINE_string("out_dir", None, "Folder for shards, dataset.json, examples.csv, rejected.csv; local or gs://.")
flag_help.heading("Shards")
flags.DEFINE_integer("shard_mib", 128, "Size of a shard, in MiB of source files.")
flags.DEFINE_integer("max_side", 0, "Shrink pictures whose longer side has more pixels (of adopted shards, copies); "
                     "0: as they are.")
flags.DEFINE_integer("short_side", 0, "Make every picture's shorter side so many pixels (it is enlarged too); not with "
                     "--max_side. 0: as they are.")
flags.DEFINE_integer("workers", None, "Processes [all cores].")
flags.DEFINE_integer("random_seed", 42, "Seed of the shuffle and of the folds.")
flag_help.heading("Folds")
flags.DEFINE_integer("folds", 0, "Divide train into so many folds (stratified by class) with shards of their own; "
                     "copies of a picture stay in one fold. 0: none.")
flags.DEFINE_enum("folds_by", "copies", ("copies", "rows"), "With --folds: copies keeps copies of a picture in one fold; rows "
                  "divides the rows in the order of the competition's files and parts copies, as published solutions did (one "
                  "label: scikit-learn's StratifiedKFold, several: iterative stratification, by --random_seed). Scores out of "
                  "fold are then too good.")
flags.DEFINE_integer("duplicate_distance", None, "With --folds: pictures whose perceptual hashes differ in at most so "
                     "many of 256 bits are copies [24]; -1: only those with the same bytes or pixels.")
table_flags.define()
flag_help.heading("Existing shards")
flags.DEFINE_list("adopt_records", None, "Take existing shards where they lie: comma-separated globs, each maybe after "
                  "split= (train=/shards/fold.*, val=/shards/val-*), of the two kinds in use for these competitions.")
flags.DEFINE_integer("num_classes", None, "With --adopt_records: number of classes [the largest label + 1].")
flag_help.usual("competition", "data_dir", "out_dir", "folds", "workers")


def _require(name: str) -> str:
    if not FLAGS[name].value:
        raise UserError(f"--{name} is required (--help lists the flags)")
    return FLAGS[name].value


def _require_at_least(name: str, least: int) -> None:
    value = FLAGS[name].value
    if value is not None and value < least:
        raise UserError(f"--{name}={value} must be at least {least}")


def _refuse_beside_adopt_records(*names: str) -> None:
    for name in names:
        if FLAGS[name].present:
            raise UserError(f"--{name} does not go with --adopt_records, which takes shards where they lie; leave it out")


def _check_folds() -> None:
    if FLAGS.folds == 1:
        raise UserError("--folds=1 would leave nothing to train on; 2 or more, or 0 for none")
    if FLAGS.duplicate_distance is not None and not FLAGS.folds:
        raise UserError("--duplicate_distance goes with --folds")
    if FLAGS["folds_by"].present and not FLAGS.folds:
        raise UserError("--folds_by goes with --folds")
    if FLAGS.duplicate_distance is not None and FLAGS.duplicate_distance > MAX_DUPLICATE_DISTANCE:
        raise UserError(f"--duplicate_distance={FLAGS.duplicate_distance} must be at most {MAX_DUPLICATE_DISTANCE}: "
                        "beyond, different pictures are near")


def main() -> None:
    for name, least in (("shard_mib", 1), ("max_side", 0), ("short_side", 0), ("workers", 1), ("random_seed", 0),
                        ("num_classes", 1), ("folds", 0), ("duplicate_distance", -1)):
        _require_at_least(name, least)
    if FLAGS.max_side and FLAGS.short_side:
        raise UserError(f"--max_side={FLAGS.max_side} does not go with --short_side={FLAGS.short_side}: both tell the size")
    _check_folds()
    workers = FLAGS.workers or len(os.sched_getaffinity(0))
    out_dir = _require("out_dir")
    # Pictures are decoded on the CPU; whoever trains on this machine keeps the accelerator.
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    os.environ.setdefault("TPU_LOAD_LIBRARY", "0")
    from dataset_tools import manifest  # late: pandas takes a second, and --help should not

    if FLAGS.adopt_records:
        _refuse_beside_adopt_records("folds", "folds_by", "duplicate_distance", "data_dir", "short_side", "shard_mib",
                                     "random_seed", "table", "columns", "val_share")
        from dataset_tools.adopt import adopt

        made = adopt(FLAGS.adopt_records, out_dir, FLAGS.competition, FLAGS.num_classes, workers, FLAGS.max_side)
    else:
        from dataset_tools.build import build

        if FLAGS.num_classes is not None:
            raise UserError("--num_classes goes with --adopt_records; raw files tell their classes themselves")
        asked = table_flags.asked()
        FLAGS.data_dir = table_flags.data_folder(_require("competition"), FLAGS.data_dir, asked)
        made = build(FLAGS.competition, _require("data_dir"), out_dir, FLAGS.shard_mib, FLAGS.max_side, workers,
                     FLAGS.random_seed, FLAGS.folds, FLAGS.duplicate_distance, FLAGS.short_side, FLAGS.folds_by, asked)
    print(manifest.summary(made, out_dir))


if __name__ == "__main__":
    command.run(main)
