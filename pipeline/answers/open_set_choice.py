"""--open_set: the rule that was asked for, or the best one on the same models' predictions of known ones and strangers."""

import os
from typing import Optional, Sequence, Union

from pipeline import files
from pipeline.answers import (how_made, open_set, open_set_fit, open_set_rules, predictions, priors as prior_layers, ranking,
                              unlabelled, unseen)
from pipeline.answers.example_table import ExampleTable
from pipeline.answers.mixture import Mixture
from pipeline.errors import UserError
from pipeline.records import dataset as datasets

FLAG = f"--open_set={open_set_rules.FIT}"
_ADVICE = "train by --fold=all --hold_out_classes=0.2, or give a rule: first, sum, threshold:0.4"


def choose(text: str, share: float, members: Sequence[predictions.Predictions], blend_text: Union[str, Mixture],
           request: prior_layers.Request, data: datasets.Dataset, calibration: Optional[str] = None) -> str:
    """The rule for pictures without labels, as open_set_rules.parse reads it; a fitted one is told. Raises UserError.

    Args:
      text: of --open_set; share: of --stranger_share.
      members, blend_text, request, calibration: what answers are made of; fitted on the same models' out-of-fold predictions, put
        together in the same way.
    """
    check(text, data)
    if text != open_set_rules.FIT:
        return text
    labelled = [unlabelled.labelled_of(one, FLAG, (predictions.OUT_OF_FOLD,)) for one in members]
    how_made.tell_differences(FLAG, labelled, members)
    table = ExampleTable.of(labelled[0], data)
    for one in labelled:
        table.check(one)
    others = of_strangers(labelled)
    combined, of_others = (some and unlabelled.combine(some, blend_text, request, data, calibration)
                           for some in (labelled, others))
    pictures = open_set_fit.gather(combined, table, of_others, seen_alike(labelled))
    fitted = fit(pictures, share, labelled)
    print(f"open set: {fitted.told(ranking.count_answers(data))}")
    return str(fitted.rule)


def check(text: str, data: datasets.Dataset) -> None:
    """Raises UserError where the answers have no word for strangers, and the rule is for such."""
    if text not in open_set.RULES and not (data.manifest.unknown_answer and data.task.exclusive):
        raise UserError(f"--open_set={text}: {data.directory} has no answer for what is none of its known classes")


def fit(pictures: open_set_fit.Pictures, share: float, members: Sequence[predictions.Predictions]) -> open_set_fit.Fitted:
    """The best rule. Raises UserError where the predictions of `members` know no strangers that models have not seen."""
    unseen.require(members, FLAG)
    if seen_alike(members) is None:
        raise UserError(f"{FLAG}: {members[0].directory} and the others leave out different classes, or some none; train "
                        "them on the same records with the same --hold_out_classes")
    if not pictures.has_strangers:
        raise UserError(f"{FLAG}: {members[0].directory} has no pictures of classes that its models have not seen; "
                        f"{_ADVICE}")
    return open_set_fit.fit(pictures, share)


def is_unseen(members: Sequence[predictions.Predictions]) -> bool:
    """Whether all tell which classes they leave out, the same ones, and that they have seen none of the pictures."""
    return bool((seen_alike(members) or {}).get("strangers")) and not any(map(unseen.seen_pictures, members))


def seen_alike(members: Sequence[predictions.Predictions]) -> Optional[dict]:
    """"seen" of the first one's meta.json; None where it tells none, or another leaves out other classes."""
    told = [one.meta.get("seen") for one in members]
    alike = all((one or {}).get("strangers") == (told[0] or {}).get("strangers") for one in told)
    return told[0] if alike else None


def of_strangers(members: Sequence[predictions.Predictions]) -> Optional[list[predictions.Predictions]]:
    """What the models of out-of-fold predictions say of the strangers that other folds hold out: beside these, or in the
    model directory. None unless all have that, of the same classes."""
    found = [_beside(one) for one in members]
    return None if None in found else found


def _beside(one: predictions.Predictions) -> Optional[predictions.Predictions]:
    left_out = (one.meta.get("seen") or {}).get("strangers")
    if one.meta.get("neighbours"):
        return None  # what stands there is the head's
    for folder in (os.path.dirname(one.directory.rstrip("/")), one.meta["model_dir"]) if left_out else ():
        place = os.path.join(folder, predictions.STRANGERS)
        if files.exists(os.path.join(place, predictions.META_FILE)):
            other = predictions.Predictions(place)
            theirs = other.meta["seen"]["strangers"]  # of the folds that others hold strangers out for
            if theirs.items() <= left_out.items():
                return other
    return None
