"""Scores of predictions against the labels in examples.csv."""

from typing import Optional, Sequence

import numpy as np

from pipeline import dataset as datasets, files, fusion, metrics
from pipeline.errors import UserError


def labels_by_id(data: datasets.Dataset, split: str) -> dict[str, int]:
    """The class index of every labelled example of a split."""
    examples = data.examples(split)
    return {one: labels[0] for one, labels in zip(examples["id"], examples["labels"]) if labels}


def score(mean: fusion.Blend, labels: dict[str, int]) -> dict[str, float]:
    """metrics.SingleLabelScores over the examples whose label is known."""
    scores = metrics.SingleLabelScores(len(mean.class_ids))
    for ids, log_probabilities in mean.chunks():
        known = np.array([one in labels for one in ids])
        if known.any():
            scores.update(np.array([labels[one] for one in ids if one in labels]), log_probabilities[known])
    return scores.result()


def run_evaluation(data_dir: str, patterns: Sequence[str], out: Optional[str]) -> None:
    """Prints the scores of the mean of the predictions and writes them to `out` as JSON."""
    data = datasets.load(data_dir)
    mean = fusion.Blend(fusion.find(patterns))
    if mean.class_ids != data.class_ids:
        raise UserError(f"--predictions: their classes are not those of {data_dir}")
    split = mean.meta["split"]
    labels = labels_by_id(data, split)
    if not labels:
        raise UserError(f"--predictions: split {split} has no labels in {data_dir}; predict val to score a model")
    result = score(mean, labels)
    rejected = len(data.rejected(split))
    print(f"{split}: {result['examples']} examples" + (f" ({rejected} rejected ones not scored)" if rejected else ""))
    for name in ("top1", "top5", "macro_top1", "log_loss"):
        print(f"  {name:<10} {result[name]:.4f}")
    if out:
        files.write_json(out, result)
