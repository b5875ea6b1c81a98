"""Finds what a trained model looks at, as a box (and a mask) for every picture: python localize.py --data_dir=… --model_dir=…"""

import os

from absl import flags

from pipeline import command, flag_help, preemption
from pipeline.devices import strategy_flags
from pipeline.flag_types import define_float, define_on_off, define_path, require

FLAGS = flags.FLAGS
flag_help.heading("Which pictures and boxes")
define_path("data_dir", "Folder of shards, as create_tfrecords.py makes it (local or gs://).")
define_path("model_dir", "A finished run of multi_stage_train.py on whole pictures, the coarse model.")
flags.DEFINE_string("name", None, "Name of the boxes, which multi_stage_train.py takes as --boxes. Default: the last part of "
                    "--model_dir.")
flags.DEFINE_string("split", None, "Split to localize in; several joined by + (train+val). Default: all there are.")
flag_help.heading("From map to box")
define_float("cam_threshold", 0.3, "What reaches this share of the activation map's maximum belongs to the object.",
             high=1.0)
define_float("min_box", 0.1, "Boxes grow to this share of the picture's area at least.", high=1.0)
define_float("box_padding", 0.05, "Boxes get this share of their width and height on each side.")
define_on_off("masks", False, "Keep a mask beside each box: which of 32 x 32 cells of the picture the object takes. "
              "multi_stage_train.py --augment=mask and predict.py --tta=mask16 take squares around its points.")
flag_help.heading("The run")
flags.DEFINE_integer("size", None, "Pixels, height = width; more make a finer map. Default: half as many again "
                     "as in the last stage.", 1)
flags.DEFINE_integer("batch_size", 32, "Pictures a step, over all replicas.", 1)
strategy_flags.define()
flag_help.heading("To look at")
define_path("contact_sheet", "Draw boxes on pictures (of val where it was asked for, else of test) into this PNG.")
flags.DEFINE_integer("contact_sheet_pictures", 20, "So many of them.", 1)
flag_help.usual("data_dir", "model_dir", "name", "contact_sheet")


def main() -> None:
    preemption.watch()
    require("data_dir", "model_dir")
    name = FLAGS.name or os.path.basename(FLAGS.model_dir.rstrip("/"))
    from pipeline.prediction import contact_sheet, localize, map_to_box  # late: TensorFlow takes seconds to import

    rule = map_to_box.Rule(FLAGS.cam_threshold, FLAGS.min_box, FLAGS.box_padding)
    boxes = localize.run_localization(FLAGS.data_dir, localize.Request(
        model_dir=FLAGS.model_dir, name=name, rule=rule, masks=FLAGS.masks, split=FLAGS.split, size=FLAGS.size,
        batch_size=FLAGS.batch_size, tpu=FLAGS.tpu, virtual_replicas=FLAGS.virtual_replicas))
    if FLAGS.contact_sheet:
        contact_sheet.write(FLAGS.contact_sheet, FLAGS.data_dir, boxes, FLAGS.split, FLAGS.contact_sheet_pictures)


if __name__ == "__main__":
    command.run(main)
