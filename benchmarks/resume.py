"""What going on costs: how soon a run that goes on in the middle of an epoch gets its first batch, how well pictures are mixed
by an order that can be entered there, and how long a checkpoint takes at EfficientNet-B3's size.

  python -m benchmarks.resume --records=1000000 --record_bytes=300 --shards=256

Writes synthetic shards into a temporary folder. The first batch is timed from the beginning of an epoch and from its middle,
without the decoding, which is the same. Mixing: of neighbours in the order, how many come from one shard, and from places
of it that are next to each other, beside what a perfect shuffle has, and beside the order of before (shards side by side in
blocks of 16 records, then a shuffle buffer of 4,096). A checkpoint is written, read back and named, with the network, its
average and an optimizer with momentum; its share is of --save_minutes=10.
"""

import json
import os
import tempfile
import time

from absl import app, flags
import numpy as np
import tensorflow as tf

from pipeline.models import classifier as classifiers
from pipeline.records import dataset, order as orders, schema
from pipeline.runs import saved

FLAGS = flags.FLAGS
flags.DEFINE_integer("records", 1_000_000, "Records of the split.", 1)
flags.DEFINE_integer("record_bytes", 300, "Bytes of each picture, more or less.", 1)
flags.DEFINE_integer("shards", 256, "Shards.", 1)
flags.DEFINE_integer("batch_size", 128, "Pictures a batch.", 1)
flags.DEFINE_string("model", "keras/efficientnet-b3", "Whose checkpoint is timed, with 10,000 classes.")
flags.DEFINE_integer("size", 300, "Pixels of its pictures.", 1)


def _write(folder: str) -> dataset.Part:
    rng, shards, row = np.random.default_rng(0), [], 0
    for number, size in enumerate(np.diff(np.linspace(0, FLAGS.records, FLAGS.shards + 1).astype(int))):
        path = os.path.join(folder, f"{number}.tfrecord")
        with tf.io.TFRecordWriter(path) as writer:
            for _ in range(size):
                feature = {"image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[rng.bytes(FLAGS.record_bytes)]))}
                writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
        shards.append(schema.Shard(os.path.basename(path), "train", None, row, int(size), os.path.getsize(path), ""))
        row += int(size)
    manifest = schema.Manifest("", "turtle_recall_solution", False, (), tuple(shards), 0, 0, {})
    return dataset.Dataset(folder, manifest).part("train")


def _first_batch(order: orders.Order, start: int) -> float:
    """Seconds until a batch from there on is at hand, graph and all."""
    began = time.perf_counter()
    next(iter(order.records(start).batch(FLAGS.batch_size)))
    return time.perf_counter() - began


def _rows_of_before(part: dataset.Part) -> np.ndarray:
    """The order that one epoch had with a shuffle buffer."""
    columns = (tf.constant([shard.first_row for shard in part.shards], tf.int64),
               tf.constant([shard.records for shard in part.shards], tf.int64))
    shards = tf.data.Dataset.from_tensor_slices(columns).shuffle(len(part.shards), seed=1)
    records = shards.interleave(lambda first, count: tf.data.Dataset.range(first, first + count), cycle_length=16,
                                block_length=16)
    return np.concatenate(list(records.shuffle(4096, seed=1).batch(4096).as_numpy_iterator()))


def _mixing(part: dataset.Part, rows: np.ndarray) -> dict[str, float]:
    firsts = np.array([shard.first_row for shard in part.shards])
    shard = np.searchsorted(firsts, rows, side="right") - 1
    near = np.abs(np.diff(rows)) <= 16
    batches = shard[:len(shard) // FLAGS.batch_size * FLAGS.batch_size].reshape(-1, FLAGS.batch_size)
    return {"neighbours of one shard": float((shard[1:] == shard[:-1]).mean()),
            "neighbours within 16 records": float(near.mean()),
            "shards a batch": float(np.mean([len(np.unique(one)) for one in batches]))}


def _saving(folder: str) -> dict[str, float]:
    """MB a checkpoint, seconds (the median of three), and their share of the time."""
    built, average = (classifiers.build(FLAGS.model, FLAGS.size, 10_000, weights="none") for _ in range(2))
    optimizer = tf.keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer.build(built.model.trainable_variables)
    last = saved.Saved(tf.train.Checkpoint(model=average.model, trained=built.model, optimizer=optimizer), folder, keep=2)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        last.save()
        seconds.append(time.perf_counter() - began)
    size = sum(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder)) / 2
    middle = float(np.median(seconds))
    return {"MB": round(size / 1e6), "seconds": round(middle, 2), "share of 10 minutes": round(middle / 600, 5)}


def main(_) -> None:
    with tempfile.TemporaryDirectory() as folder:
        part = _write(folder)
        order = orders.Order(part, 1, part.size // FLAGS.batch_size * FLAGS.batch_size)
        starts = {"beginning": 0, "middle": order.epoch_size // 2, "end": order.epoch_size - FLAGS.batch_size}
        seconds = {name: round(_first_batch(order, start), 2) for name, start in starts.items()}
        began = time.perf_counter()
        rows = np.concatenate([one["row"] for one in order.records().take(order.epoch_size).batch(4096).as_numpy_iterator()])
        whole = time.perf_counter() - began
        perfect = np.random.default_rng(0).permutation(part.size)
        print(json.dumps({
            "records": part.size, "shards": len(part.shards), "window": orders.window_size(part),
            "seconds to the first batch from": seconds, "seconds of the whole epoch": round(whole, 1),
            "saving": _saving(os.path.join(folder, "last")),
            "mixing": {name: _mixing(part, one) for name, one in (
                ("now", rows), ("before", _rows_of_before(part)), ("a perfect shuffle", perfect))}}, indent=1))


if __name__ == "__main__":
    app.run(main)
