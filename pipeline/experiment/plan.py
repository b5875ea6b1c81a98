"""An experiment as a list of steps: plain data, which nothing is computed or read for.

The steps up to the models follow from the settings; those after them from what of the models stands by then.
"""

import os
from typing import Sequence

from pipeline.experiment import flag_text, members as of_members
from pipeline.experiment.members import Group, Member
from pipeline.experiment.settings import DEFAULT_FOLDS, Recipe, Settings
from pipeline.experiment.stamps import Step
from pipeline.records import boxes as boxes_of, schema

RECORDS, GEO_PRIOR = "records", "geo_prior"
SUBMISSION, SCORES, REPORT, TEST_SCORES = "submission.csv", "scores.json", "report.html", "test_scores.json"
EXPORT = "export"
# Of make_submission.py and export.py, beside the priors.
_OF_EXPORT = ("calibration", "threshold", "min_samples", "open_set", "stranger_share")
ONE_VIEW = "test_one_view"  # predictions of test by one view, so that the scores tell what the views bring


def record_flags(settings: Settings) -> list[str]:
    """Flags of create_tfrecords.py beside its folders; those of --record_flags stand last and win."""
    by_folds = settings.by_auto or any(recipe.value("fold") for recipe in settings.recipes)
    folds = DEFAULT_FOLDS if settings.folds is None else settings.folds
    found = [f"--folds={folds}"] if by_folds and folds else []
    found += [f"--random_seed={settings.record_seed}"] if settings.record_seed is not None else []
    return found + settings.passed_on["record_flags"]


def records_step(settings: Settings) -> Step:
    return Step(RECORDS, "create_tfrecords.py",
                (f"--competition={settings.competition}", f"--data_dir={settings.data_dir}", f"--out_dir={settings.records}",
                 *settings.raw_flags, *record_flags(settings)),
                inputs=("raw:",), outputs=(f"records:{settings.records}",),
                marker=os.path.join(settings.records, schema.EXAMPLES_FILE))  # without it all is written anew


def training_steps(settings: Settings) -> list[Step]:
    """Geo prior, then model after model, each with the boxes that it trains on before it."""
    steps = [_geo_prior_step(settings)] if settings.geo_prior else []
    for recipe in settings.recipes:
        boxes = recipe.value("boxes")
        if boxes and f"boxes {boxes}" not in [one.name for one in steps]:
            steps.append(_boxes_step(settings, boxes))
        steps.append(_train_step(settings, recipe))
    return steps


def _geo_prior_step(settings: Settings) -> Step:
    return Step(GEO_PRIOR, "train_geo_prior.py",
                (f"--flagfile={settings.geo_prior}", f"--competition={settings.competition}",
                 f"--data_dir={settings.data_dir}", f"--model_dir={settings.geo_prior_dir}", *settings.raw_flags),
                inputs=("raw:",), outputs=(f"geo_prior:{settings.geo_prior_dir}",))


def _boxes_step(settings: Settings, name: str) -> Step:
    model_dir, sheet = settings.model_dir(name), os.path.join(settings.run_dir, f"boxes_{name}.png")
    coarse = [recipe for recipe in settings.recipes if recipe.name == name]
    return Step(f"boxes {name}", "localize.py",
                (f"--data_dir={settings.records}", f"--model_dir={model_dir}", f"--name={name}", f"--contact_sheet={sheet}",
                 *(flag for recipe in coarse for flag in recipe.device_flags), *settings.passed_on["localize_flags"]),
                inputs=(f"records:{settings.records}", f"model:{model_dir}"),
                outputs=(f"boxes:{settings.records}:{name}", f"file:{sheet}"),
                marker=boxes_of.meta_path(settings.records, name),
                needs=tuple(_train_name(recipe) for recipe in coarse))  # all of its folds


def _train_name(recipe: Recipe) -> str:
    return f"train {recipe.name}"


def _train_step(settings: Settings, recipe: Recipe) -> Step:
    model_dir, boxes = settings.model_dir(recipe.name), recipe.value("boxes")
    splits = "+".join(dict.fromkeys([*(recipe.value("train_split") or "train").split("+"), of_members.VAL]))
    member = of_members.planned(recipe, model_dir, folds=0)
    inputs = [f"shards:{settings.records}:{splits}"]
    inputs += [f"boxes:{settings.records}:{boxes}"] if boxes else []
    weights = recipe.value("weights") or ""
    inputs += [f"file:{weights}"] if weights.endswith(".h5") else []
    earlier = [recipe.value(name) for name in ("init_from", "epochs_from")]
    inputs += [f"model:{one}" for one in earlier if one]
    return Step(_train_name(recipe), "multi_stage_train.py",
                (f"--flagfile={recipe.path}", f"--data_dir={settings.records}", f"--model_dir={model_dir}",
                 *settings.passed_on["train_flags"]), tuple(inputs),
                outputs=(f"model:{model_dir}", *([f"predictions:{member.out_of_fold}"] if member.out_of_fold else [])),
                needs=(f"boxes {boxes}",) if boxes else ())


def prediction_steps(settings: Settings, members: Sequence[Member], groups: Sequence[Group], splits: Sequence[str],
                     ) -> list[Step]:
    """Of val, where it is scored, and of test, by every model of which something stands."""
    on_val = {one.name for group in groups if group.of == of_members.VAL for one in group.members}
    steps = []
    for member in members:
        recipe = next(one for one in settings.recipes if one.name == member.name)
        if member.name in on_val:
            steps.append(_predict_step(settings, recipe, member, of_members.VAL))
        if "test" in splits:
            steps.append(_predict_step(settings, recipe, member, "test"))
            if settings.score_test:
                steps.append(_predict_step(settings, recipe, member, ONE_VIEW, "--tta=none",
                                           f"--out={member.predicted(ONE_VIEW)}"))
    return steps


def _predict_step(settings: Settings, recipe: Recipe, member: Member, name: str, *more: str) -> Step:
    split, out, boxes = name.split("_")[0], member.predicted(name), recipe.value("boxes")
    inputs = [f"model:{member.model_dir}", f"records:{settings.records}"]
    return Step(f"predict {member.name} {name}", "predict.py",
                (f"--data_dir={settings.records}", f"--split={split}", f"--model_dir={member.model_dir}",
                 *recipe.device_flags, *settings.passed_on["predict_flags"], *more),
                tuple(inputs + ([f"boxes:{settings.records}:{boxes}"] if boxes else [])),
                outputs=(f"predictions:{out}",), marker=os.path.join(out, "meta.json"))


def answer_steps(settings: Settings, members: Sequence[Member], groups: Sequence[Group], splits: Sequence[str],
                 with_geo: bool, differences: Sequence[str]) -> list[Step]:
    """Scores, and the submission by the same members, blend and priors."""
    blend = of_members.blend_of(groups, members)
    names = [SCORES, *(f"scores_{group.told}.json" for group in groups[1:])]
    steps = [_scores_step(settings, group, blend, with_geo, differences, name) for group, name in zip(groups, names)]
    if "test" not in splits or not members:
        return steps
    if settings.score_test:
        steps.append(_test_scores_step(settings, members, with_geo))
    return [*steps, _submission_step(settings, members, groups, with_geo, differences)]


def _scores_step(settings: Settings, group: Group, blend: str, with_geo: bool, differences: Sequence[str],
                 name: str) -> Step:
    out = os.path.join(settings.run_dir, name)
    report = [os.path.join(settings.run_dir, REPORT)] if name == SCORES else []
    return Step(name.removesuffix(".json").replace("_", " ", 1), "evaluate.py",
                (*_on_top(settings, group.predictions, with_geo, f"--blend={blend}"), f"--out={out}",
                 *(f"--report={one}" for one in report)),
                _read_by_answers(settings, group.predictions, with_geo), tuple(f"file:{one}" for one in (out, *report)),
                marker=out, notes=tuple(differences))


def _test_scores_step(settings: Settings, members: Sequence[Member], with_geo: bool) -> Step:
    predicted, one_view = ([one.predicted(name) for one in members] for name in ("test", ONE_VIEW))
    out = os.path.join(settings.run_dir, TEST_SCORES)
    return Step("scores test", "evaluate.py",
                (*_on_top(settings, predicted, with_geo, *(f"--without_tta={one}" for one in one_view)), f"--out={out}"),
                _read_by_answers(settings, predicted + one_view, with_geo), (f"file:{out}",), marker=out)


def _submission_step(settings: Settings, members: Sequence[Member], groups: Sequence[Group], with_geo: bool,
                     differences: Sequence[str]) -> Step:
    predicted, out = [one.predicted("test") for one in members], os.path.join(settings.run_dir, SUBMISSION)
    fitted_on = [one for group in groups for one in group.predictions]
    return Step("submission", "make_submission.py",
                (*_on_top(settings, predicted, with_geo, f"--blend={of_members.blend_of(groups, members)}"), f"--out={out}",
                 *settings.passed_on["submission_flags"]),
                _read_by_answers(settings, predicted + fitted_on, with_geo), (f"file:{out}", f"file:{meta_path(settings)}"),
                marker=out, notes=(*(one.told for one in members), *differences))


def export_steps(settings: Settings, members: Sequence[Member], groups: Sequence[Group], splits: Sequence[str],
                 with_geo: bool) -> list[Step]:
    """The model to hand over: of the same members, blend and priors as the submission, or as the scores where there is no
    test; none where a member looks at boxes, which a served model is not given."""
    scored = groups[0].predictions if groups and len(groups[0].members) == len(members) else []
    predicted = [one.predicted("test") for one in members] if "test" in splits else scored
    if not predicted or of_boxes(settings, members):
        return []
    scores, out = os.path.join(settings.run_dir, SCORES), os.path.join(settings.run_dir, EXPORT)
    alone = flag_text.settled(settings.passed_on["submission_flags"])
    fitted_on = [one for group in groups for one in group.predictions]
    inputs = [*_read_by_answers(settings, list(dict.fromkeys(predicted + fitted_on)), with_geo),
              *(f"model:{one.model_dir}" for one in members), *([f"file:{scores}"] if groups else [])]
    return [Step(EXPORT, "export.py",
                 (*_on_top(settings, predicted, with_geo, f"--blend={of_members.blend_of(groups, members)}"), f"--out={out}",
                  *(f"--{name}={value}" for name, value in alone.items() if name in _OF_EXPORT),
                  *([f"--scores={scores}"] if groups else [])),
                 tuple(inputs), outputs=(f"export:{out}",), needs=("scores",) if groups else ())]


def of_boxes(settings: Settings, members: Sequence[Member]) -> list[str]:
    """The names of the members that look at boxes of another model."""
    names = {one.name for one in members}
    return [recipe.name for recipe in settings.recipes if recipe.name in names and recipe.value("boxes")]


def meta_path(settings: Settings) -> str:
    """Beside the submission: what it is made of."""
    return os.path.join(settings.run_dir, SUBMISSION.removesuffix(".csv") + ".meta.json")


def _on_top(settings: Settings, predicted: Sequence[str], with_geo: bool, *flags: str) -> list[str]:
    """What evaluate.py and make_submission.py are told alike."""
    return [f"--data_dir={settings.records}", *(f"--predictions={one}" for one in predicted), *flags,
            *([f"--geo_prior={settings.geo_prior_dir}"] if with_geo else []), *settings.passed_on["prior_flags"]]


def _read_by_answers(settings: Settings, predicted: Sequence[str], with_geo: bool) -> tuple[str, ...]:
    flags = flag_text.settled([*settings.passed_on["prior_flags"], *settings.passed_on["submission_flags"]])
    return (f"records:{settings.records}", *(f"predictions:{one}" for one in predicted),
            *([f"geo_prior:{settings.geo_prior_dir}"] if with_geo else []),
            *([f"file:{flags['calibration']}"] if flags.get("calibration") else []))
