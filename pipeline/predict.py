"""Predictions of a finished run, averaged over test-time views, written as a stream."""

import os
from typing import Any, Callable, Optional

from absl import logging
import tensorflow as tf

from pipeline import (checkpoint, dataset as datasets, files, input as inputs, predictions, run_record,
                      strategy as strategies, train)
from pipeline.errors import UserError
from pipeline.models import classifier as classifiers
from pipeline.ops import decode, tta
from pipeline.progress import progress
from pipeline.step import apply


def log_mean_probabilities(logits: tf.Tensor, views: int) -> tf.Tensor:
    """float32 logits [batch · views, classes], views of a picture together → logs of the mean probabilities [batch, classes]."""
    logs = tf.nn.log_softmax(tf.cast(logits, tf.float32))
    logs = tf.reshape(logs, [-1, views, logs.shape[-1]])
    return tf.reduce_logsumexp(logs, axis=1) - tf.math.log(float(views))


def make_step(model: tf.keras.Model, views: tta.Views) -> Callable[[dict], tf.Tensor]:
    """The prediction step: a batch of predict_batches → float32 log-probabilities [batch, classes]; XLA can compile it."""

    def step(batch: dict[str, tf.Tensor]) -> tf.Tensor:
        images = tta.mirror(batch["image"]) if views.mirror else batch["image"]
        flat = tf.reshape(images, [-1, *images.shape[2:]])
        places = tf.repeat(batch["place"], views.total, axis=0)
        return log_mean_probabilities(apply(model, {"image": flat, "place": places}, training=False), views.total)

    return step


def _rebuild(model_dir: str, size: Optional[int]) -> tuple[classifiers.Classifier, dict[str, Any], str, int]:
    """The trained classifier, its run.json, the checkpoint's path and the picture size."""
    record = run_record.read(model_dir)
    last_stage = train.last_stage_dir(model_dir)
    same = record["same"]
    size = size or same["stages"][same["stage_order"][-1]]["size"]
    tf.keras.mixed_precision.set_global_policy(same["precision"])
    built = classifiers.build(same["model"], size, len(record["free"]["class_ids"]), weights="none",
                              base_training=False, place_input=same["place_input"], seed=0,
                              scaling=record["free"]["scaling"])
    path = checkpoint.find(last_stage)
    checkpoint.load(path, built)
    return built, record, path, size


def _is_up_to_date(out: str, meta: dict[str, Any]) -> bool:
    path = os.path.join(out, predictions.META_FILE)
    return files.exists(path) and files.read_json(path) == meta


def _check_classes(data: datasets.Dataset, class_ids: list[str], model_dir: str) -> None:
    if data.class_ids != class_ids:
        raise UserError(f"--data_dir: {data.directory} has other classes than {model_dir} was trained on")


def run_prediction(data_dir: str, split: str, model_dir: str, out: str, *, tta_name: Optional[str], size: Optional[int],
                   batch_size: int, tpu: str) -> None:
    """Writes the predictions of `split` to `out`, or says that they are up to date.

    Args:
      tta_name: none, flip or six; None takes the recipe's.
      size: pixels; None takes the last stage's.
    """
    data = datasets.load(data_dir)
    data.check_shards(split)
    record = run_record.read(model_dir)
    views = tta.parse(tta_name or record["free"]["tta"])
    _check_classes(data, record["free"]["class_ids"], model_dir)
    strategy = strategies.make(tpu, [batch_size])
    with strategy.scope():
        built, record, path, size = _rebuild(model_dir, size)
    stage = record["same"]["stages"][record["same"]["stage_order"][-1]]
    decode.parse_eval_resize(stage["eval_resize"], size)
    meta = {
        "model": record["same"]["model"], "model_dir": model_dir, "fold": None, "checkpoint": path,
        "trained": files.read_json(os.path.join(os.path.dirname(os.path.dirname(path)), checkpoint.DONE_FILE)),
        "split": split, "size": size, "tta": views.name, "eval_resize": stage["eval_resize"], "threshold": None,
        "examples": data.size(split), "dataset": data.identity(), "class_ids": data.class_ids,
    }
    if _is_up_to_date(out, meta):
        print(f"predictions are up to date: {out}")
        return
    batches = inputs.predict_batches(data, split, size, views, stage["eval_resize"], batch_size)
    _predict_and_write(built.model, views, batches, data, split, strategy, out, meta)
    logging.info("%d predictions (%s, %d px) in %s", data.size(split), views.name, size, out)


def _predict_and_write(model: tf.keras.Model, views: tta.Views, batches: tf.data.Dataset, data: datasets.Dataset,
                       split: str, strategy: tf.distribute.Strategy, out: str, meta: dict[str, Any]) -> None:
    examples = data.examples(split)
    id_of_row = dict(zip(examples["row"], examples["id"]))
    step = make_step(model, views)
    # Rows and masks come back from the step with the probabilities, so that they can't get out of line.
    distributed_step = tf.function(lambda batch: strategy.run(
        lambda one: (step(one), one["row"], one["mask"]), args=(batch,)))
    writer = predictions.Writer(out, len(examples), len(data.class_ids))
    with progress(len(examples), f"predict {split}", "pictures") as bar:
        for batch in strategy.experimental_distribute_dataset(batches):
            logs, rows, mask = (tf.concat(strategy.experimental_local_results(part), axis=0).numpy()
                                for part in distributed_step(batch))
            real = mask > 0
            writer.append([id_of_row[row] for row in rows[real]], logs[real])
            bar.update(int(real.sum()))
    writer.finish(meta)
