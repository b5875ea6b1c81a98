"""What RECIPES=auto picks: by the pictures that the records hold to train on, a class and in all.

Where they are few, fine-tuning alone may lose to a linear probe, which it takes folds to see; so both are trained by folds
and blended as they do out of fold. Where they are many that would cost five trainings for little, and one recipe is enough.
"""

import dataclasses
import os
from typing import Collection

from pipeline.errors import UserError
from pipeline.records import schema

CONFIGS = "configs"
BASE = os.path.join(CONFIGS, "base.flags")
BASE_KIND = "single_label"  # of the tasks that it is for
BY_FOLDS = tuple(os.path.join(CONFIGS, name) for name in ("probe.flags", "small.flags"))

# Ours, by what five folds and a probe's fit cost; where the one overtakes the other was not measured on sets so large.
FEW = 20_000          # pictures in all
FEW_A_CLASS = 20      # labels on average, up to MANY pictures in all
MANY = 100_000


@dataclasses.dataclass(frozen=True)
class Picked:
    """Flagfiles of the project, in words why these, and what multi_stage_train.py must be told of the records."""

    recipes: tuple[str, ...]
    why: str
    train_flags: tuple[str, ...] = ()


def name_of(path: str) -> str:
    """Of a recipe, by its flagfile: that of its model's folder."""
    return os.path.basename(path).removesuffix(".flags")


def pick(manifest: schema.Manifest, begun: Collection[str]) -> Picked:
    """What suits records; where models of it have begun, what they belong to, also when pictures have come.

    Args: begun: names of the models of the run folder.

    Raises UserError where nothing does.
    """
    split = "train" if "train" in manifest.splits else "train_mini"  # that folds divide and classes are counted in
    train_flags = () if split == "train" else (f"--train_split={split}",)
    for recipes in ((BASE,), BY_FOLDS):
        if any(name_of(one) in begun for one in recipes):
            return Picked(recipes, "begun in this RUN_DIR", train_flags)
    pictures = manifest.split_size(split)
    a_class = sum(one.train_count for one in manifest.classes) / max(len(manifest.classes), 1)
    told = f"{pictures:,} pictures of {split}, {a_class:,.1f} a class"
    if pictures < FEW or pictures < MANY and a_class < FEW_A_CLASS:
        if manifest.folds:
            return Picked(BY_FOLDS, f"{told}: a probe and fine-tuning, by folds", train_flags)
        told = f"{told}: few, but in no folds"
    if manifest.kind != BASE_KIND:
        raise UserError(f"--recipes=auto: there is none for the kind {manifest.kind} and {told}; name one "
                        f"({BY_FOLDS[-1]} is by folds, and takes several labels too)")
    return Picked((BASE,), f"{told}: fine-tuning alone", train_flags)
