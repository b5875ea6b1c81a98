"""Scores predictions of a split whose labels are known: python evaluate.py --data_dir=… --predictions=…"""

from absl import flags

from pipeline import command
from pipeline.flag_types import require

FLAGS = flags.FLAGS
flags.DEFINE_string("data_dir", None, "Folder of shards, as create_tfrecords.py makes it (local or gs://).")
flags.DEFINE_multi_string("predictions", [], "Folder of predict.py, or a glob; repeated. Several are averaged.")
flags.DEFINE_string("out", None, "Write the scores as JSON to this file too.")


def main() -> None:
    require("data_dir", "predictions")
    from pipeline import evaluation  # late: NumPy and pandas take a moment to import, and a mistyped flag should not

    evaluation.run_evaluation(FLAGS.data_dir, FLAGS.predictions, FLAGS.out)


if __name__ == "__main__":
    command.run(main)
