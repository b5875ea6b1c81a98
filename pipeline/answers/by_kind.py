"""What becomes of predictions, by the kind of the task. A new kind that answers otherwise adds an entry."""

import dataclasses
from typing import Callable

from pipeline.answers import multi_label, single_label, thresholds
from pipeline.tasks import registry as tasks
from pipeline.tasks.task import Task, lookup


@dataclasses.dataclass(frozen=True)
class Answers:
    """The functions of one kind.

    Attributes:
      answer: (data, predicted, Asked) → (ids, the answers of each as source ids, those for a picture that can't be read).
      refresh: (directory of predictions, data): sees to what their meta.json keeps that is fitted.
    """

    answer: Callable
    refresh: Callable


BY_KIND = {
    tasks.SINGLE_LABEL.kind: Answers(single_label.answer, single_label.refresh),
    tasks.MULTI_LABEL.kind: Answers(multi_label.answer, thresholds.refresh),
}


def of(task: Task) -> Answers:
    return lookup(BY_KIND, task)
