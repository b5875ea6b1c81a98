"""What examples.csv knows of the pictures that were predicted: labels, places, groups to cross-fit by."""

import types
import zlib
from typing import Mapping, Sequence

import numpy as np

from pipeline.answers import predictions
from pipeline.errors import UserError
from pipeline.records import dataset as datasets
from pipeline.runs import strangers

CROSS_FIT_GROUPS = 5  # where the examples are in no folds, or all in one


class ExampleTable:
    """The examples of a split, or of some of its folds, by id.

    Attributes:
      data, split: where they are from.
      folds: the examples are of these alone; empty: of all there are.
      ids: of all examples of the split.
      label_lists: class indices by id, of those that have a label and are of the folds.
      labels: the first of them.
      strangers: class indices by id, of those whose class is held out whole from the fold that predicts them
        (--hold_out_classes): nobody can know these, so that they are none of the others.
    """

    def __init__(self, data: datasets.Dataset, split: str, folds: Sequence[int] = (),
                 left_out: Mapping[int, Sequence[int]] = types.MappingProxyType({})):
        """Args: left_out: fold → the classes that it leaves out."""
        self.data = data
        self.split = split
        self.folds: Sequence[int] = ()
        self._examples = data.examples(split).set_index("id", drop=False)
        self.ids = list(self._examples["id"])
        ours = self._examples
        if ours["fold"].isin(folds).any():
            self.folds = folds
            ours = ours[ours["fold"].isin(folds)]
        strange = [bool(labels) and labels[0] in left_out.get(fold, ())
                   for fold, labels in zip(ours["fold"], ours["labels"])]
        self.strangers = {one: labels[0] for one, labels, is_one in zip(ours["id"], ours["labels"], strange) if is_one}
        self.label_lists: dict[str, list[int]] = {
            one: labels for one, labels, is_one in zip(ours["id"], ours["labels"], strange) if labels and not is_one}
        self.labels = {one: labels[0] for one, labels in self.label_lists.items()}

    @classmethod
    def of(cls, predicted: predictions.Predictions, data: datasets.Dataset) -> "ExampleTable":
        """The examples that were predicted; only some folds' where these predicted what they held out."""
        fold = predicted.meta.get("fold")
        folds = fold if predicted.meta.get("out_of_fold") else [fold] if isinstance(fold, int) else ()
        return cls(data, predicted.meta["split"], folds, strangers.read(predicted.meta.get("seen"), data.class_ids))

    @property
    def is_whole(self) -> bool:
        """Whether no fold is left out."""
        return not self.folds or set(self.folds) == set(range(self.data.manifest.folds))

    def label_indices(self, ids: Sequence[str]) -> np.ndarray:
        """Int [ids]: the class index of each, −1 where it has no label."""
        return np.array([self.labels.get(one, -1) for one in ids], np.int64)

    def classes_of(self, ids: Sequence[str]) -> np.ndarray:
        """Int [ids]: the class index of each, strangers' too and those of any fold; −1 where it has no label."""
        labels = self._examples["labels"].reindex(ids)
        return np.array([one[0] if isinstance(one, list) and one else -1 for one in labels], np.int64)

    def folds_of(self, ids: Sequence[str]) -> np.ndarray:
        """Int [ids]: the fold of each example, −1 for none."""
        return self._examples["fold"].reindex(ids, fill_value=-1).to_numpy()

    def places(self, ids: Sequence[str]) -> np.ndarray:
        """Float [ids, 3]: latitude and longitude in degrees, date as the fraction of the year; NaN where unknown."""
        return self._examples[["latitude", "longitude", "date"]].reindex(ids).to_numpy(np.float64)

    def groups(self, ids: Sequence[str]) -> np.ndarray:
        """Int [ids]: the folds of the examples, or, where they have none or one alone, a stable division of the ids.

        Copies of a picture, and what a table names as one group, are in one group, as they are in one fold.
        """
        folds = self.folds_of(ids)
        if folds.min() >= 0 and folds.min() < folds.max():
            return folds
        bonds = self._bonds()
        return np.array([zlib.crc32(bonds.get(one, one).encode()) % CROSS_FIT_GROUPS for one in ids])

    def _bonds(self) -> dict[str, str]:
        """By id of those that belong together: the first of copies, or the name of a group, which wins."""
        bonds = {one: copies[0] for copies in self.data.manifest.duplicates for one in copies}
        named = self.data.groups().reindex(self._examples["row"], fill_value="")
        return {**bonds, **{one: name for one, name in zip(self._examples["id"], named) if name}}

    def check(self, predicted: predictions.Predictions) -> None:
        """Raises UserError where predictions can't be scored by this table.

        That is: of other classes, of other pictures than the split's, or not of all pictures that have a label.
        """
        classes = predicted.meta["dataset"]["classes"]
        if predicted.class_ids != self.data.class_ids or classes != self.data.classes_digest():
            raise UserError(f"--predictions: the classes of {predicted.directory} are not those of {self.data.directory}")
        if not self.labels:
            raise UserError(f"--predictions: split {self.split} has no labels in {self.data.directory}; predict val to "
                            "score a model")
        strange = set(predicted.ids).difference(self.ids)
        if strange:
            raise UserError(f"--predictions: {predicted.directory} holds {min(strange)}, which is not in {self.split} of "
                            f"{self.data.directory}")
        missing = set(self.labels).difference(predicted.ids)
        if missing:
            raise UserError(f"--predictions: {predicted.directory} lacks {len(missing)} pictures of {self.split}, such as "
                            f"{min(missing)}")
