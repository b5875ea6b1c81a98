"""Shards of iNat's kind, written with plain TensorFlow, for tests of what takes them as they are."""

import hashlib

import tensorflow as tf

from raw_data import encode, pixels


def feature(value):
    values = value if isinstance(value, list) else [value]
    if isinstance(values[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if isinstance(values[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def write_shard(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            if not isinstance(record, bytes):
                record = tf.train.Example(features=tf.train.Features(
                    feature={key: feature(value) for key, value in record.items()})).SerializeToString()
            writer.write(record)


def inat_record(i, label, **changes):
    encoded = encode(pixels(i))
    record = {
        "image/encoded": encoded, "image/height": 30, "image/width": 40, "image/filename": f"train/{i}.jpg".encode(),
        "image/source_id": str(i).encode(), "image/key/sha256": hashlib.sha256(encoded).hexdigest().encode(),
        "image/format": b"jpeg", "image/latitude": 0.5, "image/longitude": -0.25, "image/date": 0.75,
        "image/valid": 1.0,
        "image/object/class/label": [label], "image/object/class/text": [f"name {label}".encode()]}
    return {key: value for key, value in {**record, **changes}.items() if value is not None}
