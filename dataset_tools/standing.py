"""What stands of an unfinished run: beside each file that is whole a note of what it was made from, and what was found.

A run that was killed goes on with them when it is started again; they go when the folder is finished.
"""

import hashlib
import json
from typing import Any, Callable, Optional

from dataset_tools import files
import pipeline
from pipeline import files as whole_files

NOTE = ".written.json"  # what the name of a note ends with, behind the file's own


def key_of(*made_from: Any) -> str:
    """A digest of what a file is made from (its repr), and by which version."""
    return hashlib.sha256(repr((pipeline.__version__, made_from)).encode("utf-8", "backslashreplace")).hexdigest()


def note(path: str, key: str, found: Any) -> None:
    """Says that the file is whole; `found` is told to whoever goes on, as JSON gives it back."""
    whole_files.write_json(path + NOTE, {"key": key, "found": found})


def found(path: str, key: str) -> Optional[Any]:
    """What was noted of a file that was made from the same; None where there is no such note."""
    if files.size_of(path + NOTE) is None:
        return None
    try:
        told = json.loads(files.read_bytes(path + NOTE))
        return told["found"] if told["key"] == key else None
    except (ValueError, KeyError, TypeError, RecursionError):  # edited by hand: it tells nothing
        return None


def kept(path: str, key: str, make: Callable[[], Any]) -> Any:
    """What `make` gives, as JSON gives it back; where it was noted before, without making it again."""
    before = found(path, key)
    if before is None:
        note(path, key, make())
        before = found(path, key)
    return before
