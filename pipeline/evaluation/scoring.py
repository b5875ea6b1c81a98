"""Scores of one prediction against the labels in examples.csv, in one pass."""

import dataclasses

import numpy as np
import pandas as pd

from pipeline.answers import open_set
from pipeline.answers.example_table import ExampleTable
from pipeline.metrics import log_space, single_label as metrics
from pipeline.progress import progress
from pipeline.records import dataset as datasets


OVER_IDS, OVER_ANSWERS = "map5_over_ids", "map5_over_answers"  # MAP@5 of the closed and of the open set
_NO_ANSWER = -2  # neither a class's index nor open_set.UNKNOWN


@dataclasses.dataclass(frozen=True)
class Scored:
    """What one prediction scores.

    Attributes:
      summary: name → score.
      hits: bool [labelled examples that were predicted], in the order of the table's labels: whether the first answer is
        the label.
    """

    summary: dict[str, float]
    hits: np.ndarray


def score(predicted, table: ExampleTable) -> Scored:
    """The task's own scores over the predicted examples whose label is known.

    In an open-set competition also open_set_first and open_set_sum, MAP@5 of the answers by each rule of open_set, and two
    keys that say what MAP@5 is over: map5_over_ids (map5: every class is an answer of its own) and map5_over_answers
    (open_set_first: what may be answered as itself, and one answer for all others).

    Args: `predicted` is a Blend, Predictions, or a layer of priors over one.
    """
    scores = table.data.task.new_scores(len(predicted.class_ids))
    answers = OpenSetScores(table.data) if table.data.manifest.unknown_answer else None
    hit_by_id: dict[str, bool] = {}
    with progress(len(predicted.ids), "score", "pictures") as bar:
        for ids, log_probabilities in predicted.chunks():
            labels = table.label_indices(ids)
            known = labels >= 0
            if known.any():
                ranks = scores.update(labels[known], log_probabilities[known])
                hit_by_id.update(zip((one for one, has in zip(ids, known) if has), ranks < 1))
                if answers:
                    answers.update(labels[known], log_probabilities[known])
            bar.update(len(ids))
    summary = scores.result()
    if answers:
        of_answers = answers.result()
        summary = {**summary, **of_answers, OVER_IDS: summary["map5"], OVER_ANSWERS: of_answers["open_set_first"]}
    return Scored(summary, np.array([hit_by_id[one] for one in table.labels if one in hit_by_id], bool))


def headings(data: datasets.Dataset) -> dict[str, str]:
    """What tables for people call the scores of an open set, by their keys in a summary; empty where the set is closed.

    The first is comparable with other closed-set figures (cross-validation, mostly), the second with a leaderboard.
    """
    if not data.manifest.unknown_answer:
        return {}
    known = np.array([one.known for one in data.manifest.classes])
    over_answers = f"MAP@5 over {open_set.count_answers(known):,} answers"
    return {OVER_IDS: f"MAP@5 over {len(known):,} ids", OVER_ANSWERS: over_answers,
            "open_set_sum": f"{over_answers} by sum"}


def told_once(frame: pd.DataFrame, data: datasets.Dataset) -> pd.DataFrame:
    """A table of summaries with the headings above, without the keys that say the same."""
    named = headings(data)
    return frame.drop(columns=["map5", "open_set_first"]).rename(columns=named) if named else frame


class OpenSetScores:
    """Accumulates MAP@5 where a class outside the known ones is to be answered by one common name."""

    def __init__(self, data: datasets.Dataset):
        self._known = np.array([one.known for one in data.manifest.classes])
        self._answers = min(5, open_set.count_answers(self._known))
        self._totals = {rule: 0.0 for rule in open_set.RULES}
        self._examples = 0

    def update(self, labels: np.ndarray, log_probabilities: np.ndarray) -> None:
        """int [n] class indices and float [n, classes]."""
        truth = np.where(self._known[labels], labels, open_set.UNKNOWN)
        self._examples += len(labels)
        for rule in self._totals:
            ranked = open_set.rank(log_probabilities, self._known, self._answers, rule)
            ranked[~log_space.rank_classes(log_probabilities)] = _NO_ANSWER
            self._totals[rule] += metrics.mean_average_precision(truth, ranked) * len(labels)

    def result(self) -> dict[str, float]:
        return {f"open_set_{rule}": total / self._examples for rule, total in self._totals.items()}
