"""Reads the pictures that a table names."""

from dataset_tools import files
from dataset_tools.image_bytes import BadImage
from dataset_tools.table import MISSING


def inside(path: str) -> bool:
    """Whether a relative path stays in the data folder."""
    depth = 0
    for part in path.split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        if depth < 0:
            return False
    return not path.startswith("/")


def read(data_dir: str, path: str) -> bytes:
    """The bytes of a picture; `path` is relative to `data_dir`. Raises BadImage with the reason."""
    if not inside(path):
        raise BadImage("outside the data folder")
    if files.printable(path) != path:
        raise BadImage("its name is not UTF-8")
    try:
        return files.read_bytes(files.join(data_dir, path))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadImage(MISSING) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise BadImage(f"can't be read: {error}") from error
