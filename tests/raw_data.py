"""Small raw competitions for tests, and how to read shards back without our own code."""

import io
import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
from PIL import Image

import forking

REPOSITORY = Path(__file__).resolve().parent.parent
SAMPLES = REPOSITORY.parent / "shared" / "data"


def samples(name: str) -> Path:
    """A folder of the optional sample data; skips the test where it is absent."""
    folder = SAMPLES / name
    if not folder.is_dir():
        pytest.skip(f"no sample data {name}")
    return folder


def pixels(seed: int, width: int = 40, height: int = 30) -> np.ndarray:
    """A smooth picture (JPEG keeps it), uint8 [height, width, 3], not symmetrical in any way."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, size=(3, 4, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


_LOGGED = re.compile(r"[IW]\d{4} .*\.py:\d+\] ")  # by absl


def heed_interrupts() -> None:
    """For preexec_fn: what a shell starts in the background (these tests, perhaps) ignores Ctrl-C, and hands that down."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def encode(image: Any, kind: str = "JPEG", **options: Any) -> bytes:
    """An array or Pillow image as bytes of a file."""
    buffer = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write(path: Path, content: Any) -> None:
    """Bytes as they are, anything else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content, ensure_ascii=False).encode())


def write_inat2021(folder: Path, train: int = 12, val: int = 4, test: int = 3, classes: int = 3) -> dict[str, Any]:
    """A small iNat 2021 with real JPEGs: category ids 10, 20, …, label = image id modulo classes.

    Returns the content of train.json.
    """
    categories = [{"id": 10 * (index + 1), "name": f"Species {index} – çé"} for index in reversed(range(classes))]
    first_id, contents = 0, {}
    for split, count in (("train", train), ("val", val), ("public_test", test)):
        images, annotations = [], []
        for image_id in range(first_id, first_id + count):
            name = f"{split}/{image_id}.jpg"
            write(folder / name, encode(pixels(image_id)))
            images.append({
                "id": image_id, "width": 40, "height": 30, "file_name": name, "rights_holder": "山田 Zoë",
                "date": "2020-12-31 23:59:59+00:00", "latitude": 45.0, "longitude": -90.0,
                "location_uncertainty": None})
            annotations.append({"id": image_id, "image_id": image_id, "category_id": 10 * (image_id % classes + 1)})
        first_id += count
        contents[split] = {"images": images, "categories": categories}
        if split != "public_test":
            contents[split]["annotations"] = annotations
        write(folder / f"{split}.json", contents[split])
    return contents["train"]


def run_command(script: str, *flags: str, cwd: Optional[Path] = None, timeout: int = 300) -> subprocess.CompletedProcess:
    """Runs a command of the repository as a user would, in a process of its own (see forking)."""
    return forking.run([str(REPOSITORY / script), *map(str, flags)], cwd, {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, timeout)


def stderr_lines(done: subprocess.CompletedProcess) -> list[str]:
    """What a command wrote to stderr beside its log."""
    return [line for line in done.stderr.strip().splitlines() if not _LOGGED.match(line)]


def assert_one_line_mistake(done: subprocess.CompletedProcess, *words: str) -> None:
    """Exit code 2 and one line on stderr, beside what slow work logs of its progress, that has all the words."""
    assert_one_line(done, 2, *words)


def assert_one_line(done: subprocess.CompletedProcess, code: int, *words: str) -> None:
    """As assert_one_line_mistake, with any exit code; what the work logged before (I2024…, W2024…) does not count."""
    assert done.returncode == code, done.stderr
    lines = stderr_lines(done)
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0]


FIELDS = {
    "image/encoded": bytes, "image/height": int, "image/width": int, "image/filename": bytes, "image/source_id": bytes,
    "image/key/sha256": bytes, "image/format": bytes, "image/latitude": float, "image/longitude": float,
    "image/date": float, "image/valid": float, "example/row": int,
}


def read_records(*paths: Path) -> list[dict[str, Any]]:
    """Every record of the shards by tf.io.parse_single_example; the labels as lists."""
    import tensorflow as tf

    dtypes = {bytes: tf.string, int: tf.int64, float: tf.float32}
    features = {key: tf.io.FixedLenFeature([], dtypes[kind]) for key, kind in FIELDS.items()}
    features["image/object/class/label"] = tf.io.VarLenFeature(tf.int64)
    features["image/object/class/text"] = tf.io.VarLenFeature(tf.string)
    records = []
    for serialized in tf.data.TFRecordDataset([str(path) for path in paths]):
        parsed = tf.io.parse_single_example(serialized, features)
        records.append({key: value.values.numpy().tolist() if isinstance(value, tf.SparseTensor) else value.numpy()
                        for key, value in parsed.items()})
    return records
