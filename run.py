"""From a competition's raw files to its submission, making what is missing on the way:

  python run.py [COMPETITION DATA_DIR [RUN_DIR]]       without arguments the embedded demo

Writes RUN_DIR (runs/COMPETITION): records/ with the shards, geo_prior/, a folder for each recipe in models/, scores.json,
report.html, submission.csv, submission.meta.json and export/. configs/COMPETITION/run.flags says how; the environment's variables
(RECIPES, TRAIN_FLAGS, …) win over it, and flags over both.
"""

import dataclasses
import os
import sys

from absl import flags

from dataset_tools import table_flags
from pipeline import command, files, flag_help, preemption
from pipeline.errors import UserError
from pipeline.experiment import auto, settings as run_settings
from pipeline.flag_types import define_float

USAGE = "usage: bash run_inference.sh [COMPETITION DATA_DIR [RUN_DIR]] (run_training.sh, python run.py: the same; --help)"
DEMO = ("demo", os.path.join("runs", "demo", "raw"), os.path.join("runs", "demo"))  # of the project's folder
ROOT = os.path.dirname(os.path.abspath(__file__))

FLAGS = flags.FLAGS
flag_help.heading("Passed on, and other")
run_settings.define()
table_flags.define()
flag_help.heading("How far")
flags.DEFINE_enum("until", "export", ("models", "submission", "export"), "Stop where the models are trained or the submission "
                  "is made, or go all the way, to the model to hand over.")
define_float("max_minutes", 0.0, "After so many minutes have the training save, and end with 75: the same command goes on. "
             "0: don't.")
flags.DEFINE_boolean("dry_run", False, "Print what stands and what is to be done, and stop.")
flag_help.usual("recipes", "train_flags", "folds", "dry_run")


def _absolute(path: str) -> str:
    """Of a path as the caller wrote it; gs://… stays."""
    return path if "://" in path else os.path.abspath(os.path.expanduser(path))


def _find(path: str, caller: str) -> str:
    """A flagfile that the caller has named: from where he stands, else of the project, whose folder we are in."""
    theirs = os.path.join(caller, os.path.expanduser(path))
    if os.path.isabs(os.path.expanduser(path)) or os.path.exists(theirs) and not os.path.samefile(caller, ROOT):
        path = theirs
    if not os.path.exists(path):
        raise UserError(f"{path} does not exist; give a flagfile of this folder or of the project's, such as "
                        f"{auto.BASE}")
    return path


def _raw_digest(competition, data_dir: str, records: str) -> str:
    """Changes when the competition's files do, and when a picture has come that was missing from the records."""
    from dataset_tools import manifest
    from pipeline.records import schema

    found = None
    path = os.path.join(records, schema.DATASET_FILE)
    if files.exists(path):
        found = manifest.first_found(records, schema.Manifest.from_json(files.read_json(path)))
    return f"{competition.fingerprint(data_dir)} {found}"


def main(*arguments: str) -> None:
    if len(arguments) not in (0, 2, 3):
        print(USAGE, file=sys.stderr)
        sys.exit(command.USAGE_EXIT_CODE)
    preemption.watch(FLAGS.max_minutes)
    caller = os.getcwd()
    name, data_dir, *rest = arguments or DEMO
    if arguments:  # the demo's are of the project's folder, as is the run folder that nobody has named
        data_dir, rest = _absolute(data_dir), [_absolute(one) for one in rest]
    run_dir = rest[0] if rest else os.path.join("runs", name)
    os.chdir(ROOT)  # where the commands run, and where configs/ lies
    from dataset_tools import competitions  # late: pandas takes a moment, and a mistyped flag should not
    from pipeline.experiment import carry_out

    asked = table_flags.asked()
    if asked.table:
        asked = dataclasses.replace(asked, table=_absolute(os.path.join(caller, asked.table)))
    competition = competitions.find(name, asked)
    settings = run_settings.read(name, data_dir, run_dir, FLAGS, os.environ, lambda path: _find(path, caller),
                                 competition.test_labels, lambda: competition.has_places(data_dir),
                                 table_flags.arguments(asked))
    carry_out.carry_out(settings, lambda: _raw_digest(competition, data_dir, settings.records),
                        os.environ.get("PYTHON") or sys.executable, FLAGS.until, FLAGS.dry_run)


if __name__ == "__main__":
    command.run(main, takes_arguments=True)
