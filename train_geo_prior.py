"""Trains a geo prior on a competition's places and dates; it needs no pictures.

  python train_geo_prior.py --competition=inat2021 --data_dir=~/inat2021 --model_dir=runs/inat2021/geo_prior
"""

from absl import flags, logging
import numpy as np

from dataset_tools import table_flags
from pipeline import command, flag_help, preemption
from pipeline.devices import cluster
from pipeline.errors import UserError
from pipeline.flag_types import define_float, define_on_off, define_path, require

FLAGS = flags.FLAGS
flags.DEFINE_string("competition", None, "inat2017, inat2018, inat2019, inat2021, table or demo.")
define_path("data_dir", "Folder of the competition's own files (local or gs://); its pictures are not needed.")
define_path("model_dir", "Where the checkpoint, history.csv, scores.json and run.json go (local or gs://).")
table_flags.define()
flag_help.heading("Model and loss")
define_on_off("date_input", None, "Feed the date to the prior beside the place [on, where a record has a date].")
define_on_off("photographers", False, "Learn the photographers beside the classes; predictions don't need them.")
flags.DEFINE_enum("photographer_loss", "paper", ("paper", "solution"), "With --photographers, that one was at his place and "
                  "not anywhere: paper (Mac Aodha et al. 2019); solution: as iNat 2021's sixth place computed it, the second "
                  "part at the true place too, both divided by the number of photographers.")
flags.DEFINE_enum("geo_loss", "presence", ("presence", "an_full"), "presence (Mac Aodha et al. 2019) or the full "
                  "assume-negative loss of SINR (Cole et al. 2023).")
define_float("positive_weight", None, "Weight of a record's own class against all others [presence: the number of "
             "classes; an_full: 2048]. A smaller one gives sharper probabilities.")
flags.DEFINE_integer("embed_dim", 256, "Width of the network.", 1)
flags.DEFINE_enum("batch_norm", "off", ("off", "on", "first"), "Batch normalization between each Dense layer and its ReLU; first: "
                  "after the first Dense alone, which is all that --use_batch_normalization of the sixth place's code reaches.")
flag_help.heading("Training")
flags.DEFINE_integer("batch_size", 1024, "Records a step, beside as many random points.", 1)
define_float("lr", 0.0005, "Learning rate of Adam in the first epoch.")
define_float("lr_decay", 0.98, "What the rate is multiplied by after each epoch.")
flags.DEFINE_integer("epochs", 30, "Epochs.", 1)
flags.DEFINE_integer("max_per_class", 100, "Records a class and epoch at most, drawn anew each epoch; 0: all.", 0)
define_float("location_noise_m", 0.0, "Move each record by up to so many metres, anew each time.", high=2e7)
define_float("date_noise_days", 0.0, "Move each date by up to so many days, anew each time.", high=183.0)
flag_help.heading("The run")
define_on_off("jit", False, "Compile the training steps with XLA.")
flags.DEFINE_integer("steps_per_execution", 8, "Steps in one call from Python.", 1)
flags.DEFINE_integer("random_seed", 42, "Seed of initial weights, order, noise and dropout.", 0, 2**32 - 1)
flag_help.usual("competition", "data_dir", "model_dir", "epochs")

RUN_FLAGS = ("model_dir", "competition", "data_dir", "geo_loss", "positive_weight", "photographers", "photographer_loss",
             "date_input", "embed_dim", "batch_norm", "batch_size", "lr", "lr_decay", "epochs", "max_per_class", "location_noise_m", "date_noise_days",
             "random_seed", "jit", "steps_per_execution")


def read_records():
    """(class ids, records to train on, records to score on) of the competition; raises UserError without places."""
    from dataset_tools.competitions import find
    from dataset_tools.table import trained_split
    from pipeline.geo import records as geo_records

    competition = find(FLAGS.competition, table_flags.asked())
    if not competition.places:
        raise UserError(f"--competition={competition.name} tells no places, which a geo prior learns from")
    table = competition.read(FLAGS.data_dir)
    examples = table.examples
    split = trained_split(examples["split"])
    train, val = (geo_records.of(examples[examples["split"] == one]) for one in (split, "val"))
    if not len(train):
        told = [one for one in table.unread if " places " in one]
        raise UserError(f"--data_dir: no labelled picture of {split} has a place that can be read in {FLAGS.data_dir}/"
                        f"{competition.places.format(split=split)}" + "".join(f"; {one}" for one in told))
    return [source_id for source_id, _ in table.classes], train, val


def _date_input(train) -> bool:
    """--date_input; where it is not given, whether there is a date to feed."""
    if FLAGS.date_input is not None:
        return FLAGS.date_input
    dated = not bool(np.isnan(train.date).all())
    if not dated:
        logging.warning("no record of %s has a date that can be read: the prior is trained on places alone", FLAGS.data_dir)
    return dated


def main() -> None:
    preemption.watch()
    require("competition")
    FLAGS.data_dir = table_flags.data_folder(FLAGS.competition, FLAGS.data_dir, table_flags.asked())
    require("data_dir", "model_dir")
    if FLAGS["photographer_loss"].present and not FLAGS.photographers:
        raise UserError("--photographer_loss goes with --photographers")
    cluster.refuse("train_geo_prior.py")
    class_ids, train, val = read_records()
    # late: TensorFlow takes seconds to import, and mistakes should not
    from pipeline.geo import runs as geo_runs, training as geo_training

    run = geo_runs.GeoRun(**{**{name: FLAGS[name].value for name in RUN_FLAGS}, "date_input": _date_input(train)})
    geo_training.run_training(run, class_ids, train, val)


if __name__ == "__main__":
    command.run(main)
