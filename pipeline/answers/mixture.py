"""How several predictions are put together: what each weighs, and the temperature that it has of its own."""

import dataclasses
from typing import Optional, Sequence

import numpy as np

from pipeline.answers.temperature import Temper
from pipeline.tasks.task import Task


@dataclasses.dataclass(frozen=True, eq=False)
class Mixture:
    """The weights of a blend, and temperatures under them.

    Attributes:
      weights: float [members], or [examples, members] in the order of the first member's ids; each row sums to 1.
      temperatures: of each member, put on it before anything else; as `weights`. None: none has one.
      task: whose temperatures they are; None where there are none.
    """

    weights: np.ndarray
    temperatures: Optional[np.ndarray] = None
    task: Optional[Task] = None

    @classmethod
    def equal(cls, members: int) -> "Mixture":
        return cls(np.full(members, 1 / members))

    def among(self, chosen: Sequence[int]) -> "Mixture":
        """Of some of the members, whose weights sum to 1 without the others."""
        temperatures = None if self.temperatures is None else self.temperatures[..., chosen]
        return Mixture(self.weights[..., chosen], temperatures, self.task)

    def temper(self, member: int, logs: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Float32 log-probabilities [n, classes] of a member at these positions of the blend's ids, by its own temperature."""
        if self.temperatures is None:
            return logs
        return Temper(self.task, self.temperatures[..., member])(logs, positions)

    def temperature_of(self, member: int) -> float:
        """Of one temperature a member; 1: it has none."""
        return 1.0 if self.temperatures is None else float(self.temperatures[member])
