"""Rules of the open set judged picture by picture, against open_set.rank and loops by the definition."""

import numpy as np
import pytest

from pipeline.answers import open_set, open_set_fit, open_set_rules
from pipeline.answers.open_set_fit import KNOWN, SEEN, UNSEEN
from pipeline.answers.open_set_rules import Rule

CLASSES, KNOWN_CLASSES = 24, 8  # the first are known


def logs_of(labels, seed=0, sure=2.5):
    """Log-probabilities of models that tend to be right where the label's column is trained."""
    logits = np.random.default_rng(seed).normal(size=(len(labels), CLASSES))
    logits[np.arange(len(labels)), labels] += sure
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


@pytest.fixture(scope="module")
def pictures():
    """Two folds that each leave out four of the sixteen outside classes, and one a known class; with their strangers."""
    rng, known = np.random.default_rng(3), np.arange(CLASSES) < KNOWN_CLASSES
    parts, told = [], []
    for fold, left_out in enumerate([(8, 9, 10, 11), (12, 13, 14, 15, 0)]):
        labels = rng.integers(0, CLASSES, 300)
        logs = logs_of(labels, seed=fold)
        strange = np.isin(labels, left_out)
        logs[strange] = logs_of(np.zeros(strange.sum(), int), seed=9, sure=0.0)
        parts.append(open_set_fit.of_fold(logs, labels, known, left_out))
        told += [(row, label, left_out) for row, label in zip(logs, labels.tolist())]
    return open_set_fit.joined(parts), told, known


def by_definition(row, label, left_out, known, rule):
    """(kind, reciprocal rank) of one picture."""
    answerable = known.copy()
    answerable[list(left_out)] = False
    answers = open_set.rank(row[np.newaxis], answerable, 5, rule)[0].tolist()
    truth = label if answerable[label] else open_set.UNKNOWN
    kind = KNOWN if answerable[label] else UNSEEN if label in left_out else SEEN
    return kind, 1 / (answers.index(truth) + 1) if truth in answers else 0.0


@pytest.mark.parametrize("text", ["first", "sum", "sum:3", "threshold:0.35"])
def test_each_picture_is_scored_as_it_would_be_answered(pictures, text):
    found, told, known = pictures
    expected = [by_definition(*one, known, text) for one in told]
    precisions = found.precisions(open_set_rules.parse(text))
    np.testing.assert_allclose(precisions, [score for _, score in expected])
    means = found.means(precisions)
    for kind in open_set_fit.KINDS:
        scores = [score for name, score in expected if name == kind]
        assert means[kind] == pytest.approx(np.mean(scores)) and found.counts()[kind] == len(scores)
    assert open_set_fit.mix(means, 0.25) == pytest.approx(0.25 * means[UNSEEN] + 0.75 * means[KNOWN])


def test_the_best_rule_is_chosen_and_expected_scores_are_of_individuals_that_it_was_not_fitted_on(pictures):
    found, _, _ = pictures
    fitted = open_set_fit.fit(found, 0.4)
    values = {rule: open_set_fit.mix(found.means(found.precisions(rule)), 0.4) for rule in open_set_fit.CANDIDATES}
    family = next(one for one in open_set_fit.FAMILIES if fitted.rule in one)
    assert values[fitted.rule] == pytest.approx(max(values[rule] for rule in family))
    assert values[fitted.rule] > values[Rule("first")]
    groups = open_set_fit._groups(found)
    for individual in np.unique(found.individuals):
        own = found.individuals == individual
        for kind in np.unique(found.kinds[own]) if individual else ():  # 0 is known to one fold and a stranger to the other
            assert len(np.unique(groups[own & (found.kinds == kind)])) == 1
    crossed = by_hand(found, groups, np.ones(len(groups), bool))
    assert fitted.expected == pytest.approx(open_set_fit.mix(found.means(crossed), 0.4))
    assert fitted.expected <= max(values.values()) + 1e-9


def mixture(found, precisions, rows):
    known, unseen = (rows & (found.kinds == open_set_fit.KINDS.index(kind)) for kind in (KNOWN, UNSEEN))
    return 0.6 * precisions[known].mean() + 0.4 * precisions[unseen].mean()


def best_parameter(found, family, rows):
    values = [mixture(found, found.precisions(rule), rows) for rule in family]
    equal = [rule for rule, value in zip(family, values) if value >= max(values) - 1e-9]
    return equal[len(equal) // 2]


def by_hand(found, groups, rows):
    """The precisions of all, each by the rule of the family that cross-fits best among the other groups."""
    scores = np.zeros(len(groups))
    for group in np.unique(groups):
        others = rows & (groups != group)
        values = []
        for family in open_set_fit.FAMILIES:
            crossed = np.zeros(len(groups))
            for inner in np.unique(groups[others]):
                rule = best_parameter(found, family, others & (groups != inner))
                crossed[groups == inner] = found.precisions(rule)[groups == inner]
            values.append(mixture(found, crossed, others))
        rule = best_parameter(found, open_set_fit.FAMILIES[int(np.argmax(values))], others)
        scores[groups == group] = found.precisions(rule)[groups == group]
    return scores


def test_without_strangers_there_is_nothing_to_mix():
    labels = np.random.default_rng(0).integers(0, CLASSES, 50)
    found = open_set_fit.of_fold(logs_of(labels), labels, np.arange(CLASSES) < KNOWN_CLASSES, ())
    means = found.means(found.precisions(Rule("first")))
    assert not found.has_strangers and means[UNSEEN] is None
    assert open_set_fit.mix(means, 0.3) is None and open_set_fit.mix(means, 0.0) == means[KNOWN]


def test_classes_that_no_training_had_are_unseen_wherever_they_are_predicted():
    labels = np.array([1, 9, 20])
    known = np.arange(CLASSES) < KNOWN_CLASSES
    found = open_set_fit.of_fold(logs_of(labels), labels, known, (), frozenset({20}))
    assert [open_set_fit.KINDS[one] for one in found.kinds] == [KNOWN, SEEN, UNSEEN]


@pytest.mark.parametrize("text", ["last", "threshold", "threshold:0", "threshold:1", "sum:0", "sum:nan", "first:2",
                                  "threshold:x"])
def test_what_is_no_rule_is_refused(text):
    with pytest.raises(ValueError, match="threshold:PROBABILITY"):
        open_set_rules.parse(text)


def test_rules_are_written_as_they_are_read():
    for text in ("first", "sum", "sum:2.828", "threshold:0.41"):
        assert str(open_set_rules.parse(text)) == text
