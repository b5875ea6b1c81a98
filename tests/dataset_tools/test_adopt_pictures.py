"""Adopted shards: their pictures are turned and bounded as ours are; compressed ones are read or said to be compressed."""

import bz2
import lzma
import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from dataset_tools.adopt import adopt
from foreign_records import feature, inat_record, write_shard
from pipeline.errors import UserError
from pipeline.records import dataset as datasets, input as inputs
from raw_data import encode, pixels, run_command, stderr_lines


def odd_pictures():
    """Upright pictures by id, and as they lie in shards: turned by EXIF, too large, PNG, with libjpeg's remarks, gray."""
    exif = Image.Exif()
    exif[274] = 6
    turned = Image.fromarray(pixels(1)).transpose(Image.Transpose.ROTATE_90)
    odd = encode(pixels(4))
    return {"0": (pixels(0), encode(pixels(0))), "1": (pixels(1), encode(turned, quality=95, exif=exif.tobytes())),
            "2": (pixels(2, 160, 120), encode(pixels(2, 160, 120))), "3": (pixels(3), encode(pixels(3), "PNG")),
            "4": (pixels(4), odd[:-2] + b"\x00\x01\x02" * 5 + odd[-2:]),
            "5": (pixels(5)[..., :1].repeat(3, -1), encode(pixels(5)[..., 0]))}


@pytest.mark.parametrize("max_side", [0, 80])
def test_pictures_of_others_are_turned_bounded_and_of_one_kind(tmp_path, max_side):
    pictures = odd_pictures()
    records = [inat_record(int(one), int(one) % 2, **{"image/encoded": encoded}) for one, (_, encoded) in pictures.items()]
    write_shard(tmp_path / "fold.0.tfrecord-00000-of-00001", records[:4])
    write_shard(tmp_path / "fold.1.tfrecord-00000-of-00001", records[4:])
    out = tmp_path / "out"
    if max_side:
        done = run_command("create_tfrecords.py", f"--adopt_records={tmp_path}/fold*", f"--out_dir={out}", "--workers=2",
                           f"--max_side={max_side}")
        assert done.returncode == 0 and not stderr_lines(done), done.stderr
        assert "4 pictures were turned, shrunk or encoded anew" in done.stdout
    else:
        assert adopt([f"{tmp_path}/fold*"], str(out)).notes[0].startswith("3 pictures were turned")
    data = datasets.load(str(out))
    for part in (data.part("train"), data.part("train", 0), data.part("train", 1)):
        ids = dict(zip(part.examples()["row"], part.examples()["id"]))
        read = {ids[int(one["row"])]: one for one in inputs.examples(part)}
        assert set(read) == set(ids.values()) and len(read) == part.size
        for name, one in read.items():
            upright = Image.fromarray(pictures[name][0])
            if max_side:
                upright.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
            found = tf.io.decode_jpeg(one["encoded"], channels=3).numpy()
            assert found.shape[:2] == upright.size[::-1], name
            assert np.abs(found.astype(int) - np.asarray(upright)).mean() < 5, name
            assert int(one["label"]) == int(name) % 2
    untouched = {int(one["row"]): one["encoded"].numpy() for one in inputs.examples(data.part("train"))}
    assert untouched[0] == pictures["0"][1]
    shrunk = next(one for one in data.manifest.shards if ".mended." in one.file)
    (out / shrunk.file).unlink()
    assert adopt([f"{tmp_path}/fold*"], str(out), max_side=max_side) == data.manifest  # a damaged folder is written again


def test_a_shard_that_is_mended_as_a_whole_is_not_read(tmp_path):
    write_shard(tmp_path / "train.record", [
        inat_record(i, 0, **{"image/encoded": encode(pixels(i, 90, 60))}) for i in range(3)])
    manifest = adopt([f"{tmp_path}/train*"], str(tmp_path / "out"), max_side=30)
    assert [(one.file, one.first_row, one.records) for one in manifest.shards] == [
        ("train.mended.tfrecord-00000-of-00001", 3, 3)]
    assert {one["image/width"] for one in _plain_records(tmp_path / "out" / manifest.shards[0].file)} == {30}


def _plain_records(path):
    for serialized in tf.data.TFRecordDataset(str(path)):
        features = tf.train.Example.FromString(serialized.numpy()).features.feature
        yield {"image/width": features["image/width"].int64_list.value[0]}


@pytest.mark.parametrize("compression", ["GZIP", "ZLIB"])
def test_compressed_shards_are_read(tmp_path, compression):
    for number in range(2):
        write_shard(tmp_path / f"train.record-0000{number}", [inat_record(10 * number + i, i % 2) for i in range(3)])
    plain, packed = tmp_path / "train.record-00000", tmp_path / "train.record-00001"
    with tf.io.TFRecordWriter(str(packed) + "x", compression) as writer:
        for one in tf.data.TFRecordDataset(str(packed)):
            writer.write(one.numpy())
    os.replace(str(packed) + "x", packed)
    out = tmp_path / "out"
    adopt([f"{tmp_path}/train*"], str(out))
    data = datasets.load(str(out))
    assert [(one.file, one.compression) for one in data.manifest.shards] == [(str(plain), ""), (str(packed), compression)]
    ids = dict(zip(data.examples("train")["row"], data.examples("train")["id"]))
    read = {ids[int(one["row"])]: one["encoded"].numpy() for one in inputs.examples(data.part("train"))}
    assert read == {str(i): encode(pixels(i)) for i in (0, 1, 2, 10, 11, 12)}
    whole = packed.read_bytes()
    for content in (whole[:-1], whole[:len(whole) // 2], whole[:20]):
        packed.write_bytes(content)
        with pytest.raises(UserError, match="record-00001 is truncated or corrupt"):
            adopt([str(packed)], str(tmp_path / "other"))


def test_an_uncompressed_record_whose_length_looks_like_gzip(tmp_path):
    size = len(tf.train.Example.FromString(_serialized(inat_record(0, 0, padding=b""))).SerializeToString())
    wanted = 0x88b1f
    record = inat_record(0, 0, padding=b"x" * (wanted - size))
    record["padding"] = record["padding"][:len(record["padding"]) - (len(_serialized(record)) - wanted)]
    write_shard(tmp_path / "train.record", [record])
    assert (tmp_path / "train.record").read_bytes()[:3] == b"\x1f\x8b\x08"
    assert adopt([f"{tmp_path}/train*"], str(tmp_path / "out")).shards[0].compression == ""


def _serialized(record):
    return tf.train.Example(features=tf.train.Features(
        feature={key: feature(value) for key, value in record.items()})).SerializeToString()


@pytest.mark.parametrize("pack, name", [(bz2.compress, "bzip2"), (lzma.compress, "xz")])
def test_what_tensorflow_cannot_unpack_is_said_to_be_compressed(tmp_path, pack, name):
    write_shard(tmp_path / "train.record", [inat_record(0, 0)])
    (tmp_path / "train.record").write_bytes(pack((tmp_path / "train.record").read_bytes()))
    with pytest.raises(UserError, match=f"train.record is compressed by {name}; unpack it"):
        adopt([f"{tmp_path}/train*"], str(tmp_path / "out"))
