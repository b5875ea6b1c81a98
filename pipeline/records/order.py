"""The order of a training epoch, which can be entered in the middle: shards → records.

An epoch's shards, in an order of its own, are merged sixteen at a time, at random in proportion to their sizes; what comes
of that is cut into windows of a bounded number of bytes, and each window is permuted. Each draw is a function of (seed,
epoch) and of the group's or window's number, so a position is a number: whoever starts there skips the records of one group
that were read before without decoding them, and reads one window again.
"""

import dataclasses
from typing import Optional

import tensorflow as tf

from pipeline.ops import seeds
from pipeline.records import reading
from pipeline.records.cache import RecordCache
from pipeline.records.class_balance import ClassBalance
from pipeline.records.dataset import Part
from pipeline.records.schema import Key

GROUP = 16                  # shards that are read side by side
WINDOW_BYTES = 1 << 28      # of encoded pictures in memory; twice, as the next window is read while one is used
WINDOW_RECORDS = 1 << 14    # at most, where they are small
_READ_AHEAD = 8             # records of each shard
_COLUMNS = ("row", "record", "copy")  # of a record; the last one with a balance alone
# No example has such a row; see seeds.example_seed.
_SHARDS, _COPIES, _GROUPS, _WINDOWS = -1, -2, -1_000_001, -2_000_001


def window_size(part: Part) -> int:
    """Records a window, by the mean size of the part's."""
    records = sum(shard.records for shard in part.shards)
    mean = max(sum(shard.bytes for shard in part.shards) / max(records, 1), 1.0)
    return max(min(int(WINDOW_BYTES / mean), WINDOW_RECORDS, records), 1)


@dataclasses.dataclass(frozen=True)
class Order:
    """Of the examples of a part.

    Attributes:
      epoch_size: how many of them an epoch shows.
      balance: how often it shows each; None: once.
      host, hosts: of several hosts each takes shards of its own, others in each epoch. They may hold more or fewer examples
        than its epoch shows: a few are left out then, or come again.
      cache: where records are kept once they are read.
    """

    part: Part
    seed: int
    epoch_size: int
    balance: Optional[ClassBalance] = None
    host: int = 0
    hosts: int = 1
    cache: Optional[RecordCache] = None

    def records(self, start: int = 0) -> tf.data.Dataset:
        """Endless {'epoch': int64, 'row': int64, 'record': serialized}, from number `start` (counted over all epochs) on.

        'row' is the record's by its position (see schema.RecordKind); with a balance there is the number of the 'copy' too.
        """
        first, offset = divmod(start, self.epoch_size)

        def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
            return _Epoch(self, epoch).records(tf.where(epoch == first, tf.constant(offset, tf.int64), 0))

        return tf.data.Dataset.counter(first).flat_map(one_epoch)


class _Epoch:
    """One epoch of an order, within the function that makes its dataset: all of it is tensors."""

    def __init__(self, order: Order, epoch: tf.Tensor):
        self._order, self._epoch = order, epoch
        part = order.part
        self._window = window_size(part)
        shards = part.shards
        self._segments = reading.segments(part)
        self._copies = order.balance.copies(self._draw(_COPIES)) if order.balance else None
        order_of_shards = tf.random.experimental.stateless_shuffle(tf.range(len(shards)), self._draw(_SHARDS))
        own = order_of_shards[order.host::order.hosts]
        # [groups, GROUP], −1 where the last group has fewer.
        width = min(GROUP, own.shape[0])
        self._groups = tf.reshape(tf.concat([own, tf.fill([-own.shape[0] % width], -1)], 0), [-1, width])
        sizes = tf.concat([self._sizes(), [0]], 0)  # the last one for −1
        self._counts = tf.gather(sizes, tf.where(self._groups < 0, len(shards), self._groups))

    def _draw(self, number: tf.Tensor) -> tf.Tensor:
        return seeds.example_seed(self._order.seed, self._epoch, tf.cast(number, tf.int64))

    def _sizes(self) -> tf.Tensor:
        """int64 [shards]: the examples of each, copies counted."""
        shards = self._order.part.shards
        if self._copies is None:
            return tf.constant([shard.examples for shard in shards], tf.int64)
        balance = self._order.balance
        # Up to the next shard's: rows between them that are none of the part's have no copies. (An empty shard begins where
        # the next one does.)
        first = sorted({shard.first_row for shard in shards if shard.records})
        ends = dict(zip(first, [*first[1:], balance.last_row + 1]))
        sums = tf.concat([[0], tf.cumsum(tf.cast(self._copies, tf.int64))], 0)
        bounds = [[min(max(row - balance.first_row, 0), balance.last_row + 1 - balance.first_row)
                   for row in (shard.first_row, ends[shard.first_row] if shard.records else shard.first_row)]
                  for shard in shards]
        return tf.gather(sums, [end for _, end in bounds]) - tf.gather(sums, [begin for begin, _ in bounds])

    def records(self, offset: tf.Tensor) -> tf.data.Dataset:
        """From the number `offset` (int64) of the epoch on. A host whose shards hold too few begins them again."""
        size = tf.reduce_sum(self._counts)
        first, skipped = offset // size, offset % size
        rounds = tf.data.Dataset.range(first, tf.int64.max).flat_map(
            lambda number: self._round(number, tf.where(number == first, skipped, 0)))
        # After the permutation: what an epoch leaves out is not always the end of a shard.
        return rounds.take(self._order.epoch_size - offset)

    def _round(self, number: tf.Tensor, skipped: tf.Tensor) -> tf.data.Dataset:
        """All examples of the host's shards, without the first ones."""
        ends = tf.cumsum(tf.reduce_sum(self._counts, axis=1))
        window = skipped // self._window
        begin = window * self._window
        group = tf.searchsorted(ends, [begin], side="right", out_type=tf.int64)[0]
        before = begin - tf.concat([[0], ends], 0)[group]
        stream = tf.data.Dataset.range(group, tf.shape(ends, tf.int64)[0]).flat_map(
            lambda one: self._merged(one, tf.where(one == group, before, 0)))
        windows = stream.batch(self._window).enumerate(number * (ends[-1] // self._window + 1) + window)
        return windows.map(self._permuted).prefetch(1).unbatch().skip(skipped % self._window)

    def _permuted(self, number: tf.Tensor, columns: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        """A window's records as what `records` gives; with the epoch here, since a step of its own for each costs more."""
        size = tf.shape(columns[0])[0]
        order = tf.random.experimental.stateless_shuffle(tf.range(size), self._draw(_WINDOWS - number))
        named = {name: tf.gather(values, order) for name, values in zip(_COLUMNS, columns)}
        return {**named, "epoch": tf.fill([size], self._epoch)}

    def _merged(self, number: tf.Tensor, skipped: tf.Tensor) -> tf.data.Dataset:
        """The records (_COLUMNS) of a group of shards in the order in which they are drawn, without the first ones."""
        shards, counts = self._groups[number], self._counts[number]
        width = self._groups.shape[1]
        drawn = tf.repeat(tf.range(width, dtype=tf.int64), counts)
        drawn = tf.random.experimental.stateless_shuffle(drawn, self._draw(_GROUPS - number))
        before = tf.math.bincount(tf.cast(drawn[:skipped], tf.int32), minlength=width, dtype=tf.int64)
        each = [self._of_shard(tf.maximum(shards[index], 0), before[index]) for index in range(width)]
        return tf.data.Dataset.choose_from_datasets(each, tf.data.Dataset.from_tensor_slices(drawn[skipped:]),
                                                    stop_on_empty_dataset=False)

    def _of_shard(self, shard: tf.Tensor, skipped: tf.Tensor) -> tf.data.Dataset:
        set_aside = sorted(row for one in self._order.part.shards for row in one.set_aside)
        if self._segments.are_shards and not set_aside and self._copies is None:
            return self._segment(shard, skipped).prefetch(_READ_AHEAD)
        bounds = self._segments.bounds
        records = tf.data.Dataset.range(bounds[shard], bounds[shard + 1]).flat_map(self._segment)
        if set_aside:
            records = without_rows(records, set_aside)
        examples = records if self._copies is None else records.map(self._with_copies).unbatch()
        return examples.skip(skipped).prefetch(_READ_AHEAD)

    def _segment(self, number: tf.Tensor, skipped: tf.Tensor = 0) -> tf.data.Dataset:
        return reading.records(*(column[number] for column in self._segments.columns), skipped=skipped,
                               cache=self._order.cache)

    def _with_copies(self, row: tf.Tensor, record: tf.Tensor) -> tuple[tf.Tensor, ...]:
        balance = self._order.balance
        own = row
        if self._order.part.data.record_kind.has_row:
            own = tf.io.parse_single_example(record, {Key.ROW: tf.io.FixedLenFeature([], tf.int64)})[Key.ROW]
        count = self._copies[own - balance.first_row]
        return tf.fill([count], row), tf.fill([count], record), tf.range(count)


def without_rows(records: tf.data.Dataset, set_aside: list[int]) -> tf.data.Dataset:
    """(row by position, record) without those rows (ascending)."""
    rows = tf.constant([*set_aside, -1], tf.int64)  # the last one is looked at where a row is beyond all others
    return records.filter(lambda row, record: rows[tf.searchsorted(rows[:-1], [row])[0]] != row)
