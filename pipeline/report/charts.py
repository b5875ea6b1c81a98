"""The drawings of a page."""

from typing import Any, Mapping, Sequence

import numpy as np
import pandas as pd

from pipeline.metrics import multi_label
from pipeline.report import figures
from pipeline.report.elements import Figures, Note, Section

_SIZES = 8  # groups of classes, by how many train pictures they have
_CROWD = 2000  # points that are drawn as pixels


def steps(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Top-1 of each step on top of the pictures, with its interval; `found` is evaluation's ablation table."""
    figure, axes = figures.new(height=0.9 + 0.42 * len(found))
    values = [one["top1"] for one in found.values()]
    reach = np.abs(np.array([one["top1_interval"] for one in found.values()]).T - values)
    places = np.arange(len(found))[::-1]
    axes.errorbar(values, places, xerr=reach, fmt="o", capsize=3)
    for value, place in zip(values, places):
        axes.annotate(f"{value:.3f}", (value, place), textcoords="offset points", xytext=(0, 6), ha="center", fontsize=9,
                      color=figures.INK)
    axes.set(yticks=places, yticklabels=list(found), xlabel="top-1, with its 95 % interval", ylim=(-0.6, len(found) - 0.2))
    return figures.svg(figure)


def certainty(bins: Mapping[str, pd.DataFrame], notes: Sequence[str]) -> list[Section]:
    """The section of the reliability diagram; none without bins."""
    if not bins:
        return []
    return [Section("Is it as sure as it is right?", [*map(Note, notes), Figures([
        (reliability(bins), "each point as many pictures as the next")])])]


def reliability(bins: Mapping[str, pd.DataFrame]) -> str:
    """Accuracy against confidence of equally many pictures each; by what was done, frames of confidence and accuracy."""
    figure, axes = figures.new(height=3.4)
    axes.plot([0, 1], [0, 1], linestyle=":", color=figures.INK, linewidth=1)
    for name, frame in bins.items():
        axes.plot(frame["confidence"], frame["accuracy"], marker=".", label=name)
    axes.set(xlabel="confidence of the answer", ylabel="how often it is right", xlim=(0, 1.02), ylim=(-0.02, 1.02))
    figures.legend(axes)
    return figures.svg(figure)


def by_size(classes: pd.DataFrame) -> str:
    """Top-1 of each class against its train pictures (classes.by_class), and the mean of classes of about that size."""
    from matplotlib.ticker import LogFormatter, ScalarFormatter  # late, as in figures

    figure, axes = figures.new()
    counted = classes[classes["in train"] > 0]
    axes.scatter(counted["in train"], counted["top-1"], s=9, alpha=0.35, linewidths=0, rasterized=len(counted) > _CROWD)
    groups = pd.qcut(counted["in train"].rank(method="first"), min(_SIZES, len(counted)), labels=False)
    means = counted.groupby(groups)[["in train", "top-1"]].mean()
    axes.plot(means["in train"], means["top-1"], marker="o", label="mean of classes of that size")
    if counted["in train"].max() > 4 * counted["in train"].min():
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
    axes.set(xlabel="pictures of the class in train", ylabel="top-1", ylim=(-0.03, 1.03))
    figures.legend(axes, loc="lower right")
    return figures.svg(figure)


def thresholds(curve: multi_label.ThresholdCurve, answered_from: float) -> str:
    """F2, precision and recall over the thresholds."""
    figure, axes = figures.new()
    means = curve.means()
    for name in ("f2", "precision", "recall"):
        axes.plot(multi_label.THRESHOLDS, means[name], label=name)
    axes.axvline(answered_from, color=figures.INK, linestyle=":", label=f"answered from {answered_from:.2f}")
    axes.set(xlabel="threshold", ylabel="mean over pictures")
    figures.legend(axes)
    return figures.svg(figure)
