"""Boxes (and masks) from a trained model's class activation maps: what a second, finer model is to look at.

Coarse → localize → fine is the way of iNat 2019's seventh place. The class whose map is taken is the predicted one, in
train too: where it counts no label is known. A model by folds makes each box of the split that it was trained on by the
fold that did not see the picture, and all others by the mean of its folds.
"""

import dataclasses
import os
from typing import Any, Callable, Iterator, Optional, Sequence

import numpy as np
import pandas as pd
import tensorflow as tf

from pipeline import command, files
from pipeline.devices import steps, strategy as strategies
from pipeline.errors import UserError, WorkError
from pipeline.models import activation_map
from pipeline.ops import tta
from pipeline.prediction import loading, map_to_box
from pipeline.progress import progress
from pipeline.records import boxes as boxes_of, damage, dataset as datasets, input as inputs, masks
from pipeline.runs import checkpoint, record as run_record, run as runs, seen_checks

Fold = Optional[int]  # None: a model without folds


@dataclasses.dataclass(frozen=True)
class Request:
    """What localize.py was asked for, beside the data."""

    model_dir: str
    name: str                    # of the boxes
    rule: map_to_box.Rule
    masks: bool = False          # keep which cells of the picture the object takes, too
    split: Optional[str] = None  # several joined by +; None: all
    size: Optional[int] = None   # pixels; None: see default_size
    batch_size: int = 32         # pictures a step, over all replicas
    tpu: str = "none"
    virtual_replicas: int = 0


def run_localization(data_dir: str, request: Request) -> boxes_of.Boxes:
    """Writes the boxes of the splits that have none yet; returns all that stand under the name.

    Raises UserError for what the user can mend.
    """
    strategy = strategies.make_on_one_host("localize.py", request.tpu, request.batch_size, request.virtual_replicas)
    data = datasets.load(data_dir)
    record = run_record.read(request.model_dir)
    whole = data.part(request.split or "+".join(data.manifest.splits))
    _check(whole, record, request)
    folds = runs.finished_folds(request.model_dir)
    size = request.size or default_size(record)
    standing = _standing(data, request.name, _how(record, request, folds, size))
    missing = [split for split in dict.fromkeys(whole.split.split("+")) if split not in standing.splits]
    if not missing:
        print(f"boxes are up to date: {boxes_of.path(data_dir, request.name)}")
        return standing
    for split in set(missing) & set(record["same"]["train_split"].split("+")) if folds != [None] else ():
        seen_checks.check_out_of_fold(request.model_dir, data, split, folds)
    tasks = [task for split in missing for task in _tasks(data.part(split), record, folds)]
    strategies.log(strategy, [request.batch_size])
    maps = _Maps(request.model_dir, record, size, strategy, data.task.activation)
    command.begin_work()
    tables = [_table(part, maps.of(part, members, request.batch_size), request) for part, members in tasks]
    made = dataclasses.replace(
        standing, table=pd.concat([one for one in (standing.table, *tables) if len(one)], ignore_index=True),
        splits={**standing.splits, **{split: data.identity(split) for split in missing}})
    boxes_of.write(data_dir, made, request.model_dir)
    _print_summary(data, made, missing)
    return made


def default_size(record: dict[str, Any]) -> int:
    """Half as many pixels again as in a run's last stage, a multiple of 32: a feature map is that coarse."""
    return 32 * round(1.5 * run_record.last_stage(record)["size"] / 32)


def _check(part: datasets.Part, record: dict[str, Any], request: Request) -> None:
    boxes_of.check_name(request.name)
    part.check()
    if part.data.classes_digest() != record["free"]["classes"]:
        raise UserError(f"--data_dir: {part.data.directory} has other classes than {request.model_dir} was trained on")
    if record["same"].get("boxes"):
        raise UserError(f"--model_dir: {request.model_dir} knows crops only (--boxes={record['same']['boxes']['name']}); "
                        "localize with a model of whole pictures")
    if run_record.top(record).arcface:
        raise UserError(f"--model_dir: {request.model_dir} was trained with --loss=arcface, and a head of cosines has no "
                        "activation maps here: localize with a model of another --loss")


def _how(record: dict[str, Any], request: Request, folds: Sequence[Fold], size: int) -> dict[str, Any]:
    """What the boxes follow from."""
    checkpoints = {}
    for fold in folds:
        last_stage = runs.last_stage_dir(request.model_dir, fold)
        checkpoints["model" if fold is None else f"fold_{fold}"] = {
            "checkpoint": os.path.basename(checkpoint.find(last_stage, run_record.keep(record))),
            "trained": files.read_json(os.path.join(last_stage, runs.DONE_FILE))}
    cells = {"mask_cells": masks.CELLS} if request.masks else {}
    return {"model": record["same"]["model"], "checkpoints": checkpoints, "size": size, **dataclasses.asdict(request.rule),
            **cells}


def _standing(data: datasets.Dataset, name: str, how: dict[str, Any]) -> boxes_of.Boxes:
    """The boxes there are, without those of pictures that have since been replaced; none at all on the first run.

    Raises UserError where they were made otherwise: a fine model may have been trained on them.
    """
    if not boxes_of.exist(data.directory, name):
        return boxes_of.Boxes(name, pd.DataFrame(columns=boxes_of.COLUMNS), how, {})
    found = data.boxes(name)
    different = run_record.differences(found.how, how)
    if different:
        raise UserError(f"--name: boxes {name} of {data.directory} were made otherwise: {'; '.join(different)}. Use another "
                        f"--name, or delete {boxes_of.meta_path(data.directory, name)}")
    current = [split for split in data.manifest.splits if found.covers(data.part(split))]
    return dataclasses.replace(found, table=found.table[found.table["split"].isin(current)],
                               splits={split: found.splits[split] for split in current})


def _tasks(part: datasets.Part, record: dict[str, Any], folds: Sequence[Fold]) -> list[tuple[datasets.Part, list[Fold]]]:
    """A split in parts, each with the folds whose models localize in it."""
    held_out = sorted({shard.fold for shard in part.shards if shard.fold is not None})
    if folds == [None] or part.split not in record["same"]["train_split"].split("+") or not held_out:
        return [(part, list(folds))]
    missing = [fold for fold in held_out if fold not in folds]
    if missing:
        raise UserError(f"--model_dir: fold {missing[0]} has not finished, and no other may localize in the pictures that it "
                        "held out: train it with multi_stage_train.py")
    # What belongs to no fold (val in train+val) was seen by all of them.
    groups = [(fold, [fold]) for fold in held_out] + [(None, list(folds))]
    parts = [(dataclasses.replace(part, shards=tuple(shard for shard in part.shards if shard.fold == fold)), members)
             for fold, members in groups]
    return [(one, members) for one, members in parts if one.shards]


class _Maps:
    """The coarse models, each loaded when it is first needed, and the maps that they make."""

    def __init__(self, model_dir: str, record: dict[str, Any], size: int, strategy: tf.distribute.Strategy,
                 activation: str):
        self._model_dir, self._record, self._size, self._strategy = model_dir, record, size, strategy
        self._activation = activation
        self._models: dict[Fold, activation_map.MapModel] = {}
        self._steps: dict[tuple[Fold, ...], Callable] = {}  # traced once, also for several parts
        tf.keras.backend.clear_session()
        tf.keras.mixed_precision.set_global_policy(record["same"]["precision"])

    def of(self, part: datasets.Part, folds: Sequence[Fold], batch_size: int,
           ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """(rows, maps [n, GRID, GRID], classes, scores) of the pictures of a part, batch by batch, without padding."""
        step = self._step(tuple(folds))
        # The whole picture, whatever the run's --eval_resize: a box may lie anywhere.
        antialias = run_record.last_stage(self._record).get("antialias", True)
        batches = inputs.predict_batches(part, self._size, tta.parse("none"), "squash", batch_size, antialias=antialias)
        try:
            for batch in self._strategy.experimental_distribute_dataset(batches):
                *results, mask = (tf.concat(self._strategy.experimental_local_results(one), axis=0).numpy()
                                  for one in step(batch))
                yield tuple(one[mask > 0] for one in results)
        except tf.errors.DataLossError:
            raise damage.name(part) from None

    def _step(self, folds: tuple[Fold, ...]) -> Callable:
        if folds not in self._steps:
            step = activation_map.make_step([self._model(fold) for fold in folds], self._activation)
            # As in prediction: what belongs together comes back together.
            self._steps[folds] = steps.on_replicas(self._strategy, lambda one: (one["row"], *step(one), one["mask"]))
        return self._steps[folds]

    def _model(self, fold: Fold) -> activation_map.MapModel:
        if fold not in self._models:
            path = checkpoint.find(runs.last_stage_dir(self._model_dir, fold), run_record.keep(self._record))
            with self._strategy.scope():
                classifier = loading.load_classifier(self._record, path, self._size)
                self._models[fold] = activation_map.MapModel(classifier, self._record["same"]["model"])
        return self._models[fold]


def _table(part: datasets.Part, maps: Iterator[tuple[np.ndarray, ...]], request: Request) -> pd.DataFrame:
    """boxes.COLUMNS of a part's pictures, and boxes.MASK where masks are asked for."""
    examples = part.examples()
    id_of_row, split_of_row = (dict(zip(examples["row"], examples[column])) for column in ("id", "split"))
    lines = []
    with progress(len(examples), f"localize {part.split}", "pictures") as bar:
        for rows, grids, classes, scores in maps:
            if not np.isfinite(scores).all():
                raise WorkError(f"the model's answer for {id_of_row[rows[int(np.isfinite(scores).argmin())]]} is NaN or "
                                "infinite; train it anew at a lower rate")
            for row, grid, index, score in zip(rows, grids, classes, scores):
                found = map_to_box.object_of(grid, request.rule)
                mask = [masks.to_text(map_to_box.mask_of(found))] if request.masks else []
                lines.append((row, id_of_row[row], split_of_row[row], *map_to_box.box_around(found, request.rule),
                              part.data.class_ids[index], score, *mask))
            bar.update(len(rows))
    return pd.DataFrame(lines, columns=[*boxes_of.COLUMNS, *([boxes_of.MASK] if request.masks else [])])


def _print_summary(data: datasets.Dataset, made: boxes_of.Boxes, splits: Sequence[str]) -> None:
    table = made.table[made.table["split"].isin(splits)]
    area = (table["right"] - table["left"]) * (table["bottom"] - table["top"])
    quartiles = ", ".join(f"{area.quantile(share):.2f}" for share in (0.25, 0.5, 0.75))
    print(f"{len(table)} boxes ({', '.join(splits)}) in {boxes_of.path(data.directory, made.name)}; quartiles of their share "
          f"of the picture: {quartiles}")
