"""Where the pictures lie that a table names, by a path, a name, an id, or the address that they were downloaded from."""

import collections
import os
import posixpath
import urllib.parse
from typing import Iterator, Optional

from dataset_tools import files
from pipeline.errors import UserError

_NO_PICTURES = (".csv", ".tsv", ".txt", ".json", ".parquet", ".xml", ".md", ".zip", ".html")


def is_address(text: str) -> bool:
    return text.lower().startswith(("http://", "https://"))


class Pictures:
    """The files of a data folder, by what a table may call them.

    Args: below: the table's folder in it; paths may be written from there.
    """

    def __init__(self, data_dir: str, below: str = ""):
        self._data_dir, self._below = data_dir, below
        self._paths = set(_walk(data_dir))
        self._by_lower: dict[str, list[str]] = collections.defaultdict(list)
        for path in sorted(self._paths):
            if not path.lower().endswith(_NO_PICTURES):
                for key in dict.fromkeys((path.lower(), _stem(path.lower()))):
                    self._by_lower[key].append(path)
                base = posixpath.basename(path).lower()
                for key in dict.fromkeys((f"*/{base}", f"*/{_stem(base)}")):
                    self._by_lower[key].append(path)

    def of_path(self, text: str) -> Optional[str]:
        """The file of a path, written with either slash, with or without its ending, or of a name alone that lies in any
        folder; None where there is none. Raises UserError where there are two."""
        text = self._inside(text)
        for candidate in (posixpath.normpath(posixpath.join(self._below, text)), posixpath.normpath(text)):
            if candidate in self._paths:
                return candidate
            found = self._by_lower.get(candidate.lower(), [])
            if found:
                return self._one(text, found)
        return self._one(text, self._by_lower.get(f"*/{text.lower()}", [])) if "/" not in text else None

    def of_address(self, address: str, picture_id: str) -> Optional[str]:
        """The file that was saved under the picture's id, or under a part of its address: …/photos/123/medium.jpg as
        123.jpg or medium.jpg; None where there is none, or no telling which."""
        parts = [urllib.parse.unquote(one) for one in urllib.parse.urlparse(address).path.split("/") if one]
        for name in filter(None, (picture_id, *parts[-1:], *parts[-2:-1])):
            found = self._by_lower.get(f"*/{name.lower()}", [])
            if len(found) == 1:
                return found[0]
        return None

    def missed(self, text: str, picture_id: str) -> str:
        """The path that a picture is missed by which is not there: of an address, its id or what the address ends with."""
        if not is_address(text):
            return self._inside(text)
        return _last_part(text) if is_address(picture_id) else picture_id

    def _inside(self, text: str) -> str:
        return text.replace("\\", "/").removeprefix(self._data_dir.rstrip("/") + "/")

    def _one(self, text: str, found: list[str]) -> Optional[str]:
        if len(found) > 1:
            raise UserError(f"{text} may be {found[0]} or {found[1]} of {self._data_dir}; write it with its folder and ending")
        return found[0] if found else None


def _last_part(address: str) -> str:
    return ([one for one in urllib.parse.urlparse(address).path.split("/") if one] or ["unnamed"])[-1]


def _stem(path: str) -> str:
    return posixpath.splitext(path)[0]


def _walk(folder: str) -> Iterator[str]:
    """Every file below a folder, relative to it; hidden ones left out."""
    if files.is_remote(folder):
        import tensorflow as tf

        walked = tf.io.gfile.walk(folder)
    else:
        walked = os.walk(folder, followlinks=True)
    for here, _, names in walked:
        relative = here[len(folder):].strip("/")
        if not any(part.startswith(".") for part in relative.split("/")):
            yield from (posixpath.join(relative, name) for name in names if not name.startswith("."))
