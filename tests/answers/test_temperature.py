"""The fitted temperature against scipy on the log loss itself, a known temperature, cross-fitting, and its place."""

import json

import numpy as np
import pytest
from scipy import optimize, special

from pipeline.answers import calibration, fusion, priors, temperature
from pipeline.answers.example_table import ExampleTable
from pipeline.errors import UserError
from pipeline.evaluation import ablation
from pipeline.records import dataset as datasets
from pipeline.tasks import registry as tasks
import raw_data
from predicted_data import make_dataset, random_logs, write_predictions

COUNT = 300


def sampled(folder, drawn_at, count=COUNT, seed=0, **options):
    """Data whose labels are drawn from softmax(logits / drawn_at), and a Blend that says softmax(logits)."""
    logs = random_logs(count, seed=seed, spread=2.5)
    random = np.random.default_rng(seed + 1)
    labels = [int(random.choice(3, p=row)) for row in special.softmax(logs / drawn_at, axis=1)]
    data = make_dataset(folder / "records", labels, **options)
    return data, fusion.Blend(fusion.find([write_predictions(folder / "model" / "val", data, logs)])), np.array(labels)


def whole(predicted):
    return np.concatenate([logs for _, logs in predicted.chunks()]).astype(np.float64)


def best(logs, labels):
    def loss(one):
        return -special.log_softmax(logs / one, axis=1)[np.arange(len(labels)), labels].mean()

    return optimize.minimize_scalar(loss, bounds=(1 / 8, 8), method="bounded", options={"xatol": 1e-6})


def on_all(blended, data):
    return temperature.fit(temperature.curves(blended, ExampleTable(data, "val")).without(None))


@pytest.mark.parametrize("drawn_at", [0.6, 1.0, 2.2])
def test_the_fitted_temperature_has_the_smallest_log_loss(tmp_path, drawn_at):
    data, blended, labels = sampled(tmp_path, drawn_at)
    expected = best(whole(blended), labels)
    assert on_all(blended, data) == pytest.approx(expected.x, rel=2e-3)
    data, blended, _ = sampled(tmp_path / "more", drawn_at, 6000)
    assert on_all(blended, data) == pytest.approx(drawn_at, rel=0.06)


def test_several_labels_are_tempered_each_by_itself(tmp_path):
    random = np.random.default_rng(0)
    logits = random.normal(size=(200, 4)) * 3
    truth = random.random((200, 4)) < special.expit(logits / 1.8)
    logs = special.log_expit(logits).astype(np.float16).astype(np.float32)
    lists = [np.flatnonzero(row).tolist() for row in truth]
    found = tasks.MULTI_LABEL.temper(logs, 1.8)
    np.testing.assert_allclose(np.exp(found), special.expit(logits / 1.8), atol=3e-3)
    expected = -np.where(truth, special.log_expit(logits / 1.8), special.log_expit(-logits / 1.8)).mean(axis=1)
    np.testing.assert_allclose(tasks.MULTI_LABEL.log_losses(found, lists), expected, atol=5e-3)
    assert np.isfinite(tasks.MULTI_LABEL.temper(np.float32([[0, -60_000]]), 2.0)).all()
    tempered = temperature.Temper(tasks.MULTI_LABEL, 2.5)
    assert tempered.probability(0.2) == pytest.approx(special.expit(special.logit(0.2) / 2.5))

    def loss(one):
        return tasks.MULTI_LABEL.log_losses(tasks.MULTI_LABEL.temper(logs, one), lists).sum()

    direct = optimize.minimize_scalar(loss, bounds=(1 / 8, 8), method="bounded").x
    assert temperature.fit(np.array([loss(one) for one in temperature.TEMPERATURES])) == pytest.approx(direct, rel=2e-3)


@pytest.mark.parametrize("folds", [0, 4])
@pytest.mark.parametrize("blend_text", ["equal", "oof"])
def test_no_picture_is_scored_by_a_temperature_that_its_group_had_a_part_in(tmp_path, folds, blend_text):
    data, first, labels = sampled(tmp_path, 2.0, folds=folds)
    other = write_predictions(tmp_path / "other" / "val", data, random_logs(COUNT, seed=7))
    members = [*first.members, *fusion.find([other])]

    def view(changed):
        return ablation.View(members, blend_text, ExampleTable(make_dataset(tmp_path / "changed", changed.tolist(), folds=folds),
                                                               "val"), ablation.FIT)

    before, groups = view(labels), ExampleTable(data, "val").groups(first.ids)
    mixed = np.where(groups == 2, (labels + 1) % 3, labels)
    after = view(mixed)
    np.testing.assert_array_equal(whole(before.blended)[groups == 2], whole(after.blended)[groups == 2])
    assert (whole(before.blended)[groups != 2] != whole(after.blended)[groups != 2]).any()
    if blend_text == "equal":
        for group, found in before.temperatures.by_group.items():
            assert found == pytest.approx(best(whole(before.picture)[groups != group], labels[groups != group]).x, rel=2e-3)
    np.testing.assert_array_equal(whole(before.blended).argmax(axis=1), whole(before.picture).argmax(axis=1))


def test_it_lies_on_the_blend_and_under_the_prior_correction(tmp_path):
    data, blended, _ = sampled(tmp_path, 2.0, train_counts=(200, 40, 6))
    tempered = fusion.Blend(blended.members, blended.mixture, temper=temperature.Temper(data.task, 2.0))
    found = whole(priors.Priors(priors.Request(prior_correction=1.0), data).correct(tempered))
    expected = special.log_softmax(whole(blended) / 2 - np.log([200, 40, 6]), axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_copies_and_groups_are_cross_fitted_together(tmp_path):
    data = make_dataset(tmp_path, [0] * 40)
    manifest = json.loads((tmp_path / "dataset.json").read_text())
    raw_data.write(tmp_path / "dataset.json", {**manifest, "duplicates": [["p0", "p1", "p2", "p3", "p4", "p5"]]})
    table = (tmp_path / "examples.csv").read_text().splitlines()
    lines = [f"{line},{'group' if index == 0 else 'one site' if index > 30 else ''}" for index, line in enumerate(table)]
    (tmp_path / "examples.csv").write_text("\n".join(lines) + "\n")
    again = ExampleTable(datasets.load(data.directory), "val")
    groups = again.groups(again.ids)
    assert len(set(groups[:6])) == 1 and len(set(groups[30:])) == 1 and len(set(groups)) == 5


@pytest.mark.parametrize("content, told", [
    ("{}", "format None"), ('{"format": 1}', "was not written by evaluate.py"), ("[1]", "format None")])
def test_a_file_that_is_none(tmp_path, content, told):
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(UserError, match=f"--calibration: .*c.json.*{told}"):
        calibration.read(str(tmp_path / "c.json"))
