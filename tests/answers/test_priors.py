"""Geo prior and prior correction against the formula in probabilities, written out in float64."""

import numpy as np
import pytest

from pipeline.answers import fusion, predictions, priors
from pipeline.answers.example_table import ExampleTable
from pipeline.errors import UserError
from predicted_data import StandInPrior, make_dataset, random_logs, random_places, write_predictions

COUNT = 40


@pytest.fixture
def stand_in(monkeypatch):
    """Has the geo prior be one of classes 100, 101, 102 in this order; assigned another, that one."""
    holder = {"prior": StandInPrior(["100", "101", "102"])}
    monkeypatch.setattr(priors, "_load", lambda directory: holder["prior"])
    return holder


@pytest.fixture
def case(tmp_path):
    """(data, blended predictions of it, their probabilities as they are on disk, places)."""
    places = random_places(COUNT)
    data = make_dataset(tmp_path / "records", [index % 3 for index in range(COUNT)], places, train_counts=(90, 9, 1))
    blended = fusion.Blend(fusion.find([write_predictions(tmp_path / "m" / "val", data, random_logs(COUNT))]))
    return data, blended, np.exp(whole(blended).astype(np.float64)), places


def whole(predicted):
    return np.concatenate([logs for _, logs in predicted.chunks()])


def place_probabilities(places, class_ids=("100", "101", "102")):
    return np.exp(StandInPrior(class_ids).log_probabilities(*places.T).astype(np.float64))


def normalized(scores):
    return scores / scores.sum(axis=1, keepdims=True)


def fused(data, blended, places, exponent=1.0, power=0.0):
    ready = priors.Priors(priors.Request("geo", exponent, power), data)
    return np.exp(whole(ready.fuse(ready.correct(blended), places, exponent)).astype(np.float64))


@pytest.mark.parametrize("exponent", [0.0, 0.37, 1.0, 3.0])
def test_geo_multiplies_where_there_is_a_place(stand_in, case, exponent):
    data, blended, picture, places = case
    placed = ~np.isnan(places[:, 0])
    assert 0 < placed.sum() < COUNT and np.isnan(places[placed, 2]).any()  # a place without a date counts
    result = fused(data, blended, places, exponent)
    expected = normalized(picture[placed] * place_probabilities(places[placed]) ** exponent)
    np.testing.assert_allclose(result[placed], expected, rtol=2e-5)
    np.testing.assert_array_equal(result[~placed], picture[~placed])


def test_the_place_of_each_picture_is_its_own_in_any_order_of_ids(stand_in, case, tmp_path):
    data, _, picture, places = case
    table = ExampleTable(data, "val")
    ids = [f"p{index}" for index in reversed(range(COUNT))]
    predictions.write(str(tmp_path / "other"), [(ids, np.log(picture[::-1]).astype(np.float32))],
                      {"examples": COUNT, "class_ids": data.class_ids, "split": "val"})
    blended = fusion.Blend(fusion.find([str(tmp_path / "other")]))
    np.testing.assert_allclose(table.places(ids), places[::-1])
    placed = ~np.isnan(places[:, 0])
    expected = np.where(placed[:, np.newaxis], normalized(picture * place_probabilities(np.nan_to_num(places))), picture)
    np.testing.assert_allclose(fused(data, blended, table.places(ids))[::-1], expected, rtol=2e-5)


def test_exponents_by_example(stand_in, case):
    data, blended, picture, places = case
    ready = priors.Priors(priors.Request("geo"), data)
    exponents = np.linspace(0, 2, COUNT)
    result = np.exp(whole(ready.fuse(blended, places, exponents)).astype(np.float64))
    placed = ~np.isnan(places[:, 0])
    expected = normalized(picture[placed] * place_probabilities(places[placed]) ** exponents[placed, np.newaxis])
    np.testing.assert_allclose(result[placed], expected, rtol=2e-5)


def test_classes_are_aligned_by_id(stand_in, case):
    data, blended, _, places = case
    expected = fused(data, blended, places)
    stand_in["prior"] = StandInPrior(["102", "7", "100", "101", "9"])  # another order, and some that nobody asked for
    np.testing.assert_allclose(fused(data, blended, places), expected, rtol=2e-5)
    stand_in["prior"] = StandInPrior(["100", "102"])
    with pytest.raises(UserError, match="--geo_prior: geo lacks the class 101"):
        fused(data, blended, places)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_prior_correction_divides_by_the_share_of_train(case, power):
    data, blended, picture, _ = case
    ready = priors.Priors(priors.Request(prior_correction=power), data)
    result = np.exp(whole(ready.correct(blended)).astype(np.float64))
    np.testing.assert_allclose(result, normalized(picture / np.array([0.9, 0.09, 0.01]) ** power), rtol=2e-5)


def test_both_multiply(stand_in, case):
    data, blended, picture, places = case
    result = fused(data, blended, places, exponent=0.5, power=1.0)
    geo = np.where(np.isnan(places[:, :1]), 1, place_probabilities(np.nan_to_num(places)) ** 0.5)
    np.testing.assert_allclose(result, normalized(picture / np.array([0.9, 0.09, 0.01]) * geo), rtol=2e-5)


def test_off_is_the_prediction_itself(case):
    data, blended, _, places = case
    ready = priors.Priors(priors.Request(), data)
    assert ready.fuse(ready.correct(blended), places, 1.0) is blended


def test_a_class_that_train_does_not_have_counts_as_the_smallest_that_it_has(case, tmp_path):
    data = make_dataset(tmp_path, [0], train_counts=(6, 0, 2))
    np.testing.assert_allclose(priors.log_class_prior(data), np.log([0.6, 0.2, 0.2]), rtol=1e-6)
    empty = make_dataset(tmp_path / "empty", [0], train_counts=(0, 0, 0))
    with pytest.raises(UserError, match="--prior_correction: .* counts no train pictures"):
        priors.Priors(priors.Request(prior_correction=1.0), empty).correct(case[1])


@pytest.mark.parametrize("chunk_values, lookup_rows", [(3, 1), (6, 7), (30, 4), (1000, 1000)])
def test_the_size_of_chunks_and_look_ups_changes_nothing(stand_in, case, monkeypatch, chunk_values, lookup_rows):
    data, blended, _, places = case
    expected = fused(data, blended, places)
    monkeypatch.setattr(predictions, "CHUNK_VALUES", chunk_values)
    monkeypatch.setattr(priors, "LOOKUP_ROWS", lookup_rows)
    np.testing.assert_array_equal(fused(data, blended, places), expected)


def test_no_place_at_all_and_a_score_of_zero(stand_in, case):
    data, blended, picture, places = case
    nowhere = np.full_like(places, np.nan)
    np.testing.assert_array_equal(fused(data, blended, nowhere), picture)

    class Zero(StandInPrior):
        def log_probabilities(self, *where):
            return np.where(np.arange(3) == 1, np.float32(-np.inf), super().log_probabilities(*where))

    stand_in["prior"] = Zero(["100", "101", "102"])
    result = fused(data, blended, places)
    placed = ~np.isnan(places[:, 0])
    assert np.isfinite(result).all() and (result[placed, 1] == 0).all()
