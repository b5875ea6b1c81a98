"""The CSV that a competition accepts."""

import dataclasses
import re
from typing import Optional, Sequence

from dataset_tools import files
from pipeline.errors import UserError

_INTEGER = re.compile(r"-?[0-9]+")


@dataclasses.dataclass(frozen=True)
class SubmissionFormat:
    columns: tuple[str, ...]   # header: id and one column for all answers, or a column for each
    answers: int               # distinct answers in a row, best first
    at_least: int = 0          # where rows differ in their number of answers: the fewest; 0: all have `answers`
    separator: str = " "       # between the answers in one column

    def answers_for(self, num_classes: int) -> int:
        """A small competition may have fewer classes than a row has answers."""
        return min(self.answers, num_classes)

    def fields(self, answers: Sequence[str]) -> list[str]:
        """What stands behind the id in a row with these answers."""
        if len(self.columns) == 2:
            return [self.separator.join(answers)]
        return [*answers, *[""] * (len(self.columns) - 1 - len(answers))]


def _order(ids: Sequence[str]) -> list[int]:
    """Positions that sort `ids`: as numbers where all are integers, else as text."""
    numeric = all(_INTEGER.fullmatch(one) for one in ids)
    return sorted(range(len(ids)), key=lambda i: int(ids[i]) if numeric else ids[i])


def _check(path: str, ids: Sequence[str], answers: Sequence[Sequence[str]], least: int, most: int) -> None:
    if len(ids) != len(answers):
        raise UserError(f"{path}: {len(ids)} ids but answers for {len(answers)}")
    seen = set()
    for one, row in zip(ids, answers):
        if one in seen:
            raise UserError(f"{path}: id {one!r} stands twice among the answers")
        seen.add(one)
        if not least <= len(row) <= most or len(set(row)) != len(row):
            wanted = most if least == most else f"{least} to {most}"
            raise UserError(f"{path}: id {one!r} has {len(set(row))} distinct answers of {len(row)}, not {wanted}")


def write_submission(path: str, submission: SubmissionFormat, ids: Sequence[str],
                     answers: Sequence[Sequence[str]], num_classes: Optional[int] = None) -> None:
    """Writes one row per id, sorted by id, whole or not at all.

    Args:
      path: local or gs://.
      submission: header and number of answers.
      ids: the examples' ids, distinct, in any order.
      answers: per id the classes' source ids, best first, all distinct.
      num_classes: possible answers; where they are fewer than the answers of a row, a row has that many.

    Raises:
      UserError: a duplicated id, a row with too few, too many or duplicated answers, or a path that can't be written.
    """
    most = submission.answers if num_classes is None else submission.answers_for(num_classes)
    _check(path, ids, answers, submission.at_least or most, most)
    files.write_csv(path, submission.columns, ([ids[i], *submission.fields(answers[i])] for i in _order(ids)))
