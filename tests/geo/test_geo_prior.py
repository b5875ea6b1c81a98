"""Encodings, network and predictions of the geo prior against formulas in NumPy."""

import json
import pathlib
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from dataset_tools.competitions import find
from pipeline.errors import UserError
from pipeline.geo import points as geo_points, prior as geo_prior, records as geo_records, training as geo_training
from pipeline.geo.points import Points
from pipeline.geo.runs import GeoRun
from geo_reference import encoding, log_probabilities
import tiny_places

NAN = float("nan")


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


class Trained(NamedTuple):
    """A finished run on the tiny competition."""

    model_dir: pathlib.Path
    class_ids: list
    date_input: bool

    def reference(self, latitude, longitude, date):
        return log_probabilities(self.model_dir, encoding(latitude, longitude, date if self.date_input else None))


@pytest.fixture(scope="module", params=[True, False], ids=["with dates", "without dates"])
def trained(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("geo")
    table = find("inat2021").read(str(tiny_places.write_inat2021(folder / "raw")))
    train, val = (geo_records.of(table.examples[table.examples["split"] == split]) for split in ("train", "val"))
    run = GeoRun(str(folder / "model"), photographers=True, date_input=request.param, embed_dim=16, batch_size=32,
                 lr=0.01, epochs=15, max_per_class=0)
    class_ids = [source_id for source_id, _ in table.classes]
    geo_training.run_training(run, class_ids, train, val)
    return Trained(folder / "model", class_ids, request.param)


@pytest.fixture
def prior(trained):
    return geo_prior.load(str(trained.model_dir))


def test_predictions_follow_the_definition(trained, prior):
    random = np.random.default_rng(1)
    places = random.uniform([[-90], [-180], [0]], [[90], [180], [1]], (3, 1030))  # more than one batch
    found = prior.log_probabilities(*places)
    assert found.dtype == np.float32 and found.shape == (1030, 3)
    np.testing.assert_allclose(found, trained.reference(*places), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, atol=1e-5)


def test_an_unknown_date_is_the_mean_over_the_year(trained, prior):
    latitude, longitude = np.array([50.0, -40, 7]), np.array([0.0, 0, 180])
    each = [np.exp(trained.reference(latitude, longitude, [(month + 0.5) / 12] * 3)) for month in range(12)]
    found = prior.log_probabilities(latitude, longitude, np.full(3, NAN))
    np.testing.assert_allclose(found, np.log(np.mean(each, axis=0)), rtol=1e-3, atol=1e-3)


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
    assert prior.class_ids == trained.class_ids == ["4", "30", "200"]
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
    record = json.loads((trained.model_dir / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="has not finished: run train_geo_prior.py"):
        geo_prior.load(str(tmp_path))
    (tmp_path / "run.json").write_text(json.dumps({**record, "program": "multi_stage_train.py"}))
    with pytest.raises(UserError, match="is a model directory of multi_stage_train.py, not of train_geo_prior.py"):
        geo_prior.load(str(tmp_path))
