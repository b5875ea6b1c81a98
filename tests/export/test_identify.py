"""identify.py through the command, with an export without a network: kinds of files, places, ranks, outputs, mistakes."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

import colour_export
import raw_data
from dataset_tools import image_bytes
from pipeline.export import graph, photographs
from raw_data import assert_one_line_mistake, run_command

PIXELS = np.zeros((30, 40, 3), np.uint8) + np.uint8([40, 40, 40])
PIXELS[:, 20:] = (120, 60, 50)  # reddish on the right


def gps(latitude, longitude, date="2021:04:05 10:11:12"):
    exif = Image.Exif()
    exif.get_ifd(0x8825).update({1: "N" if latitude >= 0 else "S", 2: (abs(latitude), 30.0, 36.0),
                                 3: "E" if longitude >= 0 else "W", 4: (abs(longitude), 0.0, 0.0)})
    exif.get_ifd(0x8769)[36867] = date
    return exif


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    folder = tmp_path_factory.mktemp("colours") / "export"
    colour_export.write(folder)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """The same picture as people have it, with a green one, a broken one and what is none."""
    folder = tmp_path_factory.mktemp("photos")
    picture = Image.fromarray(PIXELS)
    turned = gps(-40.0, 10.0)
    turned[274] = 6  # to be turned by 90 degrees clockwise
    for name, content in {
            "one.jpg": raw_data.encode(picture, quality=100, subsampling=0), "one.png": raw_data.encode(picture, "PNG"),
            "deep/cmyk.jpg": raw_data.encode(picture.convert("CMYK"), quality=100),
            "deep/turned.JPG": raw_data.encode(picture.transpose(Image.Transpose.ROTATE_90), quality=100, exif=turned),
            "deep/green.jpg": raw_data.encode(PIXELS[..., [1, 0, 2]]), "broken.jpg": b"\xff\xd8 no picture",
            "notes.txt": b"a",
    }.items():
        raw_data.write(folder / name, content)
    return folder


def identify(export, *arguments):
    return run_command("identify.py", f"--model={export}", *arguments)


def test_files_of_any_kind_answer_as_their_records_would(export, photos, tmp_path):
    """A folder with a broken picture; JSON, CSV and MegaDetector's format of one call."""
    written = [f"--{name}={tmp_path}/{name}" for name in ("json", "csv", "megadetector")]
    done = identify(export, photos, "--batch_size=2", *written)
    assert done.returncode == 0 and done.stdout == "", done.stderr
    lines = raw_data.stderr_lines(done)
    assert len(lines) == 2 and "broken.jpg: " in lines[0] and lines[1] == "1 of 6 pictures can't be read"

    found = {one["file"].removeprefix(f"{photos}/"): one for one in json.loads((tmp_path / "json").read_text())["pictures"]}
    assert set(found) == {"one.jpg", "one.png", "deep/cmyk.jpg", "deep/turned.JPG", "deep/green.jpg", "broken.jpg"}
    assert found["broken.jpg"]["error"] and "answers" not in found["broken.jpg"]
    logits = colour_export.logits(PIXELS.astype(float))
    expected = np.exp(logits) / np.exp(logits).sum()
    for name in ("one.jpg", "one.png", "deep/cmyk.jpg"):
        answers = found[name]["answers"]
        assert [one["id"] for one in answers] == ["r", "g", "b"] and answers[2]["name"] == "Blue – çé"
        np.testing.assert_allclose([one["probability"] for one in answers], expected, atol=0.03)
        assert answers[0]["probability"] == answers[0]["without_place"]
    assert found["deep/green.jpg"]["answers"][0]["id"] == "g"
    turned = found["deep/turned.JPG"]
    assert (turned["latitude"], turned["longitude"], turned["date"]) == (pytest.approx(-40.51), 10.0, "2021-04-05")
    by_id = {one["id"]: one for one in turned["answers"]}
    np.testing.assert_allclose([by_id[one]["without_place"] for one in "rgb"], expected, atol=0.03)
    south = expected * np.exp(np.array([-1, 0, 1]) * 40.51 / 30)
    np.testing.assert_allclose([by_id[one]["probability"] for one in "rgb"], south / south.sum(), atol=0.03)

    rows = {row["file"]: row for row in csv.DictReader((tmp_path / "csv").open(newline="", encoding="utf-8"))}
    assert rows[f"{photos}/one.png"]["name_1"] == "Red one" and rows[f"{photos}/broken.jpg"]["error"]
    assert float(rows[f"{photos}/one.png"]["probability_1"]) == pytest.approx(found["one.png"]["answers"][0]["probability"])

    batch = json.loads((tmp_path / "megadetector").read_text())
    assert set(batch) == {"info", "detection_categories", "classification_categories", "images"}
    float(batch["info"]["format_version"])
    images = {one["file"]: one for one in batch["images"]}
    assert set(images) == set(found)  # from the folder on
    assert images["broken.jpg"]["detections"] is None and images["broken.jpg"]["failure"]
    (detection,) = images["deep/green.jpg"]["detections"]
    assert batch["detection_categories"][detection["category"]] == "animal"
    assert detection["bbox"] == [0, 0, 1, 1] and detection["conf"] == 1
    names = [batch["classification_categories"][key] for key, _ in detection["classifications"]]
    assert names[0] == "Green one" and sorted(names) == ["Blue – çé", "Green one", "Red one"]
    scores = [score for _, score in detection["classifications"]]
    assert scores == sorted(scores, reverse=True)


def test_the_jpeg_is_the_records(photos):
    """What is served is what create_tfrecords.py would have written, byte for byte."""
    for name in ("one.jpg", "deep/cmyk.jpg", "deep/turned.JPG"):
        encoded = (photos / name).read_bytes()
        assert Image.open(photos / name).size in ((40, 30), (30, 40))
        prepared = image_bytes.prepare(encoded)
        assert (prepared.encoded == encoded) == (name == "one.jpg")
        shown = np.asarray(Image.open(io.BytesIO(prepared.encoded)).convert("RGB"), int)
        assert shown.shape == PIXELS.shape and np.abs(shown - PIXELS).mean() < 4


def test_what_place_and_date_changed_is_told(export, photos):
    told = identify(export, photos / "one.jpg", "--latitude=-60", "--longitude=10", "--date=2021-02-01").stdout
    assert "(-60.0000, 10.0000; 2021-02-01)" in told and "before place and date)" in told
    assert told.splitlines()[1].endswith(")") and "Blue – çé" in told.splitlines()[1]
    assert told.splitlines()[-1] == "  without place and date: Red one"
    late = identify(export, photos / "deep" / "turned.JPG", "--date=2021-10-01").stdout  # its own place, and no season there
    assert "(-40.5100, 10.0000; 2021-10-01)" in late and "before" not in late
    without = identify(export, photos / "deep" / "turned.JPG", "--ignore_exif").stdout
    assert "10.0000" not in without and "Red one" in without.splitlines()[1]


def test_ranks_are_rolled_up_to_the_first_that_is_sure_enough(export, photos, tmp_path):
    """Of the bluish-green picture neither species nor genus is sure, but its family."""
    pixels = np.zeros((30, 40, 3), np.uint8) + np.uint8([60, 120, 122])
    raw_data.write(tmp_path / "sea.png", raw_data.encode(pixels, "PNG"))
    logits = colour_export.logits(pixels.astype(float))
    cold = (np.exp(logits) / np.exp(logits).sum())[1:].sum()
    done = identify(export, tmp_path / "sea.png", photos / "one.jpg", "--rank=genus", "--least=0.7", "--json=-")
    sea, red = json.loads(done.stdout)["pictures"]
    assert (sea["taxon"]["rank"], sea["taxon"]["name"]) == ("family", "Cold")
    assert sea["taxon"]["probability"] == pytest.approx(cold, abs=0.01)
    assert (red["taxon"]["rank"], red["taxon"]["name"]) == ("genus", "Fire")
    unsure = identify(export, tmp_path / "sea.png", "--rank=species", "--least=0.99").stdout
    assert unsure.splitlines()[-1] == "  no rank is sure enough"


def test_mistakes_are_told_in_one_line(export, photos, tmp_path):
    assert_one_line_mistake(identify(export, tmp_path / "gone"), "gone does not exist")
    (tmp_path / "empty").mkdir()
    assert_one_line_mistake(identify(export, tmp_path / "empty"), "no pictures under", "empty")
    assert_one_line_mistake(identify(photos, photos), "--model", "is no export")
    assert_one_line_mistake(identify(export, photos, "--latitude=3"), "--longitude")
    assert_one_line_mistake(identify(export, photos, "--date=May"), "--date=May")
    assert_one_line_mistake(identify(export, photos, "--rank=tribe"), "--rank", "genus")
    colour_export.write(tmp_path / "plain", classes=tuple(
        one.__class__(one.index, one.source_id, one.name, one.train_count) for one in colour_export.CLASSES))
    assert_one_line_mistake(identify(tmp_path / "plain", photos, "--rank=genus"), "--rank", "no taxonomy")
    done = identify(export, photos / "broken.jpg", "--json=-")
    assert done.returncode == 3 and done.stderr.splitlines()[-1].endswith("none of 1 pictures can be read")


def test_exif_that_tells_nothing(photos):
    """No place, one that cameras write for none, and numbers that are none."""
    for exif in (Image.Exif(), gps(0.0, 0.0, "0000:00:00 00:00:00")):
        exif.get_ifd(0x8825).pop(2, None) if 2 not in exif.get_ifd(0x8825) else exif.get_ifd(0x8825).update({2: (0.0,) * 3})
        assert photographs.exif(raw_data.encode(PIXELS, exif=exif)) == photographs.Where()
    assert photographs.exif(b"no picture") == photographs.Where()


def test_an_open_set_and_several_labels(photos, tmp_path):
    """What is none of the known has one name, by the sum of two colours that are unknown; and labels from a threshold on."""
    colour_export.write(tmp_path / "open", of_ranked=colour_export.ranked((True, False, False), "sum"))
    done = identify(tmp_path / "open", photos / "deep" / "green.jpg", "--json=-")
    first, second = json.loads(done.stdout)["pictures"][0]["answers"]
    assert (first["id"], second["id"]) == ("stranger", "r") and first["without_place"] == pytest.approx(first["probability"])
    assert first["probability"] + second["probability"] == pytest.approx(1, abs=1e-5)
    batch = json.loads(identify(tmp_path / "open", photos / "one.jpg", "--megadetector=-").stdout)
    (detection,) = batch["images"][0]["detections"]
    assert {batch["classification_categories"][key] for key, _ in detection["classifications"]} == {"Red one", "stranger"}

    ranked = colour_export.ranked(threshold=0.2, allowed=np.ones(3, bool))
    colour_export.write(tmp_path / "labels", [graph.Member([colour_export.network(several=True)], 1.0)], graph.OnTop(), ranked,
                        kind="multi_label", place=False)
    told = identify(tmp_path / "labels", photos / "one.png").stdout.splitlines()
    scores = 1 / (1 + np.exp(5 - colour_export.logits(PIXELS.astype(float))))
    assert len(told) - 1 == (scores >= 0.2).sum() == 1 and "Red one" in told[1]
    assert_one_line_mistake(identify(tmp_path / "labels", photos / "one.png", "--rank=genus"), "--rank", "several")
