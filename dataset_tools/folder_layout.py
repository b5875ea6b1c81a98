"""Folders as people have them: which are splits, which classes, and which only stand around everything."""

import re
from typing import NamedTuple, Optional, Sequence

from dataset_tools import words
from pipeline.errors import UserError

_WORDS = {"train": ("train", "training", "trn"), "val": ("val", "valid", "validation", "validate", "dev"),
          "test": ("test", "testing", "tst")}
_SPLIT_OF_WORD = {word: split for split, spelled in _WORDS.items() for word in spelled}
# What may stand beside such a word in a folder's name, or end it: train_set, TestImages, val2019, seg_train.
_FILL = ("set", "sets", "data", "dataset", "split", "images", "image", "imgs", "img", "pictures", "pics", "photos", "folder",
         "dir", "files", "seg", "cropped", "resized", "raw", "full")


class Place(NamedTuple):
    """Where a picture belongs; '' where its path does not tell."""

    split: str
    label: str  # its class folder


class Layout(NamedTuple):
    places: list[Place]       # of each path
    classes: tuple[str, ...]  # class folders of train, sorted
    roots: tuple[str, ...]    # the folders, relative, that hold splits or classes, of train last ('' is the data folder)
    notes: tuple[str, ...]    # what was understood otherwise than it stands there, and what should be looked at


def split_of(name: str) -> Optional[str]:
    """The split that a folder's name tells in any usual spelling; None where it tells none."""
    parts = re.findall(r"[a-z]+|\d+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower())
    found = None
    for part in parts:
        word = next((one for one in (part, *(part[:-len(end)] for end in _FILL if part.endswith(end)))
                     if one in _SPLIT_OF_WORD), None)
        if word and found is None:
            found = _SPLIT_OF_WORD[word]
        elif part not in _FILL and not part.isdigit():
            return None
    return found


def understand(data_dir: str, paths: Sequence[str]) -> Layout:
    """Reads the folders of pictures: `paths` are theirs, relative to `data_dir`, some of them with a slash.

    Raises:
      UserError: naming the folders that can't be told apart and what to rename.
    """
    around = _around(data_dir, paths)
    inner = [path[len(around):] for path in paths]
    here = "/".join(filter(None, (data_dir, around.rstrip("/"))))
    notes = [f"{around.rstrip('/')} is taken for a folder around everything"] if around else []
    tops = sorted({path.split("/")[0] for path in inner if "/" in path})
    spelled = _spelled(here, tops, inner)
    if spelled:
        places, root = _by_split(inner, spelled)
        notes += _otherwise(spelled)
        roots = (around.rstrip("/"), f"{around}{root}")
    elif _is_turned_round(tops, inner):
        places = [_of_class_then_split(path) for path in inner]
        notes.append("the folders below the classes are taken for splits: "
                     + words.some(sorted({path.split("/")[1] for path in inner if path.count("/") > 1})))
        roots = (around.rstrip("/"),)
    else:
        places = [Place("train", path.split("/")[0] if "/" in path else "") for path in inner]
        roots = (around.rstrip("/"),)
    classes = tuple(sorted({place.label for place in places if place.split == "train" and place.label}))
    return Layout(places, classes, roots, tuple(notes + warnings_of(classes)))


def warnings_of(classes: Sequence[str]) -> list[str]:
    """What makes a list of classes look like no such list."""
    found = []
    if len(classes) == 1:
        found.append(f"warning: all pictures are of one class, {classes[0]!r}: does --data_dir hold the classes?")
    alike = [name for name in classes if split_of(name)]
    if alike:
        found.append(f"warning: among the classes {words.some(alike)} {'look' if len(alike) > 1 else 'looks'} like a split; "
                     "splits are called train, val and test, and train holds the class folders")
    return found


def _around(data_dir: str, paths: Sequence[str]) -> str:
    """The folders that only stand around the others ('flower_photos/'), '' where there are none."""
    around = ""
    while True:
        inner = [path[len(around):] for path in paths]
        tops = {path.split("/")[0] for path in inner}
        if len(tops) > 1 or any("/" not in path for path in inner):
            return around
        top, = tops
        if split_of(top):
            return around
        below = [path[len(top) + 1:] for path in inner]
        deeper = sorted({path.split("/")[0] for path in below if "/" in path})
        if not deeper:
            return around  # a class
        if any("/" not in path for path in below):
            if len(deeper) == 1:
                return around
            raise UserError(f"{data_dir}/{around}{top} is the only folder and holds pictures beside the folders "
                            f"{words.some(deeper)}: is it a class, or are these? Move the pictures into a class folder, or "
                            f"put {top} beside other classes")
        around += f"{top}/"


def _spelled(here: str, tops: Sequence[str], inner: Sequence[str]) -> dict[str, str]:
    """Split by folder; none where the folders are classes."""
    named = {top: found for top in tops if (found := split_of(top))}
    if not named:
        return {}
    train = [top for top, split in named.items() if split == "train"]
    if not train:
        return _without_train(here, tops, named, inner)
    for split in _WORDS:
        same = [top for top, found in named.items() if found == split]
        if len(same) > 1:
            raise UserError(f"{here}: the folders {' and '.join(same)} both look like {split}; put them together, or rename "
                            "those that are none")
    return named


def _without_train(here: str, tops: Sequence[str], named: dict[str, str], inner: Sequence[str]) -> dict[str, str]:
    """None are splits, where there is none to train on; unless they can be nothing else."""
    others = [top for top in tops if top not in named]
    below = {path.split("/")[1] for path in inner if path.split("/")[0] in named and path.count("/") > 1}
    if not others:
        raise UserError(f"{here} has {' and '.join(sorted(named))}, and no folder train: rename the one that holds the "
                        "pictures to train on")
    if below.intersection(others):
        what = "looks like a split" if len(named) == 1 else "look like splits"
        raise UserError(f"{here}: {' and '.join(sorted(named))} {what} "
                        f"beside the class folders {words.some(others)}; put these into a folder train")
    return {}


def _otherwise(spelled: dict[str, str]) -> list[str]:
    """A note where a folder has not the name of its split."""
    told = [f"{top} for {split}" for top, split in spelled.items() if top != split]
    return [f"folders are taken for splits: {', '.join(told)}"] if told else []


def _by_split(inner: Sequence[str], spelled: dict[str, str]) -> tuple[list[Place], str]:
    """(place of each picture, the folder in which the class folders of train lie)."""
    below: dict[str, list[str]] = {top: [] for top in spelled}
    for path in inner:
        top, _, rest = path.partition("/")
        if top in below and rest:
            below[top].append(rest)
    train = next(top for top, split in spelled.items() if split == "train")
    doubled = {train: _doubled(below[train], ())}
    classes = {path[len(doubled[train]):].split("/")[0] for path in below[train]}
    for top in spelled:
        doubled.setdefault(top, _doubled(below[top], classes))
    places = []
    for path in inner:
        top, _, rest = path.partition("/")
        if top not in spelled or not rest:
            places.append(Place("", ""))
            continue
        label, slash, _ = rest[len(doubled[top]):].partition("/")
        places.append(Place(spelled[top], label if slash else ""))
    return places, f"{train}/{doubled[train]}".rstrip("/")


def _doubled(paths: Sequence[str], classes: Sequence[str]) -> str:
    """Within a split: the folders around all of its class folders (train/train/cat), '' where there are none."""
    around = ""
    while True:
        inner = [path[len(around):] for path in paths]
        tops = {path.split("/")[0] for path in inner}
        if len(tops) != 1 or tops.intersection(classes) or any(path.count("/") < 2 for path in inner):
            return around
        around += f"{tops.pop()}/"


def _is_turned_round(tops: Sequence[str], inner: Sequence[str]) -> bool:
    """Whether splits lie below classes: cat/train, cat/val, dog/train."""
    nested = [path.split("/") for path in inner if "/" in path]
    return len(tops) > 1 and all(len(parts) > 2 and split_of(parts[1]) for parts in nested) and any(
        split_of(parts[1]) == "train" for parts in nested)


def _of_class_then_split(path: str) -> Place:
    parts = path.split("/")
    return Place(split_of(parts[1]), parts[0]) if len(parts) > 2 else Place("", "")
