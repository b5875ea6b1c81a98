"""Compiles a recipe for a TPU that is not there, and tells what it would need: python preflight.py --flagfile=configs/….flags"""

import os
import sys

from absl import flags

import multi_stage_train
from pipeline import command, flag_help
from pipeline.flag_types import define_path, require
from pipeline.training import sixth_place, sixth_place_flags

FLAGS = flags.FLAGS
flag_help.elsewhere("Beside these, every flag of a recipe may be given: python multi_stage_train.py --help lists them.")
flags.DEFINE_string("topology", "v3:2x2", "The TPU: its kind and its chips. v3:2x2 is a v3-8; also v2:2x2, v4:2x2x1, v5e:2x4.")
flags.DEFINE_boolean("fit", False, "Also find the largest batch a core that fits, by compiling others (many minutes).")
flags.DEFINE_boolean("all_recipes", False, "Every recipe under configs/, each with the flags that were given beside.")
define_path("cache_dir", "Where results are kept, so that nothing is compiled twice [runs/preflight].")
define_path("out", "Also write the table to this file, as it comes.")
flag_help.usual("topology", "fit", "all_recipes", "data_dir", "cache_dir", "out")

CONFIGS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "configs")
NOT_A_FIT = 1  # the exit code where a step does not fit


def main() -> None:
    # Late: TensorFlow takes seconds to import, and a mistyped flag should not.
    from pipeline.preflight import all_recipes, recipe, roofline, rows

    roofline.find(FLAGS.topology)
    request = rows.Request(FLAGS.topology, FLAGS.cache_dir or os.path.join("runs", "preflight"), FLAGS.fit)
    if FLAGS.all_recipes:
        beside = [argument for argument in sys.argv[1:] if argument.lstrip("-") != "all_recipes"]
        fits = all_recipes.check(CONFIGS, request, [*beside, "--out="], FLAGS.out)
    else:
        if sixth_place_flags.is_used():
            sixth_place.translate_training()
        require("model")
        fits = recipe.check(multi_stage_train.make_run(multi_stage_train.resolve_stages(), None), request, FLAGS.out)
    if not fits:
        sys.exit(NOT_A_FIT)


if __name__ == "__main__":
    command.run(main)
