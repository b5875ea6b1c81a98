"""Tiny runs with places and folds, for tests of what is exported of them."""

import json
import pathlib
import shutil
from typing import Optional, Sequence

import numpy as np

import raw_data
import tiny_records

PLACES = ((50.0, 10.0), (-30.0, 140.0), (10.0, -70.0))  # by class, degrees
MODEL = ("--model=kecam/EfficientNetV2Tiny", "--optimizer=adam", "--batch_size=10", "--max_steps=1")
RANKS = ("family", "genus", "species")
TAXONOMY = {10: ("Apidae", "Apis", "one"), 20: ("Apidae", "Apis", "two"), 30: ("Canidae", "Canis", "three")}  # by class id
COUNT = 8     # test pictures
CLOSE = 1e-3  # of a probability; predictions on disk are float16


def succeed(script: str, *flags: str):
    done = raw_data.run_command(script, *flags)
    assert done.returncode == 0, done.stderr
    return done


def _give_places(raw: pathlib.Path) -> None:
    """Places and seasons by class; of each split's pictures the first has no place, the second no date. And a taxonomy."""
    random = np.random.default_rng(3)
    for name in ("train", "val", "public_test"):
        content = json.loads((raw / f"{name}.json").read_text())
        for number, image in enumerate(content["images"]):
            one = image["id"] % tiny_records.CLASSES
            latitude, longitude = PLACES[one] + random.normal(size=2)
            image.update(latitude=latitude, longitude=longitude, date=f"2021-{4 * one + 1:02d}-15 12:00:00+00:00")
            image.update({0: {"latitude": None, "longitude": None}, 1: {"date": None}}.get(number, {}))
        for category in content["categories"]:
            if name != "public_test":
                category.update(zip(RANKS, TAXONOMY[category["id"]]))
        raw_data.write(raw / f"{name}.json", content)


def make(folder: pathlib.Path) -> pathlib.Path:
    """records/ in two folds, geo/ (a geo prior), folds/ and place/ (models), and their predictions of test under out/:
    folds (six views), single (fold 0 by one view), place (rot45, of a network that takes places)."""
    raw = write_raw(folder / "raw")
    succeed("create_tfrecords.py", "--competition=inat2021", f"--data_dir={raw}", f"--out_dir={folder}/records", "--folds=2",
            "--workers=1")
    data = f"--data_dir={folder}/records"
    for fold in range(2):
        succeed("multi_stage_train.py", data, f"--model_dir={folder}/folds", *MODEL, f"--fold={fold}",
                "--stage=name=all,epochs=1,size=32,lr=0.5,train=head")
    succeed("multi_stage_train.py", data, f"--model_dir={folder}/place", *MODEL, "--place_input", "--class_balance=sqrt",
            "--stage=name=all,epochs=1,size=40,lr=0.5,train=head,eval_resize=short:48")
    succeed("train_geo_prior.py", "--competition=inat2021", f"--data_dir={raw}", f"--model_dir={folder}/geo", "--epochs=2",
            "--embed_dim=8", "--date_input")
    for name, *flags in (("folds", f"--model_dir={folder}/folds", "--tta=six"),
                         ("single", f"--model_dir={folder}/folds", "--fold=0"),
                         ("place", f"--model_dir={folder}/place", "--tta=rot45")):
        succeed("predict.py", data, f"--out={folder}/out/{name}", "--split=test", *flags)
    return folder


def write_raw(raw: pathlib.Path) -> pathlib.Path:
    """31 train, 6 val and COUNT test pictures with places, in iNat 2021's layout."""
    tiny_records.write_raw(raw, train=31, val=6, test=COUNT)
    _give_places(raw)
    return raw


def with_outside(records: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    """The records again, of an open set: all classes but the second are unknown."""
    shutil.copytree(records, target)
    manifest = json.loads((target / "dataset.json").read_text())
    for index, one in enumerate(manifest["classes"]):
        one["known"] = index == 1
    raw_data.write(target / "dataset.json", {**manifest, "unknown_answer": "new_one"})
    return target


def pictures(records: pathlib.Path, ids: Sequence[str]) -> tuple[list[bytes], np.ndarray]:
    """The JPEGs of test's records by id; their places, float32 [3, ids]."""
    from pipeline.records import dataset as datasets

    of_test = raw_data.read_records(*records.glob("test*tfrecord*"))
    encoded = {one["image/source_id"].decode(): one["image/encoded"] for one in of_test}
    table = datasets.load(str(records)).examples("test").set_index("id")
    return [encoded[one] for one in ids], table.loc[ids, ["latitude", "longitude", "date"]].to_numpy(np.float32).T


def serve(directory: pathlib.Path, encoded: Sequence[bytes], places: np.ndarray) -> dict[str, np.ndarray]:
    """What the default signature of an export gives."""
    import tensorflow as tf

    served = tf.saved_model.load(str(directory)).signatures["serving_default"]
    latitude, longitude, date = map(tf.constant, places)
    found = served(image_bytes=tf.constant(encoded), latitude=latitude, longitude=longitude, date=date)
    return {name: one.numpy() for name, one in found.items()}


def blended(records: pathlib.Path, members: Sequence[pathlib.Path], blend: str = "equal", calibration: Optional[str] = None,
            **on_top) -> tuple[list[str], np.ndarray]:
    """(ids, probabilities [ids, classes]) by predict.py's predictions and fusion, as make_submission.py has them."""
    from pipeline.answers import fusion, priors, unlabelled
    from pipeline.records import dataset as datasets

    found = fusion.find([str(one) for one in members])
    predicted = unlabelled.combine(found, blend, priors.Request(**on_top), datasets.load(str(records)), calibration)
    chunks = list(predicted.chunks())
    return [one for ids, _ in chunks for one in ids], np.concatenate([np.exp(logs) for _, logs in chunks])
