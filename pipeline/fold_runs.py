"""--fold=0:2 or all: each fold in a process of its own, then a table of what they scored.

A process per fold gives all memory back and takes only itself along when it dies; this one never touches the
accelerator, so it imports no TensorFlow.
"""

import os
import subprocess
import sys
from typing import Sequence, Union

from absl import logging

from pipeline import (dataset as datasets, files, metrics, multi_label_evaluation, predictions, runs, scoring,
                      seen, thresholds)
from pipeline.command import USAGE_EXIT_CODE
from pipeline.errors import UserError
from pipeline.example_table import ExampleTable

RESULT_FILE = "result.json"       # in a fold's directory: its line of the table
_map5 = metrics.COMPETITION_METRICS["map5"]  # in an open-set competition, unknown classes answered by the common name


def run_folds(data_dir: str, model_dir: str, folds: Sequence[int], arguments: Sequence[str]) -> None:
    """Trains the folds one after another by running this same command with --fold=K, then prints their table.

    Args:
      folds: their numbers; empty for all that the data has.
      arguments: of this command; a --fold after them wins.

    Raises UserError where a fold doesn't exist, or, after all others were tried, where one failed.
    """
    count = datasets.load(data_dir).manifest.folds
    folds = list(folds) or list(range(count))
    if not folds or max(folds) >= count:
        has = f"folds 0 to {count - 1}" if count else "no folds"
        raise UserError(f"--fold: {data_dir} has {has} (create_tfrecords.py --folds makes them)")
    failed = []
    for fold in folds:
        # Finished ones too: the process sees in seconds that nothing is to be done, and whether the flags still agree.
        code = subprocess.run([sys.executable, *arguments, f"--fold={fold}"], check=False).returncode
        if code == USAGE_EXIT_CODE:
            sys.exit(code)  # a mistake in the flags, which it has told, is the same for every fold
        if code:
            logging.error("fold %d died with exit code %d; going on with the others", fold, code)
            failed.append(fold)
    print_table(data_dir, model_dir)
    if failed:
        raise UserError(f"folds {', '.join(map(str, failed))} failed; the same command trains what is left")


def finish_fold(run: runs.Run) -> None:
    """Predicts what the fold held out and writes the fold's line of the table; called in the fold's own process."""
    from pipeline import predict  # here, because the parent of the folds must not import TensorFlow

    directory = runs.fold_dir(run.model_dir, run.fold)
    predict.predict_held_out(run, os.path.join(directory, predictions.OUT_OF_FOLD))
    scores = _score(datasets.load(run.data_dir), os.path.join(directory, predictions.OUT_OF_FOLD))
    stages = [files.read_json(os.path.join(runs.stage_dir(run, stage), runs.DONE_FILE)) for stage in run.stages]
    files.write_json(os.path.join(directory, RESULT_FILE), {
        "fold": run.fold, **scores, "epochs": [stage["epochs"] for stage in stages],
        "minutes": sum(stage["seconds"] for stage in stages) / 60})


def _score(data: datasets.Dataset, directory: str) -> dict[str, float]:
    """The columns of the table that tell how good predictions are."""
    one = predictions.Predictions(directory)
    if data.manifest.multi_label:
        scores = multi_label_evaluation.score(one, data)
        return {name: scores[name] for name in ("f2", "threshold")}
    scores = scoring.score(one, ExampleTable(data, one.meta["split"])).summary
    return {"accuracy": scores["top1"], "top5": scores["top5"], "map5": _map5(scores)}


def print_table(data_dir: str, model_dir: str) -> None:
    """One line a finished fold, then all of them out of fold."""
    data = datasets.load(data_dir)
    paths = [os.path.join(model_dir, f"fold_{fold}", RESULT_FILE) for fold in range(data.manifest.folds)]
    results = [files.read_json(path) for path in paths if files.exists(path)]
    if not results:
        return
    directory = _merge(data, model_dir, [result["fold"] for result in results])
    scores = _score(data, directory)
    print("".join(f"{name:>10}" for name in ("fold", *scores, "epochs", "minutes")))
    for result in results:
        epochs = "+".join(f"{one:g}" for one in result["epochs"])
        _print_line(result["fold"], [result[name] for name in scores], epochs, result["minutes"])
    _print_line("all", list(scores.values()), "", sum(result["minutes"] for result in results))
    print(f"out-of-fold predictions: {directory}")


def _print_line(name: Union[int, str], scores: Sequence[float], epochs: str, minutes: float) -> None:
    print(f"{name:>10}" + "".join(f"{score:>10.4f}" for score in scores) + f"{epochs:>10}{minutes:>10.1f}")


def _merge(data: datasets.Dataset, model_dir: str, folds: Sequence[int]) -> str:
    """Out-of-fold predictions of all finished folds as one folder."""
    places = [os.path.join(model_dir, f"fold_{fold}", predictions.OUT_OF_FOLD) for fold in folds]
    members = [predictions.Predictions(place) for place in places]
    out = os.path.join(model_dir, predictions.OUT_OF_FOLD)
    meta = {**members[0].meta, "fold": list(folds), "out_of_fold": True,
            "examples": sum(len(member.ids) for member in members),
            "seen": seen.together([member.meta.get("seen") for member in members], out_of_fold=True)}
    predictions.write(out, (chunk for member in members for chunk in member.chunks()),
                      {**meta, "threshold": None})
    thresholds.refresh(out, data)
    return out
