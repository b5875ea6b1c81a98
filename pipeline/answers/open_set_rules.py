"""By what rule 'unknown' is ranked among the known classes, as a flag says it. Free of NumPy."""

from typing import NamedTuple, Optional

FIRST, SUM, THRESHOLD = "first", "sum", "threshold"
FIT = "fit"                # the best of all, found where strangers were held out; see open_set_fit
FORMS = (FIRST, SUM, f"{SUM}:FACTOR", f"{THRESHOLD}:PROBABILITY")


class Rule(NamedTuple):
    """A rule of open_set; `parameter`: of sum a factor, of threshold a probability, of first none."""

    name: str
    parameter: Optional[float] = None

    def __str__(self) -> str:
        return self.name if self.parameter is None or self == Rule(SUM, 1.0) else f"{self.name}:{self.parameter:.4g}"


def parse(text: str) -> Rule:
    """The rule of first, sum, sum:2 or threshold:0.4. Raises ValueError for anything else."""
    name, _, number = text.partition(":")
    if text in (FIRST, SUM):
        return Rule(name, 1.0 if name == SUM else None)
    try:
        parameter = float(number)
    except ValueError:
        parameter = 0.0
    if name not in (SUM, THRESHOLD) or not 0 < parameter < (1 if name == THRESHOLD else float("inf")):
        raise ValueError(f"rule {text!r} is none of {', '.join(FORMS)} (a factor above 0, a probability between 0 and 1)")
    return Rule(name, parameter)
