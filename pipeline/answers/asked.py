"""What a submission asks of the answers, whatever the task; each kind takes what is for it and refuses the rest."""

import dataclasses
from typing import Optional


@dataclasses.dataclass(frozen=True)
class Asked:
    """Of make_submission.py's flags those that say which answers a picture gets.

    Attributes:
      answers: that a row holds at most.
      open_set: the rule by which unknown classes rank, as open_set_rules.parse reads it.
      threshold: the least probability of an answer, where a picture has several labels; None: the fitted one.
      min_samples: there, what fewer train pictures have is not answered.
    """

    answers: int
    open_set: str = "first"
    threshold: Optional[float] = None
    min_samples: int = 0
