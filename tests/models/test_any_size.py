"""A network whose weights depend on the picture's size, through stages, runs and predictions of other sizes."""

import numpy as np
import pytest

from pipeline.answers import predictions
from pipeline.models import classifier as classifiers, weights
from pipeline.ops import tta
from pipeline.prediction import predict
from pipeline.records import input as inputs
from pipeline.runs import checkpoint, record as run_record
from pipeline.training import train
from training_runs import run, stage

BEIT = "kecam/BeitTiny"


def trained(folder, size):
    """The classifier of a stage, by TensorFlow's own way: built at the size that it was trained at."""
    built = classifiers.build(BEIT, size, 3, place_input=True)
    checkpoint.load(checkpoint.find(str(folder)), built)
    return built


def assert_same_but_for_the_tables(source, target):
    """Every weight is the same; a table of positions is the interpolated one."""
    moved = classifiers.build(BEIT, target.base.input_shape[1], 3, place_input=True)
    weights.copy_weights(source.base, moved.base)
    tables = 0
    for ours, copied, theirs in zip(target.base.weights, moved.base.weights, source.base.weights):
        np.testing.assert_allclose(ours, copied, atol=1e-6)
        tables += ours.shape != theirs.shape
    assert tables == 2  # one a block
    for part in ("head", "place"):
        for ours, theirs in zip(getattr(target, part).get_weights(), getattr(source, part).get_weights()):
            np.testing.assert_array_equal(ours, theirs)


@pytest.fixture(scope="module")
def two_sizes(tiny_data, tmp_path_factory):
    """One epoch at 32 px, then one at 48 px that changes nothing (rate 0; the place branch has moving averages)."""
    model_dir = tmp_path_factory.mktemp("beit")
    train.run_training(run(tiny_data, model_dir, stage(name="small"),
                           stage(name="large", size=48, lr=0.0, train="last:3"), model=BEIT, place_input=True))
    return model_dir


def test_a_stage_takes_over_from_one_of_another_size(two_sizes):
    small, large = trained(two_sizes / "stage_1_small", 32), trained(two_sizes / "stage_2_large", 48)
    # The place branch's BatchNorm goes on averaging in the second stage.
    large.place.set_weights(small.place.get_weights())
    assert_same_but_for_the_tables(small, large)


def test_predictions_at_a_third_size(two_sizes, tiny_data, tmp_path):
    predict.run_prediction(tiny_data.directory, predict.Request(str(two_sizes), "val", str(tmp_path), tta="rot45",
                                                                size=64, batch_size=4))
    predicted = predictions.Predictions(str(tmp_path))
    assert predicted.meta["size"] == 64 and predicted.meta["tta"] == "rot45"
    assert [run_record.read(str(two_sizes))["same"]["stages"][name]["size"] for name in ("small", "large")] == [32, 48]
    at_64 = classifiers.build(BEIT, 64, 3, place_input=True)
    path = checkpoint.find(str(two_sizes / "stage_2_large"))
    checkpoint.load_at_size(path, at_64, BEIT, 48)
    assert_same_but_for_the_tables(trained(two_sizes / "stage_2_large", 48), at_64)
    part, views = tiny_data.part("val"), tta.parse("rot45")
    batch = next(iter(inputs.predict_batches(part, 64, views, "squash", 4)))
    expected = predict.make_step(at_64.model, views)(batch)
    id_of_row = dict(zip(part.examples()["row"], part.examples()["id"]))
    positions = [predicted.ids.index(id_of_row[row]) for row in batch["row"].numpy()]
    np.testing.assert_allclose(predicted.rows(np.array(positions)), expected, atol=5e-3)


@pytest.mark.parametrize("same_classes", [True, False])
def test_a_run_starts_from_one_of_another_size(same_classes, two_sizes, tiny_data, tmp_path, monkeypatch):
    if not same_classes:
        monkeypatch.setattr(train.datasets.Dataset, "class_ids", property(lambda self: ["a", "b", "c"]))
    built = classifiers.build(BEIT, 64, 3, place_input=True, seed=9)
    before = built.head.get_weights()[0]
    train._load_earlier_run(run(tiny_data, tmp_path, model=BEIT, init_from=str(two_sizes)), built, tiny_data)
    source = trained(two_sizes / "stage_2_large", 48)
    if not same_classes:
        np.testing.assert_array_equal(built.head.get_weights()[0], before)
        for part in ("head", "place"):
            getattr(built, part).set_weights(getattr(source, part).get_weights())
    assert_same_but_for_the_tables(source, built)
