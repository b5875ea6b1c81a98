"""Makes the model to hand over of what made predictions: python export.py --data_dir=… --predictions=… --out=…"""

from absl import flags

from pipeline import command, flag_help
from pipeline.answers import answer_flags, prior_flags
from pipeline.flag_types import define_path, define_paths, require

FLAGS = flags.FLAGS


def define_flags() -> None:
    flag_help.heading("What is exported")
    define_path("data_dir", "Folder of shards, as create_tfrecords.py makes it (local or gs://).")
    define_paths("predictions", "Folder of predict.py, or a glob; repeated. The networks that made them are exported, with "
                 "the same checkpoints, folds, views and size.")
    answer_flags.define()
    define_path("gallery", "Local folder of individuals that no network was trained on, with photos in a folder each (FOLDER/NAME/"
                "….jpg): they are added by likeness, without training.")
    flag_help.heading("What is written")
    define_path("out", "Folder of the export: a SavedModel, model.json, MODEL_CARD.md.")
    define_path("scores", "The scores that the model card tells: JSON of evaluate.py --out.")
    flags.DEFINE_string("license", "", "The licence that the model card tells, of the model and of what it learnt from.")
    flags.DEFINE_boolean("tflite", False, "Write model.tflite and model_int8.tflite too: the networks by one view, "
                         "without priors. How they agree with the export on 100 pictures is told.")
    flag_help.usual("data_dir", "predictions", "out", "blend", "geo_prior")


def main() -> None:
    require("data_dir", "predictions", "out")
    from dataset_tools import image_bytes  # late: TensorFlow takes seconds to import, a mistyped flag should not
    from pipeline.export import export, parts

    export.run_export(FLAGS.data_dir, parts.Request(
        predictions=FLAGS.predictions, out=FLAGS.out, blend=FLAGS.blend, calibration=FLAGS.calibration,
        priors=prior_flags.request(), threshold=FLAGS.threshold, min_samples=FLAGS.min_samples, open_set=FLAGS.open_set,
        stranger_share=FLAGS.stranger_share, scores=FLAGS.scores, license=FLAGS.license, tflite=FLAGS.tflite,
        gallery=FLAGS.gallery), image_bytes.prepare)


if __name__ == "__main__":
    define_flags()
    command.run(main)
