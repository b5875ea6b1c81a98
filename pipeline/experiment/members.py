"""The models of an experiment as they stand: which folds have finished, what they are scored on, how they are blended."""

import dataclasses
import os
from typing import Any, Mapping, Optional, Sequence

from pipeline import files
from pipeline.answers import predictions
from pipeline.errors import UserError
from pipeline.experiment.settings import Recipe
from pipeline.flag_types import ALL_FOLDS, parse_folds
from pipeline.runs import record as run_record, run as runs

OUT_OF_FOLD, VAL = predictions.OUT_OF_FOLD, "val"
EQUAL, FITTED = "equal", "oof"  # of --blend; its own room takes long to import


@dataclasses.dataclass(frozen=True)
class Member:
    """A model, as it stands or is going to.

    Attributes:
      asked: the folds that are to be trained; empty: it trains without folds.
      standing: those that have finished; [None] without folds; empty: nothing has.
      held_out: the folds of which there are out-of-fold predictions; empty: none.
      out_of_fold: the folder of these.
      total: folds of the records.
    """

    name: str
    model_dir: str
    train_split: str
    asked: tuple[int, ...] = ()
    standing: tuple[Optional[int], ...] = ()
    held_out: tuple[int, ...] = ()
    out_of_fold: str = ""
    total: int = 0

    @property
    def predicts_val(self) -> bool:
        """Whether predict.py takes val: what a model by folds was trained on as a part, no fold of it has held out."""
        return not (self.asked and VAL in self.train_split.split("+"))

    @property
    def told(self) -> str:
        """Its name, with its folds where not all of them count."""
        folds = [fold for fold in self.standing if fold is not None]
        partly = folds and len(folds) < self.total
        return f"{self.name} (folds {_numbers(folds)} of {self.total})" if partly else self.name

    @property
    def missing(self) -> str:
        """What was asked for and does not stand, in words; empty: all stands."""
        lost = [fold for fold in self.asked if fold not in self.standing]
        if not self.standing:
            return self.name
        return f"{self.name}'s fold{'s' * (len(lost) > 1)} {_numbers(lost)}" if lost else ""

    def predicted(self, part: str) -> str:
        """Folder of its predictions of a split."""
        return os.path.join(self.model_dir, "predictions", part)


def _numbers(folds: Sequence[int]) -> str:
    return ", ".join(map(str, folds))


def planned(recipe: Recipe, model_dir: str, folds: int) -> Member:
    """The member that a recipe is going to be, where all goes well. Raises UserError for a --fold that is none."""
    split, text = recipe.value("train_split") or "train", recipe.value("fold")
    if not text:
        return Member(recipe.name, model_dir, split, (), (None,))
    found = parse_folds(text)
    asked = tuple(range(folds)) if found == ALL_FOLDS else found
    # The folder of all folds comes with the table of several; a single fold's process writes its own.
    alone = found != ALL_FOLDS and len(asked) == 1
    out_of_fold = os.path.join(runs.fold_dir(model_dir, asked[0] if alone else None), OUT_OF_FOLD)
    return Member(recipe.name, model_dir, split, asked, asked, asked, out_of_fold, folds)


def standing(member: Member) -> Member:
    """The same as its model directory has it."""
    if not files.exists(os.path.join(member.model_dir, run_record.RUN_FILE)):
        return dataclasses.replace(member, standing=(), held_out=())
    try:
        finished = tuple(runs.finished_folds(member.model_dir))
    except UserError:  # nothing has finished
        finished = ()
    return dataclasses.replace(member, standing=finished, held_out=_held_out(member))


def _held_out(member: Member) -> tuple[int, ...]:
    path = os.path.join(member.out_of_fold, predictions.META_FILE)
    folds = files.read_json(path)["fold"] if member.asked and files.exists(path) else ()
    return tuple(folds) if isinstance(folds, (list, tuple)) else (folds,)


@dataclasses.dataclass(frozen=True)
class Group:
    """Members that are scored together, on the same pictures that none of them has seen."""

    of: str                     # OUT_OF_FOLD or VAL
    members: tuple[Member, ...]

    @property
    def predictions(self) -> list[str]:
        return [one.out_of_fold if self.of == OUT_OF_FOLD else one.predicted(VAL) for one in self.members]

    @property
    def told(self) -> str:
        """What was scored, as a part of a file's name."""
        return "_".join([self.of, *map(str, self.members[0].held_out)]) if self.of == OUT_OF_FOLD else VAL


def scored(members: Sequence[Member], has_val: bool) -> list[Group]:
    """What the members are scored on; the first group's scores are the headline.

    All out of fold, where all have predictions of the same folds; else all on val, where there is one that all may predict,
    so that what is scored is what is submitted; else in groups, of those that have the same pictures.
    """
    keys = {(one.train_split, one.held_out) for one in members}
    if members and len(keys) == 1 and members[0].held_out:
        return [Group(OUT_OF_FOLD, tuple(members))]
    if members and has_val and all(one.predicts_val for one in members):
        return [Group(VAL, tuple(members))]
    groups = [Group(OUT_OF_FOLD, tuple(one for one in members if (one.train_split, one.held_out) == key))
              for key in dict.fromkeys((one.train_split, one.held_out) for one in members) if key[1]]
    on_val = tuple(one for one in members if not one.held_out)
    groups += [Group(VAL, on_val)] if on_val and has_val else []
    return sorted(groups, key=lambda group: -len(group.members))


def blend_of(groups: Sequence[Group], members: Sequence[Member]) -> str:
    """--blend of scores and submission alike: fitted out of fold, where all members can be; else the plain mean."""
    # make_submission.py finds them by the model directory, so a single fold's do not count.
    found = len(groups) == 1 and [one.name for one in groups[0].members if one.out_of_fold == _of_all_folds(one)]
    fitted = len(members) > 1 and found == [one.name for one in members] and groups[0].of == OUT_OF_FOLD
    return FITTED if fitted else EQUAL


def _of_all_folds(member: Member) -> str:
    return os.path.join(member.model_dir, OUT_OF_FOLD)


def differences(groups: Sequence[Group], members: Sequence[Member], metas: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """In what the scores' predictions are others than the submission's, in words; nothing where they are made alike.

    Args: metas: meta.json by the folder of predictions.
    """
    told = []
    if groups and {one.name for one in groups[0].members} != {one.name for one in members}:
        told.append(f"the scores are of {', '.join(one.name for one in groups[0].members)}; the submission is of "
                    f"{', '.join(one.name for one in members)}")
    for group in groups:
        for member, directory in zip(group.members, group.predictions):
            then, now = (_how_made(metas.get(one)) for one in (directory, member.predicted("test")))
            different = [name for name in then if name in now and then[name] != now[name]]
            if different:
                told.append(f"{member.name} is scored with {', '.join(then[name] for name in different)} and submitted with "
                            f"{', '.join(now[name] for name in different)}")
    return told


def _how_made(meta: Optional[Mapping[str, Any]]) -> dict[str, str]:
    if not meta:
        return {}
    folds = len(meta["fold"]) if isinstance(meta.get("fold"), list) and not meta.get("out_of_fold") else 1
    checkpoint = meta.get("checkpoint")
    epochs = len(checkpoint) if isinstance(checkpoint, list) and not isinstance(meta.get("fold"), list) else 1
    return {"views": f"--tta={meta.get('tta')}", "size": f"{meta.get('size')} px",
            "average": f"--average={meta.get('average')}",
            "models": f"{folds} model{'s' * (folds > 1)} a picture", "epochs": f"{epochs} checkpoint{'s' * (epochs > 1)}"}
