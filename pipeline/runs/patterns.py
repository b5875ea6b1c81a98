"""Checkpoints in folders whose names hold what TensorFlow takes for a pattern: run[1], a*b, who?.

Where it looks for a checkpoint, deletes an old one or restores one, TensorFlow asks for the files that match the path, and
no escaping helps: the same text is opened afterwards. So it gets another name of the folder, that of an open descriptor.
"""

import contextlib
import os
from typing import Iterator, Optional

import tensorflow as tf

from pipeline import files
from pipeline.errors import UserError

PATTERN_CHARACTERS = "*?[\\"
_DESCRIPTORS = "/proc/self/fd"

_kept_open = contextlib.ExitStack()  # folders that checkpoints are written to, until the process ends


@contextlib.contextmanager
def plain(folder: str) -> Iterator[str]:
    """A name of the folder that TensorFlow takes as it is, while the block runs; its own one where that will do.

    Raises UserError where there is none: on gs://, and where the system has no /proc.
    """
    if not any(one in folder for one in PATTERN_CHARACTERS) or not files.exists(folder):
        yield folder
        return
    if files.is_remote(folder) or not os.path.isdir(_DESCRIPTORS):
        raise UserError(f"{folder}: TensorFlow takes a path with one of {' '.join(PATTERN_CHARACTERS)} for a pattern and finds "
                        "no checkpoint there; give the folder another name")
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"{_DESCRIPTORS}/{descriptor}"
    finally:
        os.close(descriptor)


def manager(state: tf.train.Checkpoint, folder: str) -> tf.train.CheckpointManager:
    """Keeps the newest checkpoint of `state` in a folder, which is made where it is missing."""
    if any(one in folder for one in PATTERN_CHARACTERS):
        files.make_dirs(folder)
    return tf.train.CheckpointManager(state, _kept_open.enter_context(plain(folder)), max_to_keep=1)


def latest(folder: str) -> Optional[str]:
    """The path of the newest checkpoint in a folder; None where there is none. Raises UserError where the file that names
    it is damaged."""
    try:
        with plain(folder) as name:
            path = tf.train.latest_checkpoint(name)
    except UnicodeDecodeError:
        raise UserError(f"{os.path.join(folder, 'checkpoint')} is damaged: it is no text") from None
    return path and os.path.join(folder, os.path.basename(path))


@contextlib.contextmanager
def plain_path(path: str) -> Iterator[str]:
    """`plain` of a checkpoint's path."""
    folder, name = os.path.split(path)
    with plain(folder) as other:
        yield os.path.join(other, name)
