"""The class of which every kind of task is one object; what a room needs beyond it stands in its own table by kind."""

from typing import Any, Mapping, Sequence, TypeVar, Union

import numpy as np

INDEX, MANY_HOT = "index", "many_hot"    # label encodings: int64, −1 where unknown; float32 [classes], 1 at each label
ARCFACE = "arcface"  # the loss that wants a head of its own
SOFTMAX, SIGMOID = "softmax", "sigmoid"  # activations: of classes that exclude each other; of each label by itself

Entry = TypeVar("Entry")


class Task:
    """What is learnt and told of a picture. Imports no TensorFlow, so that commands know it before they pay for that.

    Attributes:
      kind: its name in dataset.json.
      labels: how many a picture has, in words, for messages.
      encoding: INDEX or MANY_HOT: what the step sees of the labels.
      activation: what makes probabilities of logits; predictions' meta.json has it.
      losses: that can learn it, the default first.
      monitors: scores that a checkpoint may be chosen by, the default first.
    """

    kind: str
    labels: str
    encoding: str
    activation: str
    losses: tuple[str, ...]
    monitors: tuple[str, ...]

    @property
    def exclusive(self) -> bool:
        """Whether one class alone is right: only then has a class a prior, and balance, correction and places a meaning."""
        return self.encoding == INDEX

    def new_scores(self, classes: int) -> Any:
        """An empty accumulator of the task's scores, as evaluation's table of this kind fills it chunk by chunk."""
        raise NotImplementedError

    def truth_probabilities(self, log_probabilities: np.ndarray, labels: Sequence[Sequence[int]]) -> np.ndarray:
        """What predictions give to the truth: float64 [n, parts], of each picture in one part or in several.

        A blend's weights minimize the mean of −log of its own; a blend gives to each part the blend of what its members do.

        Args: float [n, classes], natural logarithms; the class indices of each picture, at least one.
        """
        raise NotImplementedError

    def temper(self, log_probabilities: np.ndarray, temperature: Union[float, np.ndarray]) -> np.ndarray:
        """Log-probabilities [n, classes] of the logits divided by a temperature, one or [n, 1]; above 1 they are less sure.

        (Guo et al. 2017.) What a picture's best class is stays as it was. float32 stays float32.
        """
        raise NotImplementedError

    def log_losses(self, log_probabilities: np.ndarray, labels: Sequence[Sequence[int]]) -> np.ndarray:
        """What temperatures make small: float64 [n], −log of what is given to the truth, or the mean of that over its parts.

        Args: as `truth_probabilities`, which underflows where this does not.
        """
        raise NotImplementedError


def lookup(table: Mapping[str, Entry], task: Task) -> Entry:
    """The entry of a room's table for a task's kind, or of the nearest kind that its class inherits from.

    So a new kind writes only what is different about it. Raises KeyError where neither has one.
    """
    kinds = [vars(one)["kind"] for one in type(task).__mro__ if "kind" in vars(one)]
    for kind in kinds:
        if kind in table:
            return table[kind]
    raise KeyError(f"no entry for a task of kind {' or '.join(kinds)}")
