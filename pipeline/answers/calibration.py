"""calibration.json: the temperature that evaluate.py --calibrate fitted, on what, and what it brings there."""

import dataclasses
import os
from typing import Any, Optional, Sequence

import numpy as np

from pipeline import files, json_types
from pipeline.answers import how_made, predictions
from pipeline.answers.mixture import Mixture
from pipeline.answers.temperature import Temper
from pipeline.errors import UserError
from pipeline.records import dataset as datasets

FILE = "calibration.json"
FORMAT_VERSION = 1
FLAG = "--calibration"
_CLOSE = 1e-3  # of a weight
# Of predictions' meta.json, what tells which models made them, and how.
_KEPT = ("model", "model_dir", "fold", "trained", "checkpoint", "average", "tta", "size", "out_of_fold", "split", "dataset")


@dataclasses.dataclass(frozen=True)
class Fitted:
    """Predictions that it was fitted on, as how_made compares them.

    Attributes:
      meta: of meta.json, what tells which models made them and how.
      weight: in the blend.
      temperature: of its own, under the blend; 1: none.
    """

    directory: str
    weight: float
    meta: dict[str, Any]
    temperature: float = 1.0


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What a calibration.json holds.

    Attributes:
      temperature: fitted on all of the pictures.
      by_group: for each cross-fitting group (a fold, mostly) the temperature that was fitted without it.
      kind: of the task; classes: their digest; split, contents: of the pictures, the latter as the manifest identifies them.
      blend: --blend, by which the members' weights came about.
      examples: pictures that have a label.
      scores: by line, without and with the temperature, cross-fitted: log loss and calibration error with intervals, bins.
    """

    temperature: float
    by_group: dict[str, float]
    kind: str
    classes: str
    split: str
    contents: str
    blend: str
    examples: int
    members: tuple[Fitted, ...]
    scores: dict[str, Any]
    format: int = FORMAT_VERSION


def fitted_on(members: Sequence[predictions.Predictions], mixture: Mixture) -> tuple[Fitted, ...]:
    return tuple(Fitted(one.directory, float(mixture.weights[index]), {name: one.meta.get(name) for name in _KEPT},
                        mixture.temperature_of(index))
                 for index, one in enumerate(members))


def default_path(first: predictions.Predictions) -> str:
    """Beside the folder of the first predictions."""
    return os.path.join(os.path.dirname(first.directory.rstrip("/")), FILE)


def write(path: str, calibration: Calibration) -> None:
    files.write_json(path, dataclasses.asdict(calibration))


def read(path: str) -> Calibration:
    """Raises UserError where the file is none of evaluate.py --calibrate, or one of another version."""
    fields = files.read_json(path)
    version = fields.get("format") if isinstance(fields, dict) else None
    if version != FORMAT_VERSION:
        raise UserError(f"{FLAG}: {path} has format {version!r}, this program reads {FORMAT_VERSION}; evaluate.py "
                        "--calibrate makes one")
    try:
        found = Calibration(**{**fields, "members": tuple(Fitted(**one) for one in fields["members"])})
        for one in (found, *found.members):
            json_types.check(one)
        for one in found.members:
            _trained(one.meta)
        if not (np.isfinite(found.temperature) and found.temperature > 0):
            raise TypeError(f"temperature is {found.temperature}")
    except (KeyError, TypeError) as error:
        raise UserError(f"{FLAG}: {path} was not written by evaluate.py, or was edited: {error}") from None
    return found


def temper(path: Optional[str], members: Sequence[predictions.Predictions], mixture: Mixture,
           data: datasets.Dataset) -> Optional[Temper]:
    """The temperature of --calibration for members that are so mixed; None: none was asked for.

    Raises UserError, which says what differs, where it was fitted on other models, classes or weights. Where it was fitted
    on predictions that were made otherwise (by other views, say) a line says so.
    """
    if not path:
        return None
    found = read(path)
    if (found.kind, found.classes) != (data.task.kind, data.classes_digest()):
        raise UserError(f"{FLAG}: {path} was fitted for other classes than those of {data.directory}")
    how_made.tell_differences(FLAG, _pair(found, path, members, mixture), members)
    return Temper(data.task, found.temperature)


def _pair(found: Calibration, path: str, members: Sequence[predictions.Predictions], mixture: Mixture) -> list[Fitted]:
    """For each member the predictions of its models that the temperature was fitted on. Raises UserError."""
    left, paired = list(found.members), []
    for member in members:
        one = next((one for one in left if _of_same_models(one, member)), None)
        if one is None:
            raise UserError(f"{FLAG}: {path} was fitted on {', '.join(one.directory for one in found.members)}, and not on "
                            f"predictions of the models that made {member.directory}; evaluate.py --calibrate fits anew")
        left.remove(one)
        paired.append(one)
    left = [one for one in left if one.weight > _CLOSE]
    if left:
        raise UserError(f"{FLAG}: {path} was fitted on {left[0].directory} too; predictions of its models are missing here")
    for index, (member, one) in enumerate(zip(members, paired)):
        weight, temperature = mixture.weights[index], mixture.temperature_of(index)
        if abs(one.weight - weight) > _CLOSE:
            raise UserError(f"{FLAG}: {path} was fitted where {one.directory} weighs {one.weight:.3f}; {member.directory} "
                            f"weighs {weight:.3f} here: give the same --blend, or fit anew")
        if abs(one.temperature - temperature) > _CLOSE and weight > _CLOSE:
            raise UserError(f"{FLAG}: {path} was fitted where {one.directory} has a temperature of {one.temperature:.3f} of its "
                            f"own; {member.directory} has {temperature:.3f} here: give the same --blend, or fit anew")
    return paired


def _of_same_models(fitted: Fitted, member: predictions.Predictions) -> bool:
    """Whether the models of a member are among those that a temperature was fitted on.

    Wherever they lie now, they tell how far each was trained; where that is not told, the run's folder counts. Of other
    programs' models nothing is known: a file of theirs may be of any of theirs.
    """
    then, now = _trained(fitted.meta), _trained(member.meta)
    if fitted.meta.get("model") != member.meta.get("model") or not set(now) <= set(then):
        return False
    told = [fold for fold in now if now[fold] and then[fold]]
    if told:
        return all(now[fold] == then[fold] for fold in told)
    folders = [os.path.realpath(one.get("model_dir") or "") for one in (fitted.meta, member.meta)]
    return folders[0] == folders[1]


def _trained(meta: dict[str, Any]) -> dict[Optional[int], Any]:
    """By fold, how far its model was trained; None: it is not told."""
    folds, trained = (meta.get(name) if isinstance(meta.get(name), list) else [meta.get(name)] for name in ("fold", "trained"))
    return {**dict.fromkeys(folds), **dict(zip(folds, trained))}


def warnings(path: Optional[str], split: str, data: datasets.Dataset) -> list[str]:
    """A sentence where what is scored is what the temperature was fitted on."""
    if not path:
        return []
    found = read(path)
    if found.split != split or found.contents != data.identity(split)["contents"]:
        return []
    return [f"{path} was fitted on these pictures, so that log loss and calibration error are too good; --calibrate scores "
            "by cross-fitting"]
