"""What RECIPES=auto picks: by the pictures that there are to train on, a class and in all.

Where they are few, fine-tuning alone may lose to a linear probe, which it takes folds to see; so both are trained by folds and
blended as they do out of fold. Where they are many that would cost five trainings for little, and one recipe is enough.
"""

import dataclasses
import os
from typing import Callable, Optional

from pipeline import files

CONFIGS = "configs"
BASE = os.path.join(CONFIGS, "base.flags")
BY_FOLDS = tuple(os.path.join(CONFIGS, name) for name in ("probe.flags", "small.flags"))
FILE = "auto.json"  # in the run folder: what was picked stays picked, also where a few pictures come or are set aside

# Ours, by what five folds and a probe's fit cost; where the one overtakes the other was not measured on sets so large.
FEW = 20_000          # pictures in all
FEW_A_CLASS = 20      # on average, up to MANY in all
MANY = 100_000


@dataclasses.dataclass(frozen=True)
class Counts:
    """Of what is trained on: pictures with a label, their labels in all, and classes."""

    pictures: int
    labels: int
    classes: int

    @property
    def a_class(self) -> float:
        return self.labels / max(self.classes, 1)


@dataclasses.dataclass(frozen=True)
class Picked:
    """Flagfiles of the project, and in words why these. counts: None where they were not looked at."""

    recipes: tuple[str, ...]
    why: str
    counts: Optional[Counts] = None


def pick(run_dir: str, counts: Callable[[], Counts]) -> Picked:
    """What was picked before for this run folder, else what suits the pictures.

    Args: counts: reads the competition's files; asked only where nothing was picked before.
    """
    note = os.path.join(run_dir, FILE)
    if files.exists(note):
        before = files.read_json(note)
        return Picked(tuple(before["recipes"]), f"{before['why']}, as {note} notes")
    if files.exists(os.path.join(run_dir, "models", "base")):
        return Picked((BASE,), "which has begun")
    return suited(counts())


def suited(counts: Counts) -> Picked:
    """What suits so many pictures."""
    few = counts.pictures < FEW or counts.pictures < MANY and counts.a_class < FEW_A_CLASS
    told = f"{counts.pictures} pictures to train on, {counts.a_class:.3g} a class"
    if few:
        return Picked(BY_FOLDS, f"{told}: a probe and fine-tuning, by folds", counts)
    return Picked((BASE,), f"{told}: enough for fine-tuning alone", counts)


def keep(run_dir: str, picked: Picked) -> None:
    """Notes down in the run folder what was picked by counting."""
    if picked.counts:
        files.make_dirs(run_dir)
        files.write_json(os.path.join(run_dir, FILE), {
            "recipes": list(picked.recipes), "why": picked.why, **dataclasses.asdict(picked.counts)})
