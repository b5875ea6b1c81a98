"""--fold=0:2 or all: each fold in a process of its own, then a table of what they scored.

A process per fold gives all memory back and takes only itself along when it dies; this one never touches the
accelerator, so it imports no TensorFlow.
"""

import contextlib
import os
import signal
import sys
from typing import Any, Callable, Iterable, Iterator, Mapping, Optional, Sequence

from absl import logging

from pipeline import command, files, preemption
from pipeline.answers import by_kind as answers, predictions
from pipeline.errors import UserError, WorkError
from pipeline.evaluation import by_kind as evaluation
from pipeline.experiment import processes
from pipeline.records import dataset as datasets
from pipeline.runs import record as run_record, run as runs, seen

RESULT_FILE = "result.json"       # in a fold's directory: its line of the table
FAILED_FILE = "failed.json"       # there too: why its process ended before it had one


def run_folds(data_dir: str, model_dir: str, folds: Sequence[int], arguments: Sequence[str],
              check: Callable[[datasets.Dataset, int], None]) -> None:
    """Trains the folds one after another by running this same command with --fold=K, then prints their table.

    Args:
      folds: their numbers; empty for all that the data has.
      arguments: of this command; a --fold after them wins.
      check: raises UserError for a mistake that may be one fold's alone; asked of all before the first trains for hours.

    A mistake, which a fold's process has told, is the same for every fold and ends this one too, and so do an interruption
    and the end of --max_minutes; a fold that was preempted alone is started again, and one that dies otherwise takes none of
    the others along.

    Raises UserError where a fold doesn't exist; WorkError where one died, after all others were tried.
    """
    data = datasets.load(data_dir)
    folds = chosen(data, folds)
    for fold in folds:
        check(data, fold)
    command.begin_work()
    died: dict[int, str] = {}
    for fold in folds:
        # Finished ones too: the process sees in seconds that nothing is to be done, and whether the flags still agree.
        code = processes.run_to_end(lambda: [sys.executable, *arguments, f"--fold={fold}", *preemption.flags_left()])
        if code in (command.USAGE_EXIT_CODE, command.PREEMPTED_EXIT_CODE, command.INTERRUPTED_EXIT_CODE):
            sys.exit(code)
        if code:
            died[fold] = _why(model_dir, fold, code)
            logging.error("fold %d died: %s; going on with the others", fold, died[fold])
    print_table(data_dir, model_dir, died)
    if died:
        told = "; ".join(f"fold {fold} died: {why}" for fold, why in died.items())
        raise WorkError(f"{told}; the same command trains what is left")


def chosen(data: datasets.Dataset, folds: Sequence[int]) -> list[int]:
    """The folds that are asked for; empty: all. Raises UserError where one doesn't exist."""
    count = data.manifest.folds
    folds = list(folds) or list(range(count))
    if not folds or max(folds) >= count:
        has = f"folds 0 to {count - 1}" if count else "no folds"
        raise UserError(f"--fold: {data.directory} has {has} (create_tfrecords.py --folds makes them)")
    return folds


def told(model_dir: str, folds: Sequence[int]) -> tuple[str, list[int]]:
    """A line of what stands of the folds, for --dry_run; and those that have not finished."""
    finished = _results(model_dir, folds)
    begun = run_record.begun_folds(model_dir) if run_record.has_started(model_dir) else []
    states = [f"{fold} {'finished: skipped' if fold in finished else 'goes on' if fold in begun else 'to do'}" for fold in folds]
    return f"folds: {', '.join(states)}", [fold for fold in folds if fold not in finished]


def _why(model_dir: str, fold: int, code: int) -> str:
    """What is known of the death of a fold's process."""
    if code < 0:
        return f"killed by signal {-code}" + (" (out of memory?)" if -code == signal.SIGKILL else "")
    path = os.path.join(runs.fold_dir(model_dir, fold), FAILED_FILE)
    return files.read_json(path)["reason"] if files.exists(path) else f"exit code {code}"


@contextlib.contextmanager
def failure_noted(run: runs.Run) -> Iterator[None]:
    """Notes in the fold's directory why the block failed, for the table; called in the fold's own process.

    A mistake in how the command was given is none of the fold's.
    """
    path = os.path.join(runs.fold_dir(run.model_dir, run.fold), FAILED_FILE)
    if not run.dry_run:
        files.remove(path)
    try:
        yield
    except Exception as error:
        code, reason = command.outcome(error) or (1, f"{type(error).__name__}: {error}")
        if code != command.USAGE_EXIT_CODE:
            _note(path, " ".join(reason.split())[:1000])
        raise


def _note(path: str, reason: str) -> None:
    try:
        files.make_dirs(os.path.dirname(path))
        files.write_json(path, {"reason": reason})
    except Exception as error:  # the disk that is full, say: what it failed of is to be told, and not this
        logging.warning("can't write %s: %s", path, error)


def finish_fold(run: runs.Run) -> None:
    """Predicts what the fold held out and writes the fold's line of the table; called in the fold's own process."""
    from pipeline.prediction import predict  # here, because the parent of the folds must not import TensorFlow

    directory = runs.fold_dir(run.model_dir, run.fold)
    data = datasets.load(run.data_dir)
    predict.predict_probe(run, data)
    predict.predict_held_out(run, os.path.join(directory, predictions.OUT_OF_FOLD))
    strangers = runs.strangers_part(run, data)
    if strangers:
        predict.predict_held_out(run, os.path.join(directory, predictions.STRANGERS), part=strangers)
    scores = _score(data, os.path.join(directory, predictions.OUT_OF_FOLD))
    stages = [files.read_json(os.path.join(runs.stage_dir(run, stage), runs.DONE_FILE)) for stage in run.stages]
    files.write_json(os.path.join(directory, RESULT_FILE), {
        "fold": run.fold, **scores, "epochs": [stage["epochs"] for stage in stages],
        "minutes": sum(stage["seconds"] for stage in stages) / 60})


def _score(data: datasets.Dataset, directory: str) -> dict[str, float]:
    """The columns of the table that tell how good predictions are."""
    return evaluation.of(data.task).fold_scores(predictions.Predictions(directory), data)


def print_table(data_dir: str, model_dir: str, died: Mapping[int, str]) -> None:
    """One line a finished fold, then all of them out of fold.

    Args: died: why, by fold; those have a line that says so, and count for nothing.
    """
    data = datasets.load(data_dir)
    count = data.manifest.folds
    results = _results(model_dir, [fold for fold in range(count) if fold not in died])
    if not results:
        print("".join(f"{fold:>10}  died: {why}\n" for fold, why in died.items()), end="")
        return
    directory = _merge(data, model_dir, list(results))
    probe = _merge_probes(data, model_dir, list(results))
    _merge_strangers(data, model_dir, list(results))
    scores = _score(data, directory)
    for fold, result in results.items():
        if not set(scores) <= set(result):  # it finished when the table had other columns
            result.update(_score(data, os.path.join(runs.fold_dir(model_dir, fold), predictions.OUT_OF_FOLD)))
    whole = "all" if len(results) == count else f"{', '.join(map(str, results))} of {count}"
    width = max(10, len(whole) + 2)
    widths = [max(10, len(name) + 2) for name in scores]
    print(f"{'fold':>{width}}" + "".join(f"{name:>{columns}}" for name, columns in zip(scores, widths))
          + f"{'epochs':>10}{'minutes':>10}")
    for fold in sorted({*results, *died}):
        if fold in died:
            print(f"{fold:>{width}}  died: {died[fold]}")
        else:
            epochs = "+".join(f"{one:g}" for one in results[fold]["epochs"])
            told = [results[fold][name] for name in scores]
            _print_line(f"{fold:>{width}}", zip(told, widths), epochs, results[fold]["minutes"])
    _print_line(f"{whole:>{width}}", zip(scores.values(), widths), "", sum(result["minutes"] for result in results.values()))
    if probe:
        print(f"the probe, out of fold: {', '.join(f'{name} {score:.4f}' for name, score in _score(data, probe).items())}")
    for line in evaluation.of(data.task).below_folds(predictions.Predictions(directory), data):
        print(line)
    print(f"out-of-fold predictions: {directory}" if whole == "all" else f"out of fold, folds {whole}: {directory}")


def _results(model_dir: str, folds: Sequence[int]) -> dict[int, dict[str, Any]]:
    """RESULT_FILE of each of the folds that has one."""
    paths = {fold: os.path.join(runs.fold_dir(model_dir, fold), RESULT_FILE) for fold in folds}
    return {fold: files.read_json(path) for fold, path in paths.items() if files.exists(path)}


def _print_line(name: str, scores: Iterable[tuple[float, int]], epochs: str, minutes: float) -> None:
    """Scores: each with the width of its column."""
    print(name + "".join(f"{score:>{width}.4f}" for score, width in scores) + f"{epochs:>10}{minutes:>10.1f}")


def _merge_strangers(data: datasets.Dataset, model_dir: str, folds: Sequence[int]) -> None:
    """What the folds say of strangers that others hold out, as one folder; to some of them there may be none."""
    metas = {fold: os.path.join(runs.fold_dir(model_dir, fold), predictions.STRANGERS, predictions.META_FILE)
             for fold in folds}
    told = [fold for fold, meta in metas.items() if files.exists(meta)]
    if told:
        _merge(data, model_dir, told, predictions.STRANGERS)


def _merge_probes(data: datasets.Dataset, model_dir: str, folds: Sequence[int]) -> Optional[str]:
    """The folder of what the folds' probes predict of what they held out, where all of the folds have one that is told."""
    kind = os.path.join(predictions.PROBE, predictions.OUT_OF_FOLD)
    metas = (os.path.join(runs.fold_dir(model_dir, fold), kind, predictions.META_FILE) for fold in folds)
    return _merge(data, model_dir, folds, kind) if all(map(files.exists, metas)) else None


def _merge(data: datasets.Dataset, model_dir: str, folds: Sequence[int], kind: str = predictions.OUT_OF_FOLD) -> str:
    """Out-of-fold predictions of all finished folds as one folder."""
    places = [os.path.join(runs.fold_dir(model_dir, fold), kind) for fold in folds]
    members = [predictions.Predictions(place) for place in places]
    out = os.path.join(model_dir, kind)
    views = sorted({member.meta["tta"] for member in members})  # a fold of another day may have had another --oof_tta
    of_each = {name: [member.meta.get(name) for member in members] for name in ("checkpoint", "trained")}
    meta = {**members[0].meta, **of_each, "fold": list(folds), "out_of_fold": True, "tta": " and ".join(views),
            "examples": sum(len(member.ids) for member in members),
            "seen": seen.together([member.meta.get("seen") for member in members], out_of_fold=True)}
    predictions.write(out, (chunk for member in members for chunk in member.chunks()),
                      {**meta, "threshold": None})
    answers.of(data.task).refresh(out, data)
    return out
