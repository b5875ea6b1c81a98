"""tf.data input: shards in, padded or endless batches of static shape out.

Every random choice is stateless. The order of the examples is a function of (seed, epoch; see order) and each example's
augmentation one of (seed, epoch, row), so the number of threads changes nothing, and a run that goes on at step s sees
what the uninterrupted one would have seen.
"""

import dataclasses
from typing import Callable, Optional

import tensorflow as tf

from pipeline.ops import mixing, seeds, tta
from pipeline.records import cache as caches, class_balance as balances, device_pictures, order as orders, reading
from pipeline.records.dataset import Part
from pipeline.records.schema import Key, RecordKind
from pipeline.records.training_picture import DEVICE, MASK, TrainPictures, training_picture, training_place
from pipeline.tasks.task import MANY_HOT

AUTOTUNE = tf.data.AUTOTUNE
CYCLE_LENGTH = 16       # shards read side by side, in file order
BLOCK_LENGTH = 16       # records taken from one before the next
# Nothing of it has Python's if or for of a tensor; AutoGraph's reading of every function of it, and of what they call, would
# take 2 s of each start.
_as_written = tf.autograph.experimental.do_not_convert


@dataclasses.dataclass(frozen=True)
class Host:
    """One of the machines that make the global batches together, each its own part of every batch."""

    index: int = 0
    count: int = 1

    def takes_shards(self, part: Part) -> bool:
        """Whether there are enough for it to read its own; else each host reads all and drops what is others'."""
        return 1 < self.count <= len(part.shards)


def _classes_to_encode(part: Part) -> Optional[int]:
    """Of a task whose labels are MANY_HOT, the number of classes."""
    return len(part.data.manifest.classes) if part.data.task.encoding == MANY_HOT else None


def _label(labels: tf.Tensor, classes: Optional[int]) -> tf.Tensor:
    """What is learnt of int64 [n] class indices: the first of them, −1 where there is none; with `classes` float32
    [classes], 1 at each."""
    if classes is None:
        return tf.concat([labels, [-1]], axis=0)[0]
    return tf.minimum(tf.reduce_sum(tf.one_hot(labels, classes), axis=0), 1.0)


def parse_record(kind: RecordKind, row: tf.Tensor, record: tf.Tensor, classes: Optional[int] = None,
                 ) -> dict[str, tf.Tensor]:
    """One record → {'encoded': bytes, 'row': int64, 'label': int64 (-1: unknown), 'place': float32 [3]}.

    `row` is the record's row by its position, used where the record itself carries none. 'place' is latitude/90,
    longitude/180 and 1, or zeros where there is no place. With `classes` (several labels a picture) 'label' is float32
    [classes], 1 at each label, all 0 where they are unknown.
    """
    features = {
        kind.image: tf.io.FixedLenFeature([], tf.string),
        kind.labels: tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True),
    }
    if kind.has_row:
        features[Key.ROW] = tf.io.FixedLenFeature([], tf.int64)
    if kind.has_place:
        for key in (Key.LATITUDE, Key.LONGITUDE, Key.VALID):
            features[key] = tf.io.FixedLenFeature([], tf.float32, 0.0)
    parsed = tf.io.parse_single_example(record, features)
    place = tf.zeros([3])
    if kind.has_place:
        valid = parsed[Key.VALID]
        place = tf.stack([parsed[Key.LATITUDE] * valid, parsed[Key.LONGITUDE] * valid, valid])
    return {
        "encoded": parsed[kind.image],
        "row": parsed[Key.ROW] if kind.has_row else row,
        "label": _label(parsed[kind.labels], classes),
        "place": place,
    }


def parser(part: Part) -> Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]:
    """(row by position, serialized record) → parse_record's, of this part."""
    kind, classes = part.data.record_kind, _classes_to_encode(part)
    return lambda row, record: parse_record(kind, row, record, classes)


def _box_lookup(part: Part) -> Callable[[tf.Tensor], Optional[tf.Tensor]]:
    """Row, int64 scalar → its box as decode.window takes it; None for pictures that are read whole."""
    if not part.boxes:
        return lambda row: None
    first_row, sides = part.data.boxes(part.boxes).by_row(part)
    table = tf.constant(sides)  # 16 bytes a picture
    return lambda row: table[row - first_row]


def _mask_lookup(part: Part, wanted: bool) -> Callable[[tf.Tensor], Optional[tf.Tensor]]:
    """Row, int64 scalar → what ops.mask_square takes of its mask; None where none is wanted."""
    if not wanted:
        return lambda row: None
    first_row, counts = part.data.boxes(part.boxes).masks_by_row(part)
    table = tf.constant(counts)  # 64 bytes a picture
    return lambda row: table[row - first_row]


@_as_written
def examples(part: Part) -> tf.data.Dataset:
    """Every parsed record once (see parse_record), in file order, without those that create_tfrecords.py set aside."""
    segments = tf.data.Dataset.from_tensor_slices(reading.segments(part).columns)
    records = segments.interleave(reading.records, cycle_length=min(CYCLE_LENGTH, len(part.shards)),
                                  block_length=BLOCK_LENGTH, num_parallel_calls=AUTOTUNE)
    set_aside = sorted(row for shard in part.shards for row in shard.set_aside)
    if set_aside:  # adopted shards only, whose rows go by position; before the parsing, which they may not stand
        records = orders.without_rows(records, set_aside)
    return records.map(parser(part), num_parallel_calls=AUTOTUNE)


@_as_written
def train_examples(part: Part, seed: int, start: int = 0, class_balance: str = "none", host: Host = Host(),
                   epoch_size: Optional[int] = None, cache: Optional[caches.RecordCache] = None) -> tf.data.Dataset:
    """Endless parsed records with their 'epoch' (int64), from number `start` (counted over all epochs) on.

    Each epoch is a pass in an order of its own over all examples, or `epoch_size` of them. With a `class_balance` it has as
    many examples, some of them several times, with the number of their 'copy' (int32), and others not.

    With one of several `host`s they are those of its shards, others in each epoch. Its epoch is its share of the
    examples, however many its shards hold, so that all hosts are in the same epoch: a few examples are left out, or come
    again, until the next one. With a `cache` (of the part) shards are read once.
    """
    balance = None if class_balance == "none" else balances.make(part, class_balance)
    order = orders.Order(part, seed, (epoch_size or part.size) // host.count, balance, host.index, host.count, cache)
    parse = parser(part)

    def parsed(element: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        row, record = element.pop("row"), element.pop("record")
        return {**parse(row, record), **element}

    return order.records(start).map(parsed, num_parallel_calls=AUTOTUNE)


@_as_written
def train_batches(part: Part, pictures: TrainPictures, batch_size: int, seed: int, start_step: int = 0,
                  ordered: bool = True, class_balance: str = "none", mix: mixing.Alphas = mixing.Alphas(),
                  host: Host = Host(), cache: Optional[caches.RecordCache] = None, ram_budget: int = 0) -> tf.data.Dataset:
    """Endless batches ({'image': uint8 [batch, size, size, 3], 'place': float32 [batch, 3]}, int64 labels [batch]).

    With several labels a picture the labels are float32 [batch, classes]. With pictures.augment_on=device there is another
    feature, what device_pictures.finish is to do to the batch; mixes too, so that the labels are not mixed yet.

    Args:
      start_step: number of batches that a run before this one has already seen.
      ordered: False lets batches come in any order, for speed.
      class_balance: a key of class_balance.POWERS.
      mix: mixup and CutMix; with it class indices become mixing.MixedLabels. (Places stay the first picture's.)
      host: with one of several, `batch_size` is still the global one, and the batches are its parts of those.
      cache: of the part's records.
      ram_budget: bytes that buffers may take; 0: tf.data's own choice.
    """

    box_of, mask_of = _box_lookup(part), _mask_lookup(part, pictures.augment == MASK)

    def prepare(example):
        example_seed = seeds.example_seed(seed, example["epoch"], example["row"], example.get("copy"))
        image = training_picture(example["encoded"], example_seed, pictures, box_of(example["row"]), mask_of(example["row"]))
        features = {"image": image, "place": training_place(example["place"], example_seed, pictures)}
        drawn = device_pictures.draw(example_seed, pictures) if on_device else {}
        return {**features, **({device_pictures.DRAWN: drawn} if drawn else {})}, example["label"]

    on_device = pictures.augment_on == DEVICE
    chosen = _own_examples(part, batch_size, seed, start_step, class_balance, host, cache)
    batches = chosen.map(prepare, num_parallel_calls=AUTOTUNE).batch(batch_size // host.count, drop_remainder=True)
    if mix.any:
        batches = _mixed(batches, seed, start_step, mix, host, on_device)
    return batches.prefetch(AUTOTUNE).with_options(_options(ordered, ram_budget))


def _own_examples(part: Part, batch_size: int, seed: int, start_step: int, class_balance: str, host: Host,
                  cache: Optional[caches.RecordCache] = None) -> tf.data.Dataset:
    """The host's training examples, those of one of its batches after those of another."""
    epoch_size = part.size // batch_size * batch_size  # as long as that of the steps
    if host.takes_shards(part):
        return train_examples(part, seed, start_step * (batch_size // host.count), class_balance, host, epoch_size, cache)
    chosen = train_examples(part, seed, start_step * batch_size, class_balance, epoch_size=epoch_size, cache=cache)
    return _own_of_each_batch(chosen, batch_size, host)


def batch_rows(part: Part, batch_size: int, seed: int, step: int, class_balance: str = "none",
               host: Host = Host()) -> list[int]:
    """The rows of the host's part of the batch after `step` batches of train_batches."""
    examples = _own_examples(part, batch_size, seed, step, class_balance, host).take(batch_size // host.count)
    return [int(example["row"]) for example in examples]


def _own_of_each_batch(examples: tf.data.Dataset, batch_size: int, host: Host) -> tf.data.Dataset:
    """Of the examples of every global batch those that are the host's."""
    if host.count == 1:
        return examples
    own_batch = batch_size // host.count
    numbered = examples.enumerate().filter(lambda number, _: number % batch_size // own_batch == host.index)
    return numbered.map(lambda _, example: example)


def _mixed(batches: tf.data.Dataset, seed: int, start_step: int, alphas: mixing.Alphas, host: Host,
           on_device: bool) -> tf.data.Dataset:

    def mix_one(step, batch):
        features, labels = batch
        batch_seed = seeds.example_seed(seed, step, tf.constant(-3 - host.index, tf.int64))  # no example has such a row
        if on_device:
            return device_pictures.with_mix(features, batch_seed, alphas), labels
        image, labels = mixing.mix(features["image"], labels, batch_seed, alphas)
        return {**features, "image": image}, labels

    return batches.enumerate(start_step).map(mix_one, num_parallel_calls=AUTOTUNE)


@_as_written
def predict_batches(part: Part, size: int, views: tta.Views, eval_resize: str, batch_size: int,
                    host: Host = Host(), antialias: bool = True, done: int = 0) -> tf.data.Dataset:
    """Every example once, in file order, the last batch padded; with one of several `host`s its part of each batch.

    `antialias` as in decode.resize; without the first `done` examples, a number of whole batches.
    Elements: {'image': uint8 [batch, crops, size, size, 3], 'place': float32 [batch, 3], 'label': as parse_record's,
    'row': int64 [batch], 'mask': float32 [batch], 0 on padding}.
    """

    box_of, mask_of = _box_lookup(part), _mask_lookup(part, views.of_mask)

    def prepare(example):
        seed = seeds.example_seed(0, 0, example["row"])  # the same crops at each call
        image = tta.host_views(example["encoded"], size, views, eval_resize, box_of(example["row"]), antialias, seed,
                               mask_of(example["row"]))
        return {"image": image, "place": example["place"], "label": example["label"], "row": example["row"], "mask": 1.0}

    own_batch = batch_size // host.count
    pictures = _own_of_each_batch(examples(part).skip(done), batch_size, host).map(prepare, num_parallel_calls=AUTOTUNE)
    padding = tf.data.Dataset.from_tensors({
        "image": tf.zeros([views.crops, size, size, 3], tf.uint8), "place": tf.zeros([3]),
        "label": _label(tf.zeros([0], tf.int64), _classes_to_encode(part)), "row": tf.constant(-1, tf.int64), "mask": 0.0,
    }).repeat()
    pictures = pictures.concatenate(padding).take(-(-(part.size - done) // batch_size) * own_batch)
    batches = pictures.batch(own_batch, drop_remainder=True).prefetch(AUTOTUNE)
    return batches.with_options(_options(ordered=True))


@_as_written
def validation_batches(part: Part, size: int, eval_resize: str, batch_size: int, host: Host = Host(),
                       antialias: bool = True) -> tf.data.Dataset:
    """predict_batches of one view, as Keras wants them: (features, labels, float32 weights [batch]).

    Labels are int64 [batch] ≥ 0, or float32 [batch, classes] where a picture has several.
    """

    def as_keras(batch):
        features = {"image": batch["image"][:, 0], "place": batch["place"]}
        labels = batch["label"]
        # An example without a label weighs nothing, like padding.
        known = tf.reduce_any(labels > 0, axis=1) if labels.shape.rank == 2 else labels >= 0
        return features, tf.maximum(labels, 0), batch["mask"] * tf.cast(known, tf.float32)

    return predict_batches(part, size, tta.parse("none"), eval_resize, batch_size, host, antialias).map(as_keras)


def _options(ordered: bool, ram_budget: int = 0) -> tf.data.Options:
    options = tf.data.Options()
    if ram_budget:
        options.autotune.ram_budget = ram_budget
    options.deterministic = ordered
    # Each replica takes its part of a batch, and each host has its own (Host): nothing is left for TensorFlow to shard.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return options
