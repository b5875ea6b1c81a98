"""MAP@5 over the answers by each rule, for known classes, strangers that training had and strangers that it had not, and
for a stated mixture of them."""

import dataclasses
from typing import Any, Callable, Optional, Sequence

import pandas as pd

from pipeline.answers import open_set_choice, open_set_fit, open_set_rules, predictions, ranking
from pipeline.answers.example_table import ExampleTable
from pipeline.evaluation.request import Request

_MIXTURE = "mixture"


@dataclasses.dataclass(frozen=True)
class OpenSet:
    """What an evaluation tells of an open set.

    Attributes:
      pictures: by kind (open_set_fit.KINDS).
      rules: name of the rule → kind or 'mixture' → MAP@5, None where there is no picture of it.
      fitted: the best rule, and what it is expected to score; None: no strangers were held out.
      share: of strangers in the mixture.
      answers: over how many.
    """

    pictures: dict[str, int]
    rules: dict[str, dict[str, Optional[float]]]
    fitted: Optional[open_set_fit.Fitted]
    share: float
    answers: int

    def to_json(self) -> dict[str, Any]:
        fitted = self.fitted and {"rule": str(self.fitted.rule), "expected": self.fitted.expected}
        return {"stranger_share": self.share, "answers": self.answers, "pictures": self.pictures, "rules": self.rules,
                "fit": fitted}

    def frame(self) -> pd.DataFrame:
        """For people, a row a rule."""
        table = pd.DataFrame.from_dict(self.rules, orient="index").astype(float)
        names = {kind: f"{kind} ({count:,})" for kind, count in self.pictures.items()}
        return table.rename(columns={**names, _MIXTURE: f"{self.share:.3g} unseen, else known"})

    @property
    def heading(self) -> str:
        return f"MAP@5 over {self.answers:,} answers, by who is asked about (pictures)"


def of(predicted, members: Sequence[predictions.Predictions], table: ExampleTable, request: Request,
       combine: Callable) -> Optional[OpenSet]:
    """The scores of `predicted`, which is made of `members`; None where the set is closed. Raises UserError.

    Args: combine: puts other predictions of the same models together as those.
    """
    if request.open_set:
        open_set_choice.check(request.open_set, table.data)
    if not table.data.manifest.unknown_answer:
        return None
    others = open_set_choice.of_strangers(members)
    pictures = open_set_fit.gather(predicted, table, others and combine(others), open_set_choice.seen_alike(members))
    rules = [open_set_rules.Rule(open_set_rules.FIRST), open_set_rules.Rule(open_set_rules.SUM, 1.0)]
    fitted = None
    if request.open_set == open_set_rules.FIT:
        fitted = open_set_choice.fit(pictures, request.stranger_share, members)
    elif request.open_set:
        rules.append(open_set_rules.parse(request.open_set))
    elif pictures.has_strangers and open_set_choice.is_unseen(members):
        fitted = open_set_choice.fit(pictures, request.stranger_share, members)
    means = {str(rule): pictures.means(pictures.precisions(rule)) for rule in rules}
    if fitted:
        means[f"fit: {fitted.rule} (cross-fitted)"] = fitted.means
    told = {name: {**one, _MIXTURE: open_set_fit.mix(one, request.stranger_share)} for name, one in means.items()}
    return OpenSet(pictures.counts(), told, fitted, request.stranger_share, ranking.count_answers(table.data))


def lines(found: OpenSet) -> list[str]:
    """What is to be said of it beside the table."""
    if found.fitted:
        return [f"open set: {found.fitted.told(found.answers)}"]
    if not found.pictures[open_set_fit.UNSEEN]:
        return ["open set: none of these pictures is of a class that the models have not seen; new ones will be answered "
                "worse: multi_stage_train.py --fold=all --hold_out_classes=0.2 tells how"]
    return []
