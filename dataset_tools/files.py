"""What raw data needs of files, local and remote (gs://, ram://) alike, beyond pipeline.files.

TensorFlow is imported for remote ones only: its import costs seconds.
"""

import contextlib
import csv
import hashlib
import io
import os
import posixpath
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Iterable, Iterator, NamedTuple, Optional, Sequence

from pipeline.errors import UserError
from pipeline import files as whole_files
from pipeline.files import is_remote, make_dirs, open_file

_CHUNK = 8 << 20  # bytes
_REMOTE_STATS = 64  # at a time
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class FileStat(NamedTuple):
    path: str       # relative to the folder that was walked, with forward slashes
    size: int       # bytes
    mtime_ns: int


def absolute(path: str) -> str:
    return path.rstrip("/") if is_remote(path) else os.path.abspath(os.path.expanduser(path))


def inside(path: str) -> bool:
    """Whether a relative path stays in the data folder."""
    depth = 0
    for part in path.split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        if depth < 0:
            return False
    return not path.startswith("/")


def join(folder: str, *parts: str) -> str:
    return posixpath.join(folder, *parts)


@contextlib.contextmanager
def os_errors(path: str) -> Iterator[None]:
    """Gives TensorFlow's errors about a remote file the names that Python's own have."""
    if not is_remote(path):
        yield
        return
    import tensorflow as tf

    try:
        yield
    except tf.errors.NotFoundError as error:
        raise FileNotFoundError(error.message) from error
    except tf.errors.OpError as error:
        raise OSError(error.message) from error


def size_of(path: str) -> Optional[int]:
    """Bytes of a file; None where there is none (or where a folder is)."""
    found = stat_of(path)
    return None if found is None else found.size


def sizes_of(paths: Sequence[str]) -> Iterator[Optional[int]]:
    """`size_of` each; remote ones many at a time, for each waits for the network."""
    if not paths or not is_remote(paths[0]):
        yield from map(size_of, paths)
        return
    with ThreadPoolExecutor(_REMOTE_STATS) as pool:
        yield from pool.map(size_of, paths)


def stat_of(path: str) -> Optional[FileStat]:
    """Size and time of a file; None where there is none (or where a folder is)."""
    if is_remote(path):
        return _remote_stat(path)
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # ValueError: a NUL or a lone surrogate in the name
        return None
    return FileStat(path, found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None


def _remote_stat(path: str) -> Optional[FileStat]:
    import tensorflow as tf

    try:
        found = tf.io.gfile.stat(path)
    except tf.errors.OpError:
        return None
    return None if found.is_directory else FileStat(path, found.length, found.mtime_nsec)


def is_folder(path: str) -> bool:
    if not is_remote(path):
        return os.path.isdir(path)
    import tensorflow as tf

    return tf.io.gfile.isdir(path)


def read_bytes(path: str) -> bytes:
    """The whole file. Raises FileNotFoundError, or another OSError."""
    with os_errors(path), open_file(path) as file:
        return file.read()


def sha256_of(path: str) -> str:
    """Hexadecimal digest of a file's bytes, read in chunks. Raises OSError."""
    digest = hashlib.sha256()
    with os_errors(path), open_file(path) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def make_folder(path: str) -> None:
    """Makes a folder with its parents. Raises UserError where that is impossible."""
    try:
        with os_errors(path):
            make_dirs(path)
    except OSError as error:
        raise UserError(f"can't make the folder {path}: {error}") from error


def list_names(folder: str) -> list[str]:
    """Sorted names in a folder. Raises OSError."""
    if not is_remote(folder):
        return sorted(os.listdir(folder))
    import tensorflow as tf

    with os_errors(folder):
        return sorted(name.rstrip("/") for name in tf.io.gfile.listdir(folder))


class Walk(NamedTuple):
    """All that lies below a folder, paths relative to it, with forward slashes, sorted."""

    files: list[FileStat]
    folders: list[str]
    hidden: list[str]   # files and folders whose names begin with a dot; what is in such a folder is not listed


def walk(folder: str) -> Walk:
    """Links to folders are followed; a dangling link is a file of size 0, so that it is missed and not passed over."""
    found = Walk([], [], [])
    for path, folders, names in _walk_remote(folder) if is_remote(folder) else _walk_local(folder):
        for name in (*folders, *names):
            if name.startswith("."):
                found.hidden.append(posixpath.join(path, name))
        found.folders.extend(posixpath.join(path, name) for name in folders if not name.startswith("."))
        for name in names:
            if not name.startswith("."):
                stat_found = stat_of(join(folder, path, name))
                size, mtime = (stat_found.size, stat_found.mtime_ns) if stat_found else (0, 0)
                found.files.append(FileStat(posixpath.join(path, name), size, mtime))
    return Walk(*map(sorted, found))


def _walk_local(root: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """(path of a folder relative to the root, its folders, its files)."""
    for folder, folders, names in os.walk(root, followlinks=True):
        here = os.path.realpath(folder)
        # A link to one of its own parents would be walked for ever.
        kept = [name for name in folders if not _is_parent(os.path.realpath(os.path.join(folder, name)), here)]
        folders[:] = [name for name in kept if not name.startswith(".")]
        relative = os.path.relpath(folder, root).replace(os.sep, "/")
        yield "" if relative == "." else relative, kept, names


def _is_parent(folder: str, path: str) -> bool:
    return os.path.commonpath([folder, path]) == folder


def _walk_remote(root: str) -> Iterator[tuple[str, list[str], list[str]]]:
    import tensorflow as tf

    for folder, folders, names in tf.io.gfile.walk(root):
        relative = folder[len(root):].strip("/")
        if not any(part.startswith(".") for part in relative.split("/")):
            yield relative, [name.rstrip("/") for name in folders], names


def remove(path: str) -> None:
    """Raises UserError where the file can't be removed."""
    try:
        if not is_remote(path):
            os.remove(path)
            return
        import tensorflow as tf

        with os_errors(path):
            tf.io.gfile.remove(path)
    except OSError as error:
        raise UserError(f"can't remove {path}: {error}") from error


@contextlib.contextmanager
def replacing(path: str) -> Iterator[IO[str]]:
    """A text file (UTF-8) that appears under `path` whole or not at all. Raises UserError where it can't be written."""
    try:
        with os_errors(path), whole_files.replacing(path) as temporary, open_file(temporary, "w") as file:
            yield file
    except OSError as error:
        raise UserError(f"can't write {path}: {error}") from error


def printable(text: str) -> str:
    """`text` with escapes for lone surrogates (a file name that is no UTF-8), which no file could hold, and for control
    characters, on which readers of CSV and of lines do not agree."""
    if text.isprintable():
        return text
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text.encode("utf-8", "backslashreplace").decode("utf-8"))


def has_control(text: str) -> bool:
    """Whether there is a control character or a Unicode line end in it."""
    return not text.isprintable() and bool(_CONTROL.search(text))


def write_csv(path: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a CSV whole or not at all. Raises UserError where it can't be written."""
    with replacing(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([printable(str(field)) for field in row] for row in rows)


def read_csv(path: str) -> list[dict[str, str]]:
    """Rows of a UTF-8 CSV by column. Raises OSError, UnicodeDecodeError."""
    return list(csv.DictReader(io.StringIO(read_bytes(path).decode("utf-8-sig"), newline="")))
