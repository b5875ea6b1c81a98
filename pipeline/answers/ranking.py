"""From probabilities to answers: the best classes of each picture."""

import numpy as np

from pipeline.answers import open_set
from pipeline.errors import UserError
from pipeline.metrics import log_space
from pipeline.progress import progress
from pipeline.records import dataset as datasets


def known_classes(data: datasets.Dataset) -> np.ndarray:
    """bool [classes]: which of them may be answered as themselves."""
    return np.array([one.known for one in data.manifest.classes], bool)


def count_answers(data: datasets.Dataset, rule: str = "first") -> int:
    """How many distinct answers a submission of this competition can hold by a rule of open_set."""
    return open_set.count_answers(known_classes(data), rule)


def answer_texts(data: datasets.Dataset, answers: np.ndarray) -> list[list[str]]:
    """The source ids of int [n, answers] class indices; open_set.UNKNOWN is the manifest's unknown_answer."""
    texts = [*data.class_ids, data.manifest.unknown_answer]  # so that UNKNOWN, -1, is the last
    return [[texts[index] for index in row] for row in answers.tolist()]


def best_classes(data: datasets.Dataset, predicted, answers: int,
                 rule: str = "first") -> tuple[list[str], list[list[str]]]:
    """(ids, for each the source ids of its `answers` best answers by open_set.rank).

    `predicted`, a Blend or a layer of priors over one, has the classes of `data`, in the same order.
    """
    ids: list[str] = []
    rows: list[list[str]] = []
    known = known_classes(data)
    with progress(len(predicted.ids), "rank", "pictures") as bar:
        for chunk_ids, log_probabilities in predicted.chunks():
            if not log_space.rank_classes(log_probabilities).all():  # a prior, say: what is read is checked
                raise UserError(f"{predicted.directory} with the priors on top gives answers that are NaN or infinite")
            ids += chunk_ids
            rows += answer_texts(data, open_set.rank(log_probabilities, known, answers, rule))
            bar.update(len(chunk_ids))
    return ids, rows


def most_frequent_classes(data: datasets.Dataset, answers: int, rule: str = "first") -> list[str]:
    """The best guess for a picture that can't be read: ranked as if counts in train were probabilities."""
    counts = np.array([[one.train_count for one in data.manifest.classes]], np.float64)
    with np.errstate(divide="ignore"):  # log 0
        shares = np.log(counts) - np.log(max(counts.sum(), 1))
        return answer_texts(data, open_set.rank(shares, known_classes(data), answers, rule))[0]


def missing_ids(data: datasets.Dataset, split: str, ids: list[str]) -> list[str]:
    """Pictures of a split that have shards but no prediction."""
    predicted = set(ids)
    return [one for one in data.examples(split)["id"] if one not in predicted]
