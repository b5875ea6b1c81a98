"""What each step on top of the pictures brings: picture alone, + temperature, + prior correction, + geo, + both, + TTA."""

import dataclasses
import os
from typing import Any, Callable, Mapping, Optional, Sequence, Union

import numpy as np
import pandas as pd

from pipeline import files
from pipeline.answers import (blend, calibration as calibrations, fusion, geo_exponent, predictions, priors as prior_layers,
                              temperature)
from pipeline.answers.example_table import ExampleTable
from pipeline.errors import UserError
from pipeline.evaluation.scoring import Scored
from pipeline.metrics import intervals

_OWN_COLUMNS = ("top1", "top1_interval", "gain", "gain_interval", "geo_exponent", "examples")
PICTURE, TEMPERATURE, CORRECTION = "picture", "+ temperature", "+ prior correction"
GEO, BOTH, TTA = "+ geo", "+ both", "+ TTA"
FIT = object()  # of a temperature, in the place of a path


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
      predicted: a Blend, or a layer of priors over one.
      exponent: of the geo prior, fitted on everything where it is fitted; None: without.
    """

    predicted: Any
    exponent: Optional[float] = None


class View:
    """The blend of several models, ready to be scored with and without a temperature and priors.

    Attributes:
      picture: the blend as it is; weights and temperatures of its members that are fitted are cross-fitted.
      blended: with its temperature, cross-fitted where it is fitted; `picture` where none was asked for.
      told: as a submission is mixed and tempered.
      temperatures: of `blended`; None: none.
    """

    def __init__(self, members: Sequence[predictions.Predictions], blend_text: str, table: ExampleTable,
                 calibration: Any = None):
        """calibration: FIT, or the path of a calibration.json, which is checked; None: no temperature. Raises UserError."""
        self.members = members
        self.mixtures = blend.for_scoring(members, blend_text, table)
        self._table = table
        self.told = self.picture = fusion.Blend(members, self.mixtures.told)
        self._by_group = dict.fromkeys(self.mixtures.by_group, self.picture)
        if blend_text == blend.FITTED:
            self.picture = fusion.Blend(members, self.mixtures.scoring)
            self._by_group = {group: fusion.Blend(members, one) for group, one in self.mixtures.by_group.items()}
        self.blended = self.picture
        self.temperatures = self._temperatures(calibration)
        if self.temperatures:
            self._temper(self.temperatures)

    def _temperatures(self, calibration: Any) -> Optional[temperature.Temperatures]:
        if calibration is FIT:
            return temperature.cross_fit(self.told, self._by_group, self._table)
        given = calibrations.temper(calibration, self.members, self.mixtures.told, self._table.data)
        return given and temperature.Temperatures(given.temperatures, dict.fromkeys(self._by_group, given.temperatures))

    def _temper(self, found: temperature.Temperatures) -> None:
        task = self._table.data.task

        def tempered(blended: fusion.Blend, temperatures: Union[float, np.ndarray]) -> fusion.Blend:
            return fusion.Blend(blended.members, blended.mixture, temper=temperature.Temper(task, temperatures))

        self.blended = tempered(self.picture, self.mixtures.by_example(found.by_group))
        self.told = tempered(self.told, found.told)
        made = {key: tempered(*key) for key in ((one, found.by_group[group]) for group, one in self._by_group.items())}
        self._by_group = {group: made[one, found.by_group[group]] for group, one in self._by_group.items()}

    def lines(self, priors: prior_layers.Priors) -> dict[str, Line]:
        """PICTURE and, where they were asked for, TEMPERATURE, CORRECTION, GEO and BOTH, which are with the temperature; the
        last has everything."""
        lines = {PICTURE: Line(self.picture)}
        if self.temperatures:
            lines[TEMPERATURE] = Line(self.blended)
        if priors.corrects:
            lines[CORRECTION] = Line(priors.correct(self.blended))
        if priors.geo:
            lines[GEO] = self._with_geo(priors, lambda predicted: predicted)
        if priors.corrects and priors.geo:
            lines[BOTH] = self.everything(priors)
        return lines

    def everything(self, priors: prior_layers.Priors) -> Line:
        """With all that was asked for on top."""
        return self._with_geo(priors, priors.correct) if priors.geo else Line(priors.correct(self.blended))

    def of_others(self, others: Sequence[predictions.Predictions], priors: prior_layers.Priors, line: Line):
        """Other predictions of the same models, put together as a line is: by the weights, temperature and exponent that are told."""
        blended = priors.correct(fusion.Blend(others, self.mixtures.told, temper=self.told.temper))
        return priors.fuse(blended, self._table.places(blended.ids), line.exponent) if priors.geo else blended

    def _with_geo(self, priors: prior_layers.Priors, layer: Callable) -> Line:
        """`layer` is what lies between the blend and the geo prior."""
        told = scoring = priors.exponent
        if told == prior_layers.FIT:
            # Where the weights are fitted, a group's exponent comes from blends that its labels had no part in either.
            fitter = geo_exponent.Fitter(layer, priors.geo, self._table)
            told = fitter.on_all(self.told)
            scoring = self.mixtures.by_example(
                {group: fitter.without(group, blended) for group, blended in self._by_group.items()})
        return Line(priors.fuse(layer(self.blended), self._table.places(self.blended.ids), scoring), told)


def of_same_models(members: Sequence[predictions.Predictions], patterns: Sequence[str]) -> list[predictions.Predictions]:
    """The predictions by one view (--without_tta) that belong to `members`, in their order.

    Raises UserError where one is missing, one is left over, or one was made by several views.
    """
    for member in members:
        if member.of_another_program:
            raise UserError(f"--without_tta: {member.directory} was made by another program, whose views are not known")
    found = {_model_of(one): one for one in fusion.find(patterns, "without_tta")}
    ordered = []
    for member in members:
        if _model_of(member) not in found:
            raise UserError(f"--without_tta: none is of {member.meta['model_dir']} (same folds, same split), as "
                            f"{member.directory} is")
        ordered.append(found.pop(_model_of(member)))
    if found:
        raise UserError(f"--without_tta: {next(iter(found.values())).directory} is of none of the models of --predictions")
    for one in ordered:
        if one.meta["tta"] != "none":
            raise UserError(f"--without_tta: {one.directory} was predicted with --tta={one.meta['tta']}, not none")
    return ordered


def _model_of(member: predictions.Predictions) -> tuple[str, str, str]:
    """What the predictions of one model by different views share: model, folds and split."""
    model_dir = member.meta["model_dir"]
    return (model_dir if files.is_remote(model_dir) else os.path.realpath(model_dir), str(member.meta.get("fold")),
            member.meta["split"])


def scores(lines: Mapping[str, Line], scored: Mapping[str, Scored]) -> dict[str, dict[str, Any]]:
    """For each line its scores, top1_interval, gain and gain_interval in top-1 over the first, and geo_exponent if any."""
    resampled = intervals.resampled_means(np.stack([one.hits for one in scored.values()]))
    first = next(iter(scored.values())).summary["top1"]
    found = {}
    for index, (name, one) in enumerate(scored.items()):
        found[name] = {**one.summary, "top1_interval": intervals.interval(resampled[:, index])}
        if index:
            found[name]["gain"] = one.summary["top1"] - first
            found[name]["gain_interval"] = intervals.interval(resampled[:, index] - resampled[:, 0])
        if lines[name].exponent is not None:
            found[name]["geo_exponent"] = lines[name].exponent
    return found


def frame(found: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The table of `scores` for people, a row each line."""
    shown = {}
    for name, one in found.items():
        row = {"top1": one["top1"], "95 %": "{:.4f} to {:.4f}".format(*one["top1_interval"])}
        if len(found) > 1:
            row["gain"] = "{:+.4f}".format(one["gain"]) if "gain" in one else ""
            row["95 % of the gain"] = "{:+.4f} to {:+.4f}".format(*one["gain_interval"]) if "gain" in one else ""
        others = {key: value for key, value in one.items() if key not in _OWN_COLUMNS}
        shown[name] = {**row, **others}
    return pd.DataFrame.from_dict(shown, orient="index")
