"""From probabilities of species to those of genera, families and so on: the first rank at which one is probable enough."""

import dataclasses
from typing import Optional, Sequence

import numpy as np

from pipeline.errors import UserError, unknown
from pipeline.export.description import Description
from pipeline.records.schema import RANKS


@dataclasses.dataclass(frozen=True)
class Taxon:
    rank: str
    name: str
    probability: float


class RollUp:
    """Sums probabilities by taxonomy, from a rank upwards. Raises UserError where there is no taxonomy, no such rank, or
    classes don't exclude one another.

    Args:
      rank: the finest that is answered.
      least: probability that a taxon needs to be answered.
    """

    def __init__(self, told: Description, rank: str, least: float):
        ranks = _from_fine_to_coarse(told)
        if not ranks:
            raise UserError("--rank: the model's classes have no taxonomy (the records that it was trained on tell none)")
        if not told.exclusive:
            raise UserError("--rank is for one label a picture; this model answers several")
        if rank not in ranks:
            raise unknown("--rank", rank, ranks)
        self._least = least
        self._levels = [(one, *_groups(told, ranks[position:])) for position, one in enumerate(ranks)
                        if position >= ranks.index(rank)]

    def of(self, probabilities: np.ndarray) -> Optional[Taxon]:
        """The best taxon of the first rank that has one of at least that probability; None: no rank has. Args: [classes]."""
        for rank, names, groups in self._levels:
            sums = np.bincount(groups[groups >= 0], probabilities[groups >= 0], len(names))
            if len(sums) and sums.max() >= self._least:
                return Taxon(rank, names[int(sums.argmax())], float(sums.max()))
        return None


def _from_fine_to_coarse(told: Description) -> list[str]:
    """The ranks that some class tells."""
    return [rank for rank in reversed(RANKS) if any(one.taxonomy.get(rank) for one in told.classes)]


def _groups(told: Description, ranks: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """(the taxa of the first of these ranks; which of them each class belongs to, −1: none is known). The coarser ranks tell
    apart what has one name in two kingdoms."""
    keys = [tuple(one.taxonomy.get(rank) for rank in ranks) for one in told.classes]
    distinct = {key: index for index, key in enumerate(dict.fromkeys(key for key in keys if key[0]))}
    return [key[0] for key in distinct], np.array([distinct.get(key, -1) for key in keys])
