"""Predictions of a finished run, averaged over test-time views and folds, written as a stream."""

import dataclasses
import itertools
import os
from typing import Any, Callable, Optional, Sequence

from absl import logging
import numpy as np
import tensorflow as tf

from pipeline import command, files, lock
from pipeline.answers import by_kind as answers, fusion, predictions
from pipeline.devices import steps, strategy as strategies
from pipeline.errors import UserError
from pipeline.models import classifier as classifiers
from pipeline.ops import tta
from pipeline.prediction import likeness, loading
from pipeline.progress import progress
from pipeline.records import damage, dataset as datasets, input as inputs
from pipeline.runs import checkpoint, record as run_record, run as runs, seen, seen_checks
from pipeline.runs.stages import Stage
from pipeline.tasks.task import SIGMOID, SOFTMAX
from pipeline.training.step import apply


@dataclasses.dataclass(frozen=True)
class Request:
    """What predict.py was asked for, beside the data."""

    model_dir: str
    split: str
    out: str
    folds: Sequence[int] = ()          # empty: all that have finished
    tta: Optional[str] = None          # None: the recipe's
    size: Optional[int] = None         # pixels; None: the last stage's
    batch_size: int = 32               # pictures a step, over all replicas
    tpu: str = "none"
    virtual_replicas: int = 0
    checkpoint: Optional[str] = None   # best, last or kept epochs (18:21:24); None: what the run keeps
    average: str = "probabilities"     # or weights: how several epochs become one prediction
    neighbours: int = 0                # train pictures that vote; 0: the head answers


LOG_PROBABILITIES = {SOFTMAX: tf.nn.log_softmax, SIGMOID: tf.math.log_sigmoid}  # by a task's activation


def log_mean_probabilities(logits: tf.Tensor, views: int, activation: str = SOFTMAX) -> tf.Tensor:
    """Logs of the mean probabilities over a picture's views.

    float32 logits [batch · views, classes], a picture's views together → float32 [batch, classes].
    """
    logits = tf.cast(logits, tf.float32)
    logs = LOG_PROBABILITIES[activation](logits)
    logs = tf.reshape(logs, [-1, views, logs.shape[-1]])
    return tf.reduce_logsumexp(logs, axis=1) - tf.math.log(float(views))


def make_step(model: tf.keras.Model, views: tta.Views, activation: str = SOFTMAX) -> Callable[[dict], tf.Tensor]:
    """The prediction step: a batch of predict_batches → float32 log-probabilities [batch, classes].

    Pure, so that XLA can compile it.
    """

    def step(batch: dict[str, tf.Tensor]) -> tf.Tensor:
        logits = apply(model, views.of_batch(batch), training=False)
        return log_mean_probabilities(logits, views.total, activation)

    return step


@dataclasses.dataclass(frozen=True)
class Answers:
    """How pictures are answered.

    Attributes:
      step: a batch of predict_batches → what is computed of each picture on the devices, [batch, …].
      logs: (rows int64 [n], that of n pictures) → their log-probabilities [n, classes].
      at_once: pictures that `logs` wants at least, where there are so many.
    """

    step: Callable[[dict[str, tf.Tensor]], tf.Tensor]
    logs: Callable[[np.ndarray, np.ndarray], np.ndarray] = lambda rows, found: found
    at_once: int = 1


def make_devices(request: Request) -> tf.distribute.Strategy:
    """What is computed on, the same at each call; comes before whatever else needs TensorFlow. Raises UserError."""
    return strategies.make_on_one_host("predict.py", request.tpu, request.batch_size, request.virtual_replicas)


def run_prediction(data_dir: str, request: Request) -> None:
    """Writes the predictions of a split to `request.out`, or says that they are up to date.

    A run by folds predicts what it was trained on by the fold that did not see it, and everything else by the mean of
    its folds, each of which is kept in OUT/fold_K. Raises UserError for what the user can mend.
    """
    strategy = make_devices(request)
    data = datasets.load(data_dir)
    whole = data.part(request.split)
    record = run_record.read(request.model_dir)
    if data.classes_digest() != record["free"]["classes"]:
        raise UserError(f"--data_dir: {data_dir} has other classes than {request.model_dir} was trained on")
    stage = run_record.last_stage(record)
    tta.check(request.tta or record["free"]["tta"], stage["eval_resize"], request.size or stage["size"])
    whole = loading.cropped(whole, record)
    whole.check()
    if tta.parse(request.tta or record["free"]["tta"]).of_mask:
        whole.check_masks(f"--tta={request.tta or record['free']['tta']}")
    folds = _choose_folds(request)
    for fold in folds:
        checkpoint.choose(runs.last_stage_dir(request.model_dir, fold), request.checkpoint or run_record.keep(record))
    strategies.log(strategy, [request.batch_size])
    if folds == [None]:
        _predict_part(whole, None, request.out, request, record, strategy)
        return
    out_of_fold = request.split == record["same"]["train_split"]
    if request.split in record["same"]["train_split"].split("+") and not out_of_fold:
        raise UserError(f"--split={request.split} was trained on as a part of {record['same']['train_split']}; predict that")
    members = []
    if out_of_fold:
        seen_checks.check_out_of_fold(request.model_dir, data, request.split, folds)
    for fold in folds:
        part = loading.cropped(data.held_out(request.split, fold), record) if out_of_fold else whole
        members.append(_predict_part(part, fold, os.path.join(request.out, f"fold_{fold}"), request, record, strategy))
    _combine(members, request.out, folds, out_of_fold)
    answers.of(data.task).refresh(request.out, data)


def predict_held_out(run: runs.Run, out: str, stage: Optional[Stage] = None, part: Optional[datasets.Part] = None) -> None:
    """Predicts what the run holds out (its fold, or val), by the recipe's views, of a fold by --oof_tta's, in the process
    that trained it.

    Args: stage: by that one's model; None: by the last. part: that instead, which it was not trained on either.
    """
    held_out = part or runs.held_out_part(run, datasets.load(run.data_dir))
    views = run.tta if run.fold is None else run.oof_tta or run.tta
    request = Request(run.model_dir, held_out.split, out, tta=views, tpu=run.tpu, batch_size=run.stages[-1].batch_size,
                      virtual_replicas=run.virtual_replicas)
    record = run_record.up_to(run_record.read(run.model_dir), (stage or run.stages[-1]).name)
    _predict_part(loading.cropped(held_out, record), run.fold, out, request, record,
                  strategies.make(run.tpu, [request.batch_size], run.virtual_replicas))


def predict_probe(run: runs.Run, data: datasets.Dataset) -> None:
    """Keeps what a probe that is not the last stage says of what the run holds out: evaluate.py tells its score beside any
    other of the same pictures."""
    probe = runs.probe_before_last(run)
    held_out = probe and runs.held_out_part(run, data)
    if held_out:
        kind = held_out.split if run.fold is None else predictions.OUT_OF_FOLD
        predict_held_out(run, os.path.join(runs.fold_dir(run.model_dir, run.fold), predictions.PROBE, kind), probe)


def _choose_folds(request: Request) -> list[Optional[int]]:
    finished = runs.finished_folds(request.model_dir)
    missing = [fold for fold in request.folds if fold not in finished]
    if missing:
        told = ", ".join(str(fold) for fold in finished if fold is not None)
        raise UserError(f"--fold={missing[0]}: not finished in {request.model_dir} (finished: {told or 'no fold'})")
    return list(request.folds) or finished


def _combine(members: list[predictions.Predictions], out: str, folds: list[int], out_of_fold: bool) -> None:
    meta = {**members[0].meta, "fold": folds, "seen": seen.together([member.meta["seen"] for member in members], out_of_fold),
            "checkpoint": [member.meta["checkpoint"] for member in members],
            "trained": [member.meta["trained"] for member in members], "out_of_fold": out_of_fold}
    if not out_of_fold:
        _write_mean(members, out, meta)
        return
    meta["examples"] = sum(member.meta["examples"] for member in members)
    if not _is_up_to_date(out, meta):
        predictions.write(out, itertools.chain.from_iterable(member.chunks() for member in members), meta)
        logging.info("out-of-fold predictions of folds %s in %s", folds, out)


def _write_mean(members: list[predictions.Predictions], out: str, meta: dict[str, Any]) -> predictions.Predictions:
    """The mean of the members' probabilities in `out`, unless that stands already."""
    if not _is_up_to_date(out, meta):
        predictions.write(out, fusion.Blend(members).chunks(), meta)
        logging.info("mean of %s in %s", ", ".join(os.path.basename(member.directory) for member in members), out)
    return predictions.Predictions(out)


def _is_up_to_date(out: str, meta: dict[str, Any]) -> bool:
    if not files.exists(os.path.join(out, predictions.META_FILE)):
        return False
    try:
        standing = predictions.Predictions(out).meta
    except UserError:  # damaged: they are made again
        return False
    told_later = {"seen": None, "threshold": None}
    if {**standing, **told_later} != {**meta, **told_later}:
        return False
    if standing.get("seen") != meta["seen"]:  # of before it was told; the probabilities are the same
        files.write_json(os.path.join(out, predictions.META_FILE), {**meta, "threshold": standing["threshold"]})
    return True


def _predict_part(part: datasets.Part, fold: Optional[int], out: str, request: Request, record: dict[str, Any],
                  strategy: tf.distribute.Strategy) -> predictions.Predictions:
    """Predicts one part by one fold's model into `out`, by one pass over the pictures for each checkpoint or for all."""
    wanted = request.checkpoint or run_record.keep(record)
    paths = checkpoint.choose(runs.last_stage_dir(request.model_dir, fold, record), wanted)
    if len(paths) == 1 or request.average == "weights":
        return _predict_once(part, fold, paths, out, request, record, strategy)
    members = [_predict_once(part, fold, [path], os.path.join(out, os.path.basename(path)), request, record, strategy)
               for path in paths]
    return _write_mean(members, out, {**members[0].meta, "checkpoint": paths, "average": "probabilities"})


def _predict_once(part: datasets.Part, fold: Optional[int], paths: list[str], out: str, request: Request,
                  record: dict[str, Any], strategy: tf.distribute.Strategy) -> predictions.Predictions:
    """Predicts by one model, the mean of the checkpoints, into `out`, unless that stands already."""
    same, free = record["same"], record["free"]
    stage = run_record.last_stage(record)
    size = request.size or stage["size"]
    views = tta.parse(request.tta or free["tta"])
    meta = {
        "model": same["model"], "model_dir": request.model_dir, "fold": fold,
        "checkpoint": paths if len(paths) > 1 else paths[0], "average": "weights" if len(paths) > 1 else None,
        "trained": files.read_json(os.path.join(runs.last_stage_dir(request.model_dir, fold, record),
                                                runs.DONE_FILE)),
        "split": request.split, "size": size, "tta": views.name, "eval_resize": stage["eval_resize"],
        "boxes": part.boxes, "threshold": None, "kind": part.data.task.activation,
        "examples": part.size, "dataset": part.data.identity(request.split), "class_ids": part.data.class_ids,
        "seen": seen.for_meta(request.model_dir, fold, part, stage),
    }
    if request.neighbours:
        meta = likeness.told(meta, request.neighbours, part)
    if _is_up_to_date(out, meta):
        print(f"predictions are up to date: {out}")
        answers.of(part.data.task).refresh(out, part.data)
        return predictions.Predictions(out)
    with lock.held(out):
        built = loading.load(paths, fold, size, part.data, request.batch_size, record, strategy)
        # What a stream that was not finished must agree in: other batches would give other last bits.
        of = {**meta, "seen": None, "batch_size": request.batch_size, "replicas": strategy.num_replicas_in_sync,
              "precision": same["precision"]}
        answers_of = _answers(built, part, fold, views, size, request, record, strategy)
        writer = predictions.Writer(out, part.size, len(part.data.class_ids), of)
        batches = inputs.predict_batches(part, size, views, stage["eval_resize"], request.batch_size,
                                         antialias=stage.get("antialias", True), done=writer.done)
        try:
            _write_predictions(answers_of, batches, part, strategy, writer, meta)
        except BaseException:
            writer.discard()
            raise
        answers.of(part.data.task).refresh(out, part.data)
    logging.info("%d predictions (%s, %d px) in %s", part.size, views.name, size, out)
    return predictions.Predictions(out)


def _answers(built: classifiers.Classifier, part: datasets.Part, fold: Optional[int], views: tta.Views, size: int,
             request: Request, record: dict[str, Any], strategy: tf.distribute.Strategy) -> Answers:
    """By the head, or by the neighbours that were asked for."""
    if not request.neighbours:
        return Answers(make_step(built.model, views, part.data.task.activation))
    reading = likeness.Reading(size, views, request.batch_size, strategy)
    folder = runs.last_stage_dir(request.model_dir, fold, record)
    voters = likeness.Voters.of(built, part, fold, record, reading, folder, request.neighbours)
    return Answers(likeness.make_step(built, views), voters.log_probabilities, likeness.AT_ONCE)


def _write_predictions(answers_of: Answers, batches: tf.data.Dataset, part: datasets.Part, strategy: tf.distribute.Strategy,
                       writer: predictions.Writer, meta: dict[str, Any]) -> None:
    """What the writer has not yet."""
    examples = part.examples()
    id_of_row = dict(zip(examples["row"], examples["id"]))
    # Rows and masks come back from the step with the probabilities, so that they can't get out of line.
    distributed_step = steps.on_replicas(strategy, lambda one: (answers_of.step(one), one["row"], one["mask"]))
    command.begin_work()
    waiting: list[tuple[np.ndarray, np.ndarray]] = []
    left = len(examples) - writer.done
    try:
        with progress(left, f"predict {part.split}", "pictures") as bar:
            for batch in strategy.experimental_distribute_dataset(batches):
                found, rows, mask = (tf.concat(strategy.experimental_local_results(one), axis=0).numpy()
                                     for one in distributed_step(batch))
                real = mask > 0
                waiting.append((rows[real], found[real]))
                left -= int(real.sum())
                if sum(len(one) for one, _ in waiting) >= answers_of.at_once or not left:
                    rows, found = map(np.concatenate, zip(*waiting))
                    writer.append([id_of_row[row] for row in rows], answers_of.logs(rows, found))
                    waiting = []
                bar.update(int(real.sum()))
    except tf.errors.DataLossError:
        raise damage.name(part) from None
    writer.finish(meta)
