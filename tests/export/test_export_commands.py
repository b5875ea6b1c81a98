"""What export.py writes, by TensorFlow alone: the probabilities of predict.py and fusion, and a submission's answers."""

import io
import json
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy import optimize, special

import exported
import forking
import raw_data
from pipeline.answers import open_set, predictions
from pipeline.records import dataset as datasets
from raw_data import assert_one_line_mistake, run_command

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def way(tmp_path_factory):
    return exported.make(tmp_path_factory.mktemp("export"))


def blended(way, *names, **on_top):
    return exported.blended(way / "records", [way / "out" / name for name in names], **on_top)


def export(way, name, *flags, records="records"):
    exported.succeed("export.py", f"--data_dir={way}/{records}", f"--out={way}/{name}", *flags)
    return way / name


LOADER = """
import sys
import numpy as np
import tensorflow as tf

served = tf.saved_model.load(sys.argv[1]).signatures["pictures"]
found = served(image_bytes=tf.constant([open(sys.argv[2], "rb").read()]))
ours = ("pipeline", "tensorflow_addons", "keras_cv_attention_models")
assert not [one for one in sys.modules if one.split(".")[0] in ours]
np.save(sys.argv[3], found["probabilities"].numpy())
"""


def test_folds_and_views_and_what_is_told(way, tmp_path):
    """One prediction: the mean of two folds by six views, with the temperature that was fitted on what they held out. Loaded
    by TensorFlow alone too, and exported anew in its place."""
    data = f"--data_dir={way}/records"
    exported.succeed("predict.py", data, f"--model_dir={way}/folds", "--split=train", f"--out={way}/folds/out_of_fold")
    exported.succeed("evaluate.py", data, f"--predictions={way}/folds/out_of_fold", "--calibrate")
    fitted = way / "folds" / "calibration.json"
    temperature = json.loads(fitted.read_text())["temperature"]
    assert abs(temperature - 1) > 0.1
    directory = export(way, "ex_folds", f"--predictions={way}/out/folds")
    assert export(way, "ex_folds", f"--predictions={way}/out/folds", "--license=CC0 1.0",
                  f"--calibration={fitted}") == directory
    ids, expected = blended(way, "folds", calibration=str(fitted))
    assert np.abs(expected - blended(way, "folds")[1]).max() > 10 * exported.CLOSE
    encoded, places = exported.pictures(way / "records", ids)
    found = exported.serve(directory, encoded, places)
    np.testing.assert_allclose(found["probabilities"], expected, atol=exported.CLOSE)
    np.testing.assert_allclose(found["probabilities_without_place"], found["probabilities"], atol=1e-6)
    order = np.argsort(-found["probabilities"], axis=1, kind="stable")
    np.testing.assert_array_equal(found["classes"], order)
    assert found["ids"].tolist() == [[str(10 * (index + 1)).encode() for index in row] for row in order]
    assert found["names"].tolist() == [[f"Species {index} – çé".encode() for index in row] for row in order]

    told = json.loads((directory / "model.json").read_text())
    assert [(one["fold"], one["views"], one["size"], one["weight"]) for one in told["members"]] == [
        (0, "six", 32, 0.5), (1, "six", 32, 0.5)]
    assert (told["place"], told["date"], told["license"]) == (False, False, "CC0 1.0")
    assert told["seen"][0]["splits"] == ["train"] and told["versions"]["tensorflow"] == tf.__version__
    assert told["classes"][2]["taxonomy"]["family"] == "Canidae" and told["on_top"]["temperature"] == temperature
    card = (directory / "MODEL_CARD.md").read_text()
    assert f"temperature {temperature}" in card
    assert "Licence: CC0 1.0" in card and "The splits train." in card and "31 labels, 10 to 11 a class" in card
    assert [one.name for one in way.iterdir() if "tmp" in one.name] == []

    (tmp_path / "load.py").write_text(LOADER)
    (tmp_path / "one.jpg").write_bytes(encoded[3])
    done = forking.run([str(tmp_path / "load.py"), str(directory), str(tmp_path / "one.jpg"), str(tmp_path / "found.npy")],
                       tmp_path, {"TF_CPP_MIN_LOG_LEVEL": "3"}, 300)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "found.npy")[0], expected[3], atol=exported.CLOSE)


def test_members_with_priors_places_and_an_open_set(way):
    """A network that takes places, by rot45 and another size, with others by weights; corrected each by its own prior; a geo
    prior to a power; all but one class unknown."""
    records = exported.with_outside(way / "records", way / "open").name
    flags = [f"--predictions={way}/out/{name}" for name in ("folds", "place", "single")]
    scores = way / "scores.json"
    raw_data.write(scores, {"top1": 0.5, "warnings": ["of few pictures"], "steps": {"all": {"top1_interval": [0.25, 0.75]}},
                            "temperature": 1.25, "calibration": {"all": {"ece": 0.125, "ece_interval": [0.1, 0.2]}}})
    directory = export(way, "ex_all", *flags, "--blend=2:1:0", "--prior_correction=0.7", f"--geo_prior={way}/geo",
                       "--geo_exponent=1.5", "--open_set=sum", f"--scores={scores}", records=records)
    ids, expected = blended(way, "folds", "place", "single", blend="2:1:0", prior_correction=0.7, geo_prior=str(way / "geo"),
                            geo_exponent=1.5)
    encoded, places = exported.pictures(way / "records", ids)
    assert np.isnan(places).sum() == 3  # a place, a date
    found = exported.serve(directory, encoded, places)
    np.testing.assert_allclose(found["probabilities"], expected, atol=exported.CLOSE)
    known = np.array([False, True, False])
    np.testing.assert_array_equal(found["classes"], open_set.rank(np.log(found["probabilities"]), known, 2, "sum"))
    outside = found["classes"] == open_set.UNKNOWN
    np.testing.assert_allclose(found["scores"][outside], found["probabilities"][:, [0, 2]].sum(axis=1), rtol=1e-5)
    assert set(found["ids"][outside]) == {b"new_one"} and set(found["ids"][~outside]) == {b"20"}

    nowhere = exported.serve(directory, encoded, np.full((3, len(ids)), np.nan, np.float32))
    np.testing.assert_allclose(nowhere["probabilities"], found["probabilities_without_place"], atol=1e-6)
    assert np.abs(nowhere["probabilities"] - expected)[1:].max() > 2 * exported.CLOSE
    card = (directory / "MODEL_CARD.md").read_text()
    assert "| top1 | 0.5000 | 0.2500 to 0.7500 |" in card and "Warning: of few pictures." in card and "`new_one`" in card
    assert "| expected calibration error | 0.1250 | 0.1000 to 0.2000 |" in card
    assert "The scores are with a temperature of 1.25, the model has no temperature." in card and "| temperature" not in card
    told = json.loads((directory / "model.json").read_text())
    assert (told["place"], told["date"], len(told["members"])) == (True, True, 3)  # single weighs nothing


def say_shyly(directory, data, turn):
    """Predictions as they were, but that they are right, and not sure of it, of every second picture from `turn` on."""
    one, labels = predictions.Predictions(str(directory)), data.examples("val").set_index("id")["labels"]
    truth = np.array([labels[name][0] for name in one.ids])
    own = np.array([sorted(one.ids).index(name) % 2 == turn for name in one.ids])
    logs = special.log_softmax(np.where(own[:, np.newaxis], 0.5 * np.eye(3)[truth], 0.0), axis=1)
    predictions.write(str(directory), [(one.ids, logs)], one.meta)


def test_fitted_weights_and_temperatures_of_members_are_served(way):
    """By --blend=oof, fitted on val: the temperatures of the members' own, too."""
    shutil.rmtree(way / "folds" / "out_of_fold", ignore_errors=True)  # another test's; weights would be fitted there
    for turn, (name, views) in enumerate((("folds", "six"), ("place", "rot45"))):
        exported.succeed("predict.py", f"--data_dir={way}/records", f"--model_dir={way}/{name}", "--split=val", f"--tta={views}",
                         f"--out={way}/{name}/predictions/val")
        say_shyly(way / name / "predictions" / "val", datasets.load(str(way / "records")), turn)
    directory = export(way, "ex_oof", f"--predictions={way}/out/folds", f"--predictions={way}/out/place", "--blend=oof")
    ids, expected = blended(way, "folds", "place", blend="oof")
    found = exported.serve(directory, *exported.pictures(way / "records", ids))
    np.testing.assert_allclose(found["probabilities"], expected, atol=exported.CLOSE)
    told = json.loads((directory / "model.json").read_text())["on_top"]["member_temperatures"]
    half = len(datasets.load(str(way / "records")).examples("val")) / 2  # of these a member says half a logit, of the others nothing
    best = optimize.minimize_scalar(lambda at: half * np.log1p(2 * np.exp(-0.5 / at)) + np.log(at) ** 2 / (2 * 0.5 ** 2),
                                    bounds=(1 / 8, 8), method="bounded").x  # few pictures leave it near 1
    assert len(told) == 2 and list(told.values()) == pytest.approx([best] * 2, rel=1e-2) and best < 0.9
    assert np.abs(expected - blended(way, "folds", "place")[1]).max() > 10 * exported.CLOSE
    assert f"member_temperatures {', '.join(f'{one:.3f}' for one in told.values())}" in (directory / "MODEL_CARD.md").read_text()


def test_individuals_of_a_gallery_are_added_by_likeness(way, tmp_path):
    """Two new ones, whose photos are pictures of train and not prepared anew, so that the features which the network has of
    them stand beside it: what they get is computed here from those with NumPy."""
    examples = datasets.load(str(way / "records")).examples("train").sort_values("row")
    by_id = {one["image/source_id"].decode(): one for one in raw_data.read_records(*(way / "records").glob("train*tfrecord*"))}
    records = [by_id[one] for one in examples["id"]]
    photos = {f"new {name}": records[first:first + 3] for name, first in (("a", 2), ("b", 11))}
    for name, several in photos.items():
        for number, one in enumerate(several):
            raw_data.write(tmp_path / "gallery" / name / f"{number}.jpg", one["image/encoded"])
    flags = [f"--predictions={way}/out/place", "--prior_correction=0.7", "--open_set=sum"]
    open_records = exported.with_outside(way / "records", way / "with_gallery").name
    without = export(way, "ex_plain", *flags, records=open_records)
    directory = export(way, "ex_gallery", *flags, f"--gallery={tmp_path}/gallery", records=open_records)

    stored = way / "place" / "stage_1_all" / "neighbours"
    rows, features = (np.concatenate([np.load(one) for one in sorted(stored.glob(f"{kind}-*.npy"))])
                      for kind in ("rows", "features"))
    features = features[np.argsort(rows)]  # of length 1
    classes = np.array([one[0] for one in examples["labels"]])
    of_new = {name: np.array([records.index(one) for one in several]) for name, several in photos.items()}
    groups = [np.flatnonzero(classes == one) for one in range(3)] + list(of_new.values())
    means = np.stack([features[one].mean(axis=0) for one in groups])
    cosines = features @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    parts = special.softmax(cosines.astype(np.float64) / 0.03, axis=1)
    shares = 0.999 * np.stack([parts[:, :3].sum(axis=1), parts[:, 3], parts[:, 4]], axis=1) + 0.001 / 3

    encoded, nowhere = [one["image/encoded"] for one in records], np.full((3, len(records)), np.nan, np.float32)
    before, found = (exported.serve(one, encoded, nowhere)["probabilities"] for one in (without, directory))
    np.testing.assert_allclose(found[:, 3:], shares[:, 1:], atol=exported.CLOSE)
    np.testing.assert_allclose(found[:, :3], before * shares[:, :1], atol=exported.CLOSE)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert np.ptp(shares[:, 1]) > 20 * exported.CLOSE

    told = json.loads((directory / "model.json").read_text())
    assert [(one["source_id"], one["known"]) for one in told["classes"][3:]] == [("new a", True), ("new b", True)]
    assert told["gallery"] == {"new a": 3, "new b": 3} and told["answers"] == 4  # one known class, two new, the unknown one
    card = (directory / "MODEL_CARD.md").read_text()
    assert "new a (3 photos), new b (3 photos)" in card and "31 labels, 10 to 11 a class" in card
    named = run_command("identify.py", f"--model={directory}", tmp_path / "gallery", "--json=-")
    ids = [[answer["id"] for answer in one["answers"]] for one in json.loads(named.stdout)["pictures"]]
    assert len(ids) == 6 and all({"new a", "new b", "20", "new_one"} == set(one) for one in ids)
    rows = np.concatenate(list(of_new.values()))
    scores = np.stack([found[rows, 1], found[rows, 3], found[rows, 4], found[rows][:, [0, 2]].sum(axis=1)], axis=1)
    assert [one[0] for one in ids] == [("20", "new a", "new b", "new_one")[best] for best in scores.argmax(axis=1)]
    looked = tf.saved_model.load(str(directory)).signatures["look"](
        image_bytes=tf.constant(encoded[:2]), classes=tf.constant([1, 4]))["map"].numpy()
    assert np.ptp(looked[0]) > 0 and not looked[1].any()


def test_photos_of_a_gallery_recognize_one_another(way, tmp_path):
    """Each by the others of its folder, where an individual has its colour. One whose two photos have nothing in common is not
    recognized by either; a photo that is alone is not counted."""
    colours = {"red": [(250, 20, 20), (240, 30, 10), (245, 25, 30)], "blue": [(10, 20, 250), (30, 10, 240)],
               "odd": [(250, 25, 15), (20, 15, 250)], "green": [(0, 90, 0)]}
    for name, several in colours.items():
        for number, colour in enumerate(several):
            photo = np.zeros((40, 40, 3), np.uint8) + np.uint8(colour)
            raw_data.write(tmp_path / "gallery" / name / f"{number}.png", raw_data.encode(photo, "PNG"))
    done = exported.succeed("export.py", f"--data_dir={way}/records", f"--predictions={way}/out/single",
                            f"--out={tmp_path}/out", f"--gallery={tmp_path}/gallery")
    assert "gallery: 4 individuals by 8 photos; of the 7 photos that have others" in done.stdout
    assert json.loads((tmp_path / "out" / "model.json").read_text())["recognized"] == [5, 7]


def test_mistakes_of_a_gallery_are_told_in_one_line(way, tmp_path):
    photo = raw_data.encode(raw_data.pixels(1))

    def refused(gallery, *flags):
        return run_command("export.py", f"--data_dir={way}/records", f"--predictions={way}/out/single",
                           f"--out={tmp_path}/out", f"--gallery={tmp_path}/{gallery}", *flags)

    raw_data.write(tmp_path / "loose" / "one.jpg", photo)
    raw_data.write(tmp_path / "empty" / "someone" / "notes.txt", b"no photo")
    raw_data.write(tmp_path / "broken" / "someone" / "one.jpg", photo[:100])
    raw_data.write(tmp_path / "taken" / "20" / "one.jpg", photo)
    for name in ("a", "b"):
        raw_data.write(tmp_path / "twice" / name / "one.jpg", photo)
    (tmp_path / "none").mkdir()
    for gallery, *words in (("nowhere", "is no folder"), ("none", "no folders"), ("loose", "one.jpg", "no individual's folder"),
                            ("empty", "someone", "no pictures"), ("broken", "someone/one.jpg"), ("taken", "20", "class"),
                            ("twice", "twice/b", "twice/a", "same photo")):
        assert_one_line_mistake(refused(gallery), gallery, *words)
    assert_one_line_mistake(refused("taken", "--tflite"), "--tflite", "--gallery")
    assert not (tmp_path / "out").exists()


def test_mistakes_are_told_in_one_line(way, tmp_path):
    def refused(*flags, out=tmp_path / "out"):
        return run_command("export.py", f"--data_dir={way}/records", f"--out={out}", *flags)

    raw_data.write(tmp_path / "kept" / "photo.txt", b"mine")
    assert_one_line_mistake(refused(f"--predictions={way}/out/folds", out=tmp_path / "kept"), "--out", "is no export")
    raw_data.write(tmp_path / "boxed" / "meta.json", {
        **json.loads((way / "out" / "single" / "meta.json").read_text()), "boxes": "coarse"})
    for name in ("ids.txt", "log_probabilities.npy"):
        raw_data.write(tmp_path / "boxed" / name, (way / "out" / "single" / name).read_bytes())
    assert_one_line_mistake(refused(f"--predictions={tmp_path}/boxed"), "boxed", "boxes of localize.py (coarse)")
    assert_one_line_mistake(refused(f"--predictions={way}/out/folds", "--threshold=0.3"), "--threshold")
    raw_data.write(tmp_path / "boxed" / "meta.json", {
        **json.loads((way / "out" / "single" / "meta.json").read_text()), "trained": {"epochs": 0.5}})
    assert_one_line_mistake(refused(f"--predictions={tmp_path}/boxed"), "boxed", "no longer stands")
    assert not (tmp_path / "out").exists() and (tmp_path / "kept" / "photo.txt").read_bytes() == b"mine"


def by_tflite(path, images):
    """What a TFLite file gives for uint8 [n, size, size, 3]."""
    interpreter = tf.lite.Interpreter(str(path))
    interpreter.allocate_tensors()
    found = []
    for image in images.astype(np.float32)[:, np.newaxis]:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
        interpreter.invoke()
        found.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0].copy())
    return np.array(found)


def test_several_labels_and_tflite(tiny_multi_label_data, tmp_path):
    """The labels that reach the threshold, at least one; TFLite files of the network, of pictures that Pillow squashes."""
    data = f"--data_dir={tiny_multi_label_data.directory}"
    exported.succeed("multi_stage_train.py", data, f"--model_dir={tmp_path}/model", *exported.MODEL,
                     "--stage=name=all,epochs=1,size=32,lr=0.5,train=head")
    exported.succeed("predict.py", data, f"--model_dir={tmp_path}/model", "--tta=none", f"--out={tmp_path}/out/test")
    done = exported.succeed("export.py", data, f"--predictions={tmp_path}/out/test", "--threshold=0.45", "--tflite",
                            f"--out={tmp_path}/ex")
    raw_data.write(tmp_path / "gallery" / "new" / "one.jpg", raw_data.encode(raw_data.pixels(1)))
    assert_one_line_mistake(run_command("export.py", data, f"--predictions={tmp_path}/out/test", f"--out={tmp_path}/added",
                                        f"--gallery={tmp_path}/gallery"), "--gallery", "one label a picture")
    ids = (tmp_path / "out" / "test" / "ids.txt").read_text().split()
    expected = np.exp(np.load(tmp_path / "out" / "test" / "log_probabilities.npy").astype(np.float64))
    encoded, places = exported.pictures(pathlib.Path(tiny_multi_label_data.directory), ids)
    found = exported.serve(tmp_path / "ex", encoded, places)
    np.testing.assert_allclose(found["probabilities"], expected, atol=exported.CLOSE)
    best = np.sort(found["probabilities"], axis=1)[:, ::-1]
    np.testing.assert_allclose(found["scores"], best, atol=1e-6)
    np.testing.assert_array_equal(found["answered"], (best >= 0.45) | (np.arange(3) == 0))

    images = np.stack([np.asarray(Image.open(io.BytesIO(one)).resize((32, 32), Image.Resampling.BILINEAR)) for one in encoded])
    np.testing.assert_allclose(by_tflite(tmp_path / "ex" / "model.tflite", images), expected, atol=0.02)
    assert np.abs(by_tflite(tmp_path / "ex" / "model_int8.tflite", images) - expected).mean() < 0.1
    told = json.loads((tmp_path / "ex" / "model.json").read_text())["tflite"]
    assert told["model.tflite"]["mean_difference"] < 1e-4 and told["model.tflite"]["pictures"] == len(ids)
    assert told["model.tflite"]["same_first_answer"] == len(ids)
    assert f"model.tflite: the same first answer as the export on {len(ids)} of {len(ids)} pictures" in done.stdout
    assert (tmp_path / "ex" / "model_int8.tflite").stat().st_size < (tmp_path / "ex" / "model.tflite").stat().st_size
