"""Divides the train split into folds, stratified by class: copies of a picture and members of a group together, or, as
published solutions did it, row by row as the competition's files list them."""

import collections
import warnings
from typing import Mapping, Optional, Sequence

import numpy as np
from absl import logging
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold
from sklearn.model_selection import StratifiedKFold

from dataset_tools import duplicates, fingerprints, shard_plan, stratified_groups
from dataset_tools.table import Example, Table, rows_of, trained_split
from pipeline.errors import UserError

COPIES, ROWS = METHODS = ("copies", "rows")
_SEEDS = 1 << 32  # scikit-learn takes no larger ones


def divide(table: Table, data_dir: str, count: int, distance: int, seed: int, workers: int,
           by: str = COPIES) -> shard_plan.Folds:
    """Reads every train picture once to find copies, then divides train (train_mini where there is no train).

    By COPIES the result depends on the pictures, their ids and labels and on `seed`, not on `workers` or the order of the
    rows. By ROWS it depends on the labels in the order of the rows and on `seed` alone: it is what scikit-learn's
    StratifiedKFold(count, shuffle=True, random_state=seed) makes of the competition's own table, pictures that are set
    aside later included. Copies may then stand in several folds; how many do is told.

    Args:
      table: its `group` column names what must stay together beyond copies.
      data_dir: where the pictures are.
      count: folds, at least 2.
      distance: of perceptual hashes of copies, in bits; duplicates.EXACT_ONLY: none are compared.
      seed: of the choice between equally good divisions.
      workers: processes.
      by: one of METHODS.

    Raises:
      UserError: where there are fewer pictures that are no copies, or fewer groups, than folds; groups by ROWS.
    """
    split = trained_split(table.examples["split"])
    in_order = table.examples[table.examples["split"] == split]
    frame = in_order.sort_values("id", kind="stable")
    if by == ROWS and frame["group"].astype(bool).any():
        raise UserError(f"--folds_by={ROWS} would part the groups that {data_dir} names; leave it out")
    examples = rows_of(frame)
    prints = fingerprints.take(data_dir, examples, workers)
    logging.info("looking for copies among %d pictures and dividing them into %d folds", len(prints), count)
    copies = duplicates.group(prints, distance)
    # What can't be decoded will be set aside: it must not count in the balance of the classes.
    usable = np.array([one is not None for one in prints], bool)
    fold_of = np.zeros(len(examples), np.int64)
    if by == ROWS:
        of_id = dict(zip(in_order["id"], assign(list(in_order["labels"]), np.arange(len(in_order)), count, seed,
                                                several_labels=table.multi_label)))
        fold_of = np.array([of_id[one.id] for one in examples], np.int64)
    elif usable.any():
        labels = [one.labels for one, use in zip(examples, usable) if use]
        groups = list(frame["group"][usable])
        fold_of[usable] = assign(labels, copies[usable], count, seed, groups, table.multi_label)
    groups_of_ids = _groups_of_ids(examples, copies)
    _tell(examples, groups_of_ids)
    if by == ROWS:
        _tell_parted(groups_of_ids, dict(zip((one.id for one in examples), fold_of.tolist())))
    return shard_plan.Folds(split, count, {one.id: int(fold) for one, fold in zip(examples, fold_of)}, groups_of_ids)


def assign(labels: Sequence[Sequence[int]], copies: np.ndarray, count: int, seed: int,
           groups: Optional[Sequence[str]] = None, several_labels: bool = False) -> np.ndarray:
    """The fold of each example, int [n] in 0 … count − 1.

    Args:
      labels: class indices of each.
      copies: int [n], the same number for what shows the same picture.
      count: folds, at least 2.
      seed: any integer from 0.
      groups: of each, '' for none: what shares one stays together.
      several_labels: balance every label, else the one label of each.

    Raises:
      UserError: fewer units that stay together than folds.
    """
    units = _units(copies, groups)
    numbers = int(units.max()) + 1
    if numbers < count:
        raise UserError(f"--folds={count}: train has only {numbers} usable picture{'s' * (numbers != 1)} or groups of "
                        "them that may stand apart; give fewer --folds (FOLDS of the run scripts)")
    if groups is not None and any(groups):
        fold_of_unit = stratified_groups.divide(labels, units, np.full(count, 1 / count), seed)
    elif several_labels:
        fold_of_unit = _by_every_label(labels, units, numbers, count, seed % _SEEDS)
    else:
        fold_of_unit = _stratified(labels, units, numbers, count, seed % _SEEDS)
    empty = set(range(count)) - set(fold_of_unit.tolist())
    if empty:
        raise UserError(f"--folds={count}: fold {min(empty)} would be empty; train has {numbers} groups of very "
                        "different sizes; give fewer --folds (FOLDS of the run scripts)")
    return fold_of_unit[units]


def _units(copies: np.ndarray, groups: Optional[Sequence[str]]) -> np.ndarray:
    """int [n]: copies and groups joined, numbered by first occurrence."""
    pairs = [duplicates.equal_pairs(copies)]
    if groups is not None and any(groups):
        named = np.flatnonzero([bool(group) for group in groups])
        pairs.append(named[duplicates.equal_pairs([groups[index] for index in named])])
    return duplicates.components(np.concatenate(pairs), len(copies))


def _label_of_unit(labels: Sequence[Sequence[int]], units: np.ndarray, numbers: int) -> np.ndarray:
    """The most frequent label of each unit, the lower of equals; -1 where there is none."""
    counters: list[collections.Counter] = [collections.Counter() for _ in range(numbers)]
    for unit, one in zip(units, labels):
        counters[unit].update(one[:1])
    return np.array([min(counter, key=lambda label: (-counter[label], label), default=-1) for counter in counters])


def _folds_of(splitter, y: np.ndarray, count: int) -> np.ndarray:
    fold_of = np.empty(len(y), np.int64)
    with warnings.catch_warnings():
        # Classes with fewer members than folds are usual here: their members go to as many folds.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        for fold, (_, held_out) in enumerate(splitter.split(np.zeros(len(y)), y)):
            fold_of[held_out] = fold
    return fold_of


def _padded(labels: np.ndarray, count: int) -> np.ndarray:
    """With a class of `count` members at the end, one for each fold.

    scikit-learn refuses to divide where every class has fewer members than there are folds; the division of the
    others does not depend on a last class.
    """
    return np.concatenate([labels, np.full(count, labels.max() + 1)])


def _stratified(labels, units: np.ndarray, numbers: int, count: int, seed: int) -> np.ndarray:
    label_of = _label_of_unit(labels, units, numbers)
    splitter = StratifiedKFold(count, shuffle=True, random_state=seed)
    return _folds_of(splitter, _padded(label_of, count), count)[:numbers]


def _by_every_label(labels, units: np.ndarray, numbers: int, count: int, seed: int) -> np.ndarray:
    """Each unit counts once, with every label of its members. (100,000 pictures of 1,100 labels: about 2 minutes.)"""
    classes = max((label for one in labels for label in one), default=0) + 1
    table = np.zeros((numbers, max(classes, 2)), bool)  # scikit-learn calls a single column binary, not multi-label
    for unit, one in zip(units, labels):
        table[unit, list(one)] = True
    return _folds_of(MultilabelStratifiedKFold(count, shuffle=True, random_state=seed), table, count)


def _groups_of_ids(examples: Sequence[Example], copies: np.ndarray) -> tuple[tuple[str, ...], ...]:
    """The ids of each group of two and more, all in order."""
    members: dict[int, list[str]] = {}
    for one, number in zip(examples, copies.tolist()):
        members.setdefault(number, []).append(one.id)
    return tuple(sorted(tuple(sorted(ids)) for ids in members.values() if len(ids) > 1))


def _tell(examples: Sequence[Example], groups: Sequence[Sequence[str]]) -> None:
    """Warns of copies under different labels, of which one at least is wrong."""
    labels = {one.id: one.labels for one in examples}
    differing = [ids for ids in groups if len({labels[one] for one in ids}) > 1]
    if differing:
        first, *others = differing[0]
        other = next(one for one in others if labels[one] != labels[first])
        logging.warning("%d groups of copies have different labels, such as %s and %s", len(differing), first, other)


def _tell_parted(groups: Sequence[Sequence[str]], fold_of: Mapping[str, int]) -> None:
    """Warns of copies in several folds: what a model has seen in one, it is asked about in another."""
    parted = [ids for ids in groups if len({fold_of[one] for one in ids}) > 1]
    if parted:
        first = parted[0][0]
        other = next(one for one in parted[0] if fold_of[one] != fold_of[first])
        logging.warning("--folds_by=%s: %d of %d groups of copies stand in several folds, such as %s and %s; out of fold a "
                        "score is then better than on new pictures", ROWS, len(parted), len(groups), first, other)
