"""Folds that know strangers: which classes a fold leaves out of its training, so that their pictures are to it what a class
that nobody has seen will be to the finished model.

A class is left out as a whole, of the pictures of all folds. The fold's model is then asked about all of them: those that
its fold holds out stand among its out-of-fold predictions, the others in predictions of their own (predictions.STRANGERS).
"""

import hashlib
from typing import Mapping, Optional, Sequence

from pipeline.errors import UserError
from pipeline.records import dataset as datasets, schema

FLAG = "hold_out_classes"
LEAST_EXTRA = 10  # classes outside the known set; where there are fewer, known ones play strangers too
MOST_FOLDS = 64   # of a run that tells for each picture which of them did not see it, see seen


def check(data: datasets.Dataset, share: float, fold: Optional[int]) -> None:
    """Raises UserError where classes can't be held out."""
    if not share:
        return
    flag = f"--{FLAG}={share:g}"
    if not data.manifest.unknown_answer or not data.task.exclusive:
        raise UserError(f"{flag}: {data.directory} has no answer for what is none of its known classes (turtle_recall has), "
                        "so that there is nothing to be learnt from strangers")
    if fold is None or data.manifest.folds > MOST_FOLDS:
        raise UserError(f"{flag} is for --fold (0, 0:2 or all), of {MOST_FOLDS} folds at most")
    if len(candidates(data.manifest)) < 2:
        raise UserError(f"{flag}: {data.directory} has fewer than two classes with train pictures")


def candidates(manifest: schema.Manifest) -> list[schema.ClassInfo]:
    """The classes that play strangers: those outside the known set; where they are fewer than LEAST_EXTRA, all."""
    trained = [one for one in manifest.classes if one.train_count]
    extra = [one for one in trained if not one.known]
    return extra if len(extra) >= LEAST_EXTRA else trained


def by_fold(manifest: schema.Manifest, share: float) -> dict[int, tuple[int, ...]]:
    """Fold → the indices of the classes that it leaves out, ascending; empty where share is 0.

    The candidates stand in an order of their own, by a digest of (the records' seed, class id): so all models of the same
    folds know the same strangers, and can be blended. Each fold takes `share` of them, rounded up, from the place on
    where an equal division would have it begin; what goes beyond the end begins again. So with share · folds ≥ 1 each
    candidate is a stranger to one fold at least.
    """
    if not share:
        return {}
    seed = manifest.settings.get("random_seed", 0)
    ordered = sorted(candidates(manifest), key=lambda one: _digest(seed, one.source_id))
    count, total = -int(-share * len(ordered) // 1), len(ordered)
    begins = [fold * total // manifest.folds for fold in range(manifest.folds)]
    return {fold: tuple(sorted(ordered[(begin + one) % total].index for one in range(min(count, total - 1))))
            for fold, begin in enumerate(begins)}


def _digest(seed: object, class_id: str) -> bytes:
    return hashlib.blake2b(f"{seed}\0{class_id}".encode(), digest_size=8).digest()


def first_folds(strangers: Mapping[int, Sequence[int]]) -> dict[int, int]:
    """Class index → the first fold that it is a stranger to: the one that is asked about its pictures of other folds."""
    found: dict[int, int] = {}
    for fold in sorted(strangers):
        for one in strangers[fold]:
            found.setdefault(one, fold)
    return found


def told(data: datasets.Dataset, strangers: Mapping[int, Sequence[int]]) -> dict[str, list[str]]:
    """As JSON has it: fold → ids of classes."""
    return {str(fold): [data.class_ids[one] for one in classes] for fold, classes in strangers.items()}


def read(meta_seen: Optional[Mapping], class_ids: Sequence[str]) -> dict[int, tuple[int, ...]]:
    """Of what a meta.json or run.json tells of what was seen: fold → class indices; empty where no class was held out."""
    position = {name: index for index, name in enumerate(class_ids)}
    told_classes = (meta_seen or {}).get("strangers") or {}
    return {int(fold): tuple(position[one] for one in classes if one in position) for fold, classes in told_classes.items()}
