"""A record that was damaged on the disk: told with shard and byte, or passed over where that was asked for."""

import json
import pathlib
import shutil

import pytest

from pipeline.errors import WorkError
from pipeline.records import damage, dataset, frames, input as inputs
import raw_data
import tiny_records

TINY = ("--model=kecam/EfficientNetV2Tiny", "--optimizer=adam", "--batch_size=8",
        "--stage=name=all,epochs=2,size=32,lr=0.01,train=all")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """24 train pictures in three shards, 4 val, 2 test; not to be written to."""
    return tiny_records.make_three_shards(tmp_path_factory.mktemp("written")).directory


@pytest.fixture
def records(written, tmp_path):
    return pathlib.Path(shutil.copytree(written, tmp_path / "records"))


def frames_of(shard):
    with open(shard, "rb") as file:
        return list(frames.frames(file))


def flip(shard, position) -> int:
    """Turns a bit in the middle of a record; where the record begins, in bytes."""
    found = frames_of(shard)[position]
    content = bytearray(shard.read_bytes())
    content[(found.offset + found.end) // 2] ^= 1
    shard.write_bytes(bytes(content))
    return found.offset


def rows_read(part) -> list[int]:
    return sorted(int(one["row"]) for one in inputs.examples(part))


@pytest.mark.parametrize("positions", [[0], [3], [-1], [2, 3], [1, 5], "all", "cut", "length"])
def test_what_is_read_around_the_damage(written, records, positions):
    """Every other record is read once, tables and sizes agree, and the order is one of what is left."""
    shard = sorted(records.glob("train*"))[1]
    whole = dataset.load(written)
    count = len(frames_of(shard))
    first = next(one.first_row for one in whole.manifest.shards if one.file == shard.name)
    lost = {first + position % count for position in (range(count) if positions == "all" else [count - 2, count - 1]
                                                      if isinstance(positions, str) else positions)}
    if positions == "cut":
        shard.write_bytes(shard.read_bytes()[:frames_of(shard)[count - 2].end - 9])
    elif positions == "length":
        content = bytearray(shard.read_bytes())
        content[frames_of(shard)[count - 2].offset + 3] ^= 1
        shard.write_bytes(bytes(content))
    else:
        for row in lost:
            flip(shard, row - first)
    data = dataset.load(str(records))
    found = damage.find(data.part("train"))
    assert damage.count(found) == len(lost)
    around = damage.around(data, found).part("train")
    around.check()
    wanted = sorted(set(whole.part("train").examples()["row"]) - lost)
    assert rows_read(around) == wanted == sorted(around.examples()["row"]) == sorted(around.single_labels()[0])
    assert around.size == len(wanted)
    epochs = [int(one["row"]) for one in inputs.train_examples(around, seed=1).take(2 * around.size)]
    assert sorted(epochs[:around.size]) == sorted(epochs[around.size:]) == wanted and epochs[:around.size] != wanted
    again = damage.from_json(json.loads(json.dumps(damage.to_json(found))), data.part("train"))
    assert again == found


def test_a_whole_shard_that_is_another_is_not_passed_over(records):
    first, second, _ = sorted(records.glob("train*"))
    shutil.copy(first, second)
    with pytest.raises(WorkError, match="is another than was written"):
        damage.find(dataset.load(str(records)).part("train"))


def test_adopted_records_are_passed_over_by_position(written, records, tmp_path):
    from dataset_tools import adopt

    adopt.adopt([f"{records}/train*", f"{records}/val*"], str(tmp_path / "adopted"), "inat2021")
    shard = sorted(records.glob("train*"))[2]
    flip(shard, 4)
    data = dataset.load(str(tmp_path / "adopted"))
    around = damage.around(data, damage.find(data.part("train"))).part("train")
    assert rows_read(around) == sorted(around.examples()["row"]) and len(rows_read(around)) == 23


@pytest.mark.slow
def test_training_ends_at_a_bad_record_or_passes_over_as_many_as_it_may(records, tmp_path):
    shards = sorted(records.glob("train*"))
    offset = flip(shards[1], 2)
    train = ("multi_stage_train.py", f"--data_dir={records}", f"--model_dir={tmp_path}/m", *TINY)
    done = raw_data.run_command(*train)
    raw_data.assert_one_line(done, 3, f"shard {shards[1]} is damaged at byte {offset:,}",
                             f"python -m dataset_tools.verify {records}", "--skip_bad_records")
    flip(next(records.glob("val*")), 0)
    done = raw_data.run_command(*train, "--skip_bad_records=1")
    raw_data.assert_one_line(done, 3, "2 records are damaged", f"{shards[1]} at byte {offset:,}")
    done = raw_data.run_command(*train, "--skip_bad_records=2")
    assert done.returncode == 0 and not raw_data.stderr_lines(done), done.stderr
    assert "stage all was trained without 2 damaged records" in done.stderr
    assert "looking through" not in done.stderr  # the second start has noted them
    history = (tmp_path / "m/stage_1_all/history.csv").read_text().splitlines()
    assert len(history) == 3
    done = raw_data.run_command("predict.py", f"--data_dir={records}", f"--model_dir={tmp_path}/m", "--split=val",
                                f"--out={tmp_path}/p")
    raw_data.assert_one_line(done, 3, "is damaged at byte 0", "dataset_tools.verify")
    assert not (tmp_path / "p/meta.json").exists()
