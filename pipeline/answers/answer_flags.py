"""The flags of make_submission.py and export.py for how predictions are blended and what is answered."""

from typing import Optional

from absl import flags

from pipeline.answers import open_set_rules, prior_flags
from pipeline.flag_help import heading
from pipeline.flag_types import define_float, define_path


def define() -> None:
    """The blend, what is known before the picture is seen (prior_flags), and the heading "Answers" with its first flags."""
    flags.DEFINE_string("blend", "equal", "Weights of several predictions: equal, given (2:1), or oof: fitted on the same "
                        "models' out-of-fold (or val) predictions, with a temperature of each.")
    define_path("calibration", "calibration.json of evaluate.py --calibrate: the temperature to put on the blend of the "
                "same models.")
    prior_flags.define()
    heading("Answers")
    define_float("threshold", None, "Where a picture has several labels (imet2019): answer those of at least this "
                 "probability. Default: fitted on the same models' out-of-fold (or val) predictions.", high=1.0)
    flags.DEFINE_integer("min_samples", 0, "Where a picture has several labels: never answer those that fewer pictures of "
                         "train have.", 0)
    define_open_set("first")


def define_open_set(default: Optional[str]) -> None:
    """--open_set and the mixture that its fit is for; evaluate.py has them too."""
    flags.DEFINE_flag(flags.Flag(OpenSetParser(), flags.ArgumentSerializer(), "open_set", default, (
        "Where some classes may only be answered as unknown (turtle_recall): unknown ranks as the first of them (first), by "
        "the sum of their probabilities (sum; sum:2: twice it), or before the first known class whose probability is not "
        "above a threshold (threshold:0.4). fit: the best of all on the same models' out-of-fold predictions, which must "
        "hold strangers (multi_stage_train.py --hold_out_classes); what it is expected to score is told.")))
    define_float("stranger_share", 0.33, "The share of pictures of strangers (of classes that train does not have) that "
                 "--open_set=fit is for, and that expected scores are told for; the others are of known classes.", high=1.0)


class OpenSetParser(flags.ArgumentParser):
    """A rule of open_set, or fit."""

    def parse(self, argument):
        if argument != open_set_rules.FIT:
            open_set_rules.parse(argument)
        return argument
