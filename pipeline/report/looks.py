"""What a network looks at for its answers: activation maps of a few pictures, each by a model that has not seen it."""

import collections
import dataclasses
import os
from typing import Any, Optional, Sequence

import numpy as np
import pandas as pd

from pipeline import files
from pipeline.answers import predictions
from pipeline.errors import UserError
from pipeline.records.dataset import Dataset
from pipeline.report.pictures import Pictures
from pipeline.runs import record as run_record, run as runs


@dataclasses.dataclass(frozen=True)
class Looks:
    """Maps, float32 [GRID, GRID] each, by picture's id; `note`: of which model they are, or why there are none."""

    by_id: dict[str, np.ndarray]
    note: str


def of(member: predictions.Predictions, shown: pd.DataFrame, pictures: Pictures, data: Dataset) -> Looks:
    """The maps of the answers of `shown` (columns id and answer, a class index of `data`) by the model of a member."""
    model_dir = member.meta.get("model_dir", "")
    if member.of_another_program or not files.exists(os.path.join(model_dir, run_record.RUN_FILE)):
        return Looks({}, "without activation maps: the model is not here")
    record = run_record.read(model_dir)
    if record["same"].get("boxes"):
        return Looks({}, f"without activation maps: {model_dir} looks at boxes alone")
    if record["free"].get("class_ids") != data.class_ids:
        return Looks({}, f"without activation maps: {model_dir} does not tell that its classes are these, in this order")
    if run_record.top(record).arcface:
        return Looks({}, f"without activation maps: {model_dir} has a head of cosines (--loss=arcface)")
    shown = shown[shown["id"].isin(pictures.by_id)]
    found: dict[str, np.ndarray] = {}
    try:
        for fold, ids in _by_fold(member, shown["id"], data, runs.finished_folds(model_dir)).items():
            some = shown[shown["id"].isin(ids)]
            examples = [pictures.by_id[one] for one in some["id"]]
            found.update(zip(some["id"], _maps(model_dir, record, fold, examples, some["answer"].to_numpy())))
    except UserError as error:  # a network without a feature map, or checkpoints that are gone
        return Looks({}, f"without activation maps: {error}")
    return Looks(found, f"bright is where {model_dir} finds what speaks for its answer (class activation maps)")


def _by_fold(member: predictions.Predictions, ids: Sequence[str], data: Dataset,
             folds: Sequence[Optional[int]]) -> dict[Optional[int], list[str]]:
    """Which fold's model is asked about which pictures: out of fold the one that held them out; else the one that predicted
    them, of several the first."""
    if not member.meta.get("out_of_fold"):
        told = member.meta["fold"]
        return {told[0] if isinstance(told, list) else told: list(ids)} if len(ids) else {}
    held_out = data.identifiers(member.meta["split"]).set_index("id")["fold"]
    found = collections.defaultdict(list)
    for one in ids:
        if held_out[one] in folds:
            found[int(held_out[one])].append(one)
    return found


def _maps(model_dir: str, record: dict[str, Any], fold: Optional[int], examples: Sequence[dict[str, Any]],
          classes: np.ndarray) -> np.ndarray:
    """float32 [n, GRID, GRID]; raises UserError for a network that has no feature map."""
    import tensorflow as tf  # late: a page without maps needs none

    from pipeline.models import activation_map
    from pipeline.ops import tta
    from pipeline.prediction import loading
    from pipeline.runs import checkpoint

    stage = run_record.last_stage(record)
    path = checkpoint.find(runs.last_stage_dir(model_dir, fold), run_record.keep(record))
    model = activation_map.MapModel(loading.load_classifier(record, path, stage["size"]), record["same"]["model"])
    # The whole picture, as localize.py takes it: the map is laid over all of it.
    images = tf.stack([tta.host_views(one["encoded"], stage["size"], tta.parse("none"), "squash",
                                      antialias=stage.get("antialias", True))[0] for one in examples])
    _, features = model({"image": images, "place": tf.constant(np.stack([one["place"] for one in examples]))})
    maps = model.evidence(features, tf.constant(classes, tf.int32))
    return tf.image.resize(maps[..., tf.newaxis], [activation_map.GRID] * 2, "bilinear")[..., 0].numpy()
