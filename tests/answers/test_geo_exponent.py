"""The fitted exponent against scipy on the log loss itself, a known exponent, and cross-fitting."""

import numpy as np
import pytest
from scipy import optimize

from pipeline.answers import fusion, geo_exponent, priors
from pipeline.answers.example_table import ExampleTable
from predicted_data import StandInPrior, make_dataset, random_logs, random_places, write_predictions


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setattr(priors, "_load", lambda directory: StandInPrior(["100", "101", "102"]))


def sampled(folder, count, exponent, seed=0, **options):
    """Data whose labels are drawn from p(picture) · p(place)^exponent, and predictions p(picture) of it."""
    logs, places = random_logs(count, seed=seed), random_places(count, seed=seed)
    geo = StandInPrior(["100", "101", "102"]).log_probabilities(*np.nan_to_num(places).T)
    fused = np.where(np.isnan(places[:, :1]), logs, logs + exponent * geo)
    fused = np.exp(fused) / np.exp(fused).sum(axis=1, keepdims=True)
    rng = np.random.default_rng(seed + 1)
    labels = [int(rng.choice(3, p=row)) for row in fused]
    data = make_dataset(folder / "records", labels, places, **options)
    return data, fusion.Blend(fusion.find([write_predictions(folder / "model" / "val", data, logs)]))


def log_loss(exponent, data, blended, chosen=slice(None)):
    """In float64, of the chosen examples."""
    table = ExampleTable(data, "val")
    logs = np.concatenate([one for _, one in blended.chunks()]).astype(np.float64)
    places, labels = table.places(blended.ids), table.label_indices(blended.ids)
    geo = StandInPrior(data.class_ids).log_probabilities(*np.nan_to_num(places).T).astype(np.float64)
    fused = logs + np.where(np.isnan(places[:, :1]), 0, exponent * geo)
    losses = np.logaddexp.reduce(fused, axis=1) - fused[np.arange(len(labels)), labels]
    return losses[chosen].mean()


def fitter(data, layer=lambda predicted: predicted):
    return geo_exponent.Fitter(layer, priors.PlacePrior(StandInPrior(data.class_ids), data.class_ids, "geo", "here"), ExampleTable(data, "val"))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("drawn_with", [0.8, 2.5, 7.0])
def test_the_fitted_exponent_has_the_smallest_log_loss(tmp_path, seed, drawn_with):
    data, blended = sampled(tmp_path, 200, drawn_with, seed)
    best = optimize.minimize_scalar(log_loss, bounds=(0, 16), args=(data, blended), method="bounded")
    assert 0.1 < best.x < 15.9
    found = fitter(data).on_all(blended)
    assert found == pytest.approx(best.x, rel=0.01) and log_loss(found, data, blended) - best.fun < 5e-6


@pytest.mark.parametrize("exponent", [0.4, 1.3])
def test_it_finds_the_exponent_that_the_labels_were_drawn_with(tmp_path, exponent):
    data, blended = sampled(tmp_path, 8000, exponent)
    assert fitter(data).on_all(blended) == pytest.approx(exponent, abs=0.08)  # the standard error is 0.025


def test_a_misleading_prior_is_switched_off(tmp_path):
    data, blended = sampled(tmp_path, 400, -1.0)
    assert fitter(data).on_all(blended) == pytest.approx(0, abs=1e-3)


def test_nothing_to_fit_on_leaves_the_solutions_exponent(tmp_path):
    data = make_dataset(tmp_path / "records", [0, 1, 2])  # no places
    blended = fusion.Blend(fusion.find([write_predictions(tmp_path / "model" / "val", data, random_logs(3))]))
    assert fitter(data).on_all(blended) == 1.0


@pytest.mark.parametrize("folds", [0, 4])
def test_a_groups_labels_have_no_part_in_its_exponent(tmp_path, folds):
    data, blended = sampled(tmp_path, 60, 1.0, folds=folds)
    groups = ExampleTable(data, "val").groups(blended.ids)
    for group in np.unique(groups).tolist():
        expected = optimize.minimize_scalar(log_loss, bounds=(0, 16), args=(data, blended, groups != group),
                                            method="bounded").x
        assert fitter(data).without(group, blended) == pytest.approx(expected, abs=2e-3)
    on_all = fitter(data).on_all(blended)
    honest = np.mean([log_loss(fitter(data).without(group, blended), data, blended, groups == group)
                      for group in groups.tolist()])
    assert honest > log_loss(on_all, data, blended)  # scored where it was fitted it looks better than it is


def test_the_prior_correction_lies_below_the_fit(tmp_path):
    data, blended = sampled(tmp_path, 300, 0.9, train_counts=(100, 10, 1))
    ready = priors.Priors(priors.Request("geo", priors.FIT, 1.0), data)
    with_correction = fitter(data, ready.correct).on_all(blended)

    def loss(exponent):
        fused = ready.fuse(ready.correct(blended), ExampleTable(data, "val").places(blended.ids), exponent)
        logs = np.concatenate([one for _, one in fused.chunks()])
        return -logs[np.arange(300), ExampleTable(data, "val").label_indices(blended.ids)].mean()

    assert with_correction == pytest.approx(optimize.minimize_scalar(loss, bounds=(0, 16), method="bounded").x, abs=5e-3)
    assert abs(with_correction - fitter(data).on_all(blended)) > 0.01


def test_every_prediction_is_read_once(tmp_path, monkeypatch):
    data, blended = sampled(tmp_path, 30, 1.0)
    reads = []
    monkeypatch.setattr(geo_exponent, "curves", lambda *arguments: reads.append(1) or {0: np.zeros((2, 17))})
    fitting = fitter(data)
    assert [fitting.without(0, blended), fitting.without(1, blended), fitting.on_all(blended)] == [1.0] * 3
    assert len(reads) == 1
