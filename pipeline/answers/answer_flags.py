"""The flags of make_submission.py and export.py for how predictions are blended and what is answered."""

from absl import flags

from pipeline.answers import prior_flags
from pipeline.flag_help import heading
from pipeline.flag_types import define_float, define_path


def define() -> None:
    """The blend, what is known before the picture is seen (prior_flags), and the heading "Answers" with its first flags."""
    flags.DEFINE_string("blend", "equal", "Weights of several predictions: equal, given (2:1), or oof: fitted on the same "
                        "models' out-of-fold (or val) predictions.")
    define_path("calibration", "calibration.json of evaluate.py --calibrate: the temperature to put on the blend of the "
                "same models.")
    prior_flags.define()
    heading("Answers")
    define_float("threshold", None, "Where a picture has several labels (imet2019): answer those of at least this "
                 "probability. Default: fitted on the same models' out-of-fold (or val) predictions.", high=1.0)
    flags.DEFINE_integer("min_samples", 0, "Where a picture has several labels: never answer those that fewer pictures of "
                         "train have.", 0)
    flags.DEFINE_enum("open_set", "first", ["first", "sum"], "Where some classes may only be answered as unknown "
                      "(turtle_recall): unknown ranks as the first of them, or by the sum of their probabilities.")
