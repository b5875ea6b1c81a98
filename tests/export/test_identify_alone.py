"""identify.py where TensorFlow, what it brings and Pillow are all that is installed."""

import json
import os
import subprocess

import pytest

import colour_export
import exported
import fresh_environment
import raw_data


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    python = fresh_environment.make(tmp_path_factory.mktemp("fresh") / "env", ("tensorflow", "pillow"))
    for name in ("pandas", "tqdm", "sklearn", "tensorflow_addons"):
        assert subprocess.run([python, "-c", f"import {name}"], capture_output=True, timeout=60).returncode == 1, name
    return python


def identify(python, *arguments):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([python, str(raw_data.REPOSITORY / "identify.py"), *map(str, arguments)], timeout=300,
                          capture_output=True, text=True, env={**environment, "PYTHONDONTWRITEBYTECODE": "1"})


def test_it_needs_tensorflow_and_pillow_alone(python, tmp_path):
    colour_export.write(tmp_path / "export")
    raw_data.write(tmp_path / "photo.png", raw_data.encode(raw_data.pixels(1), "PNG"))
    done = identify(python, f"--model={tmp_path}/export", tmp_path / "photo.png", "--rank=family", "--latitude=10",
                    "--longitude=3")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 5 and "photo.png (10.0000, 3.0000)" in done.stdout


LEAST = 7  # of the nine photos, where chance has three


@pytest.mark.slow
def test_photos_of_three_butterflies_are_named_rightly(python, sample_data, lite0_weights, tmp_path):
    """A few pictures of real ones, a head on ImageNet's features, and a geo prior; then photos of val."""
    photos, ids = _write_three_classes(sample_data / "inat2021_mini", tmp_path / "raw")
    raw, data = f"--data_dir={tmp_path}/raw", f"--data_dir={tmp_path}/records"
    exported.succeed("create_tfrecords.py", "--competition=inat2021", raw, f"--out_dir={tmp_path}/records",
                     "--workers=1")
    exported.succeed("multi_stage_train.py", data, f"--model_dir={tmp_path}/model", "--model=kecam/EfficientNetV1Lite0",
                     f"--weights={lite0_weights}", "--stage=name=head,epochs=8,size=128,lr=0.02,train=head,augment=eval",
                     "--optimizer=adam", "--batch_size=14")
    exported.succeed("train_geo_prior.py", "--competition=inat2021", raw, f"--model_dir={tmp_path}/geo", "--epochs=3",
                     "--embed_dim=16", "--date_input")
    exported.succeed("predict.py", data, f"--model_dir={tmp_path}/model", "--split=val")
    exported.succeed("export.py", data, f"--predictions={tmp_path}/model/predictions/val", f"--geo_prior={tmp_path}/geo",
                     f"--out={tmp_path}/export")
    for place in ((), ("--latitude=47.7", "--longitude=-122.3", "--date=2021-07-01")):
        done = identify(python, f"--model={tmp_path}/export", *photos, *place, "--json=-")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)["pictures"]
        right = sum(one["answers"][0]["id"] == str(true) for one, true in zip(found, ids))
        assert right >= LEAST, found
        changed = [one["answers"][0]["probability"] != one["answers"][0]["without_place"] for one in found]
        assert any(changed) == bool(place)  # (not all: of 1.0000 nothing is left to gain)

    others, names = _write_gallery(sample_data / "inat2021_mini", tmp_path / "gallery")
    told = exported.succeed("export.py", data, f"--predictions={tmp_path}/model/predictions/val", f"--out={tmp_path}/added",
                            f"--gallery={tmp_path}/gallery").stdout
    assert "2 individuals by 10 photos; of the 10 photos" in told
    done = identify(python, f"--model={tmp_path}/added", *photos, *others, "--json=-")
    found = [one["answers"][0]["id"] for one in json.loads(done.stdout)["pictures"]]
    known, added = ([one == str(true) for one, true in zip(*some)] for some in ((found, ids), (found[len(ids):], names)))
    assert sum(known) >= LEAST and sum(added) >= LEAST_ADDED, found


LEAST_ADDED = 8  # of ten photos of two butterflies that no network was trained on


def _write_gallery(sample, folder):
    """Five train photos of each of two butterflies beside the three; (paths of as many of val, their folders' names)."""
    paths, names = [], []
    for split in ("train", "val"):
        content = json.loads((sample / f"{split}.json").read_text())
        files = {one["id"]: one["file_name"] for one in content["images"]}
        for category in content["categories"][3:5]:
            of_it = [files[one["image_id"]] for one in content["annotations"] if one["category_id"] == category["id"]][:5]
            for name in of_it:
                if split == "train":
                    raw_data.write(folder / f"new {category['id']}" / name.split("/")[-1], (sample / name).read_bytes())
                else:
                    paths.append(sample / name)
                    names.append(f"new {category['id']}")
    return paths, names


def _write_three_classes(sample, raw):
    """A smaller competition out of a sample's pictures; (the paths of nine of its val pictures, their categories)."""
    train = json.loads((sample / "train.json").read_text())
    chosen = [one["id"] for one in train["categories"]][:3]
    taken = {}
    for split, count in (("train", 14), ("val", 3), ("public_test", 0)):
        content = json.loads((sample / f"{split}.json").read_text())
        by_class = {one: [] for one in chosen}
        for annotation in content.get("annotations", ()):
            if annotation["category_id"] in by_class:
                by_class[annotation["category_id"]].append(annotation)
        annotations = [one for found in by_class.values() for one in found[:count]]
        images = {one["id"]: one for one in content["images"]}
        taken[split] = [(images[one["image_id"]]["file_name"], one["category_id"]) for one in annotations]
        raw_data.write(raw / f"{split}.json", {
            **content, "annotations": annotations, "images": [images[one["image_id"]] for one in annotations],
            "categories": [one for one in train["categories"] if one["id"] in chosen]})
        for name, _ in taken[split]:
            raw_data.write(raw / name, (sample / name).read_bytes())
    return [raw / name for name, _ in taken["val"]], [category for _, category in taken["val"]]
