"""The kinds of tasks by name. A new one: a class like those beside this file, and `register`."""

from typing import Optional

from pipeline.errors import unknown
from pipeline.tasks.multi_label import MultiLabel
from pipeline.tasks.single_label import SingleLabel
from pipeline.tasks.task import Task

_TASKS: dict[str, Task] = {}


def register(task: Task) -> Task:
    """Adds a kind; raises ValueError where another has its name."""
    if task.kind in _TASKS:
        raise ValueError(f"there is a task of kind {task.kind} already")
    _TASKS[task.kind] = task
    return task


SINGLE_LABEL = register(SingleLabel())
MULTI_LABEL = register(MultiLabel())


def find(kind: str, where: str = "") -> Task:
    """The task of a kind; raises UserError that lists the known ones, and names `where` it stands."""
    if kind not in _TASKS:
        raise unknown(f"task in {where}:" if where else "task", kind, _TASKS)
    return _TASKS[kind]


def of_loss(loss: Optional[str]) -> Task:
    """The first kind that a loss is for, where no data tells the kind; single label where no loss is given.

    Raises UserError for a loss of no kind.
    """
    if loss is None:
        return SINGLE_LABEL
    for task in _TASKS.values():
        if loss in task.losses:
            return task
    raise unknown("loss", loss, losses())


def losses() -> list[str]:
    """Those of all kinds of tasks."""
    return sorted({name for task in _TASKS.values() for name in task.losses})


def monitors() -> list[str]:
    """Those of all kinds of tasks."""
    return sorted({name for task in _TASKS.values() for name in task.monitors})
