"""Predicts a split with a trained model: python predict.py --data_dir=… --model_dir=… --split=test --out=…"""

import hashlib
import os

from absl import flags

import make_submission
from pipeline import command, flag_help, preemption
from pipeline.devices import strategy_flags
from pipeline.flag_types import ALL_FOLDS, define_path, parse_folds, require
from pipeline.training import sixth_place, sixth_place_flags

FLAGS = flags.FLAGS
flag_help.heading("Flags")
define_path("data_dir", "Folder of shards, as create_tfrecords.py makes it (local or gs://).")
flags.DEFINE_string("split", "test", "Split to predict.")
define_path("model_dir", "A finished run of multi_stage_train.py.")
flags.DEFINE_string("fold", "all", "Folds whose models are averaged: 0, 0:2, or all that have finished. The split that "
                    "was trained on is predicted by the fold that did not see it.")
flags.DEFINE_string("checkpoint", None, "best (by --monitor; the last where nothing was held out), last, or epochs that "
                    "multi_stage_train.py --keep_epochs kept: 18:21:24. Default: what its --keep says, best or last.")
flags.DEFINE_enum("average", "probabilities", ("probabilities", "weights"), "How several epochs of --checkpoint become "
                  "one prediction; weights makes one model of them, whose BatchNorm statistics are estimated anew on "
                  "train pictures.")
flags.DEFINE_string("tta", None, "Test-time views to average: none, flip, six (whole, left-or-top square, "
                    "right-or-bottom square and their mirror images), ten (centre and corners of --eval_resize=short:N, "
                    "and their mirror images), crops (mirror images of two random crops of --eval_resize=crop:N), "
                    "rot45 (whole, two flips, rotations by multiples of 45 degrees), mask16 (squares around points of the "
                    "picture's mask, of a model with --boxes whose masks localize.py kept). Default: the recipe's.")
flags.DEFINE_integer("size", None, "Pixels, height = width. Default: the last stage's.", 1)
flags.DEFINE_integer("batch_size", 32, "Pictures a step, over all replicas; each goes through in all its views.", 1)
flags.DEFINE_integer("neighbours", 0, "Answer by so many of the train pictures (of a fold: of those that it was trained on) "
                     "that are nearest, by the cosine of what the network makes of them, instead of by the head; 0: don't. "
                     "evaluate.py and make_submission.py blend it with the head's predictions as with another model's.", 0)
strategy_flags.define()
define_path("out", "Folder of the predictions. Default: MODEL_DIR/predictions/SPLIT, with --neighbours SPLIT_neighbours.")
sixth_place_flags.define_prediction()
flag_help.usual("data_dir", "model_dir", "split", "out", "tta", "neighbours")


def _adopt_records() -> None:
    """The sixth-place solution's flags name TFRecords, ours a folder with a manifest: makes one beside the model."""
    from dataset_tools import adopt

    adopt.adopt([f"test={FLAGS.test_files}"], FLAGS.data_dir, "inat2021", FLAGS.num_classes, workers=os.cpu_count() or 1)


def _suffix() -> str:
    from pipeline.answers import predictions

    return predictions.NEIGHBOURS if FLAGS.neighbours else ""


def main() -> None:
    preemption.watch()
    if sixth_place_flags.is_used():
        sixth_place.translate_prediction()
    require("model_dir", "split")
    if FLAGS.test_files:
        name = hashlib.sha256(FLAGS.test_files.encode()).hexdigest()[:8]  # other files of a second call get another folder
        FLAGS.data_dir = os.path.join(FLAGS.model_dir, f"records_test_{name}")
    require("data_dir")
    out = FLAGS.out or os.path.join(FLAGS.model_dir, "predictions", FLAGS.split.replace("+", "_") + _suffix())
    folds = parse_folds(FLAGS.fold)
    from pipeline.answers import priors  # late: TensorFlow takes seconds to import, a mistyped flag should not
    from pipeline.prediction import predict
    from pipeline.records import dataset

    request = predict.Request(
        model_dir=FLAGS.model_dir, split=FLAGS.split, out=out, folds=() if folds == ALL_FOLDS else folds, tta=FLAGS.tta,
        size=FLAGS.size, batch_size=FLAGS.batch_size, tpu=FLAGS.tpu, virtual_replicas=FLAGS.virtual_replicas,
        checkpoint=FLAGS.checkpoint, average=FLAGS.average, neighbours=FLAGS.neighbours)
    predict.make_devices(request)  # first: reading records and a geo prior is computing already
    if FLAGS.test_files:
        _adopt_records()
    on_top = priors.Request(geo_prior=FLAGS.geo_prior_ckpt_dir)
    priors.Priors(on_top, dataset.load(FLAGS.data_dir))  # for its mistakes, which shouldn't wait until all is predicted
    predict.run_prediction(FLAGS.data_dir, request)
    if FLAGS.submission_file_path:
        make_submission.make_submission(FLAGS.data_dir, [out], FLAGS.submission_file_path, priors_request=on_top)


if __name__ == "__main__":
    command.run(main)
