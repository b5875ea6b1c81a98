"""Reads the pictures that a table names."""

from dataset_tools import files
from dataset_tools.table import MISSING, Example
from pipeline.pictures.bad import BadImage


def read(data_dir: str, example: Example) -> bytes:
    """The bytes of an example's picture. Raises BadImage with the reason why it can't be used."""
    path = example.path
    if files.has_control(example.id) or files.has_control(path):
        raise BadImage("its name holds control characters")
    if not files.inside(path):
        raise BadImage("outside the data folder")
    if files.printable(path) != path:
        raise BadImage("its name is not UTF-8")
    try:
        return files.read_bytes(files.join(data_dir, path))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadImage(MISSING) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise BadImage(f"can't be read: {error}") from error
