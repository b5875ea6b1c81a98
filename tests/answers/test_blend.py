"""Blend weights against a grid search and by hand."""

import json

import numpy as np
import pytest
from scipy import optimize, special, stats

from pipeline.answers import blend, fusion, predictions
from pipeline.answers.example_table import ExampleTable
from pipeline.answers.mixture import Mixture
from pipeline.errors import UserError
from pipeline.tasks import registry as tasks
from predicted_data import make_dataset, write_predictions
from raw_data import run_command


def log_loss(weights, label_probabilities):
    return -np.log(label_probabilities @ weights).mean()


def with_prior(weights, label_probabilities):
    """−log of the posterior under a Dirichlet prior that is worth twenty examples, but for a constant."""
    count, members = label_probabilities.shape
    return count * log_loss(weights, label_probabilities) - stats.dirichlet.logpdf(weights, np.full(members, 1 + 20 / members))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("count", (6, 400))
def test_fitted_weights_are_no_worse_than_a_grid(seed, count):
    rng = np.random.default_rng(seed)
    label_probabilities = rng.beta([2, 4, 1], [1, 2, 3], (count, 3))
    weights = blend.fit(label_probabilities)
    assert weights.sum() == pytest.approx(1) and (weights >= 0).all()
    grid = [np.array([a, b, 20 - a - b]) / 20 for a in range(1, 19) for b in range(1, 20 - a)]
    assert with_prior(weights, label_probabilities) <= min(with_prior(one, label_probabilities) for one in grid) + 1e-4


def test_a_member_that_knows_nothing_gets_what_is_given_before_anything_is_seen():
    rng = np.random.default_rng(0)
    good = rng.uniform(0.6, 1.0, 300)
    assert blend.fit(np.stack([good, np.zeros(300)], axis=1)) == pytest.approx([310 / 320, 10 / 320], rel=1e-4)


def test_few_pictures_leave_members_nearly_equal(tmp_path):
    """In either fold one member is right by luck, in the other the other one: who believes it is wrong in each."""
    right = np.zeros((40, 2), bool)
    right[np.arange(40), np.arange(40) % 2] = True  # examples of fold 0: by the first; of fold 1: by the second
    right[::5] = True
    sure = np.where(right[..., np.newaxis], [3.0, 0.0], [0.0, 3.0])
    data = make_dataset(tmp_path / "records", [0] * 40, train_counts=(20, 20), folds=2)
    members = written(tmp_path, data, (sure[:, 0], sure[:, 1]))
    table = ExampleTable.of(members[0], data)
    fitted = blend.for_scoring(members, "oof", table)
    least = 10 / (20 + 20)  # of twenty more examples half speak for who is wrong in all of a fold's
    assert all(least < one.weights[0] < 1 - least for one in fitted.by_group.values())
    told = run_command("evaluate.py", f"--data_dir={data.directory}", *(f"--predictions={one.directory}" for one in members),
                       "--blend=oof", f"--out={tmp_path}/scores.json")
    assert told.returncode == 0, told.stderr
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["log_loss"] < -np.log(least) and list(scores["weights"].values()) == pytest.approx([0.5, 0.5], abs=1e-3)


def written(folder, data, said, names=("shy", "bold")):
    """A member for each of `said`, logits [examples, classes]."""
    return [predictions.Predictions(write_predictions(folder / name / "val", data, special.log_softmax(one, axis=1)))
            for name, one in zip(names, said)]


@pytest.fixture
def two(tmp_path):
    """(data in three folds, the truth, what two members say: the better one three times too shy, the other too bold)."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 5, 300)
    better, worse = (rng.normal(0, spread, (300, 5)) + 3 * np.eye(5)[labels] for spread in (1.0, 2.0))
    data = make_dataset(tmp_path / "records", labels.tolist(), train_counts=(60,) * 5, folds=3)
    return data, labels, (better / 3, worse * 1.5)


def test_who_says_less_than_he_knows_is_not_left_out(two, tmp_path):
    """Temperatures and weights against scipy on the log loss, one member after the other."""
    data, labels, said = two
    (mixture,) = blend.fit_members(written(tmp_path, data, said), ExampleTable.of(written(tmp_path, data, said)[0], data))

    def truth(one, temperature):
        return special.softmax(one / temperature, axis=1)[np.arange(300), labels]

    prior = stats.norm(0, 0.5)  # of a temperature's logarithm
    best = [optimize.minimize_scalar(lambda at: -np.log(truth(one, at)).sum() - prior.logpdf(np.log(at)), bounds=(1 / 8, 8),
                                     method="bounded").x for one in said]
    assert best[0] < 0.5 and best[1] > 1.5
    assert mixture.temperatures == pytest.approx([best[0], 1], rel=5e-3)  # the blend is better off by what the bold one says
    tempered = np.stack([truth(one, own) for one, own in zip(said, mixture.temperatures)], axis=1)
    grid = np.linspace(0.01, 0.99, 99)
    best = grid[np.argmin([with_prior(np.array([weight, 1 - weight]), tempered) for weight in grid])]
    assert mixture.weights[0] == pytest.approx(best, abs=0.011)
    untempered = np.stack([truth(one, 1.0) for one in said], axis=1)
    assert mixture.weights[0] > blend.fit(untempered)[0] + 0.2


def test_a_blend_has_each_member_at_its_own_temperature(two, tmp_path):
    data, _, said = two
    members = written(tmp_path, data, said)
    table = ExampleTable.of(members[0], data)
    scoring = blend.for_scoring(members, "oof", table)
    groups = table.groups(members[0].ids)
    for mixture, rows in [(scoring.told, slice(None)), (scoring.scoring, groups == 1)]:
        own = mixture if mixture is scoring.told else scoring.by_group[1]
        expected = sum(weight * special.softmax(one[rows] / temperature, axis=1)
                       for weight, temperature, one in zip(own.weights, own.temperatures, said))
        found = np.concatenate([logs for _, logs in fusion.Blend(members, mixture).chunks()])[rows]
        np.testing.assert_allclose(np.exp(found), expected, atol=2e-3)


def test_cross_fitting_never_looks_at_its_own_group(two, tmp_path):
    data, labels, said = two
    members = written(tmp_path, data, said)
    groups = ExampleTable.of(members[0], data).groups(members[0].ids)
    changed = make_dataset(tmp_path / "changed", np.where(groups == 1, (labels + 1) % 5, labels).tolist(), train_counts=(60,) * 5,
                           folds=3)
    before, after = (blend.for_scoring(members, "oof", ExampleTable(one, "val")).by_group for one in (data, changed))
    assert set(before) == {0, 1, 2}
    for what in ("weights", "temperatures"):
        np.testing.assert_array_equal(getattr(before[1], what), getattr(after[1], what))
        assert (getattr(before[0], what) != getattr(after[0], what)).any()


def test_members_whose_classes_stand_in_another_order_are_fitted_by_name(two, tmp_path):
    data, _, said = two
    members, order = written(tmp_path, data, said), np.array([3, 0, 4, 1, 2])
    for name, one in zip(("shy", "bold"), said):
        write_predictions(tmp_path / "other" / name / "val", data, special.log_softmax(one, axis=1)[:, order],
                          class_ids=[data.class_ids[index] for index in order])
    others = [predictions.Predictions(str(tmp_path / "other" / name / "val")) for name in ("shy", "bold")]
    expected, *found = (blend.fit_members(some, ExampleTable(data, "val"))[0]
                        for some in (members, [members[0], others[1]], [others[0], members[1]]))
    for one in found:
        np.testing.assert_allclose(one.temperatures, expected.temperatures, rtol=1e-6)
        np.testing.assert_allclose(one.weights, expected.weights, rtol=1e-6)


def test_a_temperature_that_harms_the_blend_is_not_put_on(tmp_path):
    """Votes of a few neighbours: they say nothing of most classes, so that their own log loss wants them flat."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 20, 400)
    network = 2.0 * np.eye(20)[labels] + rng.normal(0, 1, (400, 20))
    votes = np.full((400, 20), 1e-3)
    votes[np.arange(400), np.where(rng.random(400) < 0.6, labels, rng.integers(0, 20, 400))] = 1.0
    data = make_dataset(tmp_path / "records", labels.tolist(), train_counts=(20,) * 20)
    members = written(tmp_path, data, (network, np.log(votes)))
    (mixture,) = blend.fit_members(members, ExampleTable(data, "val"))
    votes /= votes.sum(axis=1, keepdims=True)

    def best_loss(*temperatures):
        truth = np.stack([special.softmax(one / at, axis=1)[np.arange(400), labels]
                          for one, at in zip((network, np.log(votes)), temperatures)], axis=1)
        return log_loss(blend.fit(truth), truth)

    alone = optimize.minimize_scalar(lambda at: -special.log_softmax(np.log(votes) / at, axis=1)[np.arange(400), labels].mean(),
                                     bounds=(1 / 8, 8), method="bounded").x
    assert alone > 1.2 and mixture.temperatures[1] == 1
    assert best_loss(*mixture.temperatures) < best_loss(mixture.temperatures[0], alone) - 0.01


def test_one_member_alone_is_left_as_it_is(two, tmp_path):
    data, _, said = two
    members = written(tmp_path, data, said)[:1]
    told = blend.for_scoring(members, "oof", ExampleTable.of(members[0], data)).told
    assert told.weights.tolist() == [1.0] and told.temperatures is None


@pytest.mark.parametrize("text, weights", [("equal", [0.5, 0.5]), ("2:1", [2 / 3, 1 / 3]), ("0:5", [0, 1])])
def test_given_weights(text, weights):
    np.testing.assert_allclose(blend.parse(text, 2), weights)


@pytest.mark.parametrize("text", ["2:1:1", "two:one", "-1:2", "0:0", "nan:1", ""])
def test_weights_that_are_none(text):
    with pytest.raises(UserError, match="--blend"):
        blend.parse(text, 2)


def test_blended_predictions_equal_numpy(tmp_path):
    rng = np.random.default_rng(2)
    members = []
    for index in range(2):
        matrix = rng.dirichlet(np.ones(4), 6)
        predictions.write(str(tmp_path / str(index)), [(list("abcdef"), np.log(matrix))],
                          {"examples": 6, "class_ids": list("wxyz"), "split": "val"})
        members.append(matrix)
    opened = fusion.find([str(tmp_path / "*")])
    (_, logs), = fusion.Blend(opened, Mixture(np.array([0.25, 0.75]))).chunks()
    np.testing.assert_allclose(np.exp(logs), 0.25 * members[0] + 0.75 * members[1], rtol=3e-3)
    (_, logs), = fusion.Blend(opened, Mixture(np.array([0.0, 1.0]))).chunks()
    np.testing.assert_allclose(np.exp(logs), members[1], rtol=3e-3)
    labels = np.array([0, 1, 2, 3, 0, 1])
    powers = [one ** (1 / temperature) for one, temperature in zip(members, (0.5, 2.0))]
    for mixture, expected in ((None, members), (Mixture(np.full(2, 0.5), np.array([0.5, 2.0]), tasks.SINGLE_LABEL),
                                                [one / one.sum(axis=1, keepdims=True) for one in powers])):
        truth = fusion.Blend(opened, mixture).truth_probabilities(labels[1::2, np.newaxis], tasks.SINGLE_LABEL, np.arange(1, 6, 2))
        assert truth.shape == (3, 1, 2)
        np.testing.assert_allclose(truth[:, 0], np.stack([one[np.arange(6), labels] for one in expected], axis=1)[1::2], rtol=5e-3)
