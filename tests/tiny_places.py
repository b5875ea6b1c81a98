"""A tiny competition without pictures: three classes that place and date tell apart, in iNat 2021's and 2019's layouts."""

import datetime
import pathlib
from typing import Any

import numpy as np

import raw_data

CATEGORY_IDS = (30, 4, 200)  # class index by sorted id: 4, 30, 200
CENTRES = {30: (50.0, 179.5, 0.95), 4: (50.0, 0.0, 0.5), 200: (-40.0, 0.0, 0.5)}  # degrees, degrees, fraction of the year
USERS = 4


def _image(random: np.random.Generator, image_id: int, category: int) -> dict[str, Any]:
    latitude, longitude, date = CENTRES[category] + random.normal(size=3) * (5, 5, 0.05)
    day = datetime.date(2021, 1, 1) + datetime.timedelta(days=int(date % 1 * 365))
    return {"id": image_id, "width": 40, "height": 30, "file_name": f"nowhere/{image_id}.jpg",
            "date": f"{day} 12:00:00+00:00", "latitude": latitude, "longitude": (longitude + 180) % 360 - 180,
            "user_id": image_id % USERS}


def _content(random: np.random.Generator, first_id: int, count: int) -> dict[str, Any]:
    images, annotations = [], []
    for image_id in range(first_id, first_id + count):
        category = CATEGORY_IDS[image_id % 3]
        images.append(_image(random, image_id, category))
        annotations.append({"id": image_id, "image_id": image_id, "category_id": category})
    images[0].update(latitude=None, longitude=None)
    images[1].update(date=None)
    return {"images": images, "annotations": annotations,
            "categories": [{"id": one, "name": f"Species {one}"} for one in CATEGORY_IDS]}


def write_inat2021(folder: pathlib.Path, train: int = 100, val: int = 40) -> pathlib.Path:
    """train.json and val.json, in each of which the first image has no place and the second no date; no test pictures."""
    random = np.random.default_rng(5)
    raw_data.write(folder / "train.json", _content(random, 0, train))
    if val:
        raw_data.write(folder / "val.json", _content(random, train, val))
    raw_data.write(folder / "public_test.json", {"images": []})
    return folder


def write_inat2019(folder: pathlib.Path, train: int = 100, val: int = 40) -> pathlib.Path:
    """train2019.json and val2019.json with their *_locations.json, and a test2019.json of no pictures."""
    random = np.random.default_rng(5)
    for split, first_id, count in (("train", 0, train), ("val", train, val)):
        content = _content(random, first_id, count)
        places = [{"id": one["id"], "lat": one.pop("latitude"), "lon": one.pop("longitude"), "date_c": 0.5,
                   "user_id": one.pop("user_id")} for one in content["images"]]
        raw_data.write(folder / f"{split}2019.json", content)
        raw_data.write(folder / f"{split}2019_locations.json", places)
    raw_data.write(folder / "test2019.json", {"images": []})
    return folder
