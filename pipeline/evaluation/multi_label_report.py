"""report.html where a picture has several labels: scores, F2 over the thresholds, the hardest labels, training curves."""

from typing import Mapping, Optional, Sequence

import numpy as np
import pandas as pd

from pipeline.answers import fusion, thresholds
from pipeline.evaluation import report
from pipeline.metrics import multi_label
from pipeline.records import dataset as datasets


def label_counts(predicted: fusion.Blend, labels: Mapping[str, Sequence[int]], threshold: float, allowed: np.ndarray,
                 ) -> np.ndarray:
    """int [3, classes]: how many of the labelled pictures have each label, are answered with it, and both."""
    counts = np.zeros((3, len(predicted.class_ids)), np.int64)
    for ids, log_probabilities in predicted.chunks():
        rows = multi_label.answers(thresholds.mask(log_probabilities, allowed), threshold)
        for one, answered in zip(ids, rows):
            if one in labels:
                counts[0, list(labels[one])] += 1
                counts[1, answered] += 1
                counts[2, sorted(set(answered).intersection(labels[one]))] += 1
    return counts


def label_table(counts: np.ndarray, data: datasets.Dataset) -> pd.DataFrame:
    """The labels that occur, the worst F2 first: label, in train, pictures, recall, precision, F2."""
    rows = []
    for one, (pictures, answered, hits) in zip(data.manifest.classes, counts.T.tolist()):
        if pictures:
            rows.append({"label": one.name, "in train": one.train_count, "pictures": pictures, "recall": hits / pictures,
                         "precision": hits / max(answered, 1), "F2": 5 * hits / (4 * pictures + answered)})
    return pd.DataFrame(rows).sort_values(["F2", "label"], kind="stable").reset_index(drop=True)


def _curve_drawing(curve: multi_label.ThresholdCurve, threshold: float) -> str:
    """F2, precision and recall over the thresholds, as inline SVG."""
    from matplotlib.figure import Figure  # not pyplot: no window system, no global state

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots()
    means = curve.means()
    for name in ("f2", "precision", "recall"):
        axes.plot(multi_label.THRESHOLDS, means[name], label=name)
    axes.axvline(threshold, color="0.5", linestyle=":", label=f"answered from {threshold:.2f}")
    axes.set(xlabel="threshold", ylabel="mean over pictures")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return report.drawing(figure)


def write(path: str, scores: Mapping[str, Mapping[str, float]], blended: fusion.Blend, curve: multi_label.ThresholdCurve,
          data: datasets.Dataset, allowed: np.ndarray, model_dirs: Sequence[str],
          threshold: Optional[float] = None, warnings: Sequence[str] = ()) -> None:
    """Writes the page.

    Args:
      scores: name → scores, a line of the first table each.
      blended: the predictions whose labels are listed; `curve` is theirs.
      allowed: bool [classes], the labels that may be answered.
      model_dirs: runs whose curves are drawn.
      threshold: that was given; None: it was fitted.
      warnings: what takes worth from the scores.
    """
    split = blended.meta["split"]
    answered_from = curve.best_threshold() if threshold is None else threshold
    counts = label_counts(blended, thresholds.labels_by_id(data, split), answered_from, allowed)
    lines = pd.DataFrame([{"predictions": name, **values} for name, values in scores.items()])
    report.write_page(path, data.manifest.competition, split, [
        f"<p class=note>{curve.examples} labelled pictures, {len(data.manifest.classes)} labels; f2, precision, recall and "
        f"labels (answers a picture) are {'cross-fitted' if threshold is None else f'at the threshold {threshold:g}'}</p>",
        *report.notes(warnings),
        "<h2>Scores</h2>", report.table(lines),
        "<h2>Thresholds</h2>", "<p class=note>on the pictures of the curve itself</p>", _curve_drawing(curve, answered_from),
        f"<h2>Hardest labels (at most {report.LISTED})</h2>",
        f"<p class=note>at the threshold {answered_from:.2f}</p>",
        report.table(label_table(counts, data).head(report.LISTED)),
        *report.training(model_dirs),
    ])
