"""Encodings, network and predictions of the geo prior against formulas in NumPy."""

import json

import numpy as np
import pytest
import tensorflow as tf

from dataset_tools.competitions import find
from pipeline import geo_points, geo_prior, geo_records, geo_training
from pipeline.errors import UserError
from pipeline.geo_points import Points
from pipeline.geo_runs import GeoRun
import tiny_places

NAN = float("nan")


def encoding(latitude, longitude, date=None):
    """sin and cos of π·x, float64 [n, 4 or 6]."""
    columns = [np.asarray(longitude, float) / 180, np.asarray(latitude, float) / 90]
    if date is not None:
        columns.append(2 * np.asarray(date, float) - 1)
    return np.stack([f(np.pi * x) for x in columns for f in (np.sin, np.cos)], axis=1)


def forward(weight, inputs):
    """Logits by the network's definition; weight(name) gives its arrays."""
    def dense(name, x):
        return x @ weight(f"{name}/kernel") + weight(f"{name}/bias")

    x = np.maximum(dense("first", inputs), 0)
    for block in range(4):
        x = x + np.maximum(dense(f"blocks/{block}/1", np.maximum(dense(f"blocks/{block}/0", x), 0)), 0)
    return x @ weight("classes/kernel")


def checkpointed(model_dir):
    """Arrays of a model directory by TensorFlow's own reader."""
    reader = tf.train.load_checkpoint(str(model_dir / "last"))
    return lambda name: reader.get_tensor(f"network/{name}/.ATTRIBUTES/VARIABLE_VALUE").astype(np.float64)


def log_probabilities(logits):
    scores = 1 / (1 + np.exp(-logits))
    return np.log(scores / scores.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("date_input", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_encoding(date_input, compiled):
    random = np.random.default_rng(0)
    places = random.uniform([[-90], [-180], [0]], [[90], [180], [1]], (3, 50)).astype(np.float32)
    function = tf.function(geo_points.encode) if compiled else geo_points.encode
    found = function(Points(*places), date_input)
    assert found.shape == (50, geo_points.encoded_width(date_input)) and found.dtype == tf.float32
    np.testing.assert_allclose(found, encoding(*places[:2], places[2] if date_input else None), atol=2e-6)


@pytest.mark.parametrize("one, other", [
    ((12.0, 180.0, 0.3), (12.0, -180.0, 0.3)),      # the date line
    ((12.0, 77.0, 0.0), (12.0, 77.0, 1.0)),         # the year's end
    ((12.0, 179.9999, 0.99999), (12.0, -179.9999, 0.00001)),
])
def test_what_is_one_place_and_date_has_one_encoding(one, other):
    first, second = (geo_points.encode(Points(*(tf.constant([x]) for x in where)), True) for where in (one, other))
    np.testing.assert_allclose(first, second, atol=2e-4)


def test_known_points():
    here = Points(*(tf.constant([x]) for x in (45.0, -90.0, 0.75)))
    np.testing.assert_allclose(geo_points.encode(here, True), [[-1, 0, 1, 0, 1, 0]], atol=1e-6)


@pytest.fixture(scope="module", params=[True, False], ids=["with dates", "without dates"])
def trained(request, tmp_path_factory):
    """(model directory, class ids) of a prior of the tiny competition, trained with photographers."""
    folder = tmp_path_factory.mktemp("geo")
    table = find("inat2021").read(str(tiny_places.write_inat2021(folder / "raw")))
    train, val = (geo_records.of(table.examples[table.examples["split"] == split]) for split in ("train", "val"))
    run = GeoRun(str(folder / "model"), photographers=True, date_input=request.param, embed_dim=16, batch_size=32,
                 lr=0.01, epochs=15, max_per_class=0)
    class_ids = [source_id for source_id, _ in table.classes]
    geo_training.run_training(run, class_ids, train, val)
    return folder / "model", class_ids


@pytest.fixture
def prior(trained):
    return geo_prior.load(str(trained[0]))


def test_predictions_follow_the_definition(trained, prior):
    random = np.random.default_rng(1)
    places = random.uniform([[-90], [-180], [0]], [[90], [180], [1]], (3, 1030))  # more than one batch
    with_date = "dates" in trained[0].name or json.loads((trained[0] / "run.json").read_text())["same"]["date_input"]
    found = prior.log_probabilities(*places)
    assert found.dtype == np.float32 and found.shape == (1030, 3)
    expected = log_probabilities(forward(checkpointed(trained[0]), encoding(*places[:2], places[2] if with_date else None)))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, atol=1e-5)


def test_an_unknown_date_is_the_mean_over_the_year(trained, prior):
    latitude, longitude, nowhen = np.array([50.0, -40, 7]), np.array([0.0, 0, 180]), np.full(3, NAN)
    if json.loads((trained[0] / "run.json").read_text())["same"]["date_input"]:
        each = [log_probabilities(forward(checkpointed(trained[0]), encoding(latitude, longitude, [(k + 0.5) / 12] * 3)))
                for k in range(12)]
        expected = np.log(np.mean(np.exp(each), axis=0))
    else:
        expected = log_probabilities(forward(checkpointed(trained[0]), encoding(latitude, longitude)))
    np.testing.assert_allclose(prior.log_probabilities(latitude, longitude, nowhen), expected, rtol=1e-3, atol=1e-3)


def test_without_a_place_every_class_is_equally_likely(prior):
    found = prior.log_probabilities(np.array([NAN, 50, 3]), np.array([0, NAN, 4]), np.array([0.5, 0.5, 0.5]))
    np.testing.assert_allclose(found[:2], -np.log(3), rtol=1e-6)
    assert not np.allclose(found[2], -np.log(3))
    assert prior.log_probabilities(*[np.empty(0)] * 3).shape == (0, 3)


def test_a_rows_prediction_depends_on_no_other_row(prior):
    places = np.array([[50.0, -40, NAN, 10], [0.0, 10, 20, -180], [0.5, NAN, 0.1, 0.9]])
    together = prior.log_probabilities(*places)
    for row in range(4):
        np.testing.assert_allclose(prior.log_probabilities(*places[:, row:row + 1])[0], together[row], rtol=1e-5)


def test_classes_are_in_the_order_of_their_ids(trained, prior):
    assert prior.class_ids == trained[1] == ["4", "30", "200"]
    for category, centre in tiny_places.CENTRES.items():
        found = prior.log_probabilities(*(np.array([x]) for x in centre))
        assert prior.class_ids[int(found.argmax())] == str(category)


def test_scores_far_from_0_stay_finite():
    """Sigmoids of −300 are 0 in float32; their logarithms are not −inf."""
    network = geo_prior.GeoNetwork(3, 8, True)
    network.classes.kernel.assign(tf.fill([8, 3], -200.0) * tf.constant([1.0, 1.0, 2.0]))
    logit = network.logits(Points(*tf.fill([3, 1], 0.7))).numpy()[0]
    assert logit[0] < -300
    found = geo_prior.GeoPrior(network, "abc").log_probabilities(*np.full((3, 1), 0.7))
    # Of two equal ones and a much smaller one: 1/2, 1/2, exp(difference)/2.
    np.testing.assert_allclose(found[0], -np.log(2) + np.array([0, 0, logit[2] - logit[0]]), rtol=1e-4)


def test_what_can_not_be_loaded_is_told(trained, tmp_path):
    with pytest.raises(UserError, match="no model directory of train_geo_prior.py: it has no run.json"):
        geo_prior.load(str(tmp_path))
    record = json.loads((trained[0] / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="has not finished: run train_geo_prior.py"):
        geo_prior.load(str(tmp_path))
    (tmp_path / "run.json").write_text(json.dumps({**record, "program": "multi_stage_train.py"}))
    with pytest.raises(UserError, match="is a model directory of multi_stage_train.py, not of train_geo_prior.py"):
        geo_prior.load(str(tmp_path))
