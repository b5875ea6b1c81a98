"""An export at work: JPEGs and places in, probabilities and answers out. Needs TensorFlow, and none of our networks."""

import dataclasses
from typing import Sequence

import numpy as np

from pipeline.answers import open_set_rules
from pipeline.errors import UserError
from pipeline.export import description as descriptions
from pipeline.export.description import UNKNOWN, Description


def unknown_probability(rule: open_set_rules.Rule, outside: np.ndarray) -> float:
    """What a rule gives 'unknown', 1 at most. Args: float [outside classes], their probabilities."""
    if rule.name == open_set_rules.THRESHOLD:
        return rule.parameter
    return float(outside.max(initial=0) if rule.name == open_set_rules.FIRST else min(rule.parameter * outside.sum(), 1))


@dataclasses.dataclass(frozen=True)
class Answer:
    """One of the best of a picture."""

    index: int                        # of the class, or UNKNOWN
    id: str
    name: str
    probability: float
    without_place: float              # probability where place and date are unknown
    answered: bool = True             # with several labels: whether it reaches the threshold


@dataclasses.dataclass(frozen=True)
class Answers:
    """Of one picture."""

    best: tuple[Answer, ...]
    first_without_place: str  # the name of the best where place and date are unknown


class Served:
    """An export that is loaded. Raises UserError where the folder is none, or can't be loaded."""

    def __init__(self, directory: str):
        self.told: Description = descriptions.read(directory)
        self._known = np.array([one.known for one in self.told.classes], bool)
        import tensorflow as tf  # late: a wrong folder is told at once

        try:
            self._model = tf.saved_model.load(directory)
            self._signature = self._model.signatures["serving_default"]
        except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
            raise UserError(f"--model: {directory} is damaged: {str(error).splitlines()[0]}") from None
        self._constant = tf.constant

    def answer(self, encoded: Sequence[bytes], places: np.ndarray) -> list[tuple[Answers, np.ndarray]]:
        """For each picture its answers and the probabilities of all classes, float32 [classes].

        Args: upright RGB JPEGs; float32 [n, 3], latitude and longitude in degrees and date as the fraction of the year, NaN
        where unknown.
        """
        latitude, longitude, date = (self._constant(column) for column in places.T.astype(np.float32))
        found = self._signature(image_bytes=self._constant(list(encoded)), latitude=latitude, longitude=longitude, date=date)
        values = {name: one.numpy() for name, one in found.items()}
        return [(self._of_one({name: one[row] for name, one in values.items()}), values["probabilities"][row])
                for row in range(len(encoded))]

    def _of_one(self, values: dict[str, np.ndarray]) -> Answers:
        without = values["probabilities_without_place"]
        answered = values.get("answered", np.ones(len(values["classes"]), bool))
        best = [Answer(int(index), self.told.id_of(index), self.told.name_of(index), float(score),
                       self._probability(without, int(index)), bool(reached))
                for index, score, reached in zip(values["classes"].tolist(), values["scores"], answered)]
        return Answers(tuple(best), self._first(without))

    def _probability(self, probabilities: np.ndarray, index: int) -> float:
        """Of a class, or of unknown by the rule that it is ranked by."""
        if index != UNKNOWN:
            return float(probabilities[index])
        return unknown_probability(open_set_rules.parse(self.told.open_set), probabilities[~self._known])

    def _first(self, probabilities: np.ndarray) -> str:
        """The name of the best answer."""
        best = int(np.where(self._known, probabilities, -1).argmax())
        if self.told.unknown_answer and self._probability(probabilities, UNKNOWN) > probabilities[best]:
            best = UNKNOWN
        return self.told.name_of(best)
