"""A few records of many by their rows, where pictures were set aside, in several shards and compressed ones."""

import numpy as np
import tensorflow as tf

import tiny_records
from dataset_tools import build
from pipeline.records import dataset as datasets, input as inputs, lookup


def test_rows_are_found_where_set_aside_pictures_left_gaps(tmp_path):
    raw = tiny_records.write_raw(tmp_path / "raw", train=24, val=4, test=2)
    for path in sorted((raw / "train").iterdir())[::5]:
        path.write_bytes(b"no picture")
    for path in sorted((raw / "train").iterdir())[1::5]:  # so that there are several shards of 1 MiB
        noise = np.random.default_rng(0).integers(0, 255, (700, 700, 3), dtype=np.uint8)
        path.write_bytes(tf.io.encode_jpeg(noise, quality=95).numpy())
    build.build("inat2021", str(raw), str(tmp_path / "records"), shard_mib=1)
    data = datasets.load(str(tmp_path / "records"))
    part = data.part("train")
    assert len(part.shards) > 1 and len(data.rejected("train"))
    everything = {int(one["row"]): one for one in inputs.examples(part).as_numpy_iterator()}
    wanted = sorted(everything)[1::3]
    found = lookup.examples_at(part, wanted[::-1] + wanted[:1])
    assert sorted(found) == wanted
    for row in wanted:
        assert found[row]["encoded"] == everything[row]["encoded"] and found[row]["label"] == everything[row]["label"]
    assert lookup.examples_at(part, [10 ** 6]) == {} == lookup.examples_at(part, [])
