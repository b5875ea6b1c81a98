"""What evaluate.py is asked for, whatever the task."""

import dataclasses
from typing import Optional, Sequence

from pipeline.answers import blend, priors as prior_layers


@dataclasses.dataclass(frozen=True)
class Request:
    """What evaluate.py was asked for, beside the data."""

    predictions: Sequence[str]            # folders or globs, or files of another program
    split: Optional[str] = None           # of such files; None: the one that has their ids
    blend: str = blend.EQUAL
    calibrate: bool = False               # fit a temperature
    calibration: Optional[str] = None     # calibration.json: to write where calibrate, else to apply
    without_tta: Sequence[str] = ()       # folders or globs: the same models by one view
    priors: prior_layers.Request = prior_layers.Request()
    out: Optional[str] = None             # JSON
    report: Optional[str] = None          # HTML
    model_dirs: Sequence[str] = ()        # empty: those that the predictions name
    threshold: Optional[float] = None     # with several labels a picture: given; None: fitted
    open_set: Optional[str] = None        # a rule of open_set that is scored too, or fit; None: fit where it can be
    stranger_share: float = 0.33          # of the pictures, in the mixture that scores of an open set are told for
    min_samples: int = 0                  # with several labels a picture: rarer ones are not answered
