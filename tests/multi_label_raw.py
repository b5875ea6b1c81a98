"""A tiny competition with several labels a picture, in the layout of iMet 2019, for tests that train and predict."""

import pathlib

import numpy as np

import raw_data

ATTRIBUTES = ("7", "3", "12")  # red, green, blue: a picture has those of its bright channels


def write(folder: pathlib.Path, train: int = 43, test: int = 6) -> dict[str, list[str]]:
    """CSVs and PNGs under `folder`; returns the attributes by id, of test pictures too."""
    attributes = {}
    for number in range(train + test):
        rng = np.random.default_rng(number)
        bright = 1 + number % 7  # a bit for each channel, at least one of them set
        pixels = rng.integers(0, 60, (30, 40, 3), dtype=np.uint8)
        chosen = [index for index in range(3) if bright >> index & 1]
        pixels[..., chosen] += 150
        one = f"{number:016x}"
        attributes[one] = [ATTRIBUTES[index] for index in chosen]
        split = "train" if number < train else "test"
        raw_data.write(folder / split / f"{one}.png", raw_data.encode(pixels, "PNG"))
    ids = list(attributes)
    _write_csv(folder / "labels.csv", ["attribute_id,attribute_name", *(f"{one},tag::{one}" for one in ATTRIBUTES)])
    _write_csv(folder / "train.csv", ["id,attribute_ids", *(f"{one},{' '.join(attributes[one])}" for one in ids[:train])])
    _write_csv(folder / "sample_submission.csv", ["id,attribute_ids", *(f"{one},7" for one in ids[train:])])
    return attributes


def _write_csv(path: pathlib.Path, lines: list[str]) -> None:
    raw_data.write(path, "".join(f"{line}\n" for line in lines).encode())
