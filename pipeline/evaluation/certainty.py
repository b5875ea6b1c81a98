"""How sure predictions are, and how often they are right: reliability, calibration error and log loss."""

import dataclasses
from typing import Any, Mapping, Optional

import numpy as np
import pandas as pd

from pipeline.answers.example_table import ExampleTable
from pipeline.metrics import calibration as metrics, intervals
from pipeline.progress import progress


@dataclasses.dataclass(frozen=True)
class Certainty:
    """Of the labelled examples of a prediction, in the order of the table's labels.

    Attributes:
      confidence: float32 [examples], the probability of the best class.
      hits: bool [examples], whether it is a label.
      losses: float64 [examples], see Task.log_losses.
    """

    confidence: np.ndarray
    hits: np.ndarray
    losses: np.ndarray

    def reliability(self) -> pd.DataFrame:
        return metrics.reliability(self.confidence, self.hits)


def measure(predicted, table: ExampleTable) -> Certainty:
    """In one pass; `predicted` is a Blend, or a layer of priors over one."""
    task = table.data.task
    found: dict[str, tuple[float, bool, float]] = {}
    with progress(len(predicted.ids), "calibration error", "pictures") as bar:
        for ids, logs in predicted.chunks():
            known = np.array([one in table.label_lists for one in ids])
            labels = [table.label_lists[one] for one in ids if one in table.label_lists]
            logs = task.temper(logs[known], 1.0)  # rounding to float16 has moved their sums
            hits = [answer in own for answer, own in zip(logs.argmax(axis=1).tolist(), labels)]
            confidence, losses = np.exp(logs.max(axis=1)), task.log_losses(logs, labels)
            found.update(zip((one for one in ids if one in table.label_lists), zip(confidence, hits, losses)))
            bar.update(len(ids))
    ordered = [found[one] for one in table.label_lists if one in found]
    confidence, hits, losses = zip(*ordered)
    return Certainty(np.array(confidence, np.float32), np.array(hits, bool), np.array(losses, np.float64))


def scores(measured: Mapping[str, Certainty], with_intervals: bool) -> dict[str, dict[str, Any]]:
    """For each line log_loss, ece (expected calibration error, of bins of equal mass) and bins, a list of rows.

    With intervals also ece_by_chance (metrics.error_by_chance), log_loss_interval and ece_interval, and of all lines but the first, over that one, log_loss_gain,
    ece_gain and their intervals (negative: it fell).
    """
    tables = {name: one.reliability() for name, one in measured.items()}
    found: dict[str, dict[str, Any]] = {
        name: {"log_loss": float(one.losses.mean()), "ece": metrics.expected_error(tables[name]),
               "bins": tables[name].to_dict("records")} for name, one in measured.items()}
    if not with_intervals:
        return found
    lines = list(measured.values())
    errors, losses = metrics.resampled_errors(*([getattr(one, what) for one in lines]
                                                for what in ("confidence", "hits", "losses")))
    first = next(iter(found.values()))
    for line, (of_line, one) in enumerate(zip(lines, found.values())):
        one["ece_by_chance"] = metrics.error_by_chance(of_line.confidence)
        for name, resampled in (("log_loss", losses), ("ece", errors)):
            one[f"{name}_interval"] = intervals.interval(resampled[:, line])
            if line:
                one[f"{name}_gain"] = one[name] - first[name]
                one[f"{name}_gain_interval"] = intervals.interval(resampled[:, line] - resampled[:, 0])
    return found


def bins(found: Mapping[str, Mapping[str, Any]]) -> dict[str, pd.DataFrame]:
    """By line of `scores` its reliability table."""
    return {name: pd.DataFrame(one["bins"]) for name, one in found.items()}


def frame(found: Mapping[str, Mapping[str, Any]]) -> Optional[pd.DataFrame]:
    """The table of `scores` for people, a row each line; None where there are no intervals: a sentence says it then."""
    if not all("ece_interval" in one for one in found.values()):
        return None
    shown = {}
    for line, one in found.items():
        row = {}
        for name, called in (("log_loss", "log loss"), ("ece", "calibration error")):
            row[called] = one[name]
            row[f"95 % of {called}"] = "{:.4f} to {:.4f}".format(*one[f"{name}_interval"])
            if len(found) > 1:
                gain = f"{name}_gain"
                row[f"change of {called}"] = ("{:+.4f} ({:+.4f} to {:+.4f})".format(one[gain], *one[f"{gain}_interval"])
                                              if gain in one else "")
        row["by chance"] = one["ece_by_chance"]
        shown[line] = row
    return pd.DataFrame.from_dict(shown, orient="index")
