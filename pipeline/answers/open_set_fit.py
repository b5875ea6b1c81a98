"""How well rules of open_set answer known classes, strangers that were seen in training, and strangers that were not; and
the rule that is best of a stated mixture.

Predictions of folds that leave classes out whole (--hold_out_classes) have all three. What a rule is expected to score is
told by cross-fitting over the classes: no individual is scored by a rule that was fitted on pictures of it.
"""

import dataclasses
import hashlib
import itertools
from typing import Callable, Iterator, Mapping, Optional, Sequence

import numpy as np

from pipeline.answers import open_set
from pipeline.answers.example_table import ExampleTable
from pipeline.answers.open_set_rules import FIRST, SUM, THRESHOLD, Rule
from pipeline.metrics import log_space
from pipeline.runs import strangers

KNOWN, SEEN, UNSEEN = KINDS = ("known", "seen strangers", "unseen strangers")
ANSWERS = 5   # of MAP@5
GROUPS = 5    # of individuals, to cross-fit by
# Rules that differ in their parameter; families are compared with one another, each at its best. (Another kind of rule, by
# the distance to neighbours say, is one more, and a column of open_set.Best.)
FAMILIES = ((Rule(FIRST),), (Rule(SUM, 1.0),), tuple(Rule(SUM, 2.0 ** (power / 2)) for power in range(-4, 11)),
            tuple(Rule(THRESHOLD, hundredths / 100) for hundredths in range(1, 100)))
CANDIDATES = tuple(rule for family in FAMILIES for rule in family)
_SLICES = tuple(slice(end - len(family), end) for family, end in zip(FAMILIES, itertools.accumulate(map(len, FAMILIES))))


@dataclasses.dataclass(frozen=True)
class Pictures:
    """What rules are judged by: of each of n labelled pictures

    Attributes:
      best: open_set.Best.
      truth: int64 [n], the class index that is right, or open_set.UNKNOWN.
      kinds: int64 [n], positions in KINDS.
      individuals: int64 [n], the class index of each.
    """

    best: open_set.Best
    truth: np.ndarray
    kinds: np.ndarray
    individuals: np.ndarray

    def counts(self) -> dict[str, int]:
        """How many pictures there are of each kind."""
        return dict(zip(KINDS, np.bincount(self.kinds, minlength=len(KINDS)).tolist()))

    def precisions(self, rule: Rule) -> np.ndarray:
        """float64 [n]: the reciprocal of the rank at which the truth is answered, 0 where it is not; their mean is MAP@5."""
        hits = self.best.answers(rule) == self.truth[:, np.newaxis]
        return np.where(hits.any(axis=1), 1 / (hits.argmax(axis=1) + 1), 0.0)

    def means(self, precisions: np.ndarray) -> dict[str, Optional[float]]:
        """MAP@5 of each kind; None where there is no picture of it."""
        return {name: float(precisions[self.kinds == kind].mean()) if (self.kinds == kind).any() else None
                for kind, name in enumerate(KINDS)}

    @property
    def has_strangers(self) -> bool:
        """Whether there are enough for a rule to be fitted: of two individuals that nobody has seen."""
        return len(np.unique(self.individuals[self.kinds == KINDS.index(UNSEEN)])) > 1


def mix(means: Mapping[str, Optional[float]], share: float) -> Optional[float]:
    """MAP@5 where `share` of the pictures are of unseen strangers and all others of known classes. (Of strangers that train
    has, no competition's test need hold any, and they are easier.) None where one of the two is not known."""
    parts = ((share, means[UNSEEN]), (1 - share, means[KNOWN]))
    if any(weight and one is None for weight, one in parts):
        return None
    return sum(weight * one for weight, one in parts if weight)


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The best rule.

    Attributes:
      rule: fitted on all pictures.
      means: of each kind, by rules that were fitted without the picture's individual, and so
      expected: their mixture.
      share: of unseen strangers in that.
    """

    rule: Rule
    means: dict[str, Optional[float]]
    expected: float
    share: float

    def told(self, answers: int) -> str:
        return (f"{self.rule}; expected MAP@5 over {answers:,} answers {self.expected:.4f} (cross-fitted over individuals) "
                f"where {self.share:.3g} of the pictures are of strangers (--stranger_share) and the others of "
                "known classes")


def fit(pictures: Pictures, share: float) -> Fitted:
    """The rule of CANDIDATES with the best mixture: of the family that is best by cross-fitting the parameter that is best.

    Pictures must have strangers (Pictures.has_strangers) and two known classes.
    """
    judged = _Judged(pictures, share)
    everything = np.ones(len(pictures.truth), bool)
    crossed = judged.crossed(everything, judged.choose)
    means = pictures.means(crossed)
    return Fitted(CANDIDATES[judged.choose(everything)], means, mix(means, share), share)


class _Judged:
    """The precisions of all candidates."""

    def __init__(self, pictures: Pictures, share: float):
        self._scores = np.stack([pictures.precisions(rule) for rule in CANDIDATES])
        self._known, self._unseen = (pictures.kinds == KINDS.index(kind) for kind in (KNOWN, UNSEEN))
        self._groups, self._share = _groups(pictures), share

    def choose(self, rows: np.ndarray) -> int:
        """The position of the candidate that is best of the pictures `rows`, bool [n]."""
        values = []
        for family in _SLICES:
            crossed = self.crossed(rows, lambda others, family=family: self._best_of(family, others))
            values.append(self._mixture(crossed, rows))
        return self._best_of(_SLICES[int(np.argmax(values))], rows)

    def crossed(self, rows: np.ndarray, choose: Callable[[np.ndarray], int]) -> np.ndarray:
        """float64 [n]: the precision of each of the pictures `rows` by what `choose` takes by the other groups' pictures."""
        found = np.zeros(len(rows))
        for group in range(GROUPS):
            inside, others = rows & (self._groups == group), rows & (self._groups != group)
            if inside.any():
                found[inside] = self._scores[choose(others), inside]
        return found

    def _best_of(self, family: slice, rows: np.ndarray) -> int:
        """Of equal candidates, which stand together, the middle one."""
        values = self._mixture(self._scores[family], rows)
        equal = np.flatnonzero(values >= values.max() - 1e-9)
        return family.start + int(equal[len(equal) // 2])

    def _mixture(self, precisions: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Of float [..., n] over the pictures `rows`; kinds that have none of them count for nothing."""
        parts = [(self._share, self._unseen & rows), (1 - self._share, self._known & rows)]
        return sum(weight * precisions[..., chosen].mean(axis=-1) for weight, chosen in parts if chosen.any())


def _groups(pictures: Pictures) -> np.ndarray:
    """int64 [n]: individuals dealt out in an order that says nothing, unseen strangers by themselves, so that each group
    has as many."""
    found = np.zeros(len(pictures.truth), np.int64)
    for chosen in (pictures.kinds == KINDS.index(UNSEEN), pictures.kinds != KINDS.index(UNSEEN)):
        classes, which = np.unique(pictures.individuals[chosen], return_inverse=True)
        order = sorted(range(len(classes)), key=lambda one: hashlib.blake2b(str(classes[one]).encode()).digest())
        group_of = np.empty(len(classes), np.int64)
        group_of[order] = np.arange(len(classes)) % GROUPS
        found[chosen] = group_of[which]
    return found


def gather(predicted, table: ExampleTable, others=None, told: Optional[Mapping] = None) -> Pictures:
    """The labelled pictures of predictions.

    Args:
      predicted: a Blend or a layer of priors over one, of pictures of `table`.
      table: ExampleTable.of these predictions.
      others: the same models' of the strangers that other folds hold out (predictions.STRANGERS); None: there are none.
      told: "seen" of their meta.json.
    """
    ids = table.data.class_ids
    left_out = strangers.read(told, ids)
    counts = (told or {}).get("class_counts")
    untrained = frozenset(np.flatnonzero(np.array(counts) == 0).tolist() if counts else ())
    parts = list(_of_chunks(predicted, table, lambda one_ids, labels: table.folds_of(one_ids), left_out, untrained))
    if others is not None:
        first = strangers.first_folds(left_out)
        parts += _of_chunks(others, table, lambda _, labels: np.array([first.get(one, -1) for one in labels]), left_out,
                            untrained)
    return joined(parts)


def _of_chunks(predicted, table: ExampleTable, fold_of, left_out: Mapping[int, Sequence[int]], untrained: frozenset[int],
               ) -> Iterator[Pictures]:
    known = np.array([one.known for one in table.data.manifest.classes], bool)
    for ids, logs in predicted.chunks():
        labels = table.classes_of(ids)
        folds = fold_of(ids, labels)
        usable = (labels >= 0) & log_space.rank_classes(logs)
        for fold in np.unique(folds[usable]).tolist():  # what may be answered is another matter to each
            rows = np.flatnonzero(usable & (folds == fold))
            yield of_fold(logs[rows], labels[rows], known, left_out.get(fold, ()), untrained)


def of_fold(logs: np.ndarray, labels: np.ndarray, known: np.ndarray, left_out: Sequence[int],
            untrained: frozenset[int] = frozenset()) -> Pictures:
    """Pictures that one model answers.

    Args:
      logs: float [n, classes]; labels: int [n]; known: bool [classes].
      left_out: the classes that the model was trained without: known ones among them are unknown to it.
      untrained: classes without a picture in any training.
    """
    answerable = known.copy()
    answerable[list(left_out)] = False
    truth = np.where(answerable[labels], labels, open_set.UNKNOWN)
    unseen = np.isin(labels, [*left_out, *untrained]) & (truth == open_set.UNKNOWN)
    kinds = np.where(unseen, KINDS.index(UNSEEN), np.where(truth == open_set.UNKNOWN, KINDS.index(SEEN), KINDS.index(KNOWN)))
    return Pictures(open_set.Best.of(logs, answerable, ANSWERS), truth, kinds, labels)


def joined(parts: Sequence[Pictures]) -> Pictures:
    """All of them; there must be one part at least."""
    return Pictures(open_set.Best.joined([one.best for one in parts]), *(
        np.concatenate([getattr(one, name) for one in parts]) for name in ("truth", "kinds", "individuals")))
