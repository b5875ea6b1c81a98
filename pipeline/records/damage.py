"""Records that were damaged after they had been written: which they are, and how to read around them.

TensorFlow's reader tells of damage without the file's name, and can't go on behind it. (tf.data's ignore_errors would drop
the rest of the shard with the one record, in silence, and an epoch would be shorter than its steps.) So what is to be passed
over is known before the first step: a shard whose SHA-256 is that of the manifest is whole, and only of another one are the
records' own checksums read. What is left of such a shard are segments, between one damaged record and the next, which the
input reads as if they were shards: exact, in the graph, the same on every host, and an epoch is as long as what it holds.
"""

import concurrent.futures
import dataclasses
import hashlib
import os
from typing import Any, Callable, Iterable, Optional, Sequence

from pipeline import files
from pipeline.errors import UserError, WorkError
from pipeline.records import dataset as datasets, frames, schema

_THREADS = os.cpu_count() or 1
_CHUNK = 1 << 24  # bytes


@dataclasses.dataclass(frozen=True)
class Bad:
    """A record that can't be read. `count`: with those behind it that can't be found any more."""

    position: int  # in its shard
    offset: int    # bytes, unpacked where the shard is compressed
    state: str     # as frames has it
    count: int


@dataclasses.dataclass(frozen=True)
class DamagedShard(schema.Shard):
    """A shard that is read around its damaged records."""

    segments: tuple[schema.Segment, ...] = ()
    bad: tuple[Bad, ...] = ()

    @property
    def lost(self) -> frozenset[int]:
        """The positions of its damaged records."""
        return frozenset(position for one in self.bad for position in range(one.position, one.position + one.count))

    @property
    def examples(self) -> int:
        aside = {row - self.first_row for row in self.set_aside}
        return self.records - len(aside | self.lost)


def find(part: datasets.Part) -> list[DamagedShard]:
    """The damaged shards of a part, of which every byte is read. Raises WorkError for one that is whole and not what was
    written."""
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:  # hashlib lets go of the interpreter
        digests = pool.map(_digest, part.paths)
        return [_read(shard, path) for shard, path, digest in zip(part.shards, part.paths, digests)
                if digest != shard.sha256]


def name(part: datasets.Part, advice: str = "") -> WorkError:
    """After TensorFlow found a record damaged, which it does not name: the error that names shard and byte."""
    for shard, path in zip(part.shards, part.paths):
        if _digest(path) == shard.sha256 or isinstance(shard, DamagedShard):
            continue
        bad = _read(shard, path).bad[0]
        return WorkError(f"shard {path} is damaged at byte {bad.offset:,} (record {bad.position}: {bad.state}); python -m "
                         f"dataset_tools.verify {part.data.directory} finds all that is{advice}; a shard is written again by "
                         "create_tfrecords.py once its file is deleted")
    return WorkError(f"{part.data.directory}: a record could not be read, though every shard of {part.split} is whole; was "
                     "the storage gone for a moment? The same command goes on")


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    with files.open_file(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _read(shard: schema.Shard, path: str) -> DamagedShard:
    """The shard by its records' checksums. Raises WorkError where there is no damage that they tell."""
    segments: list[schema.Segment] = []
    bad: list[Bad] = []
    found, fresh = 0, True
    with files.open_file(path, "rb") as file:
        for frame in frames.frames(frames.unpacked(file, shard.compression)):
            if found == shard.records:
                break
            found += 1
            if frame.state != frames.WHOLE:
                bad.append(Bad(frame.position, frame.offset, frame.state, 1))
                fresh = True
            elif fresh:
                segments.append(schema.Segment(frame.offset, frame.position, 1))
                fresh = False
            else:
                segments[-1] = segments[-1]._replace(records=segments[-1].records + 1)
    if found < shard.records and bad and bad[-1].state in (frames.CUT, frames.LOST):
        bad[-1] = dataclasses.replace(bad[-1], count=shard.records - bad[-1].position)
    elif found < shard.records:  # cut just between two records
        bad.append(Bad(found, files.size(path), frames.CUT, shard.records - found))
    if not bad:
        raise WorkError(f"shard {path} is another than was written, though each of its records is whole: put the old one "
                        "back, or delete it and write it again with create_tfrecords.py")
    return _damaged(shard, segments, bad)


def _damaged(shard: schema.Shard, segments: Iterable[schema.Segment], bad: Iterable[Bad]) -> DamagedShard:
    own = {field.name: getattr(shard, field.name) for field in dataclasses.fields(schema.Shard)}
    return DamagedShard(**own, segments=tuple(segments), bad=tuple(bad))


def to_json(shards: Sequence[DamagedShard]) -> dict[str, Any]:
    """By file, for whoever reads it, and for `from_json`."""
    return {one.file: {"sha256": one.sha256, "segments": [list(segment) for segment in one.segments],
                       "bad": [dataclasses.asdict(bad) for bad in one.bad]} for one in shards}


def from_json(told: Any, part: datasets.Part) -> Optional[list[DamagedShard]]:
    """What `to_json` told of a part's shards; None where it is of others, or is no such thing."""
    try:
        found = []
        for shard in part.shards:
            if shard.file in told:
                one = told[shard.file]
                if one["sha256"] != shard.sha256:
                    return None
                found.append(_damaged(shard, (schema.Segment(*map(int, segment)) for segment in one["segments"]),
                                      (Bad(**bad) for bad in one["bad"])))
        return found
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def count(shards: Sequence[DamagedShard]) -> int:
    """Of records that can't be read."""
    return sum(bad.count for one in shards for bad in one.bad)


def around(data: datasets.Dataset, shards: Sequence[DamagedShard]) -> datasets.Dataset:
    """The dataset without the damaged records of these shards: in sizes, tables and batches."""
    if not shards:
        return data
    by_file = {one.file: one for one in shards}
    manifest = dataclasses.replace(data.manifest, shards=tuple(by_file.get(one.file, one) for one in data.manifest.shards))
    rows_of = rows_by_shard(data)
    lost = (rows_of(one)[position] for one in shards for position in one.lost)
    return dataclasses.replace(data, manifest=manifest, lost=frozenset(lost))


def rows_by_shard(data: datasets.Dataset) -> Callable[[schema.Shard], Sequence[int]]:
    """Shard → the row of each of its records. Where these carry their rows, they stand in the order of examples.csv, which
    leaves out what was set aside. Raises UserError where the file tells of other examples."""
    if not data.record_kind.has_row:
        return lambda shard: range(shard.first_row, shard.first_row + shard.records)
    rows = data.rows()
    bounds = sorted(one.first_row for one in data.manifest.shards)

    def of(shard: schema.Shard) -> Sequence[int]:
        end = next((one for one in bounds if one > shard.first_row), None)
        found = rows[(rows >= shard.first_row) & ((rows < end) if end is not None else True)].tolist()
        if len(found) != shard.records:
            raise UserError(f"{data.directory}: {schema.EXAMPLES_FILE} tells of {len(found)} examples of {shard.file}, "
                            f"{schema.DATASET_FILE} of {shard.records}")
        return sorted(found)

    return of
