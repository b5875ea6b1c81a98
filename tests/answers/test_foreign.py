"""Predictions of other programs in .npz and .npy: the same scores and submissions as the same predictions of ours."""

import json
import tracemalloc

import numpy as np
import pytest

import make_submission
from pipeline.answers import foreign, foreign_arrays, fusion, predictions, priors
from pipeline.answers.example_table import ExampleTable
from pipeline.errors import UserError
from pipeline.evaluation import evaluate as evaluation, scoring
from foreign_files import WAYS, as_arrays, write_npz
from predicted_data import StandInPrior, make_dataset, random_logs, random_places, write_predictions
from raw_data import assert_one_line_mistake, run_command

COUNT, TEST_COUNT, CLASSES = 60, 25, 7
SPLITS = ["val"] * COUNT + ["test"] * TEST_COUNT


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setattr(priors, "_load", lambda directory: StandInPrior([str(100 + one) for one in range(CLASSES)]))


@pytest.fixture
def case(tmp_path):
    """(folder, data); `val` and `test` hold predictions of ours, of the model directory m."""
    labels = [*(np.arange(COUNT) % CLASSES).tolist(), *[None] * TEST_COUNT]
    data = make_dataset(tmp_path / "records", labels, random_places(COUNT + TEST_COUNT, 3), splits=SPLITS,
                        train_counts=range(1, CLASSES + 1))
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "run.json").write_text(
        '{"same": {"stage_order": [], "stages": {}}, "free": {"folds": 0, "stage_dirs": []}}')
    for split, count in (("val", COUNT), ("test", TEST_COUNT)):
        logs = random_logs(count, CLASSES, seed=count)
        write_predictions(tmp_path / split, data, logs, split, model_dir=str(tmp_path / "m"))
    return tmp_path, data


def rows_in_our_order(predicted, ids):
    position = {one: row for row, one in enumerate(predicted.ids)}
    return predicted.rows(np.array([position[one] for one in ids]))


@pytest.mark.parametrize("way", WAYS)
def test_whatever_the_file_the_rows_are_the_same(case, way, monkeypatch):
    monkeypatch.setattr(foreign_arrays, "_TRANSPOSED_BYTES", 1000)  # several blocks
    folder, data = case
    ours = predictions.Predictions(str(folder / "val"))
    theirs, = fusion.find([WAYS[way](folder, *as_arrays(folder / "val"))], data=data)
    assert (theirs.class_ids, theirs.meta["split"], sorted(theirs.ids)) == (ours.class_ids, "val", sorted(ours.ids))
    expected = ours.rows(np.arange(COUNT))
    if "logits" in way:  # what ours sum to is 1 but for the rounding to float16
        expected = expected - np.log(np.exp(expected).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(rows_in_our_order(theirs, ours.ids), expected, atol=2e-6 if "float16" not in way else 0)
    several = np.array([7, 8, 9, 3, 50, 2])
    np.testing.assert_array_equal(theirs.rows(several), np.concatenate([theirs.rows(np.array([one])) for one in several]))


def scores_of(folder, data, *paths, **changes):
    evaluation.run_evaluation(data.directory, evaluation.Request(list(paths), out=str(folder / "scores.json"), **changes))
    return json.loads((folder / "scores.json").read_text())


@pytest.mark.parametrize("request_", [
    priors.Request(), priors.Request(prior_correction=1.0), priors.Request("geo", "fit", 0.5)])
def test_scores_are_the_same_with_whatever_is_on_top(case, request_, capsys):
    folder, data = case
    path = WAYS["npz"](folder, *as_arrays(folder / "val"))
    expected = scores_of(folder, data, str(folder / "val"), priors=request_)
    found = scores_of(folder, data, path, priors=request_)
    assert found["log_loss"] == pytest.approx(expected["log_loss"], abs=1e-6) and found["top1"] == expected["top1"]
    assert found["steps"].keys() == expected["steps"].keys()
    for name, line in expected["steps"].items():
        assert found["steps"][name]["top1"] == line["top1"]
        assert found["steps"][name]["log_loss"] == pytest.approx(line["log_loss"], abs=1e-5)
    assert any(f"{path} was made by another program: what its model was trained on is not known" in one
               for one in found["warnings"])
    assert "warning: " in capsys.readouterr().out


@pytest.mark.parametrize("blend", ["equal", "3:1", "oof"])
def test_a_blend_of_ours_and_theirs(case, blend):
    folder, data = case
    other = write_predictions(folder / "second", data, random_logs(COUNT, CLASSES, seed=9), model_dir=str(folder / "m"))
    path = WAYS["npz"](folder, *as_arrays(folder / "second"))
    expected = scores_of(folder, data, str(folder / "val"), other, blend=blend)
    found = scores_of(folder, data, str(folder / "val"), path, blend=blend)
    assert found["top1"] == expected["top1"] and found["log_loss"] == pytest.approx(expected["log_loss"], abs=1e-5)
    assert list(found["weights"].values()) == pytest.approx(list(expected["weights"].values()), abs=1e-3)


@pytest.mark.parametrize("way", ["npz", "npy of probabilities", "sparse npz"])
def test_the_submission_is_the_same_to_the_byte(case, way):
    folder, data = case
    path = WAYS[way](folder, *as_arrays(folder / "test"))
    for request in (None, priors.Request("geo", 1.0, 1.0)):
        for name, of in (("ours.csv", f"{folder}/test"), ("theirs.csv", path)):
            make_submission.make_submission(data.directory, [of], str(folder / name), priors_request=request)
        assert (folder / "ours.csv").read_bytes() == (folder / "theirs.csv").read_bytes()


def test_through_the_commands(case):
    folder, data = case
    val = WAYS["npz, compressed"](folder, *as_arrays(folder / "val"))
    done = run_command("evaluate.py", f"--data_dir={data.directory}", f"--predictions={val}", f"--out={folder}/theirs.json",
                       f"--report={folder}/report.html")
    assert done.returncode == 0 and "warning: " in done.stdout, done.stderr
    expected = scores_of(folder, data, str(folder / "val"))
    found = json.loads((folder / "theirs.json").read_text())
    assert (found["top1"], found["top5"]) == (expected["top1"], expected["top5"])
    test = WAYS["npy of probabilities"](folder, *as_arrays(folder / "test"))
    for of, out in ((test, "theirs.csv"), (f"{folder}/test", "ours.csv")):
        done = run_command("make_submission.py", f"--data_dir={data.directory}", f"--predictions={of}",
                           f"--out={folder}/{out}", "--prior_correction=1")
        assert done.returncode == 0, done.stderr
    assert (folder / "ours.csv").read_bytes() == (folder / "theirs.csv").read_bytes()


def test_without_class_ids_the_columns_are_ours(case, caplog):
    folder, data = case
    ids, class_ids, logs = as_arrays(folder / "val")
    order = np.argsort(class_ids)
    np.savez(folder / "other.npz", ids=ids, log_probabilities=logs[:, order])
    with caplog.at_level("INFO", logger="absl"):
        theirs = foreign.ForeignPredictions(str(folder / "other.npz"), data)
    ours = predictions.Predictions(str(folder / "val"))
    np.testing.assert_array_equal(rows_in_our_order(theirs, ours.ids), ours.rows(np.arange(COUNT)))
    assert "taken for the classes in the order of" in caplog.text


def test_pictures_that_were_set_aside_are_left_out(case, caplog):
    folder, data = case
    with open(folder / "records" / "rejected.csv", "a", encoding="utf-8") as file:
        file.write("broken,val,x.jpg,1,damaged\n")
    ids, class_ids, logs = as_arrays(folder / "val")
    path = write_npz(folder / "other.npz", np.append(ids, "broken"), class_ids, np.concatenate([logs, logs[:1]]))
    assert sorted(foreign.ForeignPredictions(path, data).ids) == sorted(ids)
    assert "1 rows are of pictures that" in caplog.text


def test_the_split_is_told_where_ids_do_not_tell_it(case):
    folder, data = case
    path = folder / "records" / "examples.csv"
    path.write_text(path.read_text().replace(f"p{COUNT},", "p0,").replace(f"p{COUNT + 1},", "p1,"))
    path = write_npz(folder / "other.npz", ["p0", "p1"], data.class_ids, np.log(np.full((2, CLASSES), 1 / CLASSES)))
    with pytest.raises(UserError, match="holds pictures of test and of val; say which by --split"):
        fusion.find([path], data=data)
    for split in ("val", "test"):
        assert fusion.find([path], data=data, split=split)[0].meta["split"] == split
    with pytest.raises(UserError, match="--split.*'nowhere'.*test, val"):
        fusion.find([path], data=data, split="nowhere")
    with pytest.raises(UserError, match="--split=val is for predictions of other programs"):
        fusion.find([str(folder / "val")], data=data, split="val")


def broken(change):
    """A way to write `change` of good arrays."""
    def make(folder, ids, class_ids, logs):
        arrays = {"ids": ids, "class_ids": class_ids, "probabilities": np.exp(logs.astype(np.float64))}
        change(arrays)
        np.savez(folder / "other.npz", **{name: value for name, value in arrays.items() if value is not None})
        return str(folder / "other.npz")
    return make


def changed(name, index, value):
    def change(arrays):
        arrays[name] = arrays[name].astype(object if name != "probabilities" else float)
        arrays[name][index] = value
        if name != "probabilities":
            arrays[name] = arrays[name].astype(str)
    return broken(change)


def truncated(folder, *arrays):
    path = WAYS["npy of probabilities"](folder, *arrays)
    content = (folder / "other.npy").read_bytes()
    (folder / "other.npy").write_bytes(content[:-8])
    return path


@pytest.mark.parametrize("make, words", [
    (changed("ids", 3, "p_other"), ["p_other", "not in val"]),
    (changed("ids", 3, "p0"), ["ids twice", "p0"]),
    (changed("class_ids", 2, "999"), ["lacks the class"]),
    (broken(lambda a: a.update(class_ids=None, probabilities=a["probabilities"][:, 1:])), ["6 columns", "7 classes"]),
    (broken(lambda a: a.update(class_ids=np.append(a["class_ids"], "999"),
                               probabilities=np.pad(a["probabilities"], ((0, 0), (0, 1))))), ["999", "has not"]),
    (broken(lambda a: a.update(ids=a["ids"][1:])), ["60 rows and 59 ids"]),
    (broken(lambda a: a.update(ids=None)), ["whose its rows are", "other_ids.txt"]),
    (broken(lambda a: a.update(ids=a["ids"].astype(object))), ["ids", "Object arrays cannot be loaded"]),
    (broken(lambda a: a.update(ids=np.arange(60.0))), ["ids", "float64", "text or integers"]),
    (broken(lambda a: a.update(probabilities=a["probabilities"].astype(object))), ["never unpickled"]),
    (broken(lambda a: a.update(probabilities=a["probabilities"].ravel())), ["no matrix"]),
    (broken(lambda a: a.update(logits=a["probabilities"])), ["one of probabilities"]),
    (broken(lambda a: a.update(scores=a.pop("probabilities"))), ["scores", "one of probabilities"]),
    (changed("probabilities", (3, 2), np.nan), ["NaN"]),
    (changed("probabilities", (3, 2), np.inf), ["NaN or infinity"]),
    (changed("probabilities", (3, 2), -0.5), ["negative probability", "logits"]),
    (changed("probabilities", (3, 2), 0.9999), ["sum to", "not 1"]),
    (truncated, ["its size"]),
])
def test_what_is_wrong_is_told_in_a_line(case, make, words):
    folder, data = case
    path = make(folder, *as_arrays(folder / "val"))
    with pytest.raises(UserError) as raised:
        evaluation.run_evaluation(data.directory, evaluation.Request([path]))
    for word in (path, *words):
        assert word in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_row_that_is_wrong_is_named(case):
    folder, data = case
    ids, class_ids, logs = as_arrays(folder / "val")
    path = changed("probabilities", (3, 2), 5.0)(folder, ids, class_ids, logs)
    with pytest.raises(UserError, match=f"the row of {ids[3]} has probabilities"):
        evaluation.run_evaluation(data.directory, evaluation.Request([path]))


@pytest.mark.parametrize("changes, words", [
    ({"blend_text": "oof"}, "--blend=oof: .*another program"), ({"blend_text": "1:2"}, "--blend=1:2 has 2 weights"),
    ({"priors_request": priors.Request("geo", "fit")}, "--geo_exponent=fit: .*another program")])
def test_what_a_submission_can_not_have(case, changes, words):
    folder, data = case
    path = WAYS["npz"](folder, *as_arrays(folder / "test"))
    with pytest.raises(UserError, match=words):
        make_submission.make_submission(data.directory, [path], str(folder / "s.csv"), **changes)
    assert not (folder / "s.csv").exists()


def test_a_wrong_split_is_told_by_the_command(case):
    folder, data = case
    path = WAYS["npz"](folder, *as_arrays(folder / "test"))
    done = run_command("make_submission.py", f"--data_dir={data.directory}", f"--predictions={path}",
                       f"--out={folder}/s.csv", "--split=val")
    assert_one_line_mistake(done, path, "which is not in val")


def test_pictures_that_are_missing_are_told(case):
    folder, data = case
    ids, class_ids, logs = as_arrays(folder / "test")
    path = write_npz(folder / "other.npz", ids[1:], class_ids, logs[1:])
    with pytest.raises(UserError, match=f"lacks 1 pictures of test, such as {ids[0]}"):
        make_submission.make_submission(data.directory, [path], str(folder / "s.csv"))


def test_views_of_another_program_are_not_known(case):
    folder, data = case
    path = WAYS["npz"](folder, *as_arrays(folder / "val"))
    with pytest.raises(UserError, match="--without_tta.*another program"):
        evaluation.run_evaluation(data.directory, evaluation.Request([path], without_tta=[str(folder / "val")]))


@pytest.mark.parametrize("name", ["other.npy", "other.npz"])
def test_a_large_matrix_is_read_as_a_stream(tmp_path, name):
    count, classes = 4000, 1500
    data = make_dataset(tmp_path / "records", (np.arange(count) % classes).tolist(), train_counts=[1] * classes)
    ids = [f"p{index}" for index in range(count)]
    values = np.random.default_rng(0).dirichlet(np.ones(classes), count).astype(np.float32)
    if name.endswith("npy"):
        np.save(tmp_path / name, values)
        (tmp_path / "other_ids.txt").write_text("\n".join(ids))
    else:
        np.savez(tmp_path / name, ids=ids, probabilities=values)
    expected = (values.argmax(axis=1) == np.arange(count) % classes).mean()
    table = ExampleTable(data, "val")
    tracemalloc.start()
    try:
        predicted, = fusion.find([str(tmp_path / name)], data=data)
        scores = scoring.score(fusion.Blend([predicted]), table).summary
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert scores["top1"] == pytest.approx(expected)
    assert peak < values.nbytes / 3


def test_several_labels_a_picture(tiny_multi_label_data, tmp_path):
    data = tiny_multi_label_data
    ids = list(data.examples("train")["id"])
    logits = np.random.default_rng(2).normal(size=(len(ids), len(data.class_ids))) * 2
    meta = {"examples": len(ids), "class_ids": data.class_ids, "split": "train", "model_dir": str(tmp_path), "tta": "none",
            "fold": None, "dataset": {"classes": data.classes_digest()}}
    predictions.write(str(tmp_path / "ours"), [(ids, -np.logaddexp(0, -logits))], meta)
    order = np.random.default_rng(3).permutation(len(ids))
    np.savez(tmp_path / "theirs.npz", ids=np.array(ids)[order], logits=logits[order].astype(np.float16).astype(np.float32))
    np.savez(tmp_path / "shares.npz", ids=np.array(ids)[order], probabilities=1 / (1 + np.exp(-logits[order])))
    expected = scores_of(tmp_path, data, str(tmp_path / "ours"), threshold=0.4)
    for name in ("theirs.npz", "shares.npz"):
        found = scores_of(tmp_path, data, str(tmp_path / name), threshold=0.4)
        assert found["f2"] == pytest.approx(expected["f2"], abs=1e-3)
        assert scores_of(tmp_path, data, str(tmp_path / name))["threshold"] == pytest.approx(
            scores_of(tmp_path, data, str(tmp_path / "ours"))["threshold"], abs=0.011)
    np.savez(tmp_path / "sure.npz", ids=ids, probabilities=np.full(logits.shape, 1.2))
    with pytest.raises(UserError, match="a probability above 1"):
        scores_of(tmp_path, data, str(tmp_path / "sure.npz"))
