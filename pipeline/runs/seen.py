"""What a model has seen: the pictures that it, and the models that it was started from, were trained on.

run.json tells it under "seen" (splits, division into folds, ancestors, class counts); seen.npy beside it has a line for
each picture, so that it can still be told when the records were made anew, into other folds or splits, or are gone.
"""

import dataclasses
import hashlib
import io
import os
import types
from typing import Any, Iterable, Iterator, Mapping, Optional, Sequence

import numpy as np
import pandas as pd

from pipeline import files
from pipeline.errors import UserError
from pipeline.records import class_prior, dataset as datasets, schema
from pipeline.runs import record as run_record, run as runs, strangers

SEEN_FILE = "seen.npy"
EVERY_FOLD = -1  # in `fold`: no fold of the run holds the picture out
# `picture` is a digest of competition, classes and id (the same id of other classes is another data set's), `place` of
# the split too; `fold` does not see the picture, nor do those whose bits `strange_to` has (1 << fold: its class is held out
# there, see strangers), all others do.
_LINE = np.dtype([("picture", "<u8"), ("place", "<u8"), ("fold", "<i2"), ("strange_to", "<u8")])
_BEFORE = np.dtype(_LINE.descr[:3])  # of runs from before classes could be held out


@dataclasses.dataclass(frozen=True)
class Seen:
    """What the models of a run have seen.

    Attributes:
      summary: JSON values, as run.json has them.
      pictures: a line for each, _LINE [n]; ancestors' ones too.
    """

    summary: dict[str, Any]
    pictures: np.ndarray

    def by(self, fold: Optional[int]) -> np.ndarray:
        """The lines of what the model of a fold (None: of a run without folds) has seen."""
        if fold is None:
            return self.pictures
        strange = self.pictures["strange_to"] >> np.uint64(fold) & np.uint64(1) > 0 if fold < strangers.MOST_FOLDS else False
        return self.pictures[(self.pictures["fold"] != fold) & ~np.broadcast_to(strange, len(self.pictures))]

    def among(self, part: datasets.Part, fold: Optional[int]) -> pd.DataFrame:
        """The examples of a part (columns id, split, fold) that the model of a fold has seen."""
        examples = part.identifiers()
        own = lines(part.data, examples)
        # Where ids begin anew in each split, the same one in another split is another picture.
        key = "place" if self.summary.get("ids_by_split") or ids_by_split(part.data) else "picture"
        return examples[np.isin(own[key], self.by(fold)[key])]

    def of_fold(self, fold: Optional[int], class_ids: Sequence[str]) -> dict[str, Any]:
        """What the meta.json of a fold's predictions tells of its model; class_ids: of its classes, in their order."""
        counts = self.summary["class_counts"]
        folds = self.summary.get("strangers", {})
        own = {str(fold): folds[str(fold)]} if str(fold) in folds else {}
        if counts is not None:
            counts = np.sum([one for name, one in counts.items() if name != str(fold)], axis=0)
            counts[list(strangers.read({"strangers": own}, class_ids).get(fold, ()))] = 0
            counts = counts.tolist()
        return {**({"strangers": own} if own else {}), "splits": self.summary["splits"],
                "division": self.summary["division"], "held_out_fold": fold, "ancestors": self.summary["ancestors"],
                "class_counts": counts, "prior_power": self.summary["prior_power"]}


def lines(data: datasets.Dataset, examples: pd.DataFrame) -> np.ndarray:
    """_LINE [examples] of some of the data's examples, with the columns id, split and fold."""
    whose = data.manifest.competition + data.classes_digest()
    found = np.empty(len(examples), _LINE)
    found["picture"] = [_digest(whose, one) for one in examples["id"]]
    found["place"] = [_digest(whose, split, one) for split, one in zip(examples["split"], examples["id"])]
    found["fold"], found["strange_to"] = examples["fold"], 0
    return found


def _digest(*words: str) -> int:
    return int.from_bytes(hashlib.blake2b("\0".join(words).encode(), digest_size=8).digest(), "little")


def ids_by_split(data: datasets.Dataset) -> bool:
    """Whether an id names another picture in each split: told by the manifest, or one stands in two with other labels."""
    told = data.manifest.ids_by_split
    return _ids_by_labels(_all_examples(data)) if told is None else told


def _all_examples(data: datasets.Dataset) -> pd.DataFrame:
    return data.identifiers("+".join(data.manifest.splits), ["labels"])


def _ids_by_labels(examples: pd.DataFrame) -> bool:
    repeated = examples[examples["id"].duplicated(keep=False)]
    return bool((repeated.groupby("id")["labels"].nunique() > 1).any())


def of_run(run: runs.Run, data: datasets.Dataset) -> Seen:
    """What a run's models have seen or will see, its ancestors' pictures included.

    It is worked out at the first start, half a minute for millions of pictures, and read at later ones; with ancestors,
    of which more folds may have finished since, at each.
    """
    if not run.init_from and _is_told(run.model_dir):
        return Seen(run_record.read(run.model_dir)["seen"], _read(run.model_dir))
    last = run.stages[-1]
    power = class_prior.prior_power(last.class_balance, last.logit_adjust)
    own = _of_data(data, run.train_split, run.fold is not None, power, runs.strangers_of(run, data))
    if not run.init_from:
        return own
    theirs = of_model(run.init_from, data)
    if theirs is None:  # of an earlier version, and of other records: there is no telling
        return dataclasses.replace(own, summary={**own.summary, "ancestors": [{"model_dir": run.init_from, "splits": None}]})
    finished = runs.finished_folds(run.init_from)
    if run.fold is None or not divided_alike(run.init_from, data):
        inherited = _with_fold(theirs.by(finished[0]), EVERY_FOLD)
    else:
        inherited = theirs.pictures.copy()
        # A fold that has not finished there begins with another one's model, which has seen what this one holds out.
        inherited["fold"][~np.isin(inherited["fold"], finished)] = EVERY_FOLD
        inherited["strange_to"] &= _bits(finished)
    return _with_ancestor(own, run.init_from, theirs, inherited)


def _is_told(model_dir: str) -> bool:
    """Whether a run that has started stands there, and tells."""
    return run_record.has_started(model_dir) and "seen" in run_record.read(model_dir) and files.exists(
        os.path.join(model_dir, SEEN_FILE))


def _with_ancestor(own: Seen, model_dir: str, theirs: Seen, inherited: np.ndarray) -> Seen:
    told = {key: theirs.summary[key] for key in ("competition", "splits", "division", "contents")}
    summary = {**own.summary, "ancestors": [{"model_dir": model_dir, **told}, *theirs.summary["ancestors"]],
               "ids_by_split": own.summary["ids_by_split"] or theirs.summary.get("ids_by_split", False)}
    return Seen(summary, np.concatenate([own.pictures, inherited]))


def _with_fold(pictures: np.ndarray, fold: int) -> np.ndarray:
    pictures = pictures.copy()
    pictures["fold"], pictures["strange_to"] = fold, 0
    return pictures


def _bits(folds: Iterable[int]) -> np.uint64:
    """What `strange_to` is of pictures whose class these folds leave out."""
    return np.uint64(sum(1 << fold for fold in folds if fold < strangers.MOST_FOLDS))


def first_fold(model_dir: str, data: datasets.Dataset, fold: Optional[int]) -> Optional[int]:
    """The fold of an earlier run whose model a run of `fold` starts from; None: of a run without folds.

    The same where that one has finished and was held out of the same division of the same pictures: any other has seen
    what this one holds out. Else the first that has finished.
    """
    finished = runs.finished_folds(model_dir)
    return fold if fold in finished and divided_alike(model_dir, data) else finished[0]


def divided_alike(model_dir: str, data: datasets.Dataset) -> bool:
    """Whether an earlier run was trained on the same pictures of `data` in the same folds."""
    record = run_record.read(model_dir)
    if "seen" not in record:
        return _is_of(record, data)
    splits = record["seen"]["splits"]
    return set(splits) <= set(data.manifest.splits) and division(data, "+".join(splits)) == record["seen"]["division"]


def division(data: datasets.Dataset, split: str) -> str:
    """Hexadecimal digest of which picture is in which fold."""
    return _division(data, data.identifiers(split))


def _division(data: datasets.Dataset, examples: pd.DataFrame) -> str:
    rows = sorted(f"{one}\0{fold}" for one, fold in zip(examples["id"], examples["fold"]))
    return hashlib.sha256("\n".join([data.manifest.competition, *rows]).encode()).hexdigest()


def _of_data(data: datasets.Dataset, train_split: str, by_folds: bool, prior_power: float,
             left_out: Mapping[int, Sequence[int]] = types.MappingProxyType({})) -> Seen:
    everything = _all_examples(data)  # at one reading
    examples = everything[everything["split"].isin(train_split.split("+"))]
    pictures = lines(data, examples)
    if not by_folds:
        pictures["fold"] = EVERY_FOLD
    if left_out:
        bits = [_bits(fold for fold, classes in left_out.items() if one in classes) for one in range(len(data.class_ids))]
        pictures["strange_to"] = [bits[int(one.split()[0])] if one else 0 for one in examples["labels"]]
    exclusive = data.task.exclusive
    summary = {
        **({"strangers": strangers.told(data, left_out)} if left_out else {}),
        "competition": data.manifest.competition, "splits": train_split.split("+"), "by_folds": by_folds,
        "division": _division(data, examples), "contents": data.identity(train_split)["contents"],
        "ids_by_split": _ids_by_labels(everything) if data.manifest.ids_by_split is None else data.manifest.ids_by_split,
        "ancestors": [], "prior_power": prior_power if exclusive else None,
        "class_counts": _class_counts(examples, pictures["fold"], len(data.manifest.classes)) if exclusive else None}
    return Seen(summary, pictures)


def _class_counts(examples: pd.DataFrame, folds: np.ndarray, classes: int) -> dict[str, list[int]]:
    """For each fold, and EVERY_FOLD, the number of pictures of each class."""
    labels = examples["labels"].to_numpy()
    labelled = labels != ""
    return {str(fold): np.bincount(labels[labelled & (folds == fold)].astype(np.int64), minlength=classes).tolist()
            for fold in np.unique(folds).tolist()}


def of_model(model_dir: str, data: datasets.Dataset) -> Optional[Seen]:
    """What the models of a directory have seen.

    Of runs from before run.json told it, it is worked out from the records that they were trained on, `data` or where
    they lay then; None: these are gone, and it can't be told.
    """
    record = run_record.read(model_dir)
    if "seen" in record:
        return Seen(record["seen"], _read(model_dir))
    data = next((one for one in _candidates(record, data) if _is_of(record, one)), None)
    if data is None:
        return None
    same, last = record["same"], run_record.last_stage(record)
    power = class_prior.prior_power(last.get("class_balance", "none"), last.get("logit_adjust", 0.0))
    own = _of_data(data, same["train_split"], same["by_folds"], power)
    earlier = same.get("init_from")
    theirs = of_model(earlier, data) if earlier and files.exists(os.path.join(earlier, run_record.RUN_FILE)) else None
    if theirs is None:
        return own
    by_folds = theirs.summary["by_folds"] and own.summary["by_folds"]
    return _with_ancestor(own, earlier, theirs, theirs.pictures if by_folds else _with_fold(theirs.pictures, EVERY_FOLD))


def _candidates(record: dict[str, Any], data: datasets.Dataset) -> Iterator[datasets.Dataset]:
    yield data
    directory = record["free"].get("data_dir")
    if directory and files.exists(os.path.join(directory, schema.DATASET_FILE)):
        yield datasets.load(directory)


def _is_of(record: dict[str, Any], data: datasets.Dataset) -> bool:
    """Whether these are the records that a run was trained on."""
    split = record["same"].get("train_split")
    return split is not None and set(split.split("+")) <= set(data.manifest.splits) and (
        record["same"].get("dataset", {}).get(split) == data.identity(split))


def write(model_dir: str, seen: Seen) -> None:
    """Writes seen.npy of the run that run.json tells of; the summary stands there."""
    buffer = io.BytesIO()
    np.save(buffer, _as_begun(model_dir, seen.pictures), allow_pickle=False)
    files.write_whole(os.path.join(model_dir, SEEN_FILE), buffer.getvalue())


def _as_begun(model_dir: str, pictures: np.ndarray) -> np.ndarray:
    """The lines, with what folds that have begun were said to have seen: meanwhile the ancestor may have got the fold that
    it lacked when they began with another one's model."""
    begun = run_record.begun_folds(model_dir)
    if not begun or not files.exists(os.path.join(model_dir, SEEN_FILE)):
        return pictures
    try:
        before = _read(model_dir)
    except UserError:  # damaged: it is written anew
        return pictures
    if not np.array_equal(before["place"], pictures["place"]):
        return pictures
    stays = np.isin(pictures["fold"], begun) & (before["fold"] == EVERY_FOLD)
    return np.where(stays, before, pictures)


def _read(model_dir: str) -> np.ndarray:
    path = os.path.join(model_dir, SEEN_FILE)
    try:
        with files.open_file(path, "rb") as file:
            pictures = _of_now(np.load(io.BytesIO(file.read()), allow_pickle=False))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; give its training command again, which writes it") from None
    except (ValueError, EOFError, TypeError):  # TypeError: an array, but of something else
        raise UserError(f"{path} is damaged; delete it and give its training command again, which writes it") from None
    return pictures


def _of_now(found: np.ndarray) -> np.ndarray:
    """The lines, also of a run from before there were strangers. Raises TypeError where they are none."""
    if found.dtype != _BEFORE:
        return found.astype(_LINE, casting="no")
    pictures = np.zeros(len(found), _LINE)
    for name in _BEFORE.names:
        pictures[name] = found[name]
    return pictures


def for_meta(model_dir: str, fold: Optional[int], part: datasets.Part, stage: dict[str, Any]) -> Optional[dict[str, Any]]:
    """What meta.json tells of predictions of a part by the model of a fold: Seen.of_fold, and how many `pictures` of the
    part the model has seen. None: it can't be told.

    Args: stage: whose model it is, as run.json has it; perhaps not the run's last.
    """
    known = of_model(model_dir, part.data)
    if known is None:
        return None
    told = {**known.of_fold(fold, part.data.class_ids), "pictures": len(known.among(part, fold))}
    if told["prior_power"] is not None:
        told["prior_power"] = class_prior.prior_power(stage.get("class_balance", "none"), stage.get("logit_adjust", 0.0))
    return told


def together(members: Sequence[Optional[dict[str, Any]]], out_of_fold: bool) -> Optional[dict[str, Any]]:
    """`for_meta` of several folds as one prediction: each of its own pictures (out of fold), or their mean.

    The class counts are added up, since folds are stratified: each fold's own shares differ by a picture or so.
    """
    if None in members:
        return None
    counts = [member["class_counts"] for member in members]
    pictures = [member["pictures"] for member in members]
    left_out = {fold: classes for member in members for fold, classes in member.get("strangers", {}).items()}
    return {**members[0], **({"strangers": left_out} if left_out else {}),
            "held_out_fold": [member["held_out_fold"] for member in members],
            "class_counts": None if None in counts else np.sum(counts, axis=0).tolist(),
            "pictures": sum(pictures) if out_of_fold else max(pictures)}
