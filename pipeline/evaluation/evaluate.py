"""Scores of predictions against the labels in examples.csv: what is scored, and by which kind of task."""

import dataclasses

from pipeline.answers import fusion
from pipeline.answers.example_table import ExampleTable
from pipeline.evaluation import by_kind
from pipeline.evaluation.request import Request
from pipeline.records import dataset as datasets
from pipeline.report import facts


def run_evaluation(data_dir: str, request: Request) -> None:
    """Prints the scores of the predictions' blend, of each, and of all but each; see the task's kind for what else.

    Writes JSON and a report if asked. Raises UserError for what the user can mend.
    """
    data = datasets.load(data_dir)
    members = fusion.find(request.predictions, data=data, split=request.split)
    table = ExampleTable.of(members[0], data)
    table.check(members[0])
    model_dirs = request.model_dirs or facts.that_exist(list(dict.fromkeys(
        one.meta["model_dir"] for one in members if not one.of_another_program)))
    by_kind.of(data.task).run(data, members, table, dataclasses.replace(request, model_dirs=model_dirs))
