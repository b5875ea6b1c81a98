"""The threshold of multi-label answers: fitted on predictions whose labels are known, kept in their meta.json.

Whoever writes predictions calls `refresh`. Those with labels get the threshold that is best on them; those without, or
of pictures that the model was trained on, get that of the same model's predictions with labels, so that a submission can
be made from them alone.
"""

import os
from typing import Mapping, Optional, Sequence

import numpy as np

from pipeline import files
from pipeline.answers import blend, fusion, how_made, predictions, unseen
from pipeline.errors import UserError
from pipeline.metrics import multi_label
from pipeline.records import dataset as datasets
from pipeline.tasks import registry as tasks


def labels_by_id(data: datasets.Dataset, split: str) -> dict[str, list[int]]:
    """The class indices of every labelled example of a split."""
    examples = data.examples(split)
    return {one: labels for one, labels in zip(examples["id"], examples["labels"]) if labels}


def answerable(data: datasets.Dataset, min_samples: int) -> np.ndarray:
    """bool [classes]: the labels that at least so many train pictures have. Raises UserError where none has."""
    chosen = np.array([one.train_count >= min_samples for one in data.manifest.classes])
    if not chosen.any():
        most = max(one.train_count for one in data.manifest.classes)
        raise UserError(f"--min_samples={min_samples}: no label has so many pictures in train; the most frequent has {most}")
    return chosen


def mask(log_probabilities: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """float [n, classes] with −inf for what may not be answered; allowed: bool [classes]."""
    return np.where(allowed, log_probabilities, -np.inf)


def curve(predicted, labels: Mapping[str, Sequence[int]], allowed: np.ndarray,
          groups: Optional[np.ndarray] = None) -> multi_label.ThresholdCurve:
    """The scores at every threshold over those examples whose labels are known.

    Args:
      predicted: a Blend or Predictions.
      labels: class indices by id.
      allowed: bool [classes], from `answerable`.
      groups: int [examples] in the order of predicted.ids, for cross-fitting; None: one.
    """
    group_of = dict(zip(predicted.ids, np.zeros(len(predicted.ids), int) if groups is None else groups))
    found = tasks.MULTI_LABEL.new_scores(len(predicted.class_ids))
    for ids, log_probabilities in predicted.chunks():
        known = [position for position, one in enumerate(ids) if one in labels]
        if known:
            chosen = [ids[position] for position in known]
            found.update(mask(log_probabilities[known], allowed), [labels[one] for one in chosen],
                         np.array([group_of[one] for one in chosen]))
    return found


def refresh(directory: str, data: datasets.Dataset) -> None:
    """Sees to the threshold in the meta.json of predictions."""
    one = predictions.Predictions(directory)
    labels = labels_by_id(data, one.meta["split"])
    if labels and not unseen.seen_pictures(one):
        threshold = one.meta["threshold"] or curve(one, labels, answerable(data, 0)).best_threshold()
    else:
        labelled = blend.labelled_of(one)
        threshold = labelled.meta["threshold"] if labelled else None
    if threshold != one.meta["threshold"]:
        files.write_json(os.path.join(directory, predictions.META_FILE), {**one.meta, "threshold": threshold})


def for_submission(blended: fusion.Blend, data: datasets.Dataset, allowed: np.ndarray) -> float:
    """The threshold for a blend without labels.

    It is fitted on the same models' blend where their predictions with labels, and the labels, are at hand and of the same
    pictures; else it is the mean of what the members' meta.json say. Raises UserError where they say nothing.
    """
    labelled = _labelled_alike(blended.members)
    labels = labels_by_id(data, labelled[0].meta["split"]) if labelled else {}  # none in records of the test pictures alone
    if labels:
        how_made.tell_differences("--threshold", labelled, blended.members)
        return curve(fusion.Blend(labelled, blended.mixture, temper=blended.temper), labels, allowed).best_threshold()
    for one in blended.members:
        if not one.meta.get("threshold"):
            raise UserError(f"--threshold: {one.directory} tells none, and its model has no predictions of pictures with "
                            "labels to fit one on; give one, such as --threshold=0.2")
    mean = float(np.mean([one.meta["threshold"] for one in blended.members]))
    return blended.temper.probability(mean) if blended.temper else mean


def _labelled_alike(members: Sequence[predictions.Predictions]) -> Optional[list[predictions.Predictions]]:
    """The members' models' predictions with labels; None unless all have them, of the same pictures."""
    found = [blend.labelled_of(one) for one in members]
    if None in found or any(fusion.of_other_splits(one, found[0]) or set(one.ids) != set(found[0].ids) for one in found):
        return None
    return found
