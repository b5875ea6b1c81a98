"""From a competition's files to its submission: plans, does what is missing, and says what came of it.

Scores are of what is there, and the submission never waits for them; both are made by the same members, blend and priors.
"""

import dataclasses
import os
import sys
from typing import Any, Callable, Optional, Sequence

from pipeline import files
from pipeline.answers import predictions
from pipeline.errors import UserError, WorkError
from pipeline.experiment import auto, flag_text, members as of_members, plan, settings as run_settings
from pipeline.experiment.digests import Digests
from pipeline.experiment.members import Group, Member
from pipeline.experiment.settings import Settings
from pipeline.experiment.stamps import Step
from pipeline.experiment.work import Work
from pipeline.records import dataset as datasets, schema
from pipeline.runs import record as run_record, run as runs

UNTIL = EXPORT, SUBMISSION, MODELS = ("export", "submission", "models")
_ASSUMED_SPLITS = ("train", "val", "test")  # of records that are not made yet
# Flags of make_submission.py that evaluate.py has too: given to the one alone, the scores are of something else.
_SCORED_TOO = ("blend", "calibration", "geo_prior", "geo_exponent", "prior_correction", "threshold", "min_samples")
_OTHER_FLAGS = ("a model that has begun is trained on with its own flags alone (views and devices may differ): give others "
                "another RUN_DIR, or the recipe another name")


def carry_out(settings: Settings, raw: Callable[[], str], interpreter: str = sys.executable, until: str = EXPORT,
              dry_run: bool = False) -> None:
    """Does what is missing in the run folder.

    Args:
      raw: gives a text that changes when the competition's files do.
      interpreter: what runs the commands.
      until: one of UNTIL, what is made last.
      dry_run: print the plan and stop.

    Raises UserError for mistakes, and WorkError at the end where something could not be done.
    """
    one = _Experiment(settings, Work(settings.run_dir, Digests(raw), interpreter), until)
    one.take_standing_folds()
    one.check_records()
    one.pick_recipes()
    one.print_plan()
    if dry_run:
        return
    if not one.work.do(plan.records_step(one.settings)):
        raise WorkError(one.work.failures[plan.RECORDS])
    if not one.settings.recipes:
        one.pick_recipes()
        one.print_plan()
    one.train()
    if until == MODELS:
        one.tell_models()
    else:
        one.answer()
    if one.work.failures:
        raise WorkError(f"{'; '.join(one.work.failures.values())}; the same command goes on")


class _Experiment:
    """The settings at work."""

    def __init__(self, settings: Settings, work: Work, until: str):
        self.settings = settings
        self.work = work
        self.until = until

    def _manifest(self) -> Optional[schema.Manifest]:
        """Of the records; None where there are none yet."""
        there = files.exists(os.path.join(self.settings.records, schema.DATASET_FILE))
        return datasets.load(self.settings.records).manifest if there else None

    def _asked_folds(self) -> int:
        return int(flag_text.last(flag_text.resolve(plan.record_flags(self.settings)), "folds") or 0)

    def check_records(self) -> None:
        """Raises UserError where run.flags asks for other records than those of before."""
        manifest = self._manifest()
        if manifest is None:
            return
        asked = flag_text.resolve(plan.record_flags(self.settings))
        there = {"folds": manifest.folds, **manifest.settings}
        other = [name for name in ("folds", "random_seed") if name in there and flag_text.last(asked, name) not in
                 (None, str(there[name]))]
        if other:
            had, wanted = (" ".join(f"--{name}={one(name)}" for name in other)
                           for one in (there.get, lambda name: flag_text.last(asked, name)))
            whose = f" by {self.settings.run_flags}" if self.settings.run_flags else ""
            raise UserError(f"{self.settings.records} was made with {had}, and {wanted} is asked for{whose}: give "
                            f"another RUN_DIR, or go on with these by --record_flags=\"{had}\"")

    def take_standing_folds(self) -> None:
        """Records that are there are taken with the folds that they have, where it is all the same to whoever asks."""
        manifest = self._manifest()
        if manifest and self.settings.by_auto and self.settings.folds is None:
            self.settings = dataclasses.replace(self.settings, folds=manifest.folds)

    def pick_recipes(self) -> None:
        """Where nobody named them, and the records stand. Raises UserError where none suits."""
        manifest = self._manifest()
        if manifest and self.settings.by_auto:
            begun = [name for name in map(auto.name_of, (auto.BASE, *auto.BY_FOLDS)) if self._stands(name)]
            self.settings = run_settings.with_recipes(self.settings, auto.pick(manifest, begun))

    def _stands(self, name: str) -> bool:
        return files.exists(os.path.join(self.settings.model_dir(name), run_record.RUN_FILE))

    def _planned(self, folds: int) -> list[Member]:
        return [of_members.planned(one, self.settings.model_dir(one.name), folds) for one in self.settings.answering]

    def print_plan(self) -> None:
        """What is to be done, as far as it is known before anything is."""
        settings, manifest = self.settings, self._manifest()
        steps = [plan.records_step(settings), *plan.training_steps(settings)]
        if not settings.recipes:
            print(f"{settings.competition}: recipes are picked when the records stand ({settings.chosen}) → "
                  f"{settings.run_dir}")
            self.work.print_plan(steps)
            return
        if self.until != MODELS:
            splits = manifest.splits if manifest else _ASSUMED_SPLITS
            members = self._planned(manifest.folds if manifest else self._asked_folds())
            members = [now if (now := of_members.standing(one)).standing else one for one in members]
            groups = of_members.scored(members, "val" in splits)
            steps += plan.prediction_steps(settings, members, groups, splits)
            steps += self._answer_steps(members, groups, splits, with_geo=bool(settings.geo_prior))
        paths = ", ".join(one.path for one in settings.recipes)
        print(f"{settings.competition}: {paths} ({settings.chosen}) → {settings.run_dir}")
        if settings.answering != settings.recipes:
            print(f"scores and submission are of {', '.join(one.name for one in settings.answering)} alone")
        self.work.print_plan(steps)

    def train(self) -> None:
        """Models that have begun go first: where a flag of theirs has changed they are refused before others are trained."""
        steps = plan.training_steps(self.settings)
        begun = [step for step in steps if self._has_begun(step) and self.work.why_stale(step)]
        waiting = {step.name for step in steps if self.work.why_stale(step)}
        first = [step for step in begun if not waiting.intersection(step.needs)]
        for step in [*first, *(step for step in steps if step not in first)]:
            self.work.do(step, hint=_OTHER_FLAGS if step in begun else "")

    def _has_begun(self, step: Step) -> bool:
        return any(self._stands(one.name) for one in self.settings.recipes if step.name == f"train {one.name}")

    def tell_models(self) -> None:
        geo = f", {self.settings.geo_prior_dir}" if self._has_geo() else ""
        print(f"trained models: {os.path.join(self.settings.run_dir, 'models')}{geo}", flush=True)

    def _has_geo(self) -> bool:
        return bool(self.settings.geo_prior) and runs.is_done(self.settings.geo_prior_dir)

    def answer(self) -> None:
        """Predictions of what stands, scores of what is there, and the submission, which waits for neither."""
        settings, manifest = self.settings, self._manifest()
        asked = [of_members.standing(one) for one in self._planned(manifest.folds)]
        members = [one for one in asked if one.standing]
        groups = of_members.scored(members, "val" in manifest.splits)
        steps_of = {one.name: plan.prediction_steps(settings, [one], groups, manifest.splits) for one in members}
        failed = {name for name, steps in steps_of.items() if not all([self.work.do(step) for step in steps])}
        members = [one for one in members if one.name not in failed]
        groups = of_members.scored(members, "val" in manifest.splits)
        missing = [one.missing or one.name for one in asked if one.missing or one.name in failed]
        missing += ["the geo prior"] if settings.geo_prior and not self._has_geo() else []
        differences = self._differences(groups, members)
        for line in differences:
            print(f"note: {line}")
        done = {}
        for step in self._answer_steps(members, groups, manifest.splits, self._has_geo()):
            done[step.name] = self._answer_by(step, members, groups, missing, differences)
        self._tell(members, missing, done)

    def _differences(self, groups: Sequence[Group], members: Sequence[Member]) -> list[str]:
        """In what the scores are of something else than the submission, in words."""
        folders = [*(one for group in groups for one in group.predictions), *(one.predicted("test") for one in members)]
        paths = {one: os.path.join(one, predictions.META_FILE) for one in folders}
        metas = {one: files.read_json(path) for one, path in paths.items() if files.exists(path)}
        alone = " ".join(f"--{name}={value}" for name, value in flag_text.settled(
            self.settings.passed_on["submission_flags"]).items() if name in _SCORED_TOO)
        flags = [f"the submission alone is made with {alone}"] if alone else []
        return [*of_members.differences(groups, members, metas), *flags]

    def _answer_steps(self, members: Sequence[Member], groups: Sequence[Group], splits: Sequence[str],
                      with_geo: bool) -> list[Step]:
        steps = plan.answer_steps(self.settings, members, groups, splits, with_geo, self._differences(groups, members))
        return steps + (plan.export_steps(self.settings, members, groups, splits, with_geo) if self.until == EXPORT else [])

    def _answer_by(self, step: Step, members: Sequence[Member], groups: Sequence[Group], missing: Sequence[str],
                   differences: Sequence[str]) -> bool:
        if step.script == "evaluate.py":
            return self.work.do(step, lambda: _add_warnings(step.marker, step.notes), must=False)
        if step.script == "export.py":
            return self.work.do(step, must=False)
        return self.work.do(step, lambda: files.write_json(
            plan.meta_path(self.settings), self._submission_meta(step, members, groups, missing, differences)))

    def _submission_meta(self, step: Step, members: Sequence[Member], groups: Sequence[Group], missing: Sequence[str],
                         differences: Sequence[str]) -> dict[str, Any]:
        flags = flag_text.settled(step.arguments)
        told = [{"name": one.name, **_member_meta(one.predicted("test"))} for one in members]
        blend, fitted = flags["blend"], {}
        if blend == of_members.FITTED:  # the same fit, on the same predictions
            scores = os.path.join(self.settings.run_dir, plan.SCORES)
            fitted = files.read_json(scores) if files.exists(scores) else {}
            if "member_temperatures" not in fitted:  # of before there were any: not what the submission is made of
                fitted = {}
        names = [one.name for one in members]
        weights, temperatures = (dict(zip(names, fitted.get(one, {}).values())) for one in ("weights", "member_temperatures"))
        return {"members": told, "blend": blend, "weights": weights or None, "member_temperatures": temperatures or None,
                "priors": {name: flags[name] for name in ("geo_prior", "geo_exponent", "prior_correction") if name in flags},
                "flags": self.settings.passed_on["submission_flags"], "scored_on": [group.told for group in groups],
                "missing": list(missing), "differences": list(differences)}

    def _tell(self, members: Sequence[Member], missing: Sequence[str], done: dict[str, bool]) -> None:
        """Where everything lies; the submission last."""
        settings = self.settings
        print(f"shards:       {settings.records}\nmodels:       {os.path.join(settings.run_dir, 'models')}")
        if done.get("scores"):
            scores, report = (os.path.join(settings.run_dir, name) for name in (plan.SCORES, plan.REPORT))
            print(f"scores:       {scores}, {report}")
        self._tell_export(members, done)
        if not done.get("submission"):
            want = "test pictures" if members else "a model that has finished"
            print(f"submission:   none, for want of {want}", flush=True)
            return
        partly = [one.told for one in members if one.told != one.name]
        told = "; ".join([f"of {', '.join(one.told for one in members)}"] * bool(partly or missing)
                         + [f"without {', '.join(missing)}"] * bool(missing))
        print(f"predictions:  {os.path.join(settings.run_dir, 'models', '*', 'predictions')}")
        print(f"submission:   {os.path.join(settings.run_dir, plan.SUBMISSION)}{f' ({told})' if told else ''}", flush=True)


    def _tell_export(self, members: Sequence[Member], done: dict[str, bool]) -> None:
        of_boxes = plan.of_boxes(self.settings, members)
        if done.get(plan.EXPORT):
            print(f"export:       {os.path.join(self.settings.run_dir, plan.EXPORT)} (for identify.py --model)")
        elif of_boxes and self.until == EXPORT:
            print(f"export:       none, since {', '.join(of_boxes)} looks at boxes, which a served model is not given")


def _member_meta(directory: str) -> dict[str, Any]:
    meta = files.read_json(os.path.join(directory, predictions.META_FILE))
    return {"predictions": directory, "model_dir": meta.get("model_dir"), "folds": meta.get("fold"),
            "views": meta.get("tta"), "size": meta.get("size"),
            "checkpoint": meta.get("checkpoint"), "average": meta.get("average")}


def _add_warnings(path: str, lines: Sequence[str]) -> None:
    """Puts what is to be told of scores into their `warnings` too."""
    if lines:
        scores = files.read_json(path)
        files.write_json(path, {**scores, "warnings": [*scores.get("warnings", []), *lines]})
