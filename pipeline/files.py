"""Files that are written whole or not at all, on a local disk or on gs:// (tf.io.gfile)."""

import contextlib
import glob as _glob
import json
import os
import re
from typing import Any, Iterator, Optional, Union
import uuid

from absl import logging

from pipeline.errors import UserError

TEMPORARY = ".tmp"  # what the name of a file ends with that is not whole yet


def is_remote(path: str) -> bool:
    """True for gs://, ram:// and the like, which need TensorFlow's file systems."""
    return "://" in path


def _gfile():
    import tensorflow as tf  # late: commands that only read a local manifest do without the import

    return tf.io.gfile


def exists(path: str) -> bool:
    """Raises UserError for a remote path that can be none (gs:// alone)."""
    if not is_remote(path):
        return os.path.exists(path)
    import tensorflow as tf

    try:
        return tf.io.gfile.exists(path)
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
        raise UserError(f"{path}: {error.message}") from None


def make_dirs(path: str) -> None:
    if is_remote(path):
        _gfile().makedirs(path)
    else:
        os.makedirs(path, exist_ok=True)


def open_file(path: str, mode: str = "rb"):
    """A file object; text modes are UTF-8."""
    if is_remote(path):
        return _gfile().GFile(path, mode)
    return open(path, mode) if "b" in mode else open(path, mode, encoding="utf-8", newline="")


def rename(source: str, target: str) -> None:
    """Replaces `target`; for a folder, `target` must not exist."""
    if is_remote(source):
        _gfile().rename(source, target, overwrite=True)
    else:
        os.replace(source, target)


def _flush(path: str) -> None:
    """What a local file holds is on the disk: where the power goes, no manifest names what was lost."""
    if not is_remote(path):
        with open(path, "rb") as file:
            os.fsync(file.fileno())


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
    """A temporary name beside `path`, under which the block writes a file that then takes its place.

    No reader ever sees half a file. The name is the writer's own, so that of two who write the same file neither renames
    or overwrites what the other has begun. What was begun goes again where the block fails.
    """
    temporary = f"{path}.{uuid.uuid4().hex[:8]}{TEMPORARY}"
    try:
        with named_in_errors(path):
            yield temporary
            _flush(temporary)
            rename(temporary, path)
    except BaseException:
        _try_to_remove(temporary)
        raise


@contextlib.contextmanager
def named_in_errors(path: str) -> Iterator[None]:
    """Has an OSError of the block name the file, which that of a write (to a full disk, say) does not by itself."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, path) from error
        raise


def target_of(name: str) -> Optional[str]:
    """The file in whose place one of this name was to be put by `replacing`; None where it is no such name.

    (Those of earlier versions had no digits.)
    """
    found = re.fullmatch(rf"(.+?)(\.[0-9a-f]{{8}})?{re.escape(TEMPORARY)}", name)
    return found and found[1]


def _try_to_remove(path: str) -> None:
    try:
        remove(path)
    except Exception as error:  # why the file could not be written is to be told, and not this
        logging.warning("can't remove %s: %s", path, error)


def write_whole(path: str, content: Union[str, bytes]) -> None:
    """Writes a file whole or not at all, as `replacing` does."""
    with replacing(path) as temporary, open_file(temporary, "wb") as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


def write_json(path: str, value: Any) -> None:
    write_whole(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")  # half of a character: escaped; as no UTF-8, which json takes


def parse_json(content: bytes) -> Any:
    """Raises ValueError or RecursionError where it is no JSON, or has text that no file can be written with: half a character."""
    value = json.loads(content)
    if _SURROGATE.search(content):
        json.dumps(value, ensure_ascii=False).encode()
    return value


def read_json(path: str) -> Any:
    """Raises UserError naming the file when it isn't there or isn't JSON."""
    try:
        with open_file(path, "rb") as file:
            return parse_json(file.read())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (ValueError, RecursionError) as error:  # a hundred thousand brackets, say
        raise UserError(f"{path} is not valid JSON: {error}") from None


def read_if_there(path: str) -> Optional[bytes]:
    """What a file holds; None where there is none, or it went in this moment."""
    gone: type[Exception] = FileNotFoundError
    if is_remote(path):
        import tensorflow as tf

        gone = tf.errors.NotFoundError
    try:
        with open_file(path, "rb") as file:
            return file.read()
    except gone:
        return None


def size(path: str) -> int:
    """Bytes."""
    return _gfile().stat(path).length if is_remote(path) else os.path.getsize(path)


def modified(path: str) -> float:
    """When a file was written or touched last, seconds since 1970. Raises FileNotFoundError."""
    if not exists(path):
        raise FileNotFoundError(path)
    return _gfile().stat(path).mtime_nsec / 1e9 if is_remote(path) else os.path.getmtime(path)


def touch(path: str, content: str) -> None:
    """Makes a file's time now; a remote one is written anew for that."""
    if is_remote(path):
        write_whole(path, content)
    else:
        os.utime(path)


def remove(path: str) -> None:
    """Removes a file if it is there."""
    if not exists(path):
        return
    if is_remote(path):
        _gfile().remove(path)
    else:
        os.remove(path)


def glob(pattern: str) -> list[str]:
    return _gfile().glob(pattern) if is_remote(pattern) else _glob.glob(pattern)


def escape(path: str) -> str:
    """The pattern for `glob` that means this path alone."""
    return re.sub(r"([\\*?\[])", r"\\\1", path) if is_remote(path) else _glob.escape(path)


def matching(pattern: str) -> list[str]:
    """The paths that a person means, sorted: the file or folder of just that name, else what matches it as a pattern.

    The folders that it begins with and that are there under just these names are no pattern (run[1]/models/*).
    """
    if exists(pattern):
        return [pattern]
    there = pattern
    while there and not exists(there):
        there = os.path.dirname(there)
    return sorted(glob(escape(there) + pattern[len(there):]) or glob(pattern))
