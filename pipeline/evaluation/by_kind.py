"""How predictions are scored, by the kind of the task. A new kind that is scored otherwise adds an entry."""

import dataclasses
from typing import Callable

from pipeline.evaluation import multi_label, single_label
from pipeline.tasks import registry as tasks
from pipeline.tasks.task import Task, lookup


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The functions of one kind.

    Attributes:
      run: (data, members, their ExampleTable, Request): prints, and writes what was asked for.
      fold_scores: (predictions, data) → name → score, the columns of the folds' table.
      below_folds: (predictions, data) → lines that stand below it.
    """

    run: Callable
    fold_scores: Callable
    below_folds: Callable = lambda predicted, data: []


BY_KIND = {
    tasks.SINGLE_LABEL.kind: Evaluation(single_label.run, single_label.fold_scores, single_label.below_folds),
    tasks.MULTI_LABEL.kind: Evaluation(multi_label.run, multi_label.fold_scores),
}


def of(task: Task) -> Evaluation:
    return lookup(BY_KIND, task)
