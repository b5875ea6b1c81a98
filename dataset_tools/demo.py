"""The embedded demo: a small competition of drawn butterflies, in the exact layout of iNaturalist 2021.

Twelve species. Three pairs are look-alikes that only place (west and east) or season (spring and autumn) tells apart;
two species with eye spots are easily mistaken for each other. Everything is a function of `SEED`.
"""

import calendar
import dataclasses
import datetime
import io
import json
import uuid
from typing import Any

import numpy as np
from absl import logging

from dataset_tools import files
from dataset_tools.demo_drawing import Look, draw
from pipeline.errors import UserError
from pipeline.files import write_whole

SEED = 2021
ANSWERS_FILE = "public_test_labels.csv"  # id,category_id of public_test: what an organiser keeps to himself
TRAIN_FILE = "train.json"                # written last: its presence says that the demo is drawn
VAL_EACH = 10
TEST_EACH = 40
NO_PLACE = 0.05                          # share of pictures without a place
_DESCRIPTION = "Fieldmark's demo: drawn butterflies"
_RIGHTS = ("Zoë Ångström", "山田花子", "Ágata Fjörð", "Олена Шевченко", "no rights reserved")


@dataclasses.dataclass(frozen=True)
class Species:
    name: str
    common_name: str
    look: Look
    centres: tuple[tuple[float, float], ...]  # latitude, longitude: degrees
    spread: float                             # degrees, standard deviation around a centre
    peak: float                               # season's middle, fraction of the year
    season: float                             # its standard deviation, fraction of the year
    train: int                                # pictures


_EMBER = Look(hue=0.06, second_hue=0.12, pattern="stripes", slender=0.9)
_AZURE = Look(hue=0.58, second_hue=0.50, pattern="spots", slender=1.1)
_MEADOW = Look(hue=0.14, second_hue=0.08, pattern="margin", slender=1.2)
_WEST, _EAST = ((41.0, -116.0),), ((39.0, -84.0),)

SPECIES = (
    Species("Flamma occidentalis", "Western ember", _EMBER, _WEST, 7.0, 0.50, 0.10, 52),
    Species("Flamma orientalis", "Eastern ember", _EMBER, _EAST, 7.0, 0.52, 0.10, 50),
    Species("Caelum pacificum", "Pacific azure", _AZURE, ((46.0, -119.0),), 6.0, 0.45, 0.12, 55),
    Species("Caelum atlanticum", "Atlantic azure", _AZURE, ((44.0, -76.0), (34.0, -86.0)), 5.0, 0.48, 0.12, 48),
    Species("Pratum vernum", "Spring meadow-wing", _MEADOW, ((48.0, 8.0),), 9.0, 0.30, 0.06, 50),
    Species("Pratum autumnale", "Autumn meadow-wing", _MEADOW, ((47.0, 11.0),), 9.0, 0.70, 0.07, 53),
    Species("Oculus magnus", "Great eye", Look(0.08, 0.62, "eyes", 1.05), ((10.0, -80.0), (-5.0, -65.0)), 7.0,
            0.5, 0.3, 45),
    Species("Oculus minor", "Lesser eye", Look(0.13, 0.57, "eyes", 0.85), ((-3.0, -60.0),), 9.0, 0.5, 0.3, 60),
    Species("Nix apicalis", "Orange-tip", Look(0.16, 0.06, "tips", 1.1, saturation=0.15), ((52.0, 0.0),), 8.0,
            0.36, 0.08, 54),
    Species("Nix linea", "Black-veined white", Look(0.14, 0.10, "veins", 1.1, saturation=0.18), ((45.0, 15.0),), 9.0,
            0.45, 0.09, 46),
    Species("Silva zebra", "Forest zebra", Look(0.34, 0.16, "stripes", 1.25, saturation=0.6), ((-12.0, 130.0),), 9.0,
            0.1, 0.15, 50),
    Species("Silva punctata", "Forest dots", Look(0.07, 0.14, "spots", 0.85), ((-25.0, 140.0), (38.0, 135.0)), 7.0,
            0.2, 0.2, 49),
)


def draw_if_missing(data_dir: str) -> None:
    """Draws the demo into `data_dir` unless it is there.

    Raises:
      UserError: where that is impossible, or the folder holds another competition, which would be drawn over.
    """
    drawn = files.size_of(files.join(data_dir, TRAIN_FILE)) is not None
    names = [TRAIN_FILE] if drawn else files.list_names(data_dir) if files.is_folder(data_dir) else []
    foreign = next((name for name in names if not _may_be_ours(files.join(data_dir, name))), None)
    if foreign:
        raise UserError(f"{data_dir} is not the demo's folder (its {foreign} is another competition's); "
                        "choose another --data_dir")
    if drawn:
        return
    logging.info("drawing the demo competition in %s", data_dir)
    files.make_folder(data_dir)
    try:
        with files.os_errors(data_dir):
            _draw_all(data_dir)
    except OSError as error:
        raise UserError(f"can't write the demo in {data_dir}: {error}") from error


def _may_be_ours(path: str) -> bool:
    """False for the tables (JSON, CSV) of another competition."""
    if path.endswith(".csv"):
        return path.endswith(f"/{ANSWERS_FILE}")
    if not path.endswith(".json"):
        return True
    with files.os_errors(path), files.open_file(path) as file:
        return _DESCRIPTION.encode() in file.read(500)  # real ones have hundreds of MB


def _draw_all(data_dir: str) -> None:
    rng = np.random.default_rng(SEED)
    plan = [("val", category) for category in range(len(SPECIES)) for _ in range(VAL_EACH)]
    plan += [("public_test", category) for category in range(len(SPECIES)) for _ in range(TEST_EACH)]
    plan += [("train", category) for category, species in enumerate(SPECIES) for _ in range(species.train)]
    content: dict[str, tuple[list, list]] = {split: ([], []) for split in ("val", "public_test", "train")}
    # Numbers that tell nothing of the species, as in the real files.
    for image_id, index in enumerate(rng.permutation(len(plan))):
        split, category = plan[index]
        images, annotations = content[split]
        images.append(_draw_one(data_dir, rng, image_id, split, category))
        annotations.append({"id": image_id, "image_id": image_id, "category_id": category})
    for split in ("val", "public_test", "train"):
        _write_split(data_dir, split, *content[split])


def _write_split(data_dir: str, split: str, images: list[dict], annotations: list[dict]) -> None:
    content = {
        "info": {"year": 2021, "version": "1.0", "description": _DESCRIPTION,
                 "contributor": "", "url": "", "date_created": "2021-01-01"},
        "images": images,
        "categories": [_category(index) for index in range(len(SPECIES))],
        "licenses": [{"id": 0, "name": "public domain", "url": ""}],
    }
    if split == "public_test":
        files.write_csv(files.join(data_dir, ANSWERS_FILE), ("id", "category_id"),
                        ((one["image_id"], one["category_id"]) for one in annotations))
    else:
        content["annotations"] = annotations
    write_whole(files.join(data_dir, f"{split}.json"), json.dumps(content, ensure_ascii=False))


def _folder(index: int) -> str:
    return f"{index:05d}_Animalia_Arthropoda_Insecta_Lepidoptera_Pictidae_{SPECIES[index].name.replace(' ', '_')}"


def _category(index: int) -> dict[str, Any]:
    species = SPECIES[index]
    genus, epithet = species.name.split(" ")
    return {
        "id": index, "name": species.name, "common_name": species.common_name, "supercategory": "Insects",
        "kingdom": "Animalia", "phylum": "Arthropoda", "class": "Insecta", "order": "Lepidoptera", "family": "Pictidae",
        "genus": genus, "specific_epithet": epithet, "image_dir_name": _folder(index),
    }


def _draw_one(data_dir: str, rng: np.random.Generator, image_id: int, split: str, category: int) -> dict[str, Any]:
    """Draws a picture and returns its entry of the JSON."""
    picture = draw(rng, SPECIES[category].look)
    name = f"{uuid.UUID(bytes=rng.bytes(16), version=4)}.jpg"
    folder = split if split == "public_test" else f"{split}/{_folder(category)}"
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=int(rng.integers(80, 93)))
    files.make_folder(files.join(data_dir, folder))
    write_whole(files.join(data_dir, folder, name), buffer.getvalue())
    return {
        "id": image_id, "width": picture.width, "height": picture.height, "file_name": f"{folder}/{name}", "license": 0,
        "rights_holder": _RIGHTS[int(rng.integers(len(_RIGHTS)))], **_when_and_where(rng, SPECIES[category]),
    }


def _when_and_where(rng: np.random.Generator, species: Species) -> dict[str, Any]:
    latitude, longitude = rng.normal(species.centres[rng.integers(len(species.centres))], species.spread)
    uncertainty = int(rng.lognormal(4.0, 2.0))  # metres
    year = int(rng.integers(2015, 2022))
    days = 366 if calendar.isleap(year) else 365
    day = int((rng.normal(species.peak, species.season) % 1.0) * days)
    moment = datetime.datetime(year, 1, 1) + datetime.timedelta(days=day, seconds=int(rng.integers(86_400)))
    nowhere = rng.random() < NO_PLACE
    return {
        "date": moment.strftime("%Y-%m-%d %H:%M:%S+00:00"),
        "latitude": None if nowhere else round(float(np.clip(latitude, -89.0, 89.0)), 5),
        "longitude": None if nowhere else round(float((longitude + 180.0) % 360.0 - 180.0), 5),
        "location_uncertainty": None if nowhere else uncertainty,
    }
