"""Scores predictions of a split whose labels are known: python evaluate.py --data_dir=… --predictions=…"""

from absl import flags

from pipeline import command, flag_help
from pipeline.answers import answer_flags, prior_flags
from pipeline.flag_types import define_float, define_path, define_paths, require

FLAGS = flags.FLAGS
flag_help.heading("Which")
define_path("data_dir", "Folder of shards, as create_tfrecords.py makes it (local or gs://).")
define_paths("predictions", "Folder of predict.py, or a file of another program (.npz or .npy with ids and class ids, see "
             "docs/ensembles.md), or a glob; repeated. Several are averaged.")
flags.DEFINE_string("split", None, "With files of another program: the split of their pictures. Default: the one that has "
                    "all their ids.")
flags.DEFINE_string("blend", "equal", "Weights of several predictions: equal, given (2:1), or oof: fitted on the labels, "
                    "with a temperature of each, and scored by cross-fitting.")
define_path("calibration", "calibration.json: the temperature to put on the blend; with --calibrate where to write it. "
            "Default of that: beside the first predictions' folder.")
prior_flags.define()
flag_help.heading("How they are scored")
flags.DEFINE_boolean("calibrate", False, "Fit a temperature on these predictions, of pictures that no model has seen; "
                     "scored by cross-fitting.")
define_paths("without_tta", "Predictions of the same models by one view, or a glob; repeated. The priors' gains are told "
             "for these, and the last line of the table is all of it with --predictions.")
flags.DEFINE_integer("min_samples", 0, "Where a picture has several labels: never answer those that fewer pictures of "
                     "train have.", 0)
define_float("threshold", None, "Where a picture has several labels: score the answers of at least this probability, in "
             "hundredths. Default: fitted, and scored by cross-fitting.", low=0.01, high=0.99)
answer_flags.define_open_set(None)
flag_help.heading("What is written")
define_path("out", "Write the scores as JSON to this file too.")
define_path("report", "Write a page of scores, mistakes and training curves to this file (HTML).")
define_paths("model_dir", "Runs whose training curves the report draws. Default: the predictions' own.")
flag_help.usual("data_dir", "predictions", "blend", "geo_prior", "report")


def main() -> None:
    require("data_dir", "predictions")
    # late: NumPy and pandas take a moment to import, and a mistyped flag should not
    from pipeline.evaluation import evaluate as evaluation

    evaluation.run_evaluation(FLAGS.data_dir, evaluation.Request(
        predictions=FLAGS.predictions, split=FLAGS.split, blend=FLAGS.blend, calibrate=FLAGS.calibrate,
        calibration=FLAGS.calibration, without_tta=FLAGS.without_tta, priors=prior_flags.request(),
        min_samples=FLAGS.min_samples, threshold=FLAGS.threshold, open_set=FLAGS.open_set,
        stranger_share=FLAGS.stranger_share, out=FLAGS.out,
        report=FLAGS.report, model_dirs=FLAGS.model_dir))


if __name__ == "__main__":
    command.run(main)
