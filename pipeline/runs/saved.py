"""The newest checkpoints of a folder: each written under a new name, read back, and only then named in its state file.

TensorFlow's own files, on gs:// too. A process that is killed at any moment leaves a state file that names whole ones;
what it left half written goes with the next one.
"""

import os
import re
from typing import Optional

import tensorflow as tf

from pipeline import files
from pipeline.errors import WorkError
from pipeline.runs import patterns

STATE_FILE = "checkpoint"  # as tf.train.latest_checkpoint reads it
_NAME = re.compile(r"ckpt-(\d+)")

# What TensorFlow raises for a checkpoint of other objects or shapes, or one that is cut short (IndexError).
UNREADABLE = (AssertionError, IndexError, ValueError, tf.errors.OpError)


def first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]


def names(folder: str) -> list[str]:
    """Of the checkpoints in a folder, the newest first: those that its state file names; all, where that is damaged."""
    with patterns.plain(folder) as plain:
        state = tf.train.get_checkpoint_state(plain)
        entries = tf.io.gfile.listdir(plain) if files.exists(folder) else []
    named = [os.path.basename(path) for path in state.all_model_checkpoint_paths] if state else []
    if not named and STATE_FILE in entries:
        named = sorted((entry.removesuffix(".index") for entry in entries if re.fullmatch(r"ckpt-\d+\.index", entry)),
                       key=lambda name: int(_NAME.fullmatch(name)[1]))
    return named[::-1]


def fault(path: str) -> Optional[str]:
    """Why a checkpoint can't be read, in words; None where every tensor of it agrees with its checksum."""
    try:
        with patterns.plain_path(path) as plain:
            reader = tf.train.load_checkpoint(plain)
            for name in reader.get_variable_to_shape_map():
                reader.get_tensor(name)
    except UNREADABLE as error:
        return first_line(error)
    return None


class Saved:
    """Writes the checkpoints of `state` into a folder and keeps the newest of them."""

    def __init__(self, state: tf.train.Checkpoint, folder: str, keep: int):
        self.state = state
        self._folder = folder
        self._keep = keep
        self._names: Optional[list[str]] = None  # the newest first; those to be kept beside a new one

    def forget_newer_than(self, name: str) -> None:
        """Lets the next one take the place of what is newer, because that is damaged."""
        there = names(self._folder)
        self._names = there[there.index(name):] if name in there else []

    def save(self, number: Optional[int] = None) -> None:
        """Writes another one, by default with a number that none has had; raises WorkError where it can't be read back."""
        before = names(self._folder) if self._names is None else self._names
        files.make_dirs(self._folder)
        name = f"ckpt-{self._next_number() if number is None else number}"
        with patterns.plain(self._folder) as plain:
            self.state.write(os.path.join(plain, name))
        why = fault(os.path.join(self._folder, name))
        if why:
            raise WorkError(f"checkpoint {os.path.join(self._folder, name)} was written, and can't be read back ({why}): is "
                            "the disk full or failing? The one before stands")
        self._names = [name, *(one for one in before if one != name)][:self._keep]
        lines = [f'model_checkpoint_path: "{name}"', *(f'all_model_checkpoint_paths: "{one}"' for one in self._names[::-1])]
        files.write_whole(os.path.join(self._folder, STATE_FILE), "\n".join(lines) + "\n")
        self._remove_others(self._names)

    def _next_number(self) -> int:
        numbers = (_NAME.match(entry) for entry in self._entries())
        return 1 + max((int(found[1]) for found in numbers if found), default=0)

    def _entries(self) -> list[str]:
        with patterns.plain(self._folder) as plain:
            return [entry.rstrip("/") for entry in tf.io.gfile.listdir(plain)]

    def _remove_others(self, kept: list[str]) -> None:
        with patterns.plain(self._folder) as plain:
            for entry in self._entries():
                found = _NAME.match(entry)
                if not found or found[0] in kept:
                    continue
                path = os.path.join(plain, entry)
                (tf.io.gfile.rmtree if tf.io.gfile.isdir(path) else tf.io.gfile.remove)(path)
