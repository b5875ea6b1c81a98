"""Several models and priors put together for pictures without labels, as one prediction: what a submission is made of.

Weights and exponents that are to be fitted are fitted on predictions of the same models whose labels are known.
"""

from typing import Optional, Sequence, Union

from pipeline.answers import (blend, calibration as calibrations, fusion, geo_exponent, how_made, predictions,
                              priors as prior_layers)
from pipeline.answers.example_table import ExampleTable
from pipeline.answers.mixture import Mixture
from pipeline.answers.temperature import Temper
from pipeline.errors import UserError
from pipeline.records import dataset as datasets


def labelled_of(member: predictions.Predictions, flag: str, places: Sequence[str]) -> predictions.Predictions:
    """blend.labelled_of the member's model; raises UserError, which begins with `flag`, where there are none."""
    if member.of_another_program:
        raise UserError(f"{flag}: {member.directory} was made by another program, of whose model nothing with labels is "
                        "known to fit on; give numbers")
    model_dir = member.meta["model_dir"]
    found = blend.labelled_of(member, places)
    neighbours = member.meta.get("neighbours")
    if found is None and neighbours:
        raise UserError(f"{flag}: {model_dir} has no predictions by {neighbours} neighbours of pictures with labels that "
                        f"it has not seen: predict.py --split=train (or val) --neighbours={neighbours} makes some, without --out")
    if found is None:
        raise UserError(f"{flag}: {model_dir} has no out-of-fold predictions and none of val that it has not seen; train it "
                        "by --fold=all, or predict val into its predictions/val")
    return found


def mixture(members: Sequence[predictions.Predictions], text: Union[str, Mixture], data: datasets.Dataset) -> Mixture:
    """What --blend stands for, or is known already. Raises UserError."""
    if isinstance(text, Mixture):
        return text
    if text != blend.FITTED:
        return Mixture(blend.parse(text, len(members)))
    labelled = [labelled_of(member, f"--blend={text}", (predictions.OUT_OF_FOLD, blend.VAL)) for member in members]
    how_made.tell_differences(f"--blend={text}", labelled, members)
    return blend.fit_members(labelled, ExampleTable.of(labelled[0], data))[0]


def fitted_exponent(members: Sequence[predictions.Predictions], mixed: Mixture, priors: prior_layers.Priors,
                    data: datasets.Dataset, temper: Optional[Temper] = None) -> float:
    """The exponent of --geo_exponent=fit for members that are so mixed, with this temperature. Raises UserError."""
    # Val first: the geo prior, which knows no folds, was trained on the places of train.
    flag = f"--geo_exponent={prior_layers.FIT}"
    labelled = [labelled_of(member, flag, (blend.VAL, predictions.OUT_OF_FOLD)) for member in members]
    how_made.tell_differences(flag, labelled, members)
    table = ExampleTable.of(labelled[0], data)
    for warning in prior_layers.warnings_of(table.split):
        print(f"warning: {warning}")
    fitter = geo_exponent.Fitter(priors.correct, priors.geo, table)
    return fitter.on_all(fusion.Blend(labelled, mixed, temper=temper))


def combine(members: Sequence[predictions.Predictions], blend_text: Union[str, Mixture], request: prior_layers.Request,
            data: datasets.Dataset, calibration: Optional[str] = None):
    """The blend of the members with the temperature of a calibration.json and the priors on top. Raises UserError.

    Args: blend_text: of --blend, or what it stands for.
    """
    mixed = mixture(members, blend_text, data)
    temper = calibrations.temper(calibration, members, mixed, data)
    blended = fusion.Blend(members, mixed, temper=temper)
    if blended.class_ids != data.class_ids:
        raise UserError(f"--predictions: their classes are not those of {data.directory}")
    if temper:
        print(f"temperature {temper.temperatures:.3f} on the blend ({calibration})")
    if not data.task.exclusive:
        prior_layers.refuse(request, data)
        return blended
    priors = prior_layers.Priors(request, data)
    exponent = request.geo_exponent
    if exponent == prior_layers.FIT and priors.geo:
        exponent = fitted_exponent(members, mixed, priors, data, temper)
    places = ExampleTable(data, blended.meta["split"]).places(blended.ids)
    if priors.geo:
        placed = prior_layers.has_place(places).sum()
        print(f"geo prior: {placed} of {len(places)} pictures have a place; exponent {exponent:.3f}")
    return priors.fuse(priors.correct(blended), places, exponent)
