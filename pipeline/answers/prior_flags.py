"""The flags of evaluate.py, make_submission.py and export.py for what is known before the picture is seen."""

import math

from absl import flags

from pipeline.errors import UserError
from pipeline.flag_help import heading
from pipeline.flag_types import define_float, define_path

FLAGS = flags.FLAGS


def define() -> None:
    heading("What is known before the picture is seen")
    define_path("geo_prior", "Folder of train_geo_prior.py: the probabilities of a picture with a place are multiplied by "
                "those of the classes at its place and date.")
    flags.DEFINE_string("geo_exponent", "1", "Power of the geo prior, which tempers it, or fit: the one with the smallest "
                        "log loss on predictions whose labels are known.")
    define_float("prior_correction", 0.0, "Divide the probabilities by the shares of the classes that the model was trained "
                 "with to this power: 0 off, 1 for sets in which all classes are equally frequent.")


def request():
    """What they ask for, as a priors.Request. Raises UserError."""
    from pipeline.answers import priors  # late: NumPy and pandas take a moment to import, and a mistyped flag should not

    if FLAGS["geo_exponent"].present and not FLAGS.geo_prior:
        raise UserError("--geo_exponent goes with --geo_prior, which is missing")
    exponent = FLAGS.geo_exponent if FLAGS.geo_exponent == priors.FIT else _number(FLAGS.geo_exponent)
    return priors.Request(FLAGS.geo_prior, exponent, FLAGS.prior_correction)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise UserError(f"--geo_exponent={text} is neither fit nor a number of 0 or more")
    return number
