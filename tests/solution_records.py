"""Shards with the keys of iNat 2021's sixth-place solution, by plain TensorFlow."""

import pathlib

import tensorflow as tf

from raw_data import encode, pixels


def write(folder: pathlib.Path, split: str, count: int, told: int = 2, first: int = 0) -> None:
    """Two shards of `count` pictures of three classes: inat_SPLIT.record-0000K-of-0000TOLD, however many there are.

    Their ids count up from `first`.
    """
    folder.mkdir(exist_ok=True)
    for shard in range(2):
        with tf.io.TFRecordWriter(str(folder / f"inat_{split}.record-{shard:05d}-of-{told:05d}")) as writer:
            for image_id in range(first + shard, first + count, 2):
                label = image_id % 3
                features = {
                    "image/encoded": encode(pixels(image_id)), "image/source_id": str(image_id).encode(),
                    "image/filename": f"{image_id}.jpg".encode(), "image/format": b"jpeg",
                    "image/key/sha256": b"", "image/object/class/text": f"species {label}".encode(),
                }
                numbers = {"image/height": 30, "image/width": 40, "image/object/class/label": label}
                floats = {"image/latitude": 0.5, "image/longitude": -0.5, "image/date": 0.25, "image/valid": 1.0}
                feature = {key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
                           for key, value in features.items()}
                feature |= {key: tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
                            for key, value in numbers.items()}
                feature |= {key: tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
                            for key, value in floats.items()}
                example = tf.train.Example(features=tf.train.Features(feature=feature))
                writer.write(example.SerializeToString())
