"""Epochs that are kept, and predictions by several of them: the mean of their probabilities, or of their weights."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from pipeline.answers import predictions
from pipeline.devices import strategy as strategies
from pipeline.errors import UserError
from pipeline.models import classifier as classifiers
from pipeline.prediction import predict, weight_mean
from pipeline.records import dataset, input as inputs
from pipeline.training import train
import tiny_records
from training_runs import run, stage

NETWORK = "kecam/EfficientNetV2Tiny"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_records.make(tmp_path_factory.mktemp("kept"), folds=2, train=24, val=4)


@pytest.fixture(scope="module")
def kept(data, tmp_path_factory):
    """Two folds of three epochs, each of which is kept; the stage before keeps none."""
    model_dir = tmp_path_factory.mktemp("model")
    for fold in (0, 1):
        keep = {"lr": 0.02, "batch_size": 4, "eval_resize": "short:36"}
        train.run_training(run(data, model_dir, stage(name="first", keep_epochs="1", train="head", **keep),
                               stage(epochs=3, keep_epochs="1:2:3", **keep), fold=fold, tta="ten"))
    return model_dir


def predicted(data, model_dir, out, **asked):
    predict.run_prediction(data.directory, predict.Request(
        str(model_dir), "test", str(out), **{"batch_size": 4, "tta": "flip", **asked}))
    return predictions.Predictions(str(out))


def probabilities(told):
    matrix = np.exp(told.rows(np.arange(len(told.ids))).astype(np.float64))
    return matrix / matrix.sum(axis=1, keepdims=True)


def test_only_the_last_stage_keeps(kept):
    for fold in ("fold_0", "fold_1"):
        assert sorted(path.name for path in (kept / fold / "stage_2_all" / "kept").glob("*.index")) == [
            f"epoch-{number}.index" for number in (1, 2, 3)]
        assert not (kept / fold / "stage_1_first" / "kept").exists()


def test_the_mean_of_three_epochs_probabilities_is_numpys(kept, data, tmp_path):
    mean = predicted(data, kept, tmp_path / "mean", checkpoint="1:2:3", folds=(0,))
    alone = [predicted(data, kept, tmp_path / epoch, checkpoint=epoch, folds=(0,)) for epoch in "123"]
    assert mean.ids == alone[0].ids and len(mean.ids) == 7
    assert np.abs(probabilities(alone[0]) - probabilities(alone[2])).max() > 0.01
    np.testing.assert_allclose(probabilities(mean), np.mean([probabilities(one) for one in alone], axis=0), atol=2e-3)
    of_fold = predictions.Predictions(str(tmp_path / "mean" / "fold_0")).meta
    assert [path.rsplit("/", 1)[1] for path in of_fold["checkpoint"]] == ["epoch-1", "epoch-2", "epoch-3"]
    assert of_fold["average"] == "probabilities"
    assert alone[0].meta["average"] is None and alone[0].meta["checkpoint"][0].endswith("kept/epoch-1")


def test_last_best_and_the_folds(kept, data, tmp_path):
    last = predicted(data, kept, tmp_path / "last", checkpoint="last", folds=(1,))
    third = predicted(data, kept, tmp_path / "third", checkpoint="3", folds=(1,))
    np.testing.assert_array_equal(probabilities(last), probabilities(third))
    assert all("/last/" in path for path in last.meta["checkpoint"]) and last.meta["fold"] == [1]
    both = predicted(data, kept, tmp_path / "both", checkpoint="2:3", tta=None)  # the recipe's own views
    parts = [predictions.Predictions(str(tmp_path / "both" / f"fold_{fold}" / f"epoch-{epoch}"))
             for fold in (0, 1) for epoch in (2, 3)]
    assert {part.meta["tta"] for part in parts} == {"ten"}
    np.testing.assert_allclose(probabilities(both), np.mean([probabilities(part) for part in parts], axis=0), atol=2e-3)


def test_the_mean_of_the_weights_is_numpys(kept, tmp_path):
    paths = [str(kept / "fold_0" / "stage_2_all" / "kept" / f"epoch-{number}") for number in (1, 2, 3)]
    built = classifiers.build(NETWORK, 32, 3)
    weight_mean.load(paths, built, NETWORK, 32)
    readers = [tf.train.load_checkpoint(path) for path in paths]
    ours = tf.train.load_checkpoint(tf.train.Checkpoint(model=built.model, base=built.base, head=built.head).write(
        str(tmp_path / "mean")))
    names = [name for name in ours.get_variable_to_shape_map() if "VARIABLE_VALUE" in name and "save_counter" not in name]
    assert len(names) == len(built.model.weights)
    for name in names:
        np.testing.assert_allclose(ours.get_tensor(name), np.mean([reader.get_tensor(name) for reader in readers], axis=0),
                                   rtol=1e-6, atol=1e-7, err_msg=name)


def test_predictions_by_the_mean_of_the_weights(kept, data, tmp_path):
    told = predicted(data, kept, tmp_path / "p", checkpoint="1:2:3", average="weights", folds=(1,), tta="none")
    of_fold = predictions.Predictions(str(tmp_path / "p" / "fold_1")).meta
    assert of_fold["average"] == "weights" and len(of_fold["checkpoint"]) == 3
    # By hand: the weights' mean, and each BatchNorm's statistics as Keras moves them from one batch to the next.
    built = classifiers.build(NETWORK, 32, 3)
    weight_mean.load(of_fold["checkpoint"], built, NETWORK, 32)
    norms = [layer for layer in built.base.layers if isinstance(layer, tf.keras.layers.BatchNormalization)]
    for layer in norms:
        layer.momentum = 0.0
    pictures = inputs.TrainPictures(32, "eval", "", "short:36")
    part, seen = data.without_fold("train", 1), []
    for features, _ in inputs.train_batches(part, pictures, 4, seed=0).take(part.size // 4):
        built.model({"image": features["image"]}, training=True)
        seen.append([layer.get_weights() for layer in norms])
    for layer, *of_batches in zip(norms, *seen):
        layer.set_weights([np.mean(values, axis=0) for values in zip(*of_batches)])
    for batch in inputs.predict_batches(data.part("test"), 32, predict.tta.parse("none"), "short:36", 7):
        expected = tf.nn.softmax(built.model({"image": batch["image"][:, 0]}, training=False)).numpy()
    np.testing.assert_allclose(probabilities(told), expected, atol=2e-3)


@pytest.mark.parametrize("frozen", [False, True])
def test_batch_norms_statistics_are_the_plain_mean_over_batches(frozen, data):
    image = tf.keras.Input((32, 32, 3), name="image")
    norm = tf.keras.layers.BatchNormalization(trainable=not frozen)
    head = tf.keras.layers.Dense(3)
    model = tf.keras.Model({"image": image}, head(tf.keras.layers.GlobalAveragePooling2D()(norm(image))))
    built = classifiers.Classifier(model, tf.keras.Model(image, norm(image)), head)
    pictures = inputs.TrainPictures(32, "eval", "", "squash")
    weight_mean.estimate_batch_norm(built, data.part("train"), pictures, 5, strategies.make("none", [5]))
    batches = [features["image"].numpy().astype(np.float64)
               for features, _ in inputs.train_batches(data.part("train"), pictures, 5, seed=0).take(24 // 5)]
    mean = np.mean([batch.mean(axis=(0, 1, 2)) for batch in batches], axis=0)
    # As an estimate of the population's (TensorFlow's fused kernel divides by n − 1).
    variance = np.mean([batch.var(axis=(0, 1, 2), ddof=1) for batch in batches], axis=0)
    np.testing.assert_allclose(norm.moving_mean, np.zeros(3) if frozen else mean, rtol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, np.ones(3) if frozen else variance, rtol=1e-4)


@pytest.mark.parametrize("asked, told", [
    ({"checkpoint": "2:5:7"}, r"--checkpoint=2:5:7: .*fold_0/stage_2_all has not kept epoch 5, 7; kept: 1, 2, 3 \("),
    ({"checkpoint": "worst"}, "unknown --checkpoint 'worst'; known: best, last, numbers of epochs"),
    ({"checkpoint": "1:x"}, "--checkpoint=1:x: write numbers of epochs"),
    ({"tta": "ten", "size": 36}, "--tta=ten .*N above 36, not short:36"),
])
def test_mistakes_are_told_before_anything_is_predicted(asked, told, kept, data, tmp_path):
    with pytest.raises(UserError, match=told):
        predicted(data, kept, tmp_path / "p", **asked)
    assert not (tmp_path / "p").exists()


def test_weights_are_averaged_only_where_the_train_pictures_are(kept, data, tmp_path):
    records = shutil.copytree(data.directory, tmp_path / "records")
    manifest = json.loads((records / "dataset.json").read_text())
    manifest["shards"] = [shard for shard in manifest["shards"] if shard["split"] != "train"]
    (records / "dataset.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="--average=weights .* pictures of train, but .*records has no train"):
        predicted(dataset.load(str(records)), kept, tmp_path / "p", checkpoint="1:2", average="weights")


def test_what_is_kept_may_change_while_training_goes_on(kept, data):
    one = run(data, kept, stage(keep_epochs="1"))
    other = run(data, kept, stage(keep_epochs=""))
    assert one.identity() == other.identity()
