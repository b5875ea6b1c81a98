"""evaluate.py --calibrate and --calibration: which temperature a View gets, and what is told and written of it."""

from typing import Any, Mapping, Sequence

from pipeline.answers import calibration as calibrations, predictions, unseen
from pipeline.answers.example_table import ExampleTable
from pipeline.evaluation import ablation, certainty
from pipeline.evaluation.request import Request


def asked(request: Request, members: Sequence[predictions.Predictions]) -> Any:
    """What of a temperature ablation.View is to have. Raises UserError where one can't be fitted on these predictions."""
    if not request.calibrate:
        return request.calibration
    unseen.require(members, "--calibrate")
    return ablation.FIT


def scores(lines: Mapping[str, Any], table: ExampleTable, view: ablation.View) -> dict[str, dict[str, Any]]:
    """certainty.scores of the blend as it is, of it with its temperature, and of everything on top; with intervals where
    there is a temperature.

    Args: lines: what is scored by name, the last with everything.
    """
    last = list(lines)[-1]
    chosen = {ablation.PICTURE: view.picture}
    if view.temperatures:
        chosen[ablation.TEMPERATURE] = view.blended
    if last not in chosen:
        chosen[last] = lines[last]
    measured = {name: certainty.measure(one, table) for name, one in chosen.items()}
    return certainty.scores(measured, with_intervals=bool(view.temperatures))


def told(found: Mapping[str, Mapping[str, Any]], view: ablation.View) -> list[str]:
    """Sentences for people, beside certainty.frame."""
    if view.temperatures:
        several = sorted(set(view.temperatures.by_group.values()))
        how = f" (on all; cross-fitted {several[0]:.3f} to {several[-1]:.3f})" if len(several) > 1 else ""
        return [f"temperature {view.temperatures.told:.3f}{how}"]
    one = found[ablation.PICTURE]
    return [f"expected calibration error {one['ece']:.4f} ({len(one['bins'])} bins of equal mass); --calibrate fits a "
            "temperature"]


def write(found: Mapping[str, Mapping[str, Any]], view: ablation.View, table: ExampleTable, request: Request) -> None:
    """calibration.json, where --calibrate asks for one."""
    if not request.calibrate:
        return
    path = request.calibration or calibrations.default_path(view.members[0])
    data = table.data
    calibrations.write(path, calibrations.Calibration(
        temperature=view.temperatures.told,
        by_group={str(group): one for group, one in view.temperatures.by_group.items()},
        kind=data.task.kind, classes=data.classes_digest(), split=table.split, contents=data.identity(table.split)["contents"],
        blend=request.blend, examples=sum(row["count"] for row in found[ablation.PICTURE]["bins"]),
        members=calibrations.fitted_on(view.members, view.mixtures.told),
        scores={name: found[name] for name in (ablation.PICTURE, ablation.TEMPERATURE)}))
    print(f"calibration: {path}")
