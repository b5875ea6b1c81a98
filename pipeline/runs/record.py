"""run.json: what a model directory was made with, so that another start can tell whether it is the same run."""

import importlib.metadata
import os
import platform
import re
import subprocess
from typing import Any, Iterator, Optional

from pipeline import files, json_types
from pipeline.errors import UserError
from pipeline.models.top import MEAN, POOLS, ArcFace, Top
from pipeline.tasks.task import ARCFACE

RUN_FILE = "run.json"
CLASSIFIER_PROGRAM = "multi_stage_train.py"  # also where run.json names none
_DIGEST = re.compile("[0-9a-f]{64}")
_PACKAGES = ("tensorflow", "tensorflow-cpu", "tf-keras", "tensorflow-addons", "keras-cv-attention-models", "efficientnet",
             "image-classifiers", "numpy")


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # a TPU VM has a tensorflow of its own name
    return versions


def _git_revision() -> str:
    """The revision of this code with + where it was changed since; empty outside of a checkout."""
    here = os.path.dirname(os.path.abspath(__file__))
    try:
        revision = subprocess.run(["git", "describe", "--always", "--dirty=+"], cwd=here, capture_output=True,
                                  text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return revision.stdout.strip()


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {name: leaf for key, one in value.items() for name, leaf in _flatten(one, f"{prefix}{key}.").items()}
    return {prefix.rstrip("."): value}


def differences(old: dict, new: dict) -> list[str]:
    """What differs between two nested dicts of JSON values: a phrase for each leaf."""
    old, new = _flatten(old), _flatten(new)
    return list(dict.fromkeys(_difference(name, old.get(name), new.get(name))
                              for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)))


def _difference(name: str, before: Any, after: Any) -> str:
    """A digest says nothing to a person: of what it is, does."""
    if not any(isinstance(one, str) and _DIGEST.fullmatch(one) for one in (before, after)):
        return f"{name} was {before!r}, is {after!r}"
    *whose, what = name.split(".")
    named = {"contents": f"pictures of {''.join(whose[-1:])}", "digest": "".join(whose[-1:])}.get(what, what)
    if before is None or after is None:
        return f"{named} {'were not told before' if before is None else 'are not told now'}"
    return f"{named} are others (made anew from other files or with other flags?)"


def claim(model_dir: str, same: dict[str, Any], free: dict[str, Any], program: str = CLASSIFIER_PROGRAM,
          seen: Optional[dict[str, Any]] = None) -> None:
    """Writes MODEL_DIR/run.json, or checks that the one there is of the same run.

    Args:
      same: what must not differ between two starts of one run (JSON values).
      free: what may, recorded for the reader and for predict.py; the newest start's is kept.
      program: the command that trains here.
      seen: what its models learn from, as seen.Seen.summary tells it.

    Raises UserError naming every difference, or the other program that has trained here.
    """
    check_same(model_dir, same, program)
    path = os.path.join(model_dir, RUN_FILE)
    files.make_dirs(model_dir)
    files.write_json(path, {"program": program, "same": same, "free": free, **({"seen": seen} if seen else {}),
                            "versions": _versions(), "git": _git_revision()})


def check_same(model_dir: str, same: dict[str, Any], program: str = CLASSIFIER_PROGRAM) -> None:
    """Raises UserError where another run than that of `same`, as `claim` has it, has begun in the directory."""
    if has_started(model_dir, program):
        different = differences(read(model_dir, program)["same"], same)
        if different:
            raise UserError(f"--model_dir: {model_dir} holds another run: {'; '.join(different)}. "
                            "Use another --model_dir, or the old flags")


def last_stage(record: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run's last stage, as stages.Stage names them, out of its run.json."""
    try:
        return record["same"]["stages"][record["same"]["stage_order"][-1]]
    except (KeyError, IndexError):
        raise UserError(f"{RUN_FILE} of the model directory names no stage") from None


def up_to(record: dict[str, Any], stage: str) -> dict[str, Any]:
    """The record as if the run ended with that stage of it."""
    count = record["same"]["stage_order"].index(stage) + 1
    return {**record, "same": {**record["same"], "stage_order": record["same"]["stage_order"][:count]},
            "free": {**record["free"], "stage_dirs": record["free"]["stage_dirs"][:count]}}


def top(record: dict[str, Any]) -> Top:
    """What stands on the base of a run's network; of before there was a choice: the mean, and a plain head."""
    same = record["same"]
    told = {name: same[key] for name, key in _ARCFACE.items() if key in same}
    return Top(same.get("pool", MEAN), ArcFace(**told) if last_stage(record).get("loss") == ARCFACE else None)


_ARCFACE = {"embedding_dim": "embedding_dim", "scale": "arcface_scale", "subcentres": "arcface_subcentres"}


def keep(record: dict[str, Any]) -> str:
    """Which checkpoint of its last stage a run is represented by: best (also before there was a choice) or last."""
    return last_stage(record).get("keep", "best")


def has_started(model_dir: str, program: str = CLASSIFIER_PROGRAM) -> bool:
    """Whether a checkpoint of any stage stands; before that, other flags cost nothing."""
    if not files.exists(os.path.join(model_dir, RUN_FILE)):
        return False
    free = read(model_dir, program)["free"]
    folders = [model_dir, *(os.path.join(model_dir, f"fold_{fold}") for fold in range(free.get("folds", 0)))]
    return any(_has_checkpoint(free, folder) for folder in folders)


def _has_checkpoint(free: dict[str, Any], folder: str) -> bool:
    return any(files.exists(os.path.join(folder, stage, "last", "checkpoint")) for stage in free.get("stage_dirs", [""]))


def begun_folds(model_dir: str) -> list[int]:
    """The folds of which a checkpoint of any stage stands."""
    free = read(model_dir)["free"]
    return [fold for fold in range(free["folds"]) if _has_checkpoint(free, os.path.join(model_dir, f"fold_{fold}"))]


def read(model_dir: str, program: str = CLASSIFIER_PROGRAM) -> dict[str, Any]:
    """run.json of a model directory; raises UserError where there is none, or another program's."""
    path = os.path.join(model_dir, RUN_FILE)
    if not files.exists(path):
        raise UserError(f"{model_dir} is no model directory of {program}: it has no {RUN_FILE}")
    record = files.read_json(path)
    if not isinstance(record, dict) or not all(isinstance(record.get(key), dict) for key in ("same", "free")):
        raise UserError(f"{path} was not written by {program}")
    if record.get("program", CLASSIFIER_PROGRAM) != program:
        raise UserError(f"{model_dir} is a model directory of {record['program']}, not of {program}")
    if program == CLASSIFIER_PROGRAM:
        wrong = next(_wrong(record), None)
        if wrong:
            raise UserError(f"{path} was not written by {program}, or was edited: its {wrong[0]} is {str(wrong[1])[:60]!r}")
    return record


PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
# What of run.json is read by name, where it is told.
_TYPES = {
    "same": {"model": str, "stages": dict[str, dict[str, Any]], "stage_order": list[str], "train_split": str, "precision": str,
             "dropout": float, "channel_dropout": float, "place_input": bool, "boxes": Optional[dict[str, Any]],
             "embedding_dim": int, "arcface_scale": float, "arcface_subcentres": int, "pool": str},
    "free": {"class_ids": list[str], "classes": str, "folds": int, "stage_dirs": list[str], "tta": str,
             "oof_tta": Optional[str], "scaling": str},
}
# What is told of what its models have seen (see seen): all of it, or nothing.
_SEEN_TYPES = {"competition": str, "splits": list[str], "by_folds": bool, "division": str, "contents": str,
               "ancestors": list[dict[str, Any]], "prior_power": Optional[float],
               "class_counts": Optional[dict[str, list[float]]]}
_STAGE_TYPES = {"size": int, "train": str, "eval_resize": str, "keep": str, "antialias": bool, "place_drop": float,
                "freeze_place": bool}


def _wrong(record: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """(name, value) of what no run says; its folders lie in the model directory, whoever wrote the file."""
    for part, types in _TYPES.items():
        for name, hint in types.items():
            if name in record[part] and not json_types.is_of(record[part][name], hint):
                yield name, record[part][name]
    same, free = record["same"], record["free"]
    stages = same.get("stages", {})
    for stage in stages.values() if json_types.is_of(stages, _TYPES["same"]["stages"]) else ():
        for name, hint in _STAGE_TYPES.items():
            if name in stage and not json_types.is_of(stage[name], hint):
                yield f"stage's {name}", stage[name]
    for name, hint in _SEEN_TYPES.items() if "seen" in record else ():
        told = record["seen"] if isinstance(record["seen"], dict) else {}
        if name not in told or not json_types.is_of(told[name], hint):
            yield f"seen's {name}", told.get(name)
        if not json_types.is_of(told.get("strangers", {}), dict[str, list[str]]):  # told where a run holds classes out
            yield "seen's strangers", told["strangers"]
    if same.get("precision", PRECISIONS[0]) not in PRECISIONS:
        yield "precision", same["precision"]
    if same.get("pool", MEAN) not in POOLS:
        yield "pool", same["pool"]
    order = same.get("stage_order", [])
    if any(name not in stages for name in order):
        yield "stage_order", order
    if any(name != os.path.basename(name) or name in ("", "..", ".") for name in free.get("stage_dirs", ["stage"])):
        yield "stage_dirs", free["stage_dirs"]
