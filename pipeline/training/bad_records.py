"""--skip_bad_records: what a run does not read, since it was damaged on the disk."""

import contextlib
import hashlib
import json
import os
from typing import Iterator

from absl import logging
import tensorflow as tf

from pipeline import files
from pipeline.devices import hosts
from pipeline.errors import WorkError
from pipeline.records import damage, dataset as datasets
from pipeline.runs import run as runs
from pipeline.runs.run import Run

FILE = "bad_records.json"  # in the model directory: which they are, so that the shards are looked through once
ADVICE = ", multi_stage_train.py --skip_bad_records=N passes over N of them"
_LISTED = 3  # in a line


def part_read(run: Run, data: datasets.Dataset) -> datasets.Part:
    """All that the run reads: what it learns from, and what it is validated on."""
    held_out = runs.held_out_part(run, data)
    part = runs.training_part(run, data)
    return datasets.Part(data, part.split, part.shards + (held_out.shards if held_out else ()))


@contextlib.contextmanager
def named(run: Run, data: datasets.Dataset) -> Iterator[None]:
    """Raises WorkError that names the shard, where the block reads a damaged record of what the run reads."""
    try:
        yield
    except tf.errors.DataLossError:
        raise damage.name(part_read(run, data), ADVICE) from None


def passed_over(run: Run, data: datasets.Dataset, strategy: tf.distribute.Strategy) -> datasets.Dataset:
    """The dataset without the records that are damaged, of which there may be run.skip_bad_records.

    One host looks through the shards (every byte of them, unless it was done before) and notes what it finds in the model
    directory; all read that. Raises WorkError where there are more.
    """
    part = part_read(run, data)
    hosts.by_chief(strategy, lambda: _look_through(run, part))
    shards = _noted(run, part)
    count = damage.count(shards)
    if count > run.skip_bad_records:
        raise WorkError(f"--skip_bad_records={run.skip_bad_records}: {count:,} records are damaged: {_told(shards, part)}; "
                        f"python -m dataset_tools.verify {data.directory} tells more, {_path(run)} has them all (delete it "
                        "once they are mended)")
    if count:
        logging.warning("%d damaged records are passed over: %s", count, _told(shards, part))
    return damage.around(data, shards)


def _path(run: Run) -> str:
    return os.path.join(run.model_dir, FILE)


def _contents(part: datasets.Part) -> str:
    """What the shards were when they were written."""
    return hashlib.sha256(json.dumps(sorted([one.file, one.sha256] for one in part.shards)).encode()).hexdigest()


def _look_through(run: Run, part: datasets.Part) -> None:
    if _noted(run, part) is not None:
        return
    logging.info("looking through %d shards for damaged records, %.1f GB", len(part.shards),
                 sum(one.bytes for one in part.shards) / 1e9)
    found = damage.to_json(damage.find(part))
    parts = {**_parts(run), _contents(part): found}
    files.make_dirs(run.model_dir)
    files.write_json(_path(run), {"about": "damaged records that multi_stage_train.py --skip_bad_records passes over, by "
                                           "what was looked through", "parts": parts})


def _parts(run: Run) -> dict:
    """What was looked through before, whatever else may stand in the file."""
    told = files.read_json(_path(run)) if files.exists(_path(run)) else {}
    parts = told.get("parts") if isinstance(told, dict) else None
    return parts if isinstance(parts, dict) else {}


def _noted(run: Run, part: datasets.Part):
    """The damaged shards of the part as they stand in the file; None where it was not looked through yet."""
    told = _parts(run).get(_contents(part))
    return None if told is None else damage.from_json(told, part)


def _told(shards, part: datasets.Part) -> str:
    """The first of them by shard and byte."""
    bad = [f"{part.data.path(shard)} at byte {one.offset:,}" + (f" ({one.count:,} of them)" if one.count > 1 else "")
           for shard in shards for one in shard.bad]
    return ", ".join(bad[:_LISTED]) + (f" and {len(bad) - _LISTED:,} more places" if len(bad) > _LISTED else "")
