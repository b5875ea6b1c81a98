"""A tiny competition in shards, for tests that train and predict: three classes that colour tells apart."""

import pathlib

import numpy as np

from dataset_tools import build
from pipeline.records import dataset
import raw_data

CLASSES = 3


def _picture(image_id: int) -> bytes:
    """A JPEG of 40 × 30 px whose strongest channel is its class, image id modulo 3."""
    rng = np.random.default_rng(image_id)
    pixels = rng.integers(0, 130, (30, 40, 3), dtype=np.uint8)
    pixels[..., image_id % CLASSES] += 100
    return raw_data.encode(pixels, quality=95)


def write_raw(folder: pathlib.Path, train: int = 50, val: int = 11, test: int = 7) -> pathlib.Path:
    """The iNat 2021 layout, with a picture of its class's colour for every image."""
    raw_data.write_inat2021(folder, train, val, test)
    for path in folder.glob("*/*.jpg"):
        path.write_bytes(_picture(int(path.stem)))
    return folder


def make(folder: pathlib.Path, shard_mib: int = 128, folds: int = 0, **counts: int) -> dataset.Dataset:
    """Raw files and shards under `folder`; returns the dataset of the shards."""
    raw = write_raw(folder / "raw", **counts)
    build.build("inat2021", str(raw), str(folder / "records"), shard_mib=shard_mib, folds=folds)
    return dataset.load(str(folder / "records"))


def make_three_shards(folder: pathlib.Path) -> dataset.Dataset:
    """24 train pictures of 160 kB and more, so that shards of 1 MiB are three."""
    raw = write_raw(folder / "raw", train=24, val=4, test=2)
    for path in (raw / "train").glob("*.jpg"):
        noise = np.random.default_rng(int(path.stem)).integers(0, 255, (330, 320, 3), dtype=np.uint8)
        path.write_bytes(raw_data.encode(noise, quality=92))
    build.build("inat2021", str(raw), str(folder / "records"), shard_mib=1)
    return dataset.load(str(folder / "records"))
